"""What arguments and results must look like: written by authors, told to clients, and checked before any work.

A spec is a tree of dicts, lists and tuples whose leaves say what an array must be; authors write them as text:

    "float64[n, 3]"      two axes, the first of a length called n: the same wherever n is written
    "float64[]"          no axes; "float64" says the same
    "float64[...]"       any shape
    "[n]", "any"         any dtype; anything at all
    "state: float64[n]"  with a name for people
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from distgrad.autograd.operands import differentiable
from distgrad.errors import ConfigError, WireError
from distgrad.wire import pb
from distgrad.wire.dtypes import dtype_name, dtype_named

_TEXT = re.compile(
    r"\s*(?:(?P<name>[A-Za-z_]\w*)\s*:)?\s*(?:(?P<any>any)|(?P<dtype>[a-z]+\d*)?\s*(?:\[(?P<shape>[^\[\]]*)\])?)\s*"
)
_SYMBOL = re.compile(r"[A-Za-z_]\w*")

# A spec, or a value without its data: dicts, lists and tuples of leaves.
Tree = Any


@dataclass(frozen=True, slots=True)
class Anything:
    """Not declared."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """What an array, or a number in its place, must be.

    Attributes:
        dtype: as on the wire; empty: any.
        shape: lengths and symbols of the axes; None: any.
    """

    dtype: str = ""
    shape: tuple[int | str, ...] | None = None
    name: str = ""

    def __str__(self) -> str:
        shape = "..." if self.shape is None else ", ".join(map(str, self.shape))
        return f"{self.dtype or 'any dtype '}[{shape}]"


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that does not fit, and where."""

    field: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.field}: expected {self.expected}, got {self.got}"


# ---- text -> spec ----------------------------------------------------------------------------------------------------


def parse_spec(written: Any, what: str) -> Tree:
    """The spec an author has written: text, or a dict, list or tuple of such. Raises ConfigError naming `what`."""
    if isinstance(written, Mapping):
        return {str(key): parse_spec(item, f"{what}[{key!r}]") for key, item in written.items()}
    if isinstance(written, list | tuple):
        return type(written)(parse_spec(item, f"{what}[{k}]") for k, item in enumerate(written))
    match = _TEXT.fullmatch(written) if isinstance(written, str) else None
    if match is None or not (match["any"] or match["dtype"] or match["shape"] is not None):
        raise ConfigError(f"{what} is declared as {written!r}; expected something like 'float64[n, 3]' or 'any'")
    name = match["name"] or ""
    if match["any"]:
        return Anything(name)
    if match["dtype"]:
        try:
            dtype_named(match["dtype"])
        except WireError as error:
            raise ConfigError(f"{what}: {error}") from None
    return ArraySpec(match["dtype"] or "", _parse_shape(match["shape"] or "", written, what), name)


def _parse_shape(text: str, written: str, what: str) -> tuple[int | str, ...] | None:
    if text.strip() == "...":
        return None
    axes: list[int | str] = []
    for axis in (part.strip() for part in text.split(",") if part.strip()):
        if not (axis.isdecimal() or _SYMBOL.fullmatch(axis)):
            raise ConfigError(f"{what} is declared as {written!r}: {axis!r} is neither a length nor a name for one")
        axes.append(int(axis) if axis.isdecimal() else axis)
    return tuple(axes)


# ---- spec <-> protobuf -----------------------------------------------------------------------------------------------


def spec_to_pb(spec: Tree) -> pb.Spec:
    """What clients are told."""
    if isinstance(spec, dict):
        entries = [pb.SpecEntry(key=key, spec=spec_to_pb(item)) for key, item in spec.items()]
        return pb.Spec(dict=pb.SpecDict(entries=entries))
    if isinstance(spec, list | tuple):
        items = pb.SpecList(items=map(spec_to_pb, spec))
        return pb.Spec(list=items) if isinstance(spec, list) else pb.Spec(tuple=items)
    if isinstance(spec, Anything):
        return pb.Spec(name=spec.name, any=pb.Null())
    axes = [pb.Axis(fixed=n) if isinstance(n, int) else pb.Axis(symbol=n) for n in spec.shape or ()]
    array = pb.ArraySpec(dtype=spec.dtype, has_shape=spec.shape is not None, shape=axes)
    return pb.Spec(name=spec.name, array=array)


