"""Trees of Python values <-> `pb.Value`. Data only: nothing is ever pickled, looked up or run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from distgrad.autograd.rows import Rows
from distgrad.errors import WireError

from . import pb
from .dtypes import Array, dtype_name, dtype_named, travels
from .encodings import Encoded, decode

# Protobuf parsers refuse messages nested deeper than 100; one level of a tree takes up to three, and calls wrap trees.
MAX_DEPTH = 28

_INTEGERS = range(-(2**63), 2**63)


@dataclass(slots=True, eq=False)
class Recorded:
    """An array, encoded perhaps, for which the sender's tape holds a send node: a gradient may come back."""

    array: Any


class RefName(NamedTuple):
    """Names the value of a call, or an item within it: what a Ref is on the wire.

    Attributes:
        owner: process that has or will have the value.
        context: context of the call; empty outside any.
        path: path of the call.
        steps: indices and keys from the call's value to the item meant.
        incarnation: of the owner; zero when the caller did not know it.
        issuer: process that made the call; empty when no call makes the value.
    """

    owner: str
    context: str
    path: tuple[int, ...]
    steps: tuple[int | str, ...] = ()
    incarnation: int = 0
    issuer: str = ""


@dataclass(frozen=True, slots=True)
class ShardName:
    """A shard's handle: its name, resolved when the call runs."""

    name: str


class JvpName(NamedTuple):
    """Names a jvp that is going on: the process that began it, and its level there."""

    process: str
    level: int


@dataclass(slots=True, eq=False)
class WithTangent:
    """A value and its tangent in one jvp. Each is an array, `Recorded` perhaps, or such a pair of a jvp further
    out."""

    jvp: JvpName
    primal: Any
    tangent: Any


