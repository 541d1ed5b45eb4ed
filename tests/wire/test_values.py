from __future__ import annotations

import contextlib
import enum
from collections import OrderedDict, namedtuple
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from distgrad.autograd.rows import Rows
from distgrad.errors import WireError
from distgrad.wire import JvpName, Recorded, RefName, ShardName, WithTangent, decode_value, encode_value, pb
from distgrad.wire.values import MAX_DEPTH

DTYPES = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
DTYPES += ["float16", "float32", "float64", "complex64", "complex128"]


def there_and_back(tree: Any) -> Any:
    arrays: list[Any] = []
    message = encode_value(tree, arrays)
    return decode_value(pb.Value.FromString(message.SerializeToString()), arrays)


def same(left: Any, right: Any) -> bool:
    """Equality of trees that tells types apart and NaN from nothing."""
    if type(left) is not type(right):
        return False
    match left:
        case list() | tuple():
            return len(left) == len(right) and all(map(same, left, right))
        case dict():
            return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
        case Recorded():
            return same(left.array, right.array)
        case WithTangent():
            return left.jvp == right.jvp and same([left.primal, left.tangent], [right.primal, right.tangent])
        case Rows():
            return left.length == right.length and same(left.indices, right.indices) and same(left.values, right.values)
        case np.ndarray() | np.generic():
            return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
        case float() | complex():
            return repr(left) == repr(right)
    return bool(left == right)


arrays_of_numbers = hnp.arrays(
    st.sampled_from(DTYPES).map(np.dtype), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
)
refs = st.builds(
    RefName,
    owner=st.text(),
    context=st.text(),
    path=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4).map(tuple),
    steps=st.lists(st.integers(-(2**63), 2**63 - 1) | st.text(), max_size=3).map(tuple),
    incarnation=st.integers(0, 2**64 - 1),
)
jvps = st.builds(JvpName, process=st.text(), level=st.integers(0, 2**64 - 1))


def with_tangents(arrays: Any) -> Any:
    """Duals whose tangents are of the same shape: an array and itself."""
    return st.builds(lambda jvp, x: WithTangent(jvp, x, Recorded(x) if isinstance(x, np.ndarray) else x), jvps, arrays)


leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.complex_numbers()
    | st.text()
    | st.binary()
    | arrays_of_numbers
    | arrays_of_numbers.map(Recorded)
    | with_tangents(arrays_of_numbers)
    | with_tangents(with_tangents(arrays_of_numbers))
    | arrays_of_numbers.filter(lambda array: array.size).map(lambda array: array.flat[0])
    | refs
    | st.text().map(ShardName)
)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(trees)
def test_a_tree_arrives_as_it_left(tree: Any) -> None:
    assert same(there_and_back(tree), tree)


def test_rows_arrive_as_they_left(rng: np.random.Generator) -> None:
    rows = Rows(np.array([1, 4, 9]), rng.normal(size=(3, 2)).astype(np.float32), 10)
    assert same(there_and_back({"table": rows})["table"], rows)


def test_arrays_are_listed_in_the_order_they_are_met_after_those_already_there() -> None:
    first, second, third = np.zeros(1), np.ones(2), np.float32(3)
    arrays = [first]
    message = encode_value([second, {"x": third}], arrays)
    assert arrays[0] is first
    assert arrays[1] is second
    assert arrays[2].shape == ()
    assert message.list.items[0].leaf.array == 1
    assert message.list.items[1].dict.entries[0].value.leaf.scalar


Point = namedtuple("Point", "x y")


class Colour(enum.IntEnum):
    RED = 1


cyclic: list[Any] = []
cyclic.append(cyclic)

REFUSED = [
    (object(), "arguments", "object cannot travel"),
    ([1, {"mask": {2, 3}}], 'arguments[1]["mask"]', "set cannot travel"),
    ((0, [lambda: 0]), "arguments[1][0]", "function cannot travel"),
    (Point(1, 2), "arguments", "Point cannot travel"),
    (Colour.RED, "arguments", "Colour cannot travel"),
    (OrderedDict(a=1), "arguments", "OrderedDict cannot travel"),
    (np.ma.masked_array([1], [True]), "arguments", "MaskedArray cannot travel"),
    ({1: 2}, "arguments", "keys must be str"),
    ({"a": {None: 2}}, 'arguments["a"]', "keys must be str"),
    ([2**63], "arguments[0]", "outside 64 bits"),
    (-(2**63) - 1, "arguments", "outside 64 bits"),
    (["\ud800"], "arguments[0]", "lone surrogates"),
    ({"\ud800": 1}, "arguments", "lone surrogates"),
    (np.array([object()]), "arguments", "dtype object do not travel"),
    ([np.array(["a"])], "arguments[0]", "dtype <U1 do not travel"),
    (np.zeros(2, [("a", "f4")]), "arguments", "do not travel"),
    (np.array(["2020"], "datetime64[D]"), "arguments", "do not travel"),
    (np.str_("a"), "arguments", "do not travel"),
    (Recorded([1.0]), "arguments", "Recorded holds a list"),
    (cyclic, "arguments[0][0]", "contains itself"),
]


