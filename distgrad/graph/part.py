"""One process's part of a distributed backward pass, as a pure state machine: the engine and the protocol together.

The protocol (who waits for whom, when the pass ends) is stated in `protocol.py`, what a node does in
`autograd/engine.py`. Here they meet: messages become deliveries to the engine, complete recv nodes become messages,
and the initiator's decisions are carried out. Nothing here knows of threads, links or clocks; `backward.py` does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distgrad.autograd.backward import require_node, seed_for
from distgrad.autograd.ordered import OrderedPass, PlacedPass
from distgrad.autograd.tape import Frame, Leaf, Node, Path
from distgrad.autograd.tensor import Tensor
from distgrad.errors import ContextClosed, ContextError, DistgradError

from .edges import EdgeId, Recv, Send
from .protocol import (
    Acknowledgement,
    BeginMark,
    BeginResume,
    Broken,
    Complete,
    Gradients,
    Mark,
    Message,
    Outgoing,
    Participant,
    Resume,
    Start,
)

# (edge, gradient, the process at its other end) -> the gradient as it travels, or as the engine takes it.
Translate = Callable[[EdgeId, Any, str], Any]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a process has in the context at first contact with a pass, which counts over it to its end.

    Attributes:
        roots: of this process, by position among all roots.
        sends, recvs: all ends of edges.
        dead: edges that the initiator knows to lead to none of its roots and sends.
        wanted: in a restricted pass, the nodes of this process whose gradients are wanted; None: those of variables.
        cut: the graph ends at the wanted nodes.
    """

    roots: Mapping[int, Tensor]
    sends: Mapping[EdgeId, Send]
    recvs: Mapping[EdgeId, Recv]
    dead: Sequence[EdgeId] = ()
    wanted: frozenset[Node] | None = None
    cut: bool = False


