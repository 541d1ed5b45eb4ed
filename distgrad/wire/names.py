"""Names of edges of the global graph, and their message."""

from __future__ import annotations

from typing import Optional, cast

from distgrad.errors import WireError

from . import pb

# (path of the call or pass, direction, leaf, item within it, the edge whose gradient crosses or None)
EdgeName = tuple[tuple[int, ...], int, int, int, Optional["EdgeName"]]

_DIRECTIONS = frozenset((pb.DIRECTION_ARGUMENT, pb.DIRECTION_RESULT, pb.DIRECTION_GRADIENT))


def edge_to_pb(edge: EdgeName) -> pb.EdgeId:
    path, number, leaf, item, of = edge
    direction = cast("pb.Direction", number)
    return pb.EdgeId(path=path, direction=direction, leaf=leaf, item=item, of=None if of is None else edge_to_pb(of))


def edge_from_pb(message: pb.EdgeId) -> EdgeName:
    """The edge a message names.

    Raises:
        WireError: its direction is unknown, or it names an inner edge without being a gradient edge, or the reverse.
    """
    direction = message.direction
    if direction not in _DIRECTIONS:
        raise WireError(f"edge with unknown direction {direction}")
    inner = message.HasField("of")
    if inner != (direction == pb.DIRECTION_GRADIENT):
        raise WireError("an edge names another edge exactly when its direction is DIRECTION_GRADIENT")
    return tuple(message.path), direction, message.leaf, message.item, edge_from_pb(message.of) if inner else None
