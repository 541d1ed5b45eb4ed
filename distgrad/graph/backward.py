"""One process's part of a distributed backward pass: the engine, the protocol and the links put together.

The algorithm is stated in `protocol.py` (who waits for whom, when it ends) and in `autograd/backward.py` (what a node
does). Here
the two meet: messages become deliveries to the engine, complete recv nodes become messages, and the protocol's actions
are carried out.

Threads: `lock` guards the participant, the inbox and `_working`. The engine belongs to whoever works: the one job that
`_schedule` submitted, or, at rest, the thread that holds the lock.
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from distgrad.autograd import tape
from distgrad.autograd.backward import Pass, require_node, seed_for
from distgrad.autograd.rows import Rows
from distgrad.autograd.tape import Frame, Leaf, Node
from distgrad.autograd.tensor import Tensor
from distgrad.errors import ContextError, DistgradError, GradientError
from distgrad.wire import (
    Recorded,
    decode_value,
    edge_to_pb,
    encode_value,
    error_from_pb,
    error_to_pb,
    normalise,
    pb,
    ref_from_pb,
)

from .edges import EdgeId, Recv, edge_from_wire
from .protocol import Acknowledge, Action, BeginMark, BeginResume, Broken, Complete, Participant
from .share import Share, active
from .values import arrays_of, select
from .waiting import Priority, Promise

if TYPE_CHECKING:
    from .process import Process


class LocalPass:
    """A backward pass as one process sees it, from first contact to finish or abort.

    Arguments:
        header: what every process must know of the pass.
        local_roots: the initiator's own roots, by position.
    """

    def __init__(
        self, process: Process, share: Share, header: pb.Pass, local_roots: dict[int, Tensor] | None = None
    ) -> None:
        self._process = process
        self._share = share
        self.header = header
        self.number: int = header.number
        self.lock = threading.RLock()
        self.gradients: dict[Node, Any] = {}
        self.ended: Promise[tuple[str, ...]] = Promise()
        self._roots = local_roots or {}
        self._participant = Participant(process.name, header.initiator)
        self._engine = Pass(
            self._complete,
            record=header.create_graph,
            retain=header.retain_graph,
            awaited=lambda node: isinstance(node, Recv),
        )
        self._inbox: deque[Callable[[], None]] = deque()
        self._outbox: dict[str, list[tuple[EdgeId, Any]]] = {}
        self._working = False
        self._marked: set[Node] = set()
        self._snapshot()

    # ---- first contact -----------------------------------------------------------------------------------------------

    def _snapshot(self) -> None:
        """Counts over the sends and roots of this moment, for the whole pass. What nothing leads to gives None at
        once."""
        for table in self.header.roots:
            if table.process == self._process.name:
                for root in table.roots:
                    self._roots[root.position] = self._root(root)
        with self._share.lock:
            self._sends = dict(self._share.sends)
            recvs = list(self._share.recvs.values())
        nodes = [(require_node(tensor, f"root {k}"), k) for k, tensor in sorted(self._roots.items())]
        self._engine.expect(nodes, self._sends.values())
        reached = self._engine.reached
        unreached = [recv for recv in recvs if recv not in reached]
        if self._process.name == self.header.initiator:
            self.header.dead.extend(edge_to_pb(recv.edge) for recv in unreached)
        else:
            self._inbox.extend(partial(self._complete, recv, None) for recv in unreached)
        dead = [edge_from_wire(edge) for edge in self.header.dead]
        self._inbox.append(partial(self._give_up, [edge for edge in dead if edge in self._sends]))

    def _root(self, root: pb.Root) -> Tensor:
        """The tensor a root names: the value, or an item of the value, of a call that ran here."""
        what = f"root {root.position}"
        name = ref_from_pb(root.ref)
        value, _ = select(self._share.value(name.path).result(timeout=0), name.steps, what)
        arrays = arrays_of(value)
        if len(arrays) != 1 or not isinstance(arrays[0], Tensor):
            found = f"{len(arrays)} arrays" if len(arrays) != 1 else f"a {type(arrays[0]).__name__}"
            raise GradientError(
                f"{what} must be one tensor, but its value on {self._process.name} has {found}; index the Ref"
            )
        return arrays[0]

    # ---- events: messages from other processes -----------------------------------------------------------------------

    def start(self, sender: str, seeds: list[Any]) -> None:
        """The roots of this process get their seeds."""
        positions = sorted(
            r.position for table in self.header.roots if table.process == self._process.name for r in table.roots
        )
        self._event(sender, partial(self._seed, dict(zip(positions, seeds, strict=True))))

    def initiate(self, starts: dict[str, dict[int, Any]], seeds: dict[int, Any]) -> None:
        """The initiator engages the owners of roots, given the seeds of each by position, and begins with its own."""
        # Under the lock throughout: an early acknowledgement must not find us idle before all has been sent.
        with self.lock:
            for peer, theirs in starts.items():
                arrays: list[Any] = []
                message = pb.Start(header=self.header)
                message.seeds.extend(encode_value(seed, arrays, "gradient") for _, seed in sorted(theirs.items()))
                self._engage(peer, message, arrays)
            self._inbox.append(partial(self._seed, seeds))
            self._schedule()

    def deliver(self, sender: str, gradients: list[tuple[EdgeId, Any]]) -> None:
        """Gradients for sends of this process."""
        self._event(sender, partial(self._deliver, sender, gradients))

    def mark(self, sender: str, begin: bool, reached: Iterable[EdgeId]) -> None:
        """The mark reached sends of this process, or begins here."""
        with self.lock:
            self._participant.engaged(sender)
            self._mark_from([self._sends[edge] for edge in reached])
            if begin:
                self._mark_from(self._engine.holding())
            self._settle()

    def resume(self, sender: str) -> None:
        """The mark is complete: what it did not reach will never deliver."""
        self._event(sender, self._drop_unmarked)

    def acknowledged(self, message: pb.PassAck) -> None:
        """Another process has completed messages of ours."""
        with self.lock:
            self._participant.acknowledged(message.count, message.waiting, message.met)
            self._settle()

    def _event(self, sender: str, work: Callable[[], None]) -> None:
        with self.lock:
            self._participant.engaged(sender)
            self._inbox.append(work)
            self._schedule()

    # ---- work, in the compute slot -----------------------------------------------------------------------------------

    def _schedule(self) -> None:
        if not self._working and not self.ended.done:
            self._working = True
            self._process.executor.submit(
                self._work, Priority.GRADIENT, context=contextvars.Context(), cancelled=self._cancelled
            )

    def _work(self) -> None:
        """Handles what came and runs what is ready, until nothing is left."""
        tape.mode.set(tape.Mode(True, Frame(tuple(self.header.path))))
        active.set(self._share)
        try:
            while not self.ended.done:
                while self._inbox:
                    self._inbox.popleft()()
                if self._engine.run_one():
                    continue
                self._flush()
                with self.lock:
                    if not self._inbox:
                        self._working = False
                        self._settle()
                        return
        except BaseException as error:  # a vjp, a hook or a shape went wrong: the whole pass ends
            self.abort(error_from_pb(error_to_pb(error, self._process.name, f"backward of context {self._share.id}")))

    def _cancelled(self, reason: DistgradError) -> None:
        self.abort(reason)

    def _seed(self, seeds: dict[int, Any]) -> None:
        for position, gradient in seeds.items():
            tensor = self._roots[position]
            seed = seed_for(tensor, gradient, self.header.create_graph)
            self._engine.seed(require_node(tensor, f"root {position}"), position, seed)

    def _deliver(self, sender: str, gradients: list[tuple[EdgeId, Any]]) -> None:
        for edge, gradient in gradients:
            send = self._sends.get(edge)
            if send is None or send not in self._engine.reached:
                if gradient is None:
                    continue
                raise ContextError(f"a gradient came for the {edge}, which this pass does not wait for")
            self._engine.seed(send, 0, self._unpack(edge, gradient, sender))

    def _unpack(self, edge: EdgeId, gradient: Any, sender: str) -> Any:
        """A gradient as the engine takes it; under create_graph a tensor, joined to the sender's tape when it was
        recorded there."""
        if gradient is None or not self.header.create_graph:
            return gradient
        if isinstance(gradient, Recorded):
            return self._share.receive(self._gradient_edge(edge), gradient.array, sender, tape.mode.get().frame)
        return Tensor(gradient)

    def _pack(self, edge: EdgeId, gradient: Any, peer: str) -> Any:
        """A gradient as it travels; under create_graph it leaves a send node of its own."""
        if not isinstance(gradient, Tensor):
            return gradient if gradient is None or isinstance(gradient, Rows) else normalise(np.asarray(gradient))
        array = normalise(np.asarray(gradient.data))
        if gradient.node is None:
            return array
        self._share.send(self._gradient_edge(edge), gradient.node, peer)
        return Recorded(array)

    def _gradient_edge(self, edge: EdgeId) -> EdgeId:
        return EdgeId(tuple(self.header.path), pb.DIRECTION_GRADIENT, 0, 0, edge)

    def _give_up(self, edges: list[EdgeId]) -> None:
        """These sends will get nothing in this pass."""
        for edge in edges:
            send = self._sends[edge]
            if send in self._engine.reached:
                self._engine.seed(send, 0, None)

    def _complete(self, node: Node, gradient: Any) -> None:
        """The graph of this process ends at `node`, and its gradient is complete."""
        if isinstance(node, Recv):
            self._outbox.setdefault(node.peer, []).append((node.edge, gradient))
        elif gradient is not None:
            assert isinstance(node, Leaf), f"a graph ends in variables and edges, not in {node}"
            self.gradients[node] = gradient

    def _flush(self) -> None:
        """Sends what is complete: one frame for each process. This process's own edges take the short way."""
        outbox, self._outbox = self._outbox, {}
        for peer, gradients in outbox.items():
            packed = [(edge, self._pack(edge, gradient, peer)) for edge, gradient in gradients]
            if peer == self._process.name:
                self._inbox.append(partial(self._deliver, peer, packed))
                continue
            arrays: list[Any] = []
            message = pb.Gradients(header=self.header)
            for edge, gradient in packed:
                message.gradients.add(
                    edge=edge_to_pb(edge), gradient=encode_value(gradient, arrays, f"gradient of the {edge}")
                )
            self._engage(peer, message, arrays)

    # ---- the mark ----------------------------------------------------------------------------------------------------

    def _mark_from(self, nodes: Iterable[Node]) -> None:
        """Marks `nodes` and all they lead to; where that leaves the process, the mark goes on elsewhere."""
        crossing: dict[str, list[EdgeId]] = {}
        stack = list(nodes)
        while stack:
            node = stack.pop()
            if node in self._marked:
                continue
            self._marked.add(node)
            stack.extend(parent for parent in node.inputs if parent is not None)
            if isinstance(node, Recv):
                if node.peer == self._process.name:
                    stack.extend(send for send in [self._sends.get(node.edge)] if send is not None)
                else:
                    crossing.setdefault(node.peer, []).append(node.edge)
        for peer, edges in crossing.items():
            self._engage(peer, pb.Mark(header=self.header, reached=[edge_to_pb(edge) for edge in edges]))

    def _drop_unmarked(self) -> None:
        self._give_up([edge for edge, send in self._sends.items() if send not in self._marked])

    # ---- the protocol's actions --------------------------------------------------------------------------------------

    def _engage(self, peer: str, message: Any, arrays: list[Any] | None = None) -> None:
        with self.lock:
            self._participant.sent()
        self._process.send(peer, message, arrays or [])

    def _settle(self) -> None:
        """If this process has no work, lets the protocol decide what follows. Called with the lock held."""
        while not (self._working or self._inbox or self.ended.done):
            actions = self._participant.worked(self._engine.waiting)
            if not actions:
                return
            for action in actions:
                self._perform(action)
            if all(isinstance(action, Acknowledge) for action in actions):
                return

    def _perform(self, action: Action) -> None:
        match action:
            case Acknowledge(to, count, waiting, met):
                self._process.send(
                    to,
                    pb.PassAck(context=self._share.id, number=self.number, waiting=waiting, met=met, count=count),
                )
            case BeginMark(met):
                for peer in met:
                    if peer != self._process.name:
                        self._engage(peer, pb.Mark(header=self.header, begin=True))
                self._mark_from(self._engine.holding())
            case BeginResume(met):
                for peer in met:
                    if peer != self._process.name:
                        self._engage(peer, pb.Resume(header=self.header))
                self._inbox.append(self._drop_unmarked)
                self._schedule()
            case Complete(met):
                self.ended.set_result(met)
            case Broken(waiting):
                self.abort(
                    DistgradError(
                        f"internal error: {waiting} nodes of pass {self.number} in context {self._share.id} still wait "
                        "after the mark; please report the program"
                    )
                )

    # ---- the end -----------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """The pass has ended everywhere: its gradients become part of the context."""
        self._share.end_pass(self.number)
        self._share.merge(self.gradients)
        self.ended.set_result(())

    def abort(self, error: DistgradError) -> None:
        """The pass has failed: every process that shares an edge of the context is told, once."""
        if not self.fail(error):
            return
        flood_abort(self._process, self._share, self.number, error)

    def fail(self, error: DistgradError) -> bool:
        """Frees this process's part of a failed pass. False when it had ended before."""
        with self.lock:
            if self.ended.done:
                return False
            self._participant.fail()
            self._inbox.clear()
            self._share.end_pass(self.number)
        return self.ended.set_error(error)

    def statistics(self) -> dict[str, Any]:
        with self.lock:
            return {"number": self.number, "waiting": self._engine.waiting, **self._participant.statistics()}


def flood_abort(process: Process, share: Share, number: int, error: DistgradError) -> None:
    """Tells every process that this one shares the context with that a pass has failed."""
    message = pb.Abort(context=share.id, number=number, error=error_to_pb(error, process.name, "backward"))
    with share.lock:
        peers = sorted(share.peers - {process.name})
    for peer in peers:
        process.send(peer, message)


def decode_gradients(message: pb.Gradients, arrays: list[Any]) -> list[tuple[EdgeId, Any]]:
    """The edges and gradients of a message; WireError when it is malformed."""
    return [(edge_from_wire(item.edge), decode_value(item.gradient, arrays)) for item in message.gradients]