class Part:
    """What one process does in one pass. All but `inbox` belongs to one thread at a time.

        part.inbox.append((sender, m))      a message came
        part.step()                         until it returns None: there is no work
        part.settle()                       then; what it says may bring new work

    `step` and `settle` return what to send to other processes.

    Arguments:
        me, initiator: names of processes.
        snapshot: what this process has in the context.
        path: of the pass.
        record: the pass itself is recorded (`create_graph`).
        retain: the graph is kept for another pass.
        lost: processes of the context that are gone, and why.
        pack, unpack: what happens to a gradient that leaves this process over an edge, and to one that came.
        inbox: what has come so far.

    Attributes:
        inbox: messages that came, with their senders. Any thread may append.
        unreached: values that came here and lead to no root and no send.
        gradients: of the variables of this process, or of what is wanted, as far as they are complete.
        outcome: at the initiator, how the pass ended.
    """

    def __init__(
        self,
        me: str,
        initiator: str,
        snapshot: Snapshot,
        *,
        path: Path = (),
        record: bool = False,
        retain: bool = False,
        lost: Mapping[str, DistgradError] | None = None,
        pack: Translate | None = None,
        unpack: Translate | None = None,
        inbox: deque[tuple[str, Message]] | None = None,
    ) -> None:
        self.me = me
        self.inbox: deque[tuple[str, Message]] = deque() if inbox is None else inbox
        self.gradients: dict[Node, Any] = {}
        self.outcome: Complete | Broken | None = None
        self._participant = Participant(me, initiator)
        self._record = record
        self._lost: Mapping[str, DistgradError] = {} if lost is None else lost
        self._pack = pack or _as_it_is
        self._unpack = unpack or _as_it_is
        self._outbox: dict[str, list[tuple[EdgeId, Any]]] = {}
        # What the mark has reached; None before it came by.
        self._marked: set[Node] | None = None
        self._roots, self._sends, self._recvs = snapshot.roots, snapshot.sends, snapshot.recvs
        self._wanted = snapshot.wanted
        self._cut: frozenset[Node] = snapshot.wanted if snapshot.cut and snapshot.wanted else frozenset()
        options: dict[str, Any] = {
            "retain": retain,
            "wanted": None if snapshot.wanted is None else set(snapshot.wanted),
            "cut": bool(self._cut),
            "awaited": lambda node: isinstance(node, Recv),
            "source": self._source,
        }
        self._engine = (OrderedPass if record else PlacedPass)(self._complete, path, **options)
        nodes = [(require_node(tensor, f"root {k}"), k) for k, tensor in sorted(snapshot.roots.items())]
        self._engine.expect(nodes, snapshot.sends.values())
        self.unreached = [recv for recv in snapshot.recvs.values() if recv not in self._engine.reached]
        self._dead = [edge for edge in snapshot.dead if edge in snapshot.sends]
        # Whether what can be known at first contact has been said. The initiator says it in the header.
        self._said = me == initiator

    def _source(self, recv: Node) -> Node | None:
        """Where the gradient of a value that came from this process goes on."""
        assert isinstance(recv, Recv)
        own = recv.peer == self.me and self._recvs.get(recv.edge) is recv
        return self._sends.get(recv.edge) if own else None

    @property
    def frame(self) -> Frame:
        """To be the mode's while `step` runs."""
        return self._engine.frame

    # ---- work --------------------------------------------------------------------------------------------------------

    def step(self) -> list[Outgoing] | None:
        """Does the most urgent thing there is to do and returns what is to be sent. None: there is nothing to do.

        Gradients that others wait for leave before time is spent on any other.
        """
        if self.inbox:
            return self._receive(*self.inbox.popleft())
        if self._outbox and not self._engine.hurried:
            return self._flush()
        return [] if self._engine.run_one() else None

    @property
    def leisurely(self) -> bool:
        """Whether nobody waits for what is left to do here: gradients of this process's own variables."""
        return not (self.inbox or self._outbox or self._engine.hurried or self._engine.idle)

    def _receive(self, sender: str, message: Message) -> list[Outgoing]:
        if isinstance(message, Acknowledgement):
            self._participant.acknowledged(message)
            return []
        if sender != self.me and not (isinstance(message, Gradients) and message.last):
            self._participant.engaged(sender)
        if not isinstance(message, Mark):
            self._give_up_early()
        match message:
            case Start(seeds, others):
                self._seed(seeds)
                return self._posted([(peer, Start(theirs)) for peer, theirs in others.items()])
            case Gradients(gradients, acknowledged):
                if acknowledged is not None:
                    self._participant.acknowledged(acknowledged)
                self._deliver(sender, gradients)
            case Mark(reached, begin):
                return self._mark(reached, begin)
            case Resume():
                self._give_up([edge for edge, send in self._sends.items() if send not in (self._marked or ())])
        return []

    def _seed(self, seeds: dict[int, Any]) -> None:
        for position, gradient in seeds.items():
            tensor = self._roots[position]
            seed = seed_for(tensor, gradient, self._record)
            self._engine.seed(require_node(tensor, f"root {position}"), position, seed)

    def _deliver(self, sender: str, gradients: list[tuple[EdgeId, Any]]) -> None:
        for edge, gradient in gradients:
            send = self._sends.get(edge)
            if send is not None and send in self._engine.reached:
                self._engine.relay(send, None if gradient is None else self._unpack(edge, gradient, sender))
            elif gradient is not None:
                raise ContextError(f"a gradient came for the {edge}, which this pass does not wait for")

    def _give_up_early(self) -> None:
        """Says what can be known at first contact. After a mark it is the mark that says so."""
        if not self._said and self._marked is None:
            for recv in self.unreached:
                self._leave(recv, None)
            self._give_up(self._dead)
        self._said = True

    def _give_up(self, edges: Iterable[EdgeId]) -> None:
        """These sends will get nothing in this pass."""
        for edge in edges:
            send = self._sends[edge]
            if send in self._engine.reached:
                self._engine.relay(send, None)

    # ---- gradients that are complete ---------------------------------------------------------------------------------

    def _complete(self, node: Node, gradient: Any) -> None:
        """The gradient of a node is complete: one at which the graph of this process ends, or one that is wanted."""
        if (isinstance(node, Leaf) if self._wanted is None else node in self._wanted) and gradient is not None:
            self.gradients[node] = gradient
            self._participant.found()
        if isinstance(node, Recv):
            self._leave(node, None if node in self._cut else gradient)

    def _leave(self, recv: Recv, gradient: Any) -> None:
        """A gradient, or None, goes to the process that a value came from."""
        if self._recvs.get(recv.edge) is recv:
            # After the mark, the other end drops by itself what was not marked; a process that is gone waits for
            # nothing.
            marked = self._marked is None or recv in self._marked
            if gradient is not None or (marked and recv.peer not in self._lost):
                self._outbox.setdefault(recv.peer, []).append((recv.edge, gradient))
        elif gradient is not None:
            raise ContextClosed(
                f"a gradient would leave {self.me} over the {recv.edge}, where a tensor of shape {recv.shape} came "
                f"from {recv.peer} in a context that has been released or is another; detach() what is kept from one "
                "context to the next"
            )

    def _flush(self) -> list[Outgoing]:
        """What is complete, one message for each process."""
        outbox, self._outbox = self._outbox, {}
        packed = {
            peer: [(edge, self._pack(edge, gradient, peer)) for edge, gradient in gradients]
            for peer, gradients in outbox.items()
        }
        if len(packed) == 1 and self._engine.idle and not (self.inbox or self._lost):
            ((peer, gradients),) = packed.items()
            told = self._participant.rests_with(peer, self._engine.waiting)
            if told is not None:
                return [(peer, Gradients(gradients, told, last=True))]
        return self._posted(
            [(peer, Gradients(gradients, self._participant.acknowledges(peer))) for peer, gradients in packed.items()]
        )

    def _posted(self, messages: list[Outgoing]) -> list[Outgoing]:
        """Counts messages that engage others. This process's own take the short way."""
        for peer, _ in messages:
            if peer in self._lost:
                raise self._lost[peer]
        self.inbox.extend(message for message in messages if message[0] == self.me)
        others = [message for message in messages if message[0] != self.me]
        self._participant.sent(len(others))
        return others

    # ---- the mark ----------------------------------------------------------------------------------------------------

    def _mark(self, reached: list[EdgeId], begin: bool) -> list[Outgoing]:
        """Marks sends, and live nodes, and all they lead to; where that leaves the process, the mark goes on
        elsewhere."""
        if self._marked is None:
            self._marked = set()
        marked, involved = self._marked, self._engine.reached
        stack: list[Node] = [self._sends[edge] for edge in reached]
        if begin:
            stack += self._engine.holding()
        crossing: dict[str, list[EdgeId]] = {}
        while stack:
            node = stack.pop()
            if node in marked or node not in involved:
                continue
            marked.add(node)
            stack.extend(parent for parent in node.inputs if parent is not None)
            if isinstance(node, Recv) and self._recvs.get(node.edge) is node:
                if node.peer == self.me:
                    stack.append(self._sends[node.edge])
                else:
                    crossing.setdefault(node.peer, []).append(node.edge)
        return self._posted([(peer, Mark(edges)) for peer, edges in crossing.items()])

    # ---- rest --------------------------------------------------------------------------------------------------------

    def settle(self) -> list[Outgoing]:
        """There is no work here: acknowledges what can be acknowledged and, at the initiator, decides how to go on."""
        due, decision = self._participant.worked(self._engine.waiting)
        messages: list[Outgoing] = [*due]
        match decision:
            case BeginMark(met):
                messages += self._posted([(peer, Mark([], begin=True)) for peer in met])
            case BeginResume(met):
                messages += self._posted([(peer, Resume()) for peer in met])
            case Complete() | Broken():
                self.outcome = decision
        return messages

    def statistics(self) -> dict[str, Any]:
        """What operators see of a pass that does not end."""
        return {"waiting": self._engine.waiting, **self._participant.statistics()}

    def __repr__(self) -> str:
        return f"<Part of {self.me}: {self._engine.waiting} nodes wait, {self._participant!r}>"


def _as_it_is(edge: EdgeId, gradient: Any, peer: str) -> Any:
    return gradient
