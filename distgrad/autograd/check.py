"""Checks of derivatives against differences: `dg.check.gradcheck`, `dg.check.numerical_gradient`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, Literal

import numpy as np

from distgrad.errors import CheckError, GradientError

from . import tape, tree
from .operands import differentiable
from .reverse import check_function, name_of, vjp
from .tensor import Tensor
from .transforms import jvp

Function = Callable[..., Any]
Method = Literal["forward", "central", "complex"]

# Where the errors of truncation and of rounding of each method balance, for values around one in float64.
STEPS: dict[Method, float] = {"forward": 1e-8, "central": 6e-6, "complex": 1e-30}


def numerical_gradient(f: Function, x: Any, method: Method = "central", eps: float | None = None) -> Any:
    """The gradient of a real scalar function by differences, one element of `x` at a time.

    Arguments:
        f: function of one array; it may use NumPy or `dg.ops`.
        x: array or number, taken as float64 or complex128. By a complex x the gradient is that of steepest ascent,
            df/dRe + i df/dIm.
        method: "forward" (f(x+h) - f(x)) / h, good to about 8 digits; "central" (f(x+h) - f(x-h)) / 2h, about 10;
            "complex" Im f(x+ih) / h, exact to rounding, for real x and functions that are complex-analytic and accept
            complex numbers (Squire and Trapp, "Using complex variables to estimate derivatives of real functions",
            1998).
        eps: the step h. Default: `STEPS[method]`.

    Returns:
        an array of the shape of `x`.

    >>> import distgrad as dg
    >>> [round(float(dg.check.numerical_gradient(np.exp, 1.0, m)), 6) for m in ("forward", "central", "complex")]
    [2.718282, 2.718282, 2.718282]
    """
    if method not in STEPS:
        raise GradientError(f"method={method!r} is not one of {', '.join(map(repr, STEPS))}")
    check_function(f, "check.numerical_gradient", "(f, x)")
    h = STEPS[method] if eps is None else _positive("eps", eps)
    point = _wide(x)
    parts = (1.0, 1j) if point.dtype.kind == "c" else (1.0,)
    if method == "complex" and len(parts) == 2:
        raise GradientError("the complex step needs a real x; use method='central' for a complex one")
    gradient = np.zeros(point.shape, point.dtype)
    here = _scalar(f, point) if method == "forward" else 0.0
    for index in np.ndindex(point.shape):
        for part in parts:
            if method == "complex":
                slope = _scalar(f, _moved(point, index, 1j * h), complex_value=True).imag / h
            elif method == "forward":
                slope = (_scalar(f, _moved(point, index, part * h)) - here) / h
            else:
                ahead, behind = (_scalar(f, _moved(point, index, step)) for step in (part * h, -part * h))
                slope = (ahead - behind) / (2 * h)
            gradient[index] += part * slope
    return gradient


def _positive(name: str, value: Any) -> float:
    if not (isinstance(value, Real) and 0 < float(value) < math.inf):
        raise GradientError(f"{name}={value!r} must be a positive, finite number")
    return float(value)


def _wide(x: Any) -> Any:
    """An array in double precision, a copy."""
    array = np.asarray(x.data if isinstance(x, Tensor) else x)
    if not differentiable(array.dtype) and array.dtype.kind not in "iu":
        raise GradientError(f"x is {array.dtype}, which cannot be moved by a small step")
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def _moved(point: Any, index: tuple[int, ...], step: complex) -> Any:
    moved = point.astype(np.result_type(point, type(step)))
    moved[index] += step
    return moved


def _scalar(f: Function, x: Any, complex_value: bool = False) -> Any:
    value = f(x)
    array = np.asarray(value.data if isinstance(value, Tensor) else value)
    if array.size != 1:
        raise GradientError(
            f"{name_of(f)} returned an array of shape {array.shape}; differences of a scalar were asked for"
        )
    if array.dtype.kind == "c" and not complex_value:
        raise GradientError(f"{name_of(f)} returned a complex value; differences of a real one were asked for")
    return array.item()


# ---- gradcheck ------------------------------------------------------------------------------------------------------


def gradcheck(f: Function, *xs: Any, order: int = 1, eps: float = 1e-6, tol: float = 1e-6, seed: int = 0) -> None:
    """Checks the derivatives of `f` at `xs`, by reverse and by forward mode, against central differences.

    The value is projected on a fixed random direction, and every element of every input is moved by itself. Order 2
    does the same to the gradient.

    Arguments:
        f: function of trees of arrays, returning a tree of arrays.
        xs: its arguments. Floating-point and complex arrays in them are taken in double precision and checked; the
            rest is passed on.
        eps: half the distance of the differences.
        tol: largest error allowed, relative to the largest element of the gradient or to 1.

    Raises:
        CheckError: naming the input, the element, both values, and the likely cause.

    >>> import distgrad as dg
    >>> dg.check.gradcheck(lambda x, y: dg.ops.sin(x) * y, np.ones(3), 2.0, order=2)
    """
    if order not in (1, 2):
        raise GradientError(f"order={order} is not 1 or 2")
    check_function(f, "check.gradcheck", "(f, x)")
    eps, tol = _positive("eps", eps), _positive("tol", tol)
    leaves, structure = tree.flatten(xs)
    places = [k for k, x in enumerate(leaves) if differentiable(np.asarray(_bare(x)).dtype)]
    if not places:
        raise GradientError("gradcheck got no floating-point or complex input to check")
    paths = [f"input{structure.paths()[k]}" for k in places]
    inputs = [_wide(leaves[k]) for k in places]

    def of_inputs(*moving: Any) -> list[Any]:
        full = list(leaves)
        for k, x in zip(places, moving, strict=True):
            full[k] = x
        return tree.flatten(f(*tree.unflatten(structure, full)))[0]

    of_inputs.__qualname__ = name_of(f)
    _Check(of_inputs, inputs, paths, eps, tol, np.random.default_rng(seed)).run(order)


def _bare(x: Any) -> Any:
    while isinstance(x, Tensor):
        x = x.data
    return x


class _Check:
    """A function of arrays, a point, and a direction of its value."""

    def __init__(
        self, f: Callable[..., list[Any]], inputs: Sequence[Any], paths: Sequence[str], eps: float, tol: float, rng: Any
    ) -> None:
        self._f = f
        self._inputs = list(inputs)
        self._paths = paths
        self._eps = eps
        self._tol = tol
        self._rng = rng
        self._name = name_of(f)

    def run(self, order: int, what: str = "the gradient") -> None:
        values = self._values(self._inputs)
        again = self._values(self._inputs)
        if any(
            a.shape != b.shape or not np.array_equal(a, b, equal_nan=True) for a, b in zip(values, again, strict=True)
        ):
            raise CheckError(
                f"{self._name} returned two different values for the same input; fix its random numbers first"
            )
        self._single = any(
            v.dtype.itemsize < (16 if v.dtype.kind == "c" else 8) for v in values if differentiable(v.dtype)
        )
        # Which results count, and how much; integers have no derivative.
        self._weights = [self._direction(v) if differentiable(v.dtype) else None for v in values]
        gradients = self._by_reverse()
        for k, gradient in enumerate(gradients):
            self._compare(k, gradient, what)
        self._compare_forward(gradients, what)
        if order == 2:
            second = _Check(self._gradient_of, self._inputs, self._paths, self._eps, self._tol, self._rng)
            second._name = f"the gradient of {self._name}"
            second.run(1, "the second derivative")

    def _direction(self, v: Any) -> Any:
        direction = self._rng.uniform(0.5, 1.5, v.shape)
        return direction + 1j * self._rng.uniform(0.5, 1.5, v.shape) if v.dtype.kind == "c" else direction

    def _values(self, inputs: Sequence[Any]) -> list[Any]:
        with tape.entered(record=False):
            return [np.asarray(_bare(v)) for v in self._f(*inputs)]

    def _projected(self, inputs: Sequence[Any]) -> float:
        """Re Σ conj(weight) · value."""
        pairs = zip(self._values(inputs), self._weights, strict=True)
        return float(sum(np.sum(np.conj(w) * v).real for v, w in pairs if w is not None))

    def _weighted(self, *inputs: Any) -> list[Any]:
        return [v for v, w in zip(self._f(*inputs), self._weights, strict=True) if w is not None]

    def _by_reverse(self) -> list[Any]:
        values, pullback = vjp(self._weighted, *self._inputs)
        return [np.asarray(g) for g in pullback(self._cotangents(values))]

    def _cotangents(self, values: Sequence[Any]) -> list[Any]:
        weights = [w for w in self._weights if w is not None]
        return [w.astype(v.dtype) for w, v in zip(weights, values, strict=True)]

    def _gradient_of(self, *inputs: Any) -> list[Any]:
        values, pullback = vjp(self._weighted, *inputs)
        return list(pullback(self._cotangents(values)))

    def _difference(self, k: int, index: tuple[int, ...], step: complex) -> float:
        moved = list(self._inputs)
        moved[k] = _moved(moved[k], index, step)
        return self._projected(moved)

    def _numerical(self, k: int) -> Any:
        x = self._inputs[k]
        found = np.zeros(x.shape, x.dtype)
        for index in np.ndindex(x.shape):
            for part in (1.0, 1j) if x.dtype.kind == "c" else (1.0,):
                h = part * self._eps
                slope = (self._difference(k, index, h) - self._difference(k, index, -h)) / (2 * self._eps)
                found[index] += part * slope
        return found

    def _allowed(self, expected: Any) -> float:
        """The largest error allowed: `tol`, and what differences of rounded values cannot tell."""
        largest = float(np.max(np.abs(expected), initial=1.0, where=np.isfinite(expected)))
        precision = 1e-7 if self._single else 2e-16
        return self._tol * largest + 4 * precision * abs(self._projected(self._inputs)) / self._eps

    def _compare(self, k: int, found: Any, what: str) -> None:
        expected = self._numerical(k)
        wrong = ~(np.abs(found - expected) <= self._allowed(expected))
        if not wrong.any():
            return
        worst = np.abs(np.where(np.isfinite(found - expected), found - expected, np.inf))
        index = tuple(int(i) for i in np.unravel_index(int(np.argmax(np.where(wrong, worst, -1.0))), wrong.shape))
        where = f"{self._paths[k]}[{', '.join(map(str, index))}]" if index else self._paths[k]
        raise CheckError(
            f"{what} of {self._name} by {where} is {found[index]:.10g}, but differences give {expected[index]:.10g} "
            f"({int(wrong.sum())} of {wrong.size} elements differ). Likely cause: "
            + self._cause(k, index, found, expected)
        )

    def _compare_forward(self, gradients: Sequence[Any], what: str) -> None:
        """Forward mode along a random direction against reverse mode along the same."""
        tangents = [self._direction(x) for x in self._inputs]
        _, pushed = jvp(self._weighted, tuple(self._inputs), tuple(tangents))
        weights = [w for w in self._weights if w is not None]
        forward = float(sum(np.sum(np.conj(w) * np.asarray(t)).real for w, t in zip(weights, pushed, strict=True)))
        reverse = float(sum(np.sum(np.conj(g) * t).real for g, t in zip(gradients, tangents, strict=True)))
        if abs(forward - reverse) > 10 * self._tol * max(1.0, abs(reverse)):
            raise CheckError(
                f"{what} of {self._name} along a direction is {forward:.10g} by forward mode and {reverse:.10g} by "
                "reverse mode, and differences agree with reverse mode. Likely cause: the jvp of a primitive or of a "
                "custom_jvp is wrong"
            )

    def _cause(self, k: int, index: tuple[int, ...], found: Any, expected: Any) -> str:
        """What the pattern of wrong values suggests, the most telling first."""
        allowed = self._allowed(expected) * 10

        def same(a: Any, b: Any) -> bool:
            return bool(np.all(np.abs(a - b) <= allowed))

        if self._has_kink(k, index):
            return (
                "the function is not smooth there (a kink or a jump within eps), so no derivative is right; move the "
                "input away, or give it a convention and do not check it there"
            )
        if not np.isfinite(found[index]):
            return "the rule divides by zero or takes a function outside its domain; see dg.detect_anomaly()"
        if same(found, 0):
            return (
                "no gradient reaches this input: it is detached, used under no_grad, turned into a NumPy array or "
                "Python number inside the function, or its vjp is None"
            )
        if same(found, -expected):
            return "the sign is wrong"
        ratio = _common_ratio(found, expected, allowed)
        if ratio is not None:
            return f"a factor of {ratio:.6g}" + (
                " (counted twice, or d(x²) taken for x)" if ratio in (2.0, 0.5) else ""
            )
        if found.dtype.kind == "c" and same(found, np.conj(expected)):
            return "a conjugate is missing or too many: the vjp multiplies by the conjugate of a holomorphic derivative"
        if found.ndim == 2 and found.shape[0] == found.shape[1] and same(found, expected.T):
            return "it is transposed"
        if same(np.sort(found, axis=None), np.sort(expected, axis=None)):
            return "the right values are in the wrong places: an axis, a permutation or an index is not undone"
        if self._single:
            return (
                "the function computes in less than double precision, which differences with this eps cannot resolve; "
                "see eps and tol"
            )
        if not same(found, expected) and np.mean(np.abs(found - expected) > allowed) < 1:
            return "a term or a case is missing: only some elements are wrong"
        return "a term is missing or wrong, or a sum over broadcast axes"

    def _has_kink(self, k: int, index: tuple[int, ...]) -> bool:
        """Whether the slopes to both sides differ by more than the curvature explains."""
        slopes = []
        for h in (self._eps, self._eps / 10):
            here = self._projected(self._inputs)
            right = (self._difference(k, index, h) - here) / h
            left = (here - self._difference(k, index, -h)) / h
            slopes.append(abs(right - left))
        # A curvature's share shrinks with the step; a kink's stays and a jump's grows.
        return slopes[0] > 1e-3 * max(1.0, abs(self._projected(self._inputs))) and slopes[1] > 0.5 * slopes[0]


def _common_ratio(found: Any, expected: Any, allowed: float) -> float | None:
    """k when found = k · expected everywhere, for a k that is not 1."""
    large = np.abs(expected) > 100 * allowed
    if not large.any() or found.dtype.kind == "c":
        return None
    ratio = float(np.median(found[large] / expected[large]))
    if abs(ratio - 1) < 1e-6 or not np.all(np.abs(found - ratio * expected) <= allowed * max(1.0, abs(ratio))):
        return None
    nearest = round(ratio * 2) / 2
    return nearest if nearest and abs(ratio - nearest) < 1e-5 else ratio
