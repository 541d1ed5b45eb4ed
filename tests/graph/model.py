"""A model of a distributed backward pass: the real `Part` of every process, channels between them, and nothing else.

`explore` visits every state that any order of messages leads to. A process's state is a function of the set of what was
delivered to it, so it is named by that set and by what the protocol keeps; what a process does in a state is computed
once, by a fresh `Part` that lives through one history that leads there. The search itself handles names only.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from distgrad.autograd.tape import Frame, Leaf, Node
from distgrad.autograd.tensor import Tensor
from distgrad.graph.edges import EdgeId, Recv, Send
from distgrad.graph.part import Part, Snapshot
from distgrad.graph.protocol import Acknowledgement, Complete, Gradients, Mark, Message, Resume, Start
from distgrad.wire import pb

ZERO = np.float64(0.0)
PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)

# What may become of a value that one process sends to another:
#   used      the other computes with it
#   ignored   it arrives, and nothing is computed with it (or only what nobody needs)
#   pending   it left, and never arrived: its call failed or is still running
#   late      it left and arrived after the source had counted
#   stopped   the other computes with it something that has no derivative by it
KINDS = ("used", "ignored", "pending", "late", "stopped")


@dataclass(frozen=True)
class Graph:
    """Values in topological order.

    Attributes:
        places: the process of each value.
        edges: (from, to) -> kind; within a process "used".
        roots: values.
        initiator: the process that starts the pass.
    """

    places: tuple[str, ...]
    edges: dict[tuple[int, int], str]
    roots: tuple[int, ...]
    initiator: str

    @property
    def processes(self) -> list[str]:
        return sorted({*self.places, self.initiator})

    def crossing(self) -> list[tuple[int, int]]:
        return [(u, v) for u, v in self.edges if self.places[u] != self.places[v]]


class Product(Node):
    """A sum of inputs times coefficients; a coefficient of None has no derivative."""

    __slots__ = ("coefficients",)

    def __init__(self, inputs: list[Node], coefficients: list[float | None], frame: Frame) -> None:
        super().__init__(tuple(inputs), frame, (), ZERO.dtype)
        self.coefficients = coefficients

    def vjp(self, i: int, gradient: Any, shared: Any, record: bool) -> Any:
        coefficient = self.coefficients[i]
        return None if coefficient is None else gradient * coefficient


def coefficient(u: int, v: int) -> float:
    return float(PRIMES[(u * 4 + v) % len(PRIMES)])


def edge_id(u: int, v: int) -> EdgeId:
    return EdgeId((v,), pb.DIRECTION_ARGUMENT, u)


class Tapes:
    """The tapes of all processes, and what each has of the graph's edges."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        names = graph.processes
        self.sends: dict[str, dict[EdgeId, Send]] = {name: {} for name in names}
        self.recvs: dict[str, dict[EdgeId, Recv]] = {name: {} for name in names}
        self.leaves: dict[Node, int] = {}
        self.nodes: list[Node] = []
        for v, place in enumerate(graph.places):
            self._value(v, place)
        for u, v in graph.crossing():
            if graph.edges[u, v] != "late":
                source, target = graph.places[u], graph.places[v]
                self.sends[source][edge_id(u, v)] = Send(self.nodes[u], edge_id(u, v), target)

    def _value(self, v: int, place: str) -> None:
        frame = Frame((v,))
        leaf = Leaf(frame, (), ZERO.dtype)
        self.leaves[leaf] = v
        inputs: list[Node] = [leaf]
        coefficients: list[float | None] = [1.0]
        for (u, to), kind in self.graph.edges.items():
            if to != v:
                continue
            node = self.nodes[u]
            if self.graph.places[u] != place and kind != "pending":
                node = Recv(frame, edge_id(u, v), self.graph.places[u], (), ZERO.dtype, None)  # type: ignore[arg-type]
                self.recvs[place][edge_id(u, v)] = node
            if kind in ("used", "stopped"):
                inputs.append(node)
                coefficients.append(coefficient(u, v) if kind == "used" else None)
        self.nodes.append(Product(inputs, coefficients, frame))

    def roots(self, name: str) -> dict[int, Tensor]:
        """The roots of a process by position."""
        roots = enumerate(self.graph.roots)
        return {k: Tensor(ZERO, self.nodes[v]) for k, v in roots if self.graph.places[v] == name}


