"""Edges: where a tape is cut by a process boundary, and stitched.

A recorded value that leaves a call leaves a *send* node on the tape it comes from and a *recv* node on the tape it goes
to. Both ends derive the edge's id from the program, never from time: the path of the call that the value crosses for,
the direction, and the position of the array among the call's arguments or results. A call within one process has the
same edges as one that crosses, so where shards are placed cannot change a bit.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from distgrad.autograd.tape import Frame, Key, Node, Path
from distgrad.wire import edge_from_pb, pb

if TYPE_CHECKING:
    from .share import Share

_WHERE: dict[int, str] = {pb.DIRECTION_ARGUMENT: "argument", pb.DIRECTION_RESULT: "result"}


class EdgeId(NamedTuple):
    """Names one value that crosses.

    Attributes:
        path: of the call it crosses for; of the pass, for a gradient.
        direction: pb.DIRECTION_ARGUMENT (into the call), _RESULT (out of it) or _GRADIENT (against the edge `of`, in a
            pass that records itself).
        leaf: position among the arguments' or the result's leaves.
        item: position within the value of a Ref that was passed as that leaf.
        of: the edge whose gradient this is.
    """

    path: Path
    direction: int
    leaf: int
    item: int = 0
    of: Optional[EdgeId] = None  # noqa: UP045  (a NamedTuple evaluates its annotations)

    def __str__(self) -> str:
        path = "/".join(map(str, self.path)) or "()"
        where = _WHERE.get(self.direction)
        if where is None:
            return f"gradient of {self.of} in pass {path}"
        return f"{where} {self.leaf}{f'.{self.item}' if self.item else ''} of call {path}"


class Send(Node):
    """The source end of an edge. Its one gradient comes from the process at the other end; it passes it on to its
    tensor."""

    __slots__ = ("edge", "peer")
    same = True

    def __init__(self, source: Node, edge: EdgeId, peer: str) -> None:
        # Not numbered in its frame: a value may be fetched while its call runs on, and order must not come from when.
        self.inputs = (source,)
        self.frame = source.frame
        self.index = -1
        self.shape = source.shape
        self.dtype = source.dtype
        self.hooks = None
        self.trace = None
        self.edge = edge
        self.peer = peer

    @property
    def key(self) -> Key:
        """Among the contributors of a tensor: at the place of the call in the program, after recorded operations (1 >
        0)."""
        return (self.edge.path, 1, *_plain(self.edge))

    def vjp(self, i: int, gradient: Any, shared: Any, record: bool) -> Any:
        return gradient

    def __repr__(self) -> str:
        return f"<send {self.edge} to {self.peer}>"


class Recv(Node):
    """The destination end of an edge: where this process's graph ends and its gradient goes back to `peer`.

    `share` is this process's part of the context that the value came in.
    """

    __slots__ = ("edge", "peer", "share")

    abroad = True

    def __init__(self, frame: Frame, edge: EdgeId, peer: str, shape: tuple[int, ...], dtype: Any, share: Share) -> None:
        self.inputs = ()
        self.frame = frame
        # Not numbered: arguments are there before a call begins, other values may come at any time.
        self.index = -1 if edge.direction == pb.DIRECTION_ARGUMENT else sys.maxsize
        self.shape = shape
        self.dtype = dtype
        self.hooks = None
        self.trace = None
        self.edge = edge
        self.peer = peer
        self.share = share

    def differentiate(self, *args: Any, **options: Any) -> None:
        from .functional import differentiate

        assert self.share.process is not None, "values come to processes"
        differentiate(self.share.process, self.share, *args, **options)

    @property
    def key(self) -> Key:
        return (self.edge.path, 2, *_plain(self.edge))

    def __repr__(self) -> str:
        return f"<recv {self.edge} from {self.peer}>"


def part_path(path: Path, number: int) -> Path:
    """The path under which the arrays are numbered that stand for one number of a value: those of a reference forwarded
    there, or the tangents that came with an array.

    No call's path ends in a negative number, so the edges cannot meet those of a call.
    """
    return (*path, -1 - number)


def _plain(edge: EdgeId) -> tuple[Any, ...]:
    """An edge as nested tuples of integers, which always compare."""
    of = () if edge.of is None else (edge.of.path, *_plain(edge.of))
    return (edge.direction, edge.leaf, edge.item, of)


def result_edge(path: Path) -> EdgeId:
    """The edge over which the value of the call at that path comes to whoever asks for it."""
    return EdgeId(path, pb.DIRECTION_RESULT, 0)


def edge_from_wire(message: pb.EdgeId) -> EdgeId:
    """The edge a message names; WireError when it is malformed."""
    path, direction, leaf, item, of = edge_from_pb(message)
    return EdgeId(path, direction, leaf, item, None if of is None else edge_from_wire(message.of))