def spec_from_pb(message: pb.Spec) -> Tree:
    """The spec a client was told. Raises WireError for one of no kind."""
    kind = message.WhichOneof("kind")
    if kind == "dict":
        return {entry.key: spec_from_pb(entry.spec) for entry in message.dict.entries}
    if kind == "list":
        return [spec_from_pb(item) for item in message.list.items]
    if kind == "tuple":
        return tuple(spec_from_pb(item) for item in message.tuple.items)
    if kind == "any":
        return Anything(message.name)
    if kind == "array":
        array = message.array
        axes = tuple(axis.symbol if axis.WhichOneof("length") == "symbol" else axis.fixed for axis in array.shape)
        return ArraySpec(array.dtype, axes if array.has_shape else None, message.name)
    raise WireError("a spec of no known kind arrived: is the server newer than this process?")


# ---- checking --------------------------------------------------------------------------------------------------------


def check(spec: Tree, outline: Tree, symbols: dict[str, int], field: str) -> list[Violation]:
    """How a value does not fit.

    Arguments:
        outline: the value without its data: a tree of ArraySpec without symbols, plain numbers and other leaves.
        symbols: lengths known so far; what is found is added.
        field: where the value is, for the violations.
    """
    if isinstance(spec, Anything):
        return []
    if isinstance(spec, ArraySpec):
        return _check_array(spec, outline, symbols, field)
    if type(outline) is not type(spec):
        return [Violation(field, describe(spec), describe(outline))]
    found: list[Violation] = []
    if isinstance(spec, dict):
        if outline.keys() != spec.keys():
            return [Violation(field, f"a dict with {sorted(spec)}", f"one with {sorted(outline)}")]
        for key, item in spec.items():
            found += check(item, outline[key], symbols, f'{field}["{key}"]')
        return found
    if len(outline) != len(spec):
        return [Violation(field, f"{len(spec)} items", str(len(outline)))]
    for k, (item, value) in enumerate(zip(spec, outline, strict=True)):
        found += check(item, value, symbols, f"{field}[{k}]")
    return found


def _check_array(spec: ArraySpec, outline: Tree, symbols: dict[str, int], field: str) -> list[Violation]:
    if isinstance(outline, bool | int | float | complex):
        dtype = type(outline).__name__
        shape: tuple[Any, ...] = ()
        fits = spec.dtype == "" or _number_fits(outline, spec.dtype)
    elif isinstance(outline, ArraySpec):
        dtype, shape = outline.dtype, outline.shape or ()
        fits = spec.dtype in ("", dtype) or _converts(dtype, spec.dtype)
    else:
        return [Violation(field, str(spec), describe(outline))]
    got = f"{dtype}[{', '.join(map(str, shape))}]"
    if not fits:
        return [Violation(field, str(spec), got)]
    if spec.shape is None:
        return []
    if len(shape) != len(spec.shape):
        return [Violation(field, str(spec), got)]
    for expected, length in zip(spec.shape, shape, strict=True):
        known = symbols.setdefault(expected, length) if isinstance(expected, str) else expected
        if known != length:
            which = f" with {expected} = {known}" if isinstance(expected, str) else ""
            return [Violation(field, f"{spec}{which}", got)]
    return []


def _number_fits(number: complex, dtype: str) -> bool:
    kind = "f" if dtype == "bfloat16" else np.dtype(dtype).kind
    if isinstance(number, bool):
        return True
    if isinstance(number, int):
        return kind in "fc" or (kind in "iu" and np.iinfo(dtype).min <= number <= np.iinfo(dtype).max)
    return kind == "c" or (isinstance(number, float) and kind == "f")


def _converts(given: str, declared: str) -> bool:
    """Whether elements of one dtype become another's without loss."""
    if "bfloat16" in (given, declared):
        return given == "bfloat16" and declared in ("float32", "float64", "complex64", "complex128")
    return np.can_cast(given, declared, "safe")


def describe(tree: Tree) -> str:
    """A spec, an outline or a value, in words."""
    if isinstance(tree, dict):
        return f"a dict with {sorted(tree)}"
    if isinstance(tree, list | tuple):
        return f"a {type(tree).__name__} of {len(tree)}"
    if isinstance(tree, Anything):
        return "anything"
    if isinstance(tree, ArraySpec):
        return str(tree)
    return "None" if tree is None else type(tree).__name__