def expected(graph: Graph) -> dict[int, float]:
    """The gradient of each value's own variable: a sweep over the whole graph."""
    gradients: dict[int, float] = {}
    for k, v in enumerate(graph.roots):
        gradients[v] = gradients.get(v, 0.0) + seed(k)
    for v in reversed(range(len(graph.places))):
        for (u, to), kind in graph.edges.items():
            if to == v and kind == "used" and v in gradients:
                gradients[u] = gradients.get(u, 0.0) + gradients[v] * coefficient(u, v)
    return gradients


def seed(position: int) -> float:
    return float(2**position)


# ---- one process -----------------------------------------------------------------------------------------------------

Event = tuple[Any, ...]  # ("message", sender, message) or ("settle",) or ("initiate",)
Name = tuple[Any, ...]
Sent = tuple[tuple[str, Any], ...]
# Positions in the name of a state.
RESTLESS, OUTCOME = 0, 1
ABORT = ("abort",)


def frozen(message: Message) -> Any:
    """A message as something that can be compared and hashed."""
    match message:
        case Start(seeds):
            return ("start", tuple(sorted((k, float(s)) for k, s in seeds.items())))
        case Gradients(gradients, acknowledged, last):
            # Their order within a message is of no consequence.
            told = acknowledged and frozen(acknowledged)
            return ("gradients", tuple(sorted((e, None if g is None else float(g)) for e, g in gradients)), told, last)
        case Mark(reached, begin):
            return ("mark", tuple(sorted(reached)), begin)
        case Resume():
            return ("resume",)
        case Acknowledgement(count, waiting, met, finds):
            return ("ack", count, waiting, met, finds)


def thawed(message: Any) -> Message:
    kind, *rest = message
    if kind == "start":
        return Start({k: np.float64(s) for k, s in rest[0]})
    if kind == "gradients":
        told: Any = rest[1] and thawed(rest[1])
        return Gradients([(e, None if g is None else np.float64(g)) for e, g in rest[0]], told, rest[2])
    if kind == "mark":
        return Mark(list(rest[0]), rest[1])
    return Resume() if kind == "resume" else Acknowledgement(*rest)


class Witness:
    """One process living through one history. `dead`: what the header of messages says, once the initiator has
    begun."""

    def __init__(self, tapes: Tapes, name: str, dead: Sequence[EdgeId]) -> None:
        graph = tapes.graph
        self.name = name
        self.part = Part(name, graph.initiator, Snapshot(tapes.roots(name), tapes.sends[name], tapes.recvs[name], dead))
        self.tapes = tapes
        self.restless = False
        self.delivered: set[Any] = set()

    def live(self, event: Event) -> Sent:
        """What it sends when this happens."""
        out: list[tuple[str, Message]] = []
        if event[0] == "settle":
            out += self.part.settle()
            self.restless = False
        elif event[0] == "initiate":
            seeds: dict[str, dict[int, Any]] = {}
            for k, v in enumerate(self.tapes.graph.roots):
                seeds.setdefault(self.tapes.graph.places[v], {})[k] = np.float64(seed(k))
            own = seeds.pop(self.name, {})
            self.part.inbox.append((self.name, Start(own, seeds)))
        else:
            _, sender, message = event
            if message[0] == "gradients":
                message = message[:2]  # what it acknowledges besides is of the protocol
            self.delivered.add(message if message[0] == "ack" else (sender, message))
            self.part.inbox.append((event[1], thawed(event[2])))
        self.restless |= bool(self.part.inbox)
        while (sent := self.part.step()) is not None:
            out += sent
        return tuple((to, frozen(message)) for to, message in out)

    def name_of_state(self) -> Name:
        """What the rest of its life is a function of. Acknowledgements count by their sums, not one by one."""
        part, participant = self.part, self.part._participant
        marked = None if part._marked is None else frozenset(map(id, part._marked))
        deliveries = frozenset(d for d in self.delivered if d[0] != "ack")
        protocol = (
            participant.phase,
            participant.parent,
            participant.deficit,
            tuple(sorted(participant.owed.items())),
            frozenset(participant.met),
            frozenset(participant.finds),
            participant.waiting_below,
            participant.waiting_told,
        )
        return (self.restless, part.outcome, deliveries, marked, protocol, part._engine.waiting)


# ---- all processes ---------------------------------------------------------------------------------------------------


ENDED: Name = ("ended",)


