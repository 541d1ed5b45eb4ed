"""All graphs at once: a distributed backward pass whose graph turns out while the pass runs.

`model.py` takes one graph after the other, computes with it, and compares values. Of graphs with six edges between
three processes there are far too many for that. But a run meets little of its graph: what a process sends when a
message comes depends on which gradients that message completes, and on nothing else. So here the graph is not given.
Each process is a real `Part` with an engine that does not compute: whenever something comes, the search lets it
complete every choice of edges in turn. What it visits holds every run of every graph with so many edges, of any number
of values, and some runs besides that belong to no graph; as none goes wrong, none of a graph does.

What "goes wrong" means here: a process decides while another works or a message is on its way; a gradient comes for an
edge that was given up; a process is met after the mark; somebody waits at the end, or is never acknowledged. The engine
adds up what is delivered in an order of its own (`autograd/engine.py`); so if all that waits is served, once, the sums
are the right ones. `model.py` compares them.

A process may receive several messages before it sends what they have completed, and settle before it receives more.

Why the search is finite and small, and still misses nothing:

- Gradients that leave in one message count as one edge: they have come together, so nobody can tell them apart. Of
  edges that are never delivered and not marked one stands for all. It is counted when the mark begins.
- A None is a gradient. What a process says at first contact of values that lead to nothing could as well have been
  completed by the message that makes the contact. An edge that left after the source had counted engages its source,
  and completes nothing there. What the initiator says in the header is no message.
- After the mark, what is not marked is None and not sent, so it is left out. An edge is marked by a node that holds a
  gradient or by a mark that came; the search lets both mark any.
- How many nodes wait, who was met, and who found gradients decides nothing before rest, so it is no part of a state.
  Instead every step of a process is checked to tell, or to keep, all that it was told and what changed in it. At rest
  no message is on its way and no other process keeps anything, so the initiator knows the sum. The search hands it
  over, and lets it be zero and not zero at the first rest.
- At the second rest edges may be left that wait for each other in a circle: that was no graph. It is told from a pass
  that hangs by the two ends of each: an edge that waits at one end alone is an error.
- A process without roots does at the start no more than one with roots, and processes other than the initiator are
  alike: so few sets of roots stand for all, and the initiator has one always.
- A state that was visited is not visited again with more edges used. Runs that differ in the order of events of
  different processes meet in the same states.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from distgrad.autograd.tape import Frame, Leaf
from distgrad.autograd.tensor import Tensor
from distgrad.graph import part as part_module
from distgrad.graph.edges import EdgeId, Recv, Send
from distgrad.graph.part import Part, Snapshot
from distgrad.graph.protocol import Acknowledgement, Broken, Complete, Mark, Outgoing, Phase, Start
from distgrad.wire import pb

from .model import frozen, thawed

ONE = np.float64(1.0)
FRAME = Frame(())
# What every step of a process starts from, to see that nothing of it is lost: nodes that wait here, as last told, and
# below; a process met below, and one that found gradients. And what an acknowledgement brings.
WAITING, TOLD, BELOW, MET, FINDS = 11, 3, 5, "met", "finds"
BROUGHT = Acknowledgement(0, 17, ("met further below",), ("finds further below",))

Chosen = tuple[tuple[str, EdgeId], ...]  # edges, with the process at their other end
Sent = tuple[tuple[str, Any], ...]


class Receive(NamedTuple):
    """A message comes, and completes (or marks) what is chosen."""

    sender: str
    message: Any
    chosen: Chosen = ()


class Flush(NamedTuple):
    """What is complete leaves; `idle`: and there is no other work."""

    idle: bool


class Settle(NamedTuple):
    """There is no work."""


class Decide(NamedTuple):
    """All are at rest: the initiator goes on, knowing how many nodes wait and who was met."""

    waiting: int
    met: tuple[str, ...]


Event = Receive | Flush | Settle | Decide


def edge(source: str, target: str, k: int) -> EdgeId:
    """One of the edges between two processes, whose names differ in their first letters."""
    return EdgeId((ord(source[0]), ord(target[0])), pb.DIRECTION_ARGUMENT, k)


class OpenEngine:
    """Takes the place of an engine; what is complete, and who holds a gradient, is chosen."""

    frame = FRAME
    waiting = WAITING

    def __init__(self, complete: Any, path: Any, **options: Any) -> None:
        self._complete = complete
        self.reached: dict[Any, None] = {}
        self.chosen: list[Recv] = []
        self.holders: list[Recv] = []
        self.rests = False

    def expect(self, roots: Any, sends: Any) -> None:
        """Nothing is known beforehand."""

    def seed(self, node: Any, position: int, gradient: Any) -> None:
        self.reached.pop(node, None)

    def relay(self, node: Any, gradient: Any) -> None:
        self.reached.pop(node, None)

    def holding(self) -> list[Recv]:
        return self.holders

    @property
    def hurried(self) -> bool:
        return bool(self.chosen)

    @property
    def idle(self) -> bool:
        return self.rests

    def run_one(self) -> bool:
        chosen, self.chosen = self.chosen, []
        for recv in chosen:
            self.reached.pop(recv, None)
            self._complete(recv, ONE)
        return bool(chosen)


class OpenSend(Send):
    """A send; which edges it leads to is chosen when a mark reaches it."""

    __slots__ = ()


class OpenProcess:
    """One process living through one history."""

    def __init__(self, me: str, initiator: str, rooted: bool) -> None:
        self.me = me
        self._sends: dict[EdgeId, Send] = {}
        self._recvs: dict[EdgeId, Recv] = {}
        self._leaf = Leaf(FRAME, (), ONE.dtype)
        roots = {0: Tensor(ONE, self._leaf)} if rooted else {}
        with mock.patch.object(part_module, "PlacedPass", OpenEngine):
            self.part = Part(me, initiator, Snapshot(roots, self._sends, self._recvs))
        self.engine: Any = self.part._engine
        self.resumed = False
        self._restless = False
        # Stands for all that was counted here and that the mark does not reach.
        self.unmarked = self._send(edge(me, me, -1), "anywhere")

    def _send(self, edge: EdgeId, peer: str) -> Send:
        send = self._sends[edge] = OpenSend(self._leaf, edge, peer)
        send.inputs = ()
        self.engine.reached[send] = None
        return send

    def _recv(self, peer: str, edge: EdgeId) -> Recv:
        if edge not in self._recvs or self.part._marked is None:
            self._recvs[edge] = Recv(FRAME, edge, peer, (), ONE.dtype, None)  # type: ignore[arg-type]
        return self._recvs[edge]

    # ---- what happens ------------------------------------------------------------------------------------------------

    def live(self, event: Event) -> Sent:
        """What it sends when this happens, without what it tells of waiting nodes and processes met."""
        participant = self.part._participant
        if isinstance(event, Decide):
            participant.waiting_below, participant.waiting_told, participant.met = 0, 0, set(event.met)
            self.engine.waiting = event.waiting
            self._restless = False
            return tuple((to, frozen(message)) for to, message in self.part.settle())
        participant.waiting_below, participant.waiting_told = BELOW, TOLD
        participant.met, participant.finds = {MET}, {FINDS}
        self.engine.waiting = WAITING
        was_idle = participant.parent is None
        sent = self._happens(event)
        brings = isinstance(event, Receive) and _acknowledged(event.message)
        self._check_that_nothing_is_lost(BROUGHT if brings else Acknowledgement(0), [told for _, told in sent])
        if participant.parent is None and not (was_idle and isinstance(event, Settle)):
            self._check_that_all_is_told()
        return tuple((to, without_what_is_told(frozen(message))) for to, message in sent)

    def _check_that_nothing_is_lost(self, brought: Acknowledgement, sent: list[Any]) -> None:
        participant = self.part._participant
        told = [getattr(message, "acknowledged", message) for message in sent]
        told = [message for message in told if isinstance(message, Acknowledgement)]
        kept = participant.waiting_below - participant.waiting_told
        assert sum(message.waiting for message in told) + kept == brought.waiting + BELOW - TOLD
        assert participant.met.union(*(message.met for message in told)) == {MET, *brought.met}
        assert participant.finds.union(*(message.finds for message in told)) == {FINDS, *brought.finds}

    def _check_that_all_is_told(self) -> None:
        participant = self.part._participant
        assert (participant.waiting_below, participant.waiting_told) == (0, WAITING)
        assert not participant.met
        assert not participant.finds

    def _happens(self, event: Event) -> list[Outgoing]:
        if isinstance(event, Receive):
            return self._receive(*event)
        if isinstance(event, Settle):
            self._restless = False
            return self.part.settle()
        self.engine.rests = event.idle
        return self.part.step() or []

    def _receive(self, sender: str, frozen_message: Any, chosen: Chosen) -> list[Outgoing]:
        part, engine, kind = self.part, self.engine, frozen_message[0]
        initiates = kind == "initiate"
        message: Any = (
            Start({0: ONE}, {name: {0: ONE} for name in frozen_message[1]})
            if initiates
            else thawed(_telling(frozen_message))
        )
        if initiates or sender != self.me:  # its own others are in the inbox
            assert not part.inbox
            part.inbox.append((sender, message))
        self._restless = True
        if kind == "ack":
            return part.step() or []
        if kind == "mark":
            return self._mark(sender, message, chosen)
        if kind == "gradients" and part._marked is None:
            for name, _ in message.gradients:
                self._send(name, sender)
        self.resumed |= kind == "resume"
        sent = part.step() or []
        engine.chosen = [self._recv(peer, name) for peer, name in chosen]
        while engine.hurried:
            assert part.step() == []
        return sent

    def _mark(self, sender: str, message: Mark, chosen: Chosen) -> list[Outgoing]:
        assert not self.part._outbox, "marked while it works"
        recvs = [self._recv(peer, name) for peer, name in chosen]
        self.engine.reached.update(dict.fromkeys(recvs))
        if message.begin:
            self.engine.holders = recvs
        for name in message.reached:
            self._send(name, sender).inputs = tuple(recvs)
        return self.part.step() or []

    # ---- what can happen ---------------------------------------------------------------------------------------------

    def choices(self, kind: str, peers: Iterable[str], most: int) -> Iterator[Chosen]:
        """What a message of that kind may complete, or mark, of edges from `peers`."""
        marked = self.part._marked
        if kind == "ack":
            return iter([()])
        if kind == "mark":
            counts = Counter(node.peer for node in marked or () if isinstance(node, Recv))
            fresh = {p: [edge(p, self.me, counts[p] + k) for k in range(most)] for p in peers}
        elif marked is None:
            fresh = {p: [] if p in self.part._outbox else [edge(p, self.me, 0)] for p in peers}
        else:
            fresh = {p: self._incomplete(p) for p in peers}
        first = ([tuple((p, e) for e in fresh[p][:k]) for k in range(len(fresh[p]) + 1)] for p in fresh)
        return (chosen for each in itertools.product(*first) if len(chosen := sum(each, ())) <= most)

    def _incomplete(self, peer: str) -> list[EdgeId]:
        """Marked edges from there that have not been completed."""
        return sorted(node.edge for node in self.engine.reached if isinstance(node, Recv) and node.peer == peer)

    @property
    def impossible(self) -> bool:
        """Whether an edge has not been completed, though nothing is left for it to wait for."""
        kinds = Counter(isinstance(node, Recv) for node in self.engine.reached)
        return self.resumed and kinds[True] > 0 and not kinds[False]

    def name_of_state(self) -> Any:
        """What the rest of its life is a function of."""
        part, participant = self.part, self.part._participant
        # Whether to settle would change anything.
        restless = self._restless and bool(participant.owed or (participant.parent and not participant.deficit))
        reached = frozenset((isinstance(node, Recv), node.edge) for node in self.engine.reached)
        marked = None
        if part._marked is not None and not self.resumed:
            marked = frozenset(node.edge for node in part._marked if isinstance(node, Recv))
        return (
            self.me,
            restless,
            part.outcome and type(part.outcome),
            (participant.phase, participant.parent, participant.deficit, tuple(sorted(participant.owed.items()))),
            self.resumed,
            reached,
            marked,
            tuple(sorted((peer, tuple(sorted(name for name, _ in out))) for peer, out in part._outbox.items())),
            tuple(frozen(message) for _, message in part.inbox),
        )


def _acknowledged(message: Any) -> int:
    """How many messages this one acknowledges."""
    if message[0] == "gradients":
        return _acknowledged(message[2]) if message[2] else 0
    return message[1] if message[0] == "ack" else 0


def without_what_is_told(message: Any) -> Any:
    """A message without what an acknowledgement tells besides its count."""
    if message[0] == "gradients":
        return (*message[:2], message[2] and without_what_is_told(message[2]), message[3])
    return message[:2] if message[0] == "ack" else message


def _telling(message: Any) -> Any:
    """A message whose acknowledgement tells something, if it has one."""
    if message[0] == "gradients":
        return (*message[:2], message[2] and _telling(message[2]), message[3])
    return (*message[:2], BROUGHT.waiting, BROUGHT.met, BROUGHT.finds) if message[0] == "ack" else message


# ---- all processes ---------------------------------------------------------------------------------------------------


class State(NamedTuple):
    """What the search asks of the state of a process.

    Attributes:
        history: what has led to it.
        own: the message of its own that it handles before any other.
        reached: (is a recv, edge) of what waits.
        first: it is the initiator, and all it sent is acknowledged.
    """

    history: tuple[Event, ...]
    phase: Phase
    outcome: Any
    full: bool
    restless: bool
    first: bool
    own: Any
    reached: frozenset[tuple[bool, EdgeId]]


ENDED = -1
ABORT = ("abort",)


@dataclass
class OpenSearch:
    """Every reachable state of all passes over graphs with up to `edges` edges between `processes`.

    Attributes:
        roots: the processes that own roots; the first process is the initiator, and always among them.
        in_order: messages from one process to another arrive in the order they were sent.
        neighbours: pairs of processes that can have an edge; all, when empty.
        aborts: once, any process that takes part may fail.
        states, moves: how many were visited.
        ends: how passes ended; "circle" is no pass over a graph.
    """

    roots: str
    edges: int
    processes: str = "abc"
    in_order: bool = True
    neighbours: tuple[str, ...] = ()
    aborts: bool = False
    states: int = 0
    moves: int = 0
    ends: Counter[str] = field(default_factory=Counter)

    def run(self) -> None:
        assert self.roots[0] == self.processes[0]
        self._pairs = self.neighbours or tuple(map("".join, itertools.combinations(self.processes, 2)))
        self._locals: list[State] = []
        self._numbers: dict[Any, int] = {}
        self._steps: dict[Any, list[tuple[int, Sent, int]]] = {}
        self._arrivals: dict[Any, list[Any]] = {}
        # States by how many edges they have used: one met with few edges need not be visited with more.
        waiting: list[list[Any]] = [[] for _ in range(self.edges + 1)]
        start = Receive(self.processes[0], ("initiate", tuple(self.roots[1:])))
        for local, sent, cost in self._step(0, None, start):
            if cost <= self.edges:
                rest = (None,) * (len(self.processes) - 1)
                waiting[cost].append(((local, *rest), self._posted((), self.processes[0], sent)))
        seen = set()
        for used, states in enumerate(waiting):
            while states:
                state = states.pop()
                if state in seen:
                    continue
                seen.add(state)
                final = True
                for locals_, channels, cost in self._moves(*state):
                    final = False
                    self.moves += 1
                    if used + cost <= self.edges:
                        waiting[used + cost].append((locals_, channels))
                if final:
                    self._check(state[0])
        self.states = len(seen)

    def _moves(self, locals_: Any, channels: Any) -> Iterator[tuple[Any, Any, int]]:
        """The states that follow, and how many edges more they use."""
        for k, local in enumerate(locals_):
            if local is None or local == ENDED:
                continue
            for after, sent, cost in self._alone(k, local, locals_, channels):
                yield (*locals_[:k], after, *locals_[k + 1 :]), self._posted(channels, self.processes[k], sent), cost
            if self.aborts and ENDED not in locals_ and self._phase(locals_) is not Phase.DONE:
                yield self._abort(k, locals_, channels)
        for k, sender, message, left in self._heads(channels):
            local = locals_[k]
            if local == ENDED:
                yield locals_, left, 0
            elif message == ABORT:
                yield self._abort(k, locals_, left)
            elif local is None or self._locals[local].own is None:
                met_late = local is None and self._phase(locals_) in (Phase.RESUME, Phase.DONE)
                assert not met_late, f"{self.processes[k]} is met by {message} after the mark"
                for after, sent, cost in self._step(k, local, Receive(sender, message)):
                    yield (*locals_[:k], after, *locals_[k + 1 :]), self._posted(left, self.processes[k], sent), cost

    def _alone(self, k: int, local: int, locals_: Any, channels: Any) -> list[tuple[int, Sent, int]]:
        """What a process can do when nothing comes."""
        state = self._locals[local]
        if state.own is not None:
            return self._step(k, local, Receive(self.processes[k], state.own))
        if state.full:
            return self._step(k, local, Flush(True)) + self._step(k, local, Flush(False))
        if not state.restless:
            return []
        return self._decisions(k, local, locals_, channels) if state.first else self._step(k, local, Settle())

    def _decisions(self, k: int, local: int, locals_: Any, channels: Any) -> list[tuple[int, Sent, int]]:
        messages = [message for _, queue in channels for message in queue if message != ABORT]
        assert not messages, f"the initiator decides while there are messages on their way: {messages}"
        others = [self._locals[other] for other in locals_ if other not in (None, ENDED, local)]
        assert not any(other.full or other.restless for other in others), "the initiator decides while others work"
        met = tuple(name for name, other in zip(self.processes, locals_, strict=True) if other is not None)
        match self._locals[local].phase:
            case Phase.RUN:
                # Where somebody waits, an edge will never be delivered.
                marks = [(after, sent, 1) for after, sent, _ in self._step(k, local, Decide(1, met))]
                return self._step(k, local, Decide(0, met)) + marks
            case Phase.MARK:
                return self._step(k, local, Decide(1, met))
            case _:
                left = sum(len(self._locals[other].reached) for other in locals_ if other not in (None, ENDED))
                return self._step(k, local, Decide(left, met))

    def _abort(self, k: int, locals_: Any, channels: Any) -> tuple[Any, Any, int]:
        """A process ends its part and tells its neighbours, as `passes.py` does."""
        name = self.processes[k]
        peers = [other for pair in self._pairs if name in pair for other in pair if other != name]
        ended = (*locals_[:k], ENDED, *locals_[k + 1 :])
        return ended, self._posted(channels, name, tuple((peer, ABORT) for peer in peers)), 0

    def _phase(self, locals_: Any) -> Phase | None:
        return None if locals_[0] == ENDED else self._locals[locals_[0]].phase

    # ---- messages on their way ---------------------------------------------------------------------------------------

    def _posted(self, channels: Any, sender: str, sent: Sent) -> Any:
        if not sent:
            return channels
        contents = dict(channels)
        for to, message in sent:
            contents[sender, to] = (*contents.get((sender, to), ()), message)
        return self._known(contents)

    def _known(self, contents: dict[Any, Any]) -> Any:
        """Channels that are equal are one object, so that a state takes little memory."""
        channels = tuple(sorted(contents.items()))
        self._arrivals.setdefault(channels, [])
        return channels

    def _heads(self, channels: Any) -> Iterator[tuple[int, str, Any, Any]]:
        """Who may receive what from whom, and what is on its way then."""
        for (sender, to), queue in channels:
            for position in range(1 if self.in_order else len(queue)):
                contents = dict(channels)
                contents[sender, to] = queue[:position] + queue[position + 1 :]
                if len(queue) == 1:
                    del contents[sender, to]
                yield self.processes.index(to), sender, queue[position], self._known(contents)

    # ---- one process -------------------------------------------------------------------------------------------------

    def _step(self, k: int, local: int | None, event: Event) -> list[tuple[int, Sent, int]]:
        """The states that a process comes to, what it sends, and how many edges more are used."""
        key = (k, local, event)
        known = self._steps.get(key)
        if known is None:
            known = self._steps[key] = list(self._lived(self.processes[k], local, event))
        return known

    def _lived(self, name: str, local: int | None, event: Event) -> Iterator[tuple[int, Sent, int]]:
        history = () if local is None else self._locals[local].history
        peers = [other for pair in self._pairs if name in pair for other in pair if other != name]
        events: list[Event] = [event]
        if isinstance(event, Receive):
            choices = self._relive(name, history).choices(event.message[0], peers, self.edges)
            events = [event._replace(chosen=chosen) for chosen in choices]
        for chosen in events:
            process = self._relive(name, history)
            running = process.part._marked is None
            sent = process.live(chosen)
            if not process.impossible:
                marks = isinstance(chosen, Receive) and chosen.message[0] == "mark"
                cost = len(chosen.chosen) if isinstance(chosen, Receive) and (running or marks) else 0
                yield self._number(process, (*history, chosen)), sent, cost

    def _relive(self, name: str, history: Iterable[Event]) -> OpenProcess:
        process = OpenProcess(name, self.processes[0], name in self.roots)
        for event in history:
            process.live(event)
        return process

    def _number(self, process: OpenProcess, history: tuple[Event, ...]) -> int:
        name = process.name_of_state()
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self._locals)
            part, participant = process.part, process.part._participant
            own = frozen(part.inbox[0][1]) if part.inbox else None
            first = process.me == self.processes[0] and not participant.deficit
            self._locals.append(
                State(history, participant.phase, part.outcome, bool(part._outbox), name[1], first, own, name[5])
            )
        return number

    def _check(self, locals_: Any) -> None:
        """Nothing can happen any more: the pass must have ended, rightly."""
        if ENDED in locals_:
            assert all(local in (None, ENDED) for local in locals_), "not all have heard of the abort"
            self.ends["abort"] += 1
            return
        states = [self._locals[local] for local in locals_ if local is not None]
        outcome = states[0].outcome
        waits = {is_recv: {e for s in states for r, e in s.reached if r is is_recv} for is_recv in (True, False)}
        if isinstance(outcome, Broken):
            assert waits[True] == waits[False], f"one end alone waits: {waits[True] ^ waits[False]}"
            self.ends["circle"] += 1
            return
        assert isinstance(outcome, Complete), f"the pass does not end: {outcome}, {states}"
        assert not any(name.leaf >= 0 for ends in waits.values() for name in ends), f"waits at the end: {waits}"
        self.ends["complete"] += 1
