"""The global graph of a context as one picture: what `ctx.graph()` returns.

Every process tells of its part: the calls it ran, and the ends of edges on its tape. The two ends of an edge have one
id, by which the parts are stitched.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from distgrad.autograd.tape import Node, Path
from distgrad.autograd.tensor import Tensor
from distgrad.errors import DistgradError
from distgrad.wire import edge_to_pb, pb

from .edges import EdgeId, Recv, Send, edge_from_wire
from .share import Share
from .values import arrays_of

if TYPE_CHECKING:
    from .deadlines import Deadline
    from .process import Process

# What the part of a context's owner that is in no call is called.
PROGRAM = "program"


@dataclass(frozen=True)
class GraphCall:
    """A call, or the program of the context's owner, whose path is ().

    Attributes:
        path: the caller's path and the number of the call in the caller's program.
        process: that ran it.
        label: "shard.method".
        seconds: from the beginning of its method to its return, waits included; 0 for the program, and while it runs.
        operations: how many of each kind it has recorded, of those that lead to an edge or to its value.
    """

    path: Path
    process: str
    label: str
    seconds: float
    operations: Mapping[str, int]

    @property
    def name(self) -> str:
        return "/".join(map(str, self.path)) or "()"


@dataclass(frozen=True)
class GraphEdge:
    """A recorded value that crosses from one call to another.

    Attributes:
        id: as error messages name it.
        source, target: paths of the calls it leaves and comes to; None when that process has not told of it: the value
            was not fetched yet, or never will be.
        sender, receiver: the processes; empty where unknown.
        bytes: of its array.
    """

    id: str
    source: Path | None
    target: Path | None
    sender: str
    receiver: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True)
class Graph:
    """The stitched graph of one context, calls in program order.

    `str(graph)` is a list for people; `graph.dot()` a picture for Graphviz.
    """

    context: str
    calls: tuple[GraphCall, ...]
    edges: tuple[GraphEdge, ...]

    @property
    def processes(self) -> tuple[str, ...]:
        """By the order in which the program reaches them."""
        return tuple(dict.fromkeys(call.process for call in self.calls))

    @property
    def bytes_crossing(self) -> int:
        """Of all edges between different processes."""
        return sum(edge.bytes for edge in self.edges if edge.sender != edge.receiver)

    def __str__(self) -> str:
        leaving: dict[Path | None, list[GraphEdge]] = {}
        for edge in self.edges:
            leaving.setdefault(edge.source, []).append(edge)
        lines = [f"{len(self.calls)} calls on {len(self.processes)} processes, {len(self.edges)} edges"]
        for call in self.calls:
            lines.append(f"{call.name:<8} {call.process}  {call.label}{_about(call)}")
            lines += [f"{'':<8}   -> {self._target(edge)}  {_array(edge)}" for edge in leaving.pop(call.path, [])]
        lines += [f"? -> {self._target(edge)}  {_array(edge)}" for edges in leaving.values() for edge in edges]
        return "\n".join(lines)

    def dot(self) -> str:
        """The graph in Graphviz's language: a box for each process, calls in it, edges with their arrays."""
        lines = ["digraph {", "  rankdir=LR; node [shape=box, style=rounded];"]
        for number, process in enumerate(self.processes):
            lines.append(f"  subgraph cluster_{number} {{ label={_quoted(process)};")
            for call in self.calls:
                if call.process == process:
                    label = f"{call.label}\n{call.name}{_about(call)}"
                    lines.append(f"    {_quoted(call.name)} [label={_quoted(label)}];")
            lines.append("  }")
        for edge in self.edges:
            if edge.source is not None and edge.target is not None:
                ends = [_quoted("/".join(map(str, path)) or "()") for path in (edge.source, edge.target)]
                lines.append(f"  {ends[0]} -> {ends[1]} [label={_quoted(_array(edge))}];")
        return "\n".join([*lines, "}"])

    def _target(self, edge: GraphEdge) -> str:
        if edge.target is None:
            return "nobody yet"
        return f"{'/'.join(map(str, edge.target)) or '()'} on {edge.receiver}"


def _about(call: GraphCall) -> str:
    count = sum(call.operations.values())
    facts = [f"{count} operations"] if count else []
    facts += [f"{call.seconds * 1e3:.2f} ms"] if call.seconds else []
    return f"  ({', '.join(facts)})" if facts else ""


def _array(edge: GraphEdge) -> str:
    return f"{edge.dtype}{list(edge.shape)}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


# ---- one process's part ----------------------------------------------------------------------------------------------