@dataclass
class Search:
    """Every reachable state of one graph's pass; every state in which nothing can happen any more is checked.

    Attributes:
        in_order: messages from one process to another arrive in the order they were sent.
        merge: states that are named alike are one. Otherwise every history is lived through, which shows that their
            names say enough.
        aborts: once, any process that takes part may fail.
        states: how many were visited.
        phases: what the pass was seen to do.
    """

    graph: Graph
    in_order: bool = True
    merge: bool = True
    aborts: bool = False
    states: int = 0
    phases: set[str] = field(default_factory=set)

    def run(self) -> None:
        graph = self.graph
        self._tapes = Tapes(graph)
        self._names = graph.processes
        self._histories: dict[tuple[str, Name], tuple[Event, ...]] = {}
        self._steps: dict[tuple[str, Name, Event], tuple[Name, Sent]] = {}
        self._answer = expected(graph)
        witness = Witness(self._tapes, graph.initiator, ())
        sent = witness.live(("initiate",))
        self._dead = [recv.edge for recv in witness.part.unreached]
        begun = witness.name_of_state()
        self._histories[graph.initiator, begun] = (("initiate",),)
        states = dict.fromkeys(self._names) | {graph.initiator: begun}
        self._neighbours: dict[str, set[str]] = {name: set() for name in self._names}
        links = [(graph.places[u], graph.places[v]) for u, v in graph.crossing()]
        for a, b in [*links, *((graph.initiator, graph.places[root]) for root in graph.roots)]:
            self._neighbours[a].add(b)
            self._neighbours[b].add(a)
        self._visit(tuple(states[name] for name in self._names), self._posted({}, graph.initiator, sent))

    def _posted(self, channels: dict[Any, tuple[Any, ...]], sender: str, sent: Sent) -> Any:
        channels = dict(channels)
        for to, message in sent:
            channels[sender, to] = (*channels.get((sender, to), ()), message)
        return frozenset(channels.items())

    def _visit(self, states: Any, channels: Any) -> None:
        seen = {(states, channels)}
        stack = [(states, channels)]
        while stack:
            states, channels = stack.pop()
            moves = list(self._moves(states, channels))
            if not moves:
                self._check(states)
            for move in moves:
                if move not in seen:
                    seen.add(move)
                    stack.append(move)
        self.states += len(seen)

    def _moves(self, states: Any, channels: Any) -> Iterator[tuple[Any, Any]]:
        contents = dict(channels)
        for k, name in enumerate(self._names):
            if states[k] not in (None, ENDED):
                if states[k][RESTLESS]:
                    yield self._move(states, contents, k, ("settle",))
                if self.aborts and ENDED not in states and not any(s and s[OUTCOME] for s in states):
                    yield self._abort(states, contents, k)
            for sender in self._names:
                queue = contents.get((sender, name))
                if not queue:
                    continue
                for position in range(1 if self.in_order else len(queue)):
                    rest = queue[:position] + queue[position + 1 :]
                    left = {**contents, (sender, name): rest}
                    if not rest:
                        del left[sender, name]
                    yield self._move(states, left, k, ("message", sender, queue[position]))

    def _move(self, states: Any, channels: Any, k: int, event: Event) -> tuple[Any, Any]:
        name = self._names[k]
        if event[0] == "message" and event[2] == ABORT and states[k] != ENDED:
            return self._abort(states, channels, k)
        if states[k] == ENDED:
            return states, frozenset(channels.items())
        key = (name, states[k], event)
        known = self._steps.get(key)
        if known is None:
            known = self._steps[key] = self._live(name, states[k], event)
        state, sent = known
        return (*states[:k], state, *states[k + 1 :]), self._posted(channels, name, sent)

    def _abort(self, states: Any, channels: Any, k: int) -> tuple[Any, Any]:
        """A process ends its part and tells its neighbours, as `passes.py` does."""
        name = self._names[k]
        sent = tuple((to, ABORT) for to in sorted(self._neighbours[name] - {name}))
        return (*states[:k], ENDED, *states[k + 1 :]), self._posted(channels, name, sent)

    def _live(self, name: str, state: Name | None, event: Event) -> tuple[Name, Sent]:
        history = self._histories[name, state] if state is not None else ()
        witness = self._relive(name, history)
        sent = witness.live(event)
        reached = witness.name_of_state()
        if not self.merge:
            reached = (*reached, (*history, event))
        self._histories.setdefault((name, reached), (*history, event))
        if event[0] == "settle":
            self.phases.add(witness.part._participant.phase.value)
        return reached, sent

    def _relive(self, name: str, history: tuple[Event, ...]) -> Witness:
        witness = Witness(self._tapes, name, self._dead)
        for event in history:
            witness.live(event)
        return witness

    def _finds(self, name: str, state: Name) -> bool:
        return bool(self._relive(name, self._histories[name, state]).part.gradients)

    def _check(self, states: Any) -> None:
        """Nothing can happen any more: the pass must have ended, rightly."""
        if ENDED in states:
            assert all(state in (None, ENDED) for state in states), f"{self.graph}: not all have heard of the abort"
            return
        found: dict[int, float] = {}
        for name, state in zip(self._names, states, strict=True):
            if state is None:
                continue
            witness = self._relive(name, self._histories[name, state])
            part = witness.part
            assert part._engine.waiting == 0, f"{self.graph}: {name} waits"
            assert not part._participant.deficit, f"{self.graph}: {name} is owed"
            assert not part._participant.owed, f"{self.graph}: {name} owes"
            if name == self.graph.initiator:
                met = {n for n, s in zip(self._names, states, strict=True) if s is not None}
                assert isinstance(part.outcome, Complete), f"{self.graph}: {part.outcome}"
                assert set(part.outcome.met) == met, f"{self.graph}: met {part.outcome.met}, not {met}"
                finds = {n for n, s in zip(self._names, states, strict=True) if s is not None and self._finds(n, s)}
                assert set(part.outcome.finds) == finds, f"{self.graph}: {part.outcome.finds} find, not {finds}"
            found |= {self._tapes.leaves[leaf]: float(gradient) for leaf, gradient in part.gradients.items()}
        assert found == self._answer, f"{self.graph}: {found}, expected {self._answer}"