@pytest.mark.parametrize(("tree", "where", "what"), REFUSED, ids=lambda case: type(case).__name__)
def test_what_cannot_travel_is_named_with_its_place(tree: Any, where: str, what: str) -> None:
    arrays = [np.zeros(1)]
    with pytest.raises(WireError) as caught:
        encode_value(tree, arrays, "arguments")
    assert str(caught.value).startswith(where)
    assert what in str(caught.value)
    assert len(arrays) == 1, "a refused tree leaves no arrays behind"


def test_long_doubles_are_refused_where_they_are_not_plain_doubles() -> None:
    if np.dtype(np.longdouble).itemsize == 8:
        assert there_and_back(np.ones(1, np.longdouble)).dtype == np.float64
    else:
        with pytest.raises(WireError, match="do not travel"):
            encode_value(np.ones(1, np.longdouble), [])


def nested(depth: int, inner: Any, kind: type) -> Any:
    for _ in range(depth):
        inner = {"k": inner} if kind is dict else kind([inner])
    return inner


@pytest.mark.parametrize("kind", [list, tuple, dict])
def test_the_deepest_tree_allowed_passes_protobuf_inside_a_call(kind: type) -> None:
    arrays: list[Any] = []
    deepest = nested(MAX_DEPTH, 7, kind)
    frame = pb.Frame(request=pb.Request(load_shard=pb.LoadShard(config=encode_value(deepest, arrays))))
    read = pb.Frame.FromString(frame.SerializeToString())
    assert decode_value(read.request.load_shard.config, arrays) == deepest
    with pytest.raises(WireError, match="nested deeper"):
        encode_value([deepest], arrays)


def items(*values: pb.Value) -> pb.Values:
    return pb.Values(items=values)


def dual(primal: pb.Value, tangent: pb.Value) -> pb.Dual:
    return pb.Dual(jvp=pb.JvpId(process="driver", level=1), primal=primal, tangent=tangent)


LEAF = pb.Value(leaf=pb.Leaf(array=0))
NUMBERS = [[0, 2], [2, 0], [0, 5], [-1, 0]]
ROWS = [np.array(NUMBERS[0]), np.zeros((2, 3)), *map(np.array, NUMBERS[1:]), np.zeros(2), np.array(1)]
MALFORMED = [
    (pb.Value(), "no known kind"),
    (pb.Value(list=items(pb.Value())), "no known kind"),
    (pb.Value(leaf=pb.Leaf(array=99)), "names array 99"),
    (pb.Value(leaf=pb.Leaf(array=0, scalar=True)), "expected ()"),
    (pb.Value(rows=pb.Rows(indices=0, values=99, length=9)), "names array 99"),
    (pb.Value(rows=pb.Rows(indices=2, values=1, length=9)), "ascend"),
    (pb.Value(rows=pb.Rows(indices=3, values=1, length=5)), "ascend"),
    (pb.Value(rows=pb.Rows(indices=4, values=1, length=5)), "ascend"),
    (pb.Value(rows=pb.Rows(indices=5, values=1, length=5)), "expected int64"),
    (pb.Value(rows=pb.Rows(indices=0, values=6, length=5)), "values of shape"),
    (pb.Value(dict=pb.Entries(entries=[pb.Entry(key="a", value=pb.Value(integer=1))] * 2)), "same key twice"),
    (pb.Value(ref=pb.RefId(steps=[pb.Step()])), "neither an index nor a key"),
    (pb.Value(dual=pb.Dual()), "no known kind"),
    (pb.Value(dual=dual(LEAF, pb.Value(integer=1))), "its tangent is a int, expected an array"),
    (pb.Value(dual=dual(LEAF, pb.Value(leaf=pb.Leaf(array=1)))), r"int64\[2\] came with a tangent .*float64\[2, 3\]"),
    (pb.Value(dual=dual(LEAF, pb.Value(list=items(LEAF)))), "its tangent is a list"),
]


@pytest.mark.parametrize(("message", "what"), MALFORMED, ids=lambda case: case if isinstance(case, str) else "")
def test_a_malformed_message_is_a_wire_error(message: pb.Value, what: str) -> None:
    with pytest.raises(WireError, match=what):
        decode_value(message, ROWS)


def test_a_message_nested_too_deep_is_a_wire_error() -> None:
    message = pb.Value(integer=1)
    for _ in range(MAX_DEPTH + 1):
        message = pb.Value(list=items(message))
    with pytest.raises(WireError, match="nested deeper"):
        decode_value(message, [])


@given(st.binary(max_size=60))
def test_garbage_is_a_tree_or_a_wire_error(garbage: bytes) -> None:
    try:
        message = pb.Value.FromString(garbage)
    except DecodeError:
        return
    with contextlib.suppress(WireError):
        decode_value(message, ROWS)