def own_part(share: Share) -> pb.GraphRead:
    """What this process holds of a context's graph."""
    with share.lock:
        sends, recvs = list(share.sends.values()), list(share.recvs.values())
        calls, values = dict(share.calls), dict(share.values)
        peers = sorted(share.peers)
    results = {path: _nodes(value.result()) for path, value in values.items() if value.done and value.error is None}
    operations = _operations([*sends, *(node for nodes in results.values() for node in nodes)])
    part = pb.GraphRead(peers=peers)
    if share.frame is not None:
        part.calls.add(label=PROGRAM, operations=operations.get((), {}))
    for path, called in calls.items():
        part.calls.add(path=path, label=called.label, seconds=called.seconds, operations=operations.get(path, {}))
    returned_by = {node: path for path, nodes in results.items() for node in nodes}
    for send in sends:
        _add(part.sends, send, _source(send, calls, returned_by))
    for recv in recvs:
        _add(part.recvs, recv, _call_of(recv.frame.path))
    return part


def _add(ends: Any, node: Send | Recv, path: Path) -> None:
    ends.add(edge=edge_to_pb(node.edge), path=path, dtype=str(node.dtype), shape=node.shape)


def _call_of(path: Path) -> Path:
    """The call, or the program, that a frame belongs to, which may be that of a branch in it."""
    while path and path[-1] < 0:
        path = path[:-1]
    return path


def _nodes(value: Any) -> list[Node]:
    return [leaf.node for leaf in arrays_of(value) if isinstance(leaf, Tensor) and leaf.node is not None]


def _operations(ends: Iterable[Node]) -> dict[Path, Counter[str]]:
    """How often each operation leads to one of these nodes, by the path of the call that recorded it."""
    counts: dict[Path, Counter[str]] = {}
    for node in _before(ends):
        if node.inputs and not isinstance(node, Send):
            counts.setdefault(_call_of(node.frame.path), Counter())[node.name] += 1
    return counts


def _before(ends: Iterable[Node]) -> Iterator[Node]:
    """These nodes and all that lead to them within this process, each once."""
    waiting, met = list(ends), set()
    while waiting:
        node = waiting.pop()
        if id(node) not in met:
            met.add(id(node))
            waiting += [source for source in node.inputs if source is not None]
            yield node


def _source(send: Send, calls: Mapping[Path, Any], returned_by: Mapping[Node, Path]) -> Path:
    """The call that a value leaves from. A variable was made in none: it leaves from the call that returned it, or from
    the one that passes it on."""
    recorded_in = _call_of(send.frame.path)
    if recorded_in in calls:
        return recorded_in
    (source,) = send.inputs
    caller = _call_of(send.edge.path[:-1])
    return caller if source is None else returned_by.get(source, caller)


# ---- all parts -------------------------------------------------------------------------------------------------------


def read_graph(process: Process, share: Share, deadline: Deadline) -> Graph:
    """Asks every process that the context has reached, and stitches what they tell.

    Raises:
        WorkerLost, ContextClosed, Timeout
    """
    parts = {process.name: own_part(share)}
    unasked = deque(parts[process.name].peers)
    while unasked:
        asked = {name: process.request(name, pb.ReadGraph(context=share.id)) for name in set(unasked) - set(parts)}
        unasked.clear()
        for name, answer in sorted(asked.items()):
            process.executor.wait(answer, deadline.left, what=f"the graph of {name}")
            parts[name], _ = answer.result()
            unasked += parts[name].peers
    return stitch(share.id, parts)


def stitch(context: str, parts: Mapping[str, pb.GraphRead]) -> Graph:
    """One graph of the parts of all processes, by their names."""
    calls = [
        GraphCall(tuple(call.path), name, call.label, call.seconds, dict(sorted(call.operations.items())))
        for name, part in parts.items()
        for call in part.calls
    ]
    sends = {edge_from_wire(end.edge): (name, end) for name, part in parts.items() for end in part.sends}
    recvs = {edge_from_wire(end.edge): (name, end) for name, part in parts.items() for end in part.recvs}
    edges = [_stitched(edge, sends.get(edge), recvs.get(edge)) for edge in sends.keys() | recvs.keys()]
    return Graph(
        context,
        tuple(sorted(calls, key=lambda call: call.path)),
        tuple(sorted(edges, key=lambda edge: (edge.source or (), edge.target or (), edge.id))),
    )


_End = tuple[str, pb.GraphEnd]


def _stitched(edge: EdgeId, send: _End | None, recv: _End | None) -> GraphEdge:
    known = send or recv
    if known is None:
        raise DistgradError(f"{edge} has no end")
    shape, dtype = tuple(known[1].shape), known[1].dtype
    size = math.prod(shape) * (2 if dtype == "bfloat16" else np.dtype(dtype).itemsize)
    return GraphEdge(
        id=str(edge),
        source=tuple(send[1].path) if send else None,
        target=tuple(recv[1].path) if recv else None,
        sender=send[0] if send else "",
        receiver=recv[0] if recv else "",
        dtype=dtype,
        shape=shape,
        bytes=size,
    )