# ---- all small graphs ------------------------------------------------------------------------------------------------


def graphs(values: int, kinds: tuple[str, ...], most: int, fewest: int = 0) -> Iterator[Graph]:
    """All graphs of that many values on up to three processes with `fewest` to `most` crossing edges, up to names."""
    pairs = list(itertools.combinations(range(values), 2))
    for places in _placements(values):
        used = sorted(set(places))
        choices = [("", "used") if places[u] == places[v] else ("", *kinds) for u, v in pairs]
        initiators = used if len(used) == 3 else [*used, "driver"]
        for chosen in itertools.product(*choices):
            edges = {pair: kind for pair, kind in zip(pairs, chosen, strict=True) if kind}
            crossing = sum(places[u] != places[v] for u, v in edges)
            if not fewest <= crossing <= most or not _connected(values, edges):
                continue
            for size in range(1, values + 1):
                for roots in itertools.combinations(range(values), size):
                    for initiator in initiators:
                        yield Graph(places, edges, roots, initiator)


def distinct(found: Iterable[Graph]) -> Iterator[Graph]:
    """Of graphs that differ in the order of their values alone, the first."""
    seen = set()
    for graph in found:
        names = min(
            _renamed(graph, order)
            for order in itertools.permutations(range(len(graph.places)))
            if all(order[u] < order[v] for u, v in graph.edges)
        )
        if names not in seen:
            seen.add(names)
            yield graph


def _renamed(graph: Graph, order: Sequence[int]) -> tuple[Any, ...]:
    """The graph with value v at position order[v], and processes numbered as they appear."""
    places = [place for _, place in sorted(zip(order, graph.places, strict=True))]
    numbers = {place: k for k, place in enumerate(dict.fromkeys(places))}
    return (
        tuple(numbers[place] for place in places),
        tuple(sorted((order[u], order[v], kind) for (u, v), kind in graph.edges.items())),
        tuple(sorted(order[v] for v in graph.roots)),
        numbers.get(graph.initiator, len(numbers)),
    )


def drawn(rng: random.Random, values: int, crossing: int) -> Graph:
    """Any graph of that many values on three processes with that many crossing edges."""
    pairs = list(itertools.combinations(range(values), 2))
    while True:
        places = tuple(rng.choices("abc", k=values))
        edges = {pair: "used" for pair in pairs if rng.random() < 0.4}
        for u, v in edges:
            if places[u] != places[v]:
                edges[u, v] = rng.choice(KINDS)
        graph = Graph(places, edges, tuple(sorted(rng.sample(range(values), rng.randint(1, 3)))), rng.choice("abcd"))
        if len(graph.crossing()) == crossing and _connected(values, edges):
            return graph


def _placements(values: int) -> Iterator[tuple[str, ...]]:
    """Every way to put values on processes a, b, c; processes are named as they appear."""
    for places in itertools.product("abc", repeat=values):
        first = list(dict.fromkeys(places))
        if first == sorted(first) and set(first) == set("abc"[: len(first)]):
            yield places


def _connected(values: int, edges: dict[tuple[int, int], str]) -> bool:
    """Whether every value has to do with every other; else the graph is two smaller ones."""
    group = list(range(values))
    for u, v in edges:
        a, b = group[u], group[v]
        group = [a if g == b else g for g in group]
    return len(set(group)) == 1
