"""Requests checked against what is known of the function, before any work. Only outlines of values are looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distgrad.autograd.rows import Rows
from distgrad.errors import WireError
from distgrad.wire import Recorded, RefName, ShardName, WithTangent, decode_value, pb
from distgrad.wire.dtypes import MAX_AXES, dtype_named
from distgrad.wire.exchanges import heading

from .failures import Code, Refused, does_not_fit
from .functions import Description
from .specs import ArraySpec, Tree, Violation, as_exact, check, leaves, moves, resolved

# The name of a body on a stream -> the product it asks for.
PRODUCTS = {
    "evaluate": pb.PRODUCT_EVALUATE,
    "value_and_gradient": pb.PRODUCT_VALUE_AND_GRADIENT,
    "vjp": pb.PRODUCT_VJP,
    "jvp": pb.PRODUCT_JVP,
    "jacobian": pb.PRODUCT_JACOBIAN,
    "hessian": pb.PRODUCT_HESSIAN,
    "hvp": pb.PRODUCT_HVP,
    "linearize": pb.PRODUCT_LINEARIZE,
}

# What a request must have at least one of.
_NEEDED = {"vjp": "cotangents", "jvp": "tangents", "hvp": "vectors"}


@dataclass(frozen=True)
class Point:
    """Where a function is evaluated, without data.

    Attributes:
        arguments: outline of each argument that was sent, as the function will see it.
        symbols: the lengths found in them.
    """

    arguments: dict[str, Tree]
    symbols: Mapping[str, int]


@dataclass(frozen=True)
class _Header:
    """An array without its elements, as `decode_value` wants arrays."""

    dtype: str
    shape: tuple[int, ...]

    def __getitem__(self, _: object) -> _Header:
        return self


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found out about a request that fits.

    Attributes:
        batch: equal for requests that can be computed as one; None for one that is computed alone.
    """

    function: Description
    point: Point
    batch: tuple[Any, ...] | None


@dataclass(eq=False, slots=True)
class Request:
    """What a message asks, without the contents of its arrays. One stands for all messages that differ in these alone.

    Attributes:
        body: its name on a stream.
        message: without payload.
        size: of the payload.
        checked: what was found out about it, outside any session; None as long as it was not checked.
    """

    body: str
    message: Any
    size: int
    checked: Checked | None = None
    _heading: bytes = b""

    @property
    def session(self) -> str:
        """The session it belongs to; empty for none."""
        return "" if self.body == "linearize" else self.message.session

    @property
    def heading(self) -> bytes:
        """The request as it is passed on, once it was checked: all but its id and its payload."""
        if not self._heading:
            self._heading = heading(pb.StreamRequest, self.body, self.message, self.size)
        return self._heading


def read_headers(message: Any, payload_size: int) -> list[_Header]:
    """The arrays of a request, without their elements.

    Raises:
        Refused: one of them cannot be, or its bytes are not in the payload.
    """
    headers = []
    for k, array in enumerate(message.arrays):
        try:
            expected = dtype_named(array.dtype).itemsize
        except WireError as error:
            raise does_not_fit([Violation(f"arrays[{k}].dtype", "a dtype that travels", str(error))], "") from None
        for length in array.shape:
            expected *= length
        if array.size != expected or len(array.shape) > MAX_AXES:
            got = f"{array.size} bytes for {array.dtype}{list(array.shape)}"
            raise does_not_fit([Violation(f"arrays[{k}]", f"{expected} bytes, at most {MAX_AXES} axes", got)], "")
        if array.transfer:
            got = f"transfer {array.transfer}"
            raise does_not_fit([Violation(f"arrays[{k}].transfer", "0, as only Stream takes chunks", got)], "")
        if array.size and array.offset + array.size > payload_size:
            got = f"bytes {array.offset} to {array.offset + array.size}"
            raise does_not_fit([Violation(f"arrays[{k}].offset", f"within a payload of {payload_size}", got)], "")
        headers.append(_Header(array.dtype, tuple(array.shape)))
    return headers


def outline(value: pb.Value, headers: Sequence[_Header], field: str) -> Tree:
    """A value of a request without its data. Raises Refused for what cannot be used here."""
    if value.WhichOneof("kind") is None:
        raise does_not_fit([Violation(field, "a value", "nothing")], "")
    try:
        tree = decode_value(value, headers)  # type: ignore[arg-type]
    except (WireError, TypeError, AttributeError) as error:
        raise does_not_fit([Violation(field, "a tree of numbers and arrays", str(error))], "") from None
    return _without_headers(tree, field)


def _without_headers(tree: Any, field: str) -> Tree:
    if isinstance(tree, _Header):
        return ArraySpec(tree.dtype, tree.shape)
    if isinstance(tree, Recorded | Rows | RefName | ShardName | WithTangent):
        raise does_not_fit([Violation(field, "data", f"a {type(tree).__name__}, which belongs to clusters")], "")
    if isinstance(tree, dict):
        return {key: _without_headers(item, f'{field}["{key}"]') for key, item in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)([_without_headers(item, f"{field}[{k}]") for k, item in enumerate(tree)])
    return tree


def check_request(function: Description, body: str, message: Any, headers: list[_Header], point: Point | None) -> Point:
    """Checks a request and returns where it evaluates the function. A request that leaves open what to differentiate by
    is told what that is.

    Arguments:
        body: its name on a stream.
        headers: its arrays.
        point: of its session; None without.

    Raises:
        Refused: it does not fit the function.
    """
    if PRODUCTS[body] not in function.products:
        raise Refused(
            Code.FAILED_PRECONDITION,
            f"{function.name} does not offer {body}: it takes or returns nothing that has such derivatives; "
            "DescribeFunction says what it offers",
        )
    violations: list[Violation] = []
    if point is None:
        point = _check_arguments(function, message, headers, violations)
    elif message.HasField("arguments"):
        violations.append(Violation("arguments", "none beside a session", "some"))
    if not violations and body != "evaluate":
        _check_directions(function, body, message, headers, point, violations)
    if violations:
        raise does_not_fit(violations, function.name)
    return point


