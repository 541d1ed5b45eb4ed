from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distgrad.errors import WireError
from distgrad.wire import edge_from_pb, edge_to_pb, pb

paths = st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5).map(tuple)
leaves = st.integers(0, 2**32 - 1)
plain_edges = st.tuples(paths, st.sampled_from([pb.DIRECTION_ARGUMENT, pb.DIRECTION_RESULT]), leaves, leaves, st.none())
edges = st.recursive(
    plain_edges, lambda inner: st.tuples(paths, st.just(pb.DIRECTION_GRADIENT), leaves, leaves, inner), max_leaves=4
)


@given(edges)
def test_an_edge_arrives_under_the_same_name(edge: Any) -> None:
    received = edge_from_pb(pb.EdgeId.FromString(edge_to_pb(edge).SerializeToString()))
    assert received == edge
    assert hash(received) == hash(edge)


PLAIN = pb.EdgeId(direction=pb.DIRECTION_RESULT)
MALFORMED = {
    "no direction": pb.EdgeId(),
    "unknown direction": pb.EdgeId(direction=17),
    "gradient of nothing": pb.EdgeId(direction=pb.DIRECTION_GRADIENT),
    "argument of an edge": pb.EdgeId(direction=pb.DIRECTION_ARGUMENT, of=PLAIN),
    "gradient of a malformed edge": pb.EdgeId(direction=pb.DIRECTION_GRADIENT, of=pb.EdgeId()),
}


@pytest.mark.parametrize("message", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_edge_is_a_wire_error(message: pb.EdgeId) -> None:
    with pytest.raises(WireError):
        edge_from_pb(message)