# ---- outlines --------------------------------------------------------------------------------------------------------


def outline_of(value: Any) -> Tree:
    """A value of this process without its data."""
    if isinstance(value, dict):
        return {key: outline_of(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(outline_of, value))
    dtype = getattr(value, "dtype", None)
    return value if dtype is None else ArraySpec(_name(dtype), tuple(value.shape))


def _name(dtype: Any) -> str:
    try:
        return dtype_name(dtype)
    except WireError:
        return str(dtype)


def moves(outline: Tree) -> bool:
    """Whether a value has derivatives: all its numbers are floating-point or complex."""
    found = list(leaves(outline))
    return bool(found) and all(_leaf_moves(leaf) for leaf in found)


def _leaf_moves(leaf: Any) -> bool:
    if isinstance(leaf, ArraySpec):
        return leaf.dtype == "bfloat16" or (leaf.dtype != "" and differentiable(np.dtype(leaf.dtype)))
    return isinstance(leaf, float | complex)


def leaves(tree: Tree) -> list[Any]:
    """The leaves of a spec or outline; None, a container without any, is none."""
    if isinstance(tree, dict):
        return [leaf for item in tree.values() for leaf in leaves(item)]
    if isinstance(tree, list | tuple):
        return [leaf for item in tree for leaf in leaves(item)]
    return [] if tree is None else [tree]


def resolved(spec: Tree, outline: Tree) -> Tree:
    """What a value that fits the spec is once it has been converted: the declared dtypes, the shapes it has."""
    if isinstance(spec, Anything):
        return outline
    if isinstance(spec, dict):
        return {key: resolved(item, outline[key]) for key, item in spec.items()}
    if isinstance(spec, list | tuple):
        return type(spec)(resolved(item, value) for item, value in zip(spec, outline, strict=True))
    if isinstance(outline, ArraySpec):
        return ArraySpec(spec.dtype or outline.dtype, outline.shape)
    return ArraySpec(spec.dtype, ()) if spec.dtype else outline


def example(spec: Tree, symbols: Mapping[str, int]) -> Any:
    """A value of zeros that fits a spec, if these lengths leave nothing open; None otherwise. It takes no memory."""
    if any(not isinstance(leaf, ArraySpec) or not leaf.dtype or leaf.shape is None for leaf in leaves(spec)):
        return None
    axes = [axis for leaf in leaves(spec) for axis in leaf.shape]
    if any(isinstance(axis, str) and axis not in symbols for axis in axes):
        return None
    return _zeros(spec, symbols)


def _zeros(spec: Tree, symbols: Mapping[str, int]) -> Any:
    if isinstance(spec, dict):
        return {key: _zeros(item, symbols) for key, item in spec.items()}
    if isinstance(spec, list | tuple):
        return type(spec)(_zeros(item, symbols) for item in spec)
    return np.broadcast_to(np.zeros((), dtype_named(spec.dtype)), [symbols.get(axis, axis) for axis in spec.shape])


def converted(spec: Tree, value: Any) -> Any:
    """A value that fits the spec, perhaps of tensors, in the declared dtypes."""
    if isinstance(spec, dict):
        return {key: converted(item, value[key]) for key, item in spec.items()}
    if isinstance(spec, list | tuple):
        return type(spec)(converted(item, part) for item, part in zip(spec, value, strict=True))
    if isinstance(spec, Anything) or not spec.dtype:
        return value
    dtype = dtype_named(spec.dtype)
    array = value if hasattr(value, "dtype") else np.asarray(value)
    return array if array.dtype == dtype else array.astype(dtype)


def as_exact(outline: Tree) -> Tree:
    """The spec of values like this one: of its dtypes, or what converts to them, and its shapes."""
    if isinstance(outline, dict):
        return {key: as_exact(item) for key, item in outline.items()}
    if isinstance(outline, list | tuple):
        return type(outline)(map(as_exact, outline))
    if isinstance(outline, ArraySpec):
        return outline
    if isinstance(outline, float | complex):
        return ArraySpec(type(outline).__name__ + ("64" if isinstance(outline, float) else "128"), ())
    return Anything()