def bound(function: Description, arguments: Any) -> dict[str, Any]:
    """Arguments by name, of values or outlines. Raises Refused naming what is unknown or missing."""
    names = list(function.takes)
    if isinstance(arguments, list | tuple):
        if len(arguments) > len(names):
            raise does_not_fit(
                [Violation("arguments", f"at most {len(names)}: {', '.join(names)}", str(len(arguments)))],
                function.name,
            )
        arguments = dict(zip(names, arguments, strict=False))
    if not isinstance(arguments, dict):
        got = type(arguments).__name__
        raise does_not_fit([Violation("arguments", "a dict by name, or a tuple or list", got)], function.name)
    violations = [
        Violation(f'arguments["{name}"]', f"one of {', '.join(names)}", "an unknown name")
        for name in arguments
        if name not in function.takes
    ]
    violations += [
        Violation(f'arguments["{name}"]', "a value", "nothing")
        for name in names
        if name not in arguments and name not in function.optional
    ]
    if violations:
        raise does_not_fit(violations, function.name)
    return arguments


def _check_arguments(function: Description, message: Any, headers: list[_Header], violations: list[Violation]) -> Point:
    sent = bound(function, outline(message.arguments, headers, "arguments"))
    symbols: dict[str, int] = {}
    for name in function.takes:
        if name in sent:
            violations += check(function.takes[name], sent[name], symbols, f'arguments["{name}"]')
    if violations:
        return Point({}, {})
    return Point({name: resolved(function.takes[name], value) for name, value in sent.items()}, symbols)


def chosen(function: Description, names: Sequence[str], arguments: Mapping[str, Tree]) -> list[str]:
    """Names of the arguments to differentiate by, of those that were sent.

    Raises:
        Refused: one of `names` cannot be one, or there is none at all.
    """
    movable = [name for name in function.takes if name in arguments and moves(arguments[name])]
    violations = [
        Violation(f"with_respect_to[{k}]", f"one of {', '.join(movable) or 'none'}", _what(function, name, arguments))
        for k, name in enumerate(names)
        if name not in movable
    ]
    if len(set(names)) < len(names):
        violations.append(Violation("with_respect_to", "different names", ", ".join(names)))
    if not movable:
        got = ", ".join(f"{name}: {arguments[name]}" for name in arguments) or "no arguments"
        violations.append(Violation("arguments", "one of floating-point or complex numbers", got))
    if violations:
        raise does_not_fit(violations, function.name)
    return list(names) or movable


def _what(function: Description, name: str, arguments: Mapping[str, Tree]) -> str:
    if name in arguments:
        return f"{name}, which is {arguments[name]} and has no derivatives"
    return f"{name}, which was not sent" if name in function.takes else f"{name!r}, an unknown name"


def _check_directions(
    function: Description,
    body: str,
    message: Any,
    headers: list[_Header],
    point: Point,
    violations: list[Violation],
) -> None:
    """Cotangents, tangents and vectors."""
    fields = message.DESCRIPTOR.fields_by_name
    names = chosen(function, getattr(message, "with_respect_to", ()), point.arguments)
    if "with_respect_to" in fields and not message.with_respect_to:
        message.with_respect_to.extend(names)
    for field in ("cotangents", "tangents", "second_tangents", "vectors"):
        if field not in fields:
            continue
        trees = [outline(value, headers, f"{field}[{k}]") for k, value in enumerate(getattr(message, field))]
        if not trees and field == _NEEDED.get(body):
            violations.append(Violation(field, "one or more", "none"))
        for k, tree in enumerate(trees):
            where = f"{field}[{k}]"
            if field == "cotangents":
                violations += check(function.gives, tree, dict(point.symbols), where)
            else:
                violations += _check_tangent(tree, point, names, field == "vectors", where)
    if "second_tangents" in fields and len(message.second_tangents) not in (0, len(message.tangents)):
        got = f"{len(message.second_tangents)} for {len(message.tangents)} tangents"
        violations.append(Violation("second_tangents", "none, or one for each tangent", got))
    if "vectors" in fields and len(message.cotangents) not in (0, 1, len(message.vectors)):
        got = f"{len(message.cotangents)} for {len(message.vectors)} vectors"
        violations.append(Violation("cotangents", "none, one, or one for each vector", got))


def _check_tangent(tree: Tree, point: Point, names: list[str], whole: bool, where: str) -> list[Violation]:
    """A dict by argument. `whole`: all of `names` must be there."""
    if not isinstance(tree, dict):
        return [Violation(where, f"a dict by argument: {', '.join(names)}", type(tree).__name__)]
    found = [
        Violation(f'{where}["{name}"]', f"one of {', '.join(names)}", "another name")
        for name in tree
        if name not in names
    ]
    found += [Violation(f'{where}["{name}"]', "a value", "nothing") for name in names if whole and name not in tree]
    for name in names:
        if name in tree:
            found += check(as_exact(point.arguments[name]), tree[name], {}, f'{where}["{name}"]')
    return found


def batch_key(function: Description, body: str, message: Any, point: Point, headers: list[_Header]) -> tuple[Any, ...]:
    """Equal for requests that can be computed as one."""
    arrays = tuple((header.dtype, header.shape) for header in headers)
    asked = tuple(getattr(message, "with_respect_to", ())), getattr(message, "with_value", False)
    return function.name, body, *asked, arrays, len(leaves(point.arguments))