class _Refusal(Exception):
    """A WireError on its way up a tree, collecting where it happened."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.steps: list[str] = []

    def at(self, root: object) -> WireError:
        return WireError(f"{root}{''.join(reversed(self.steps))}: {self}")


# ---- Python -> protobuf ----------------------------------------------------------------------------------------------


def encode_value(tree: Any, arrays: list[Array], name: str = "value") -> pb.Value:
    """Turns a tree into a message and appends its arrays to `arrays`, which travel beside it in the same frame.

    Arguments:
        tree: None, bool, int of 64 bits, float, complex, str, bytes, arrays and NumPy scalars of numbers, `Encoded`,
            `Recorded`, `WithTangent`, `Rows`, `RefName`, `ShardName`, and lists, tuples and dicts with str keys of
            these.
        arrays: the frame's arrays so far; left as it was when this raises.
        name: what the tree is, for messages: `arguments` gives `arguments[1]["mask"]`.

    Raises:
        WireError: something in the tree cannot travel; says what and where.
    """
    value = pb.Value()
    encode_into(value, tree, arrays, name)
    return value


def encode_into(value: pb.Value, tree: Any, arrays: list[Array], name: object = "value") -> None:
    """As `encode_value`, into an empty message that is there already: a field of another. `name` is made text only for
    an error."""
    count = len(arrays)
    try:
        _encode(value, tree, arrays, MAX_DEPTH)
    except _Refusal as refusal:
        del arrays[count:]
        raise refusal.at(name) from None


def ref_to_pb(ref: RefName) -> pb.RefId:
    message = pb.RefId(
        owner=ref.owner, context=ref.context, path=ref.path, incarnation=ref.incarnation, issuer=ref.issuer
    )
    for step in ref.steps:
        if isinstance(step, str):
            message.steps.add(key=step)
        else:
            message.steps.add(index=step)
    return message


def jvp_to_pb(jvp: JvpName) -> pb.JvpId:
    return pb.JvpId(process=jvp.process, level=jvp.level)


def _encode(value: pb.Value, tree: Any, arrays: list[Array], depth: int) -> None:
    _ENCODERS.get(type(tree), _encode_other)(value, tree, arrays, depth)


def _encode_other(value: pb.Value, tree: Any, arrays: list[Array], depth: int) -> None:
    if not isinstance(tree, np.generic):
        kind = type(tree)
        raise _Refusal(
            f"a {kind.__module__}.{kind.__qualname__} cannot travel: pass None, numbers, str, bytes, arrays, "
            "references, shard handles, or lists, tuples and dicts of these"
        )
    _encode_scalar(value, tree, arrays, depth)


def _deeper(depth: int) -> int:
    if depth == 0:
        raise _Refusal(f"nested deeper than {MAX_DEPTH} levels, or contains itself")
    return depth - 1


def _encode_null(value: pb.Value, tree: None, arrays: list[Array], depth: int) -> None:
    value.null.SetInParent()


def _encode_boolean(value: pb.Value, tree: bool, arrays: list[Array], depth: int) -> None:
    value.boolean = tree


def _encode_integer(value: pb.Value, tree: int, arrays: list[Array], depth: int) -> None:
    if tree not in _INTEGERS:
        raise _Refusal("an int outside 64 bits cannot travel: pass it as text")
    value.integer = tree


def _encode_real(value: pb.Value, tree: float, arrays: list[Array], depth: int) -> None:
    value.real = tree


def _encode_complex(value: pb.Value, tree: complex, arrays: list[Array], depth: int) -> None:
    value.complex.real = tree.real
    value.complex.imaginary = tree.imag


def _encode_text(value: pb.Value, tree: str, arrays: list[Array], depth: int) -> None:
    value.text = _utf8(tree)


def _utf8(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Refusal("text with lone surrogates is not UTF-8 and cannot travel: pass it as bytes") from None
    return text


def _encode_blob(value: pb.Value, tree: bytes, arrays: list[Array], depth: int) -> None:
    value.blob = tree


def _append(array: Array, arrays: list[Array]) -> int:
    if not travels(array.dtype):
        try:
            dtype_name(array.dtype)
        except WireError as error:
            raise _Refusal(str(error)) from None
    arrays.append(array)
    return len(arrays) - 1


def _encode_array(value: pb.Value, tree: Array, arrays: list[Array], depth: int) -> None:
    value.leaf.array = _append(tree, arrays)


def _encode_scalar(value: pb.Value, tree: np.generic, arrays: list[Array], depth: int) -> None:
    value.leaf.array = _append(np.asarray(tree), arrays)
    value.leaf.scalar = True


def _encode_lossy(value: pb.Value, tree: Encoded, arrays: list[Array], depth: int) -> None:
    value.leaf.array = _append_codes(tree, value.leaf.lossy, arrays)


def _append_codes(encoded: Encoded, lossy: pb.Lossy, arrays: list[Array]) -> int:
    lossy.encoding = _ENCODINGS[encoded.encoding]
    lossy.dtype = dtype_name(encoded.dtype)
    if encoded.scales is not None:
        lossy.scales = _append(encoded.scales, arrays)
    return _append(encoded.codes, arrays)


def _encode_recorded(value: pb.Value, tree: Recorded, arrays: list[Array], depth: int) -> None:
    if not isinstance(tree.array, np.ndarray | np.generic | Encoded):
        raise _Refusal(f"Recorded holds a {type(tree.array).__qualname__}, expected an array")
    _encode(value, tree.array, arrays, depth)
    value.leaf.recorded = True


def _encode_rows(value: pb.Value, tree: Rows, arrays: list[Array], depth: int) -> None:
    value.rows.indices = _append(np.asarray(tree.indices, np.int64), arrays)
    value.rows.length = tree.length
    if isinstance(tree.values, Encoded):
        value.rows.values = _append_codes(tree.values, value.rows.lossy, arrays)
    else:
        value.rows.values = _append(np.asarray(tree.values), arrays)


def _encode_ref(value: pb.Value, tree: RefName, arrays: list[Array], depth: int) -> None:
    value.ref.CopyFrom(ref_to_pb(tree))


def _encode_shard(value: pb.Value, tree: ShardName, arrays: list[Array], depth: int) -> None:
    value.shard = tree.name


def _encode_dual(value: pb.Value, tree: WithTangent, arrays: list[Array], depth: int) -> None:
    depth = _deeper(depth)
    value.dual.jvp.CopyFrom(jvp_to_pb(tree.jvp))
    _encode(value.dual.primal, tree.primal, arrays, depth)
    _encode(value.dual.tangent, tree.tangent, arrays, depth)


def _encode_list(value: pb.Value, tree: list[Any], arrays: list[Array], depth: int) -> None:
    _encode_items(value.list, tree, arrays, _deeper(depth))


def _encode_tuple(value: pb.Value, tree: tuple[Any, ...], arrays: list[Array], depth: int) -> None:
    _encode_items(value.tuple, tree, arrays, _deeper(depth))


def _encode_items(values: pb.Values, items: Sequence[Any], arrays: list[Array], depth: int) -> None:
    values.SetInParent()
    add = values.items.add
    index = 0
    try:
        for item in items:
            _ENCODERS.get(type(item), _encode_other)(add(), item, arrays, depth)
            index += 1
    except _Refusal as refusal:
        refusal.steps.append(f"[{index}]")
        raise


def _encode_dict(value: pb.Value, tree: dict[Any, Any], arrays: list[Array], depth: int) -> None:
    depth = _deeper(depth)
    value.dict.SetInParent()
    for key, item in tree.items():
        if type(key) is not str:
            kind = type(key).__qualname__
            raise _Refusal(f"a dict with the key {key!r} of type {kind} cannot travel: keys must be str")
        try:
            entry = value.dict.entries.add(key=_utf8(key))
            _encode(entry.value, item, arrays, depth)
        except _Refusal as refusal:
            refusal.steps.append(f'["{key}"]')
            raise


_ENCODINGS = {"bf16": pb.ENCODING_BF16, "fp16": pb.ENCODING_FP16, "int8": pb.ENCODING_INT8}
_ENCODING_NAMES = {number: name for name, number in _ENCODINGS.items()}

# By exact type: a subclass (an enum, a masked array, a named tuple) would arrive as something else, so it is refused.
_ENCODERS: dict[type, Callable[[pb.Value, Any, list[Array], int], None]] = {
    type(None): _encode_null,
    bool: _encode_boolean,
    int: _encode_integer,
    float: _encode_real,
    complex: _encode_complex,
    str: _encode_text,
    bytes: _encode_blob,
    np.ndarray: _encode_array,
    np.memmap: _encode_array,
    Encoded: _encode_lossy,
    Recorded: _encode_recorded,
    WithTangent: _encode_dual,
    Rows: _encode_rows,
    RefName: _encode_ref,
    ShardName: _encode_shard,
    list: _encode_list,
    tuple: _encode_tuple,
    dict: _encode_dict,
}


# ---- protobuf -> Python ----------------------------------------------------------------------------------------------


def decode_value(value: pb.Value, arrays: Sequence[Array]) -> Any:
    """The tree a message stands for; its arrays are those of `arrays`, the arrays of its frame, not copies.

    Raises:
        WireError: the message is not a value, or names arrays that are not there.
    """
    return _decode(value, arrays, MAX_DEPTH)


def ref_from_pb(message: pb.RefId) -> RefName:
    """The reference a message names. Raises WireError for a step of no kind."""
    steps = tuple(map(_step, message.steps))
    return RefName(message.owner, message.context, tuple(message.path), steps, message.incarnation, message.issuer)


def jvp_from_pb(message: pb.JvpId) -> JvpName:
    return JvpName(message.process, message.level)


def _step(step: pb.Step) -> int | str:
    kind = step.WhichOneof("kind")
    if kind is None:
        raise WireError("a step of a reference is neither an index nor a key")
    chosen: int | str = getattr(step, kind)
    return chosen


def _decode(value: pb.Value, arrays: Sequence[Array], depth: int) -> Any:
    kind = value.WhichOneof("kind")
    if kind is None:
        raise WireError("a value of no known kind arrived: is the peer newer than this process?")
    if depth < 0:
        raise WireError(f"a value nested deeper than {MAX_DEPTH} levels arrived")
    return _DECODERS[kind](getattr(value, kind), arrays, depth - 1)


def _plain(content: Any, arrays: Sequence[Array], depth: int) -> Any:
    return content


def _array(index: int, arrays: Sequence[Array]) -> Array:
    if index >= len(arrays):
        raise WireError(f"a value names array {index} of a frame that has {len(arrays)}")
    return arrays[index]


def _decoded(index: int, lossy: pb.Lossy, arrays: Sequence[Array]) -> Array:
    """The array whose codes are array `index`."""
    encoding = _ENCODING_NAMES.get(lossy.encoding)
    if encoding is None:
        raise WireError(f"an array of unknown encoding {lossy.encoding} arrived: is the peer newer than this process?")
    scales = _array(lossy.scales, arrays) if encoding == "int8" else None
    return decode(Encoded(encoding, dtype_named(lossy.dtype), _array(index, arrays), scales))


def _decode_leaf(leaf: pb.Leaf, arrays: Sequence[Array], depth: int) -> Any:
    lossy = leaf.HasField("lossy")
    array: Any = _decoded(leaf.array, leaf.lossy, arrays) if lossy else _array(leaf.array, arrays)
    if leaf.scalar:
        if array.shape:
            raise WireError(f"a scalar has the shape {array.shape}, expected ()")
        array = array[()]
    return Recorded(array) if leaf.recorded else array


def _decode_rows(rows: pb.Rows, arrays: Sequence[Array], depth: int) -> Rows:
    lossy = rows.HasField("lossy")
    values = _decoded(rows.values, rows.lossy, arrays) if lossy else _array(rows.values, arrays)
    indices = _array(rows.indices, arrays)
    if indices.dtype != np.int64 or indices.ndim != 1:
        raise WireError(f"row numbers are {indices.dtype} of shape {indices.shape}, expected int64 with one axis")
    if values.ndim == 0 or len(values) != len(indices):
        raise WireError(f"{len(indices)} row numbers came with values of shape {values.shape}")
    if len(indices) and not (indices[0] >= 0 and indices[-1] < rows.length and bool(np.all(np.diff(indices) > 0))):
        raise WireError(f"row numbers must ascend without repeats within [0, {rows.length})")
    return Rows(indices, values, rows.length)


def _decode_dual(dual: pb.Dual, arrays: Sequence[Array], depth: int) -> WithTangent:
    primal, tangent = _decode(dual.primal, arrays, depth), _decode(dual.tangent, arrays, depth)
    of_primal, of_tangent = _array_type(primal), _array_type(tangent)
    if of_primal != of_tangent:
        raise WireError(f"a value that is {of_primal} came with a tangent that is {of_tangent}")
    return WithTangent(jvp_from_pb(dual.jvp), primal, tangent)


def _array_type(part: Any) -> str:
    """Element type and shape of a part of a dual: "float32[32, 65]"."""
    while isinstance(part, WithTangent):
        part = part.primal
    array = part.array if isinstance(part, Recorded) else part
    if not hasattr(array, "dtype"):
        raise WireError(f"a value or its tangent is a {type(array).__name__}, expected an array")
    return f"{array.dtype}{list(array.shape)}"


def _decode_list(values: pb.Values, arrays: Sequence[Array], depth: int) -> list[Any]:
    return [_decode(item, arrays, depth) for item in values.items]


def _decode_tuple(values: pb.Values, arrays: Sequence[Array], depth: int) -> tuple[Any, ...]:
    return tuple([_decode(item, arrays, depth) for item in values.items])


def _decode_dict(entries: pb.Entries, arrays: Sequence[Array], depth: int) -> dict[str, Any]:
    tree = {entry.key: _decode(entry.value, arrays, depth) for entry in entries.entries}
    if len(tree) != len(entries.entries):
        raise WireError("a dict arrived with the same key twice")
    return tree


_DECODERS: dict[str, Callable[[Any, Sequence[Array], int], Any]] = {
    "null": lambda content, arrays, depth: None,
    "boolean": _plain,
    "integer": _plain,
    "real": _plain,
    "complex": lambda content, arrays, depth: complex(content.real, content.imaginary),
    "text": _plain,
    "blob": _plain,
    "leaf": _decode_leaf,
    "rows": _decode_rows,
    "list": _decode_list,
    "tuple": _decode_tuple,
    "dict": _decode_dict,
    "ref": lambda content, arrays, depth: ref_from_pb(content),
    "shard": lambda content, arrays, depth: ShardName(content),
    "dual": _decode_dual,
}


def same_data(one: Any, other: Any) -> bool:
    """Whether two trees of plain data and arrays are equal, arrays by dtype, shape and bytes."""
    return bool(_comparable(one) == _comparable(other))


def _comparable(tree: Any) -> Any:
    """A tree as one that `==` compares."""
    if isinstance(tree, Mapping):
        return {key: _comparable(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_comparable(item) for item in tree]
    return (str(tree.dtype), tree.shape, tree.tobytes()) if isinstance(tree, np.ndarray | np.generic) else tree
