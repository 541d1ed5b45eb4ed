"""Whether the derivatives that a server gives are right: `distgrad check`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from distgrad.errors import ConfigError, GradientError
from distgrad.wire import pb
from distgrad.wire.dtypes import Array

from ..specs import Anything, ArraySpec, spec_from_pb
from . import taylor
from .flat import FlatFunction
from .function import RemoteFunction

# Values asked for at a time.
AT_A_TIME = 8
# Two numbers that are equal in exact arithmetic may differ by so many rounding errors of what they are summed from.
ROUNDINGS = 1e4


@dataclass(frozen=True)
class Finding:
    """What one test says.

    Attributes:
        what: was tested: "vjp", "<Jv, w> = <v, Jᵀw>".
        right: its verdict.
        detail: in words.
    """

    what: str
    right: bool
    detail: str


def random_arguments(function: RemoteFunction, given: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """The arguments given, and numbers between 1/2 and 3/2 for the others as the function declares them.

    Raises:
        ConfigError: an argument that is not given is not declared either.
    """
    lengths: dict[str, int] = {}
    arguments = dict(given)
    for argument in function.describe().arguments:
        if argument.name not in arguments and not argument.optional:
            arguments[argument.name] = _random(spec_from_pb(argument.spec), argument.name, lengths, rng)
    return arguments


def _random(spec: Any, name: str, lengths: dict[str, int], rng: np.random.Generator) -> Any:
    if isinstance(spec, dict):
        return {key: _random(item, f"{name}[{key!r}]", lengths, rng) for key, item in spec.items()}
    if isinstance(spec, list | tuple):
        return type(spec)(_random(item, f"{name}[{k}]", lengths, rng) for k, item in enumerate(spec))
    if isinstance(spec, Anything) or (isinstance(spec, ArraySpec) and spec.shape is None):
        raise ConfigError(f"{name} has no declared shape: give a value, as {name}=[...] or {name}=@FILE.npy")
    # Lengths that differ, so that what is transposed does not fit.
    shape = [axis if isinstance(axis, int) else lengths.setdefault(axis, 3 + len(lengths)) for axis in spec.shape]
    values = rng.uniform(0.5, 1.5, shape)
    if spec.dtype.startswith("complex"):
        values = values + 1j * rng.uniform(0.5, 1.5, shape)
    return np.asarray(values, spec.dtype or np.float64)


def verify(
    function: RemoteFunction, arguments: dict[str, Any], directions: int, rng: np.random.Generator
) -> Iterator[Finding]:
    """Tests the derivatives at a point, along random directions; the worst of each kind of test is told.

    First derivatives by the order of the Taylor remainder, which must be 2, in reverse and in forward mode, and by
    <Jv, w> = <v, Jᵀw>; second derivatives by the order 3 and the symmetry of the Hessian. What the server does not
    offer is not tested.

    Raises:
        GradientError: no argument, or no value, has derivatives, or the value is not finite.
    """
    flat = FlatFunction(function, (), arguments, _dtype)
    if not flat.names:
        raise GradientError(f"{function.name} takes no floating-point or complex numbers here: {', '.join(arguments)}")
    value = flat("value", flat.operands)
    if not any(y.dtype.kind in "fc" for y in value):
        raise GradientError(f"the value of {function.name} has no floating-point or complex numbers")
    if not all(np.isfinite(y).all() for y in value if y.dtype.kind in "fc"):
        raise GradientError(f"the value of {function.name} is not finite here, and has no derivatives; try elsewhere")
    offered = {*function.describe().products}
    tests = [_Direction(flat, value, offered, rng).findings() for _ in range(directions)]
    for of_one_kind in zip(*tests, strict=True):
        yield min(of_one_kind, key=lambda finding: finding.right)


def _dtype(leaf: Any) -> Any:
    return np.asarray(leaf).dtype if isinstance(leaf, np.ndarray | np.generic | float | complex) else None


class _Direction:
    """The tests along one random direction of the arguments and of the value."""

    def __init__(self, flat: FlatFunction, value: list[Array], offered: set[int], rng: np.random.Generator) -> None:
        self._flat = flat
        self._offered = offered
        self._point = [np.asarray(x) for x in flat.operands]
        moving = self._point[: flat.moving]
        self._along = [_direction(x, rng) for x in moving]
        self._other = [_direction(x, rng) for x in moving]
        self._weights = [_direction(np.ones_like(y), rng) for y in value]
        kinds = [x.dtype for x in (*moving, *value) if x.dtype.kind in "fc"]
        self._epsilon = float(max(np.finfo(kind).eps for kind in kinds))

    def findings(self) -> list[Finding]:
        flat, at, v, w = self._flat, self._point, self._along, self._weights
        values = self._projected(taylor.steps(self._epsilon))
        found = []
        first = None
        if pb.PRODUCT_VJP in self._offered:
            pulled = flat("vjp", at, w)
            first = _inner(pulled, v)
            found.append(self._order("vjp", values, [first]))
        if pb.PRODUCT_JVP in self._offered:
            pushed = flat("jvp", at, v)
            found.append(self._order("jvp", values, [_inner(w, pushed)]))
            if first is not None:
                found.append(self._same("<Jv, w> = <v, Jᵀw>", _inner(w, pushed), first, _size(w, pushed)))
        if first is not None and pb.PRODUCT_HVP in self._offered:
            product, other = flat.many("hvp", at, [(w, v), (w, self._other)])
            if found[0].right:
                found.append(self._order("hvp", values, [first, _inner(product, v)]))
            else:
                found.append(Finding("hvp", False, "its remainder is hidden behind that of the first derivative"))
            size = _size(product, self._other)
            found.append(self._same("<Hv, u> = <v, Hu>", _inner(product, self._other), _inner(other, v), size))
        return found

    def _projected(self, steps: Array) -> Array:
        """<w, f(x + h v)> for every step h; NaN where the function raises."""
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            return np.array(list(pool.map(self._value_at, steps)))

    def _value_at(self, step: float) -> float:
        moved = [(x + step * v).astype(x.dtype) for x, v in zip(self._point, self._along, strict=False)]
        return _inner(self._weights, self._flat("value", [*moved, *self._point[len(moved) :]]))

    def _order(self, what: str, values: Array, derivatives: Sequence[float]) -> Finding:
        if not np.all(np.isfinite(derivatives)):
            return Finding(what, False, f"the derivative is {derivatives[-1]}")
        order = taylor.order(values, derivatives, self._epsilon)
        wrong = "" if order.right else f"; {derivatives[-1]:.6g} is wrong by about {order.error:.2g}"
        return Finding(what, order.right, f"{order}{wrong}")

    def _same(self, what: str, one: float, other: float, size: float) -> Finding:
        difference = abs(one - other) / (size or 1.0)
        return Finding(what, bool(difference <= ROUNDINGS * self._epsilon), f"to {difference:.1e}")


def _direction(like: Array, rng: np.random.Generator) -> Array:
    """Not small, and so that half of it leaves the signs of `like` as they are."""
    size = np.where(like == 0, np.mean(np.abs(like)) or 1.0, np.abs(like)) if like.size else np.abs(like)
    signs = rng.choice([-1.0, 1.0], like.shape)
    if like.dtype.kind == "c":
        signs = signs * np.exp(1j * rng.uniform(0, np.pi, like.shape))
    return np.asarray(signs * rng.uniform(0.3, 0.9, like.shape) * size, like.dtype)


def _inner(w: Sequence[Array], y: Sequence[Array]) -> float:
    """The real part of the sum of conj(w) y."""
    wide = [(a.astype(np.result_type(a, np.float64)), b) for a, b in zip(w, y, strict=True)]
    return float(sum(np.sum(np.conj(a) * b).real for a, b in wide))


def _size(w: Sequence[Array], y: Sequence[Array]) -> float:
    return float(sum(np.sum(np.abs(a) * np.abs(b), dtype=np.float64) for a, b in zip(w, y, strict=True)))
