"""Comparing and selecting: extrema of two, clip, where; and all that has no gradient, registered so explicitly."""

from __future__ import annotations

from typing import Any

from ..primitive import elementwise, primitive
from .masking import masked

# ---- selection -------------------------------------------------------------------------------------------------------


def _winner(xp: Any, g: Any, wins: Any, ties: Any) -> Any:
    """g to the operand that was chosen; of equal operands each gets half."""
    return masked(xp, g, wins) + masked(xp, 0.5 * g, ties)


def _or_nan(xp: Any, wins: Any, other: Any) -> Any:
    return xp.logical_or(wins, xp.isnan(other))


maximum = primitive(
    "maximum",
    lambda xp, x, y: xp.maximum(x, y),
    vjps=[
        lambda xp, g, ans, x, y: _winner(xp, g, x > y, x == y),
        lambda xp, g, ans, x, y: _winner(xp, g, y > x, x == y),
    ],
    jvp="same",
    save="inputs",
    doc="The larger of x and y; the gradient goes to it, half to each where they are equal.",
)
minimum = primitive(
    "minimum",
    lambda xp, x, y: xp.minimum(x, y),
    vjps=[
        lambda xp, g, ans, x, y: _winner(xp, g, x < y, x == y),
        lambda xp, g, ans, x, y: _winner(xp, g, y < x, x == y),
    ],
    jvp="same",
    save="inputs",
    doc="The smaller of x and y; the gradient goes to it, half to each where they are equal.",
)
fmax = primitive(
    "fmax",
    lambda xp, x, y: xp.fmax(x, y),
    vjps=[
        lambda xp, g, ans, x, y: _winner(xp, g, _or_nan(xp, x > y, y), x == y),
        lambda xp, g, ans, x, y: _winner(xp, g, _or_nan(xp, y > x, x), x == y),
    ],
    jvp="same",
    save="inputs",
    doc="As maximum, but a number wins over nan.",
)
fmin = primitive(
    "fmin",
    lambda xp, x, y: xp.fmin(x, y),
    vjps=[
        lambda xp, g, ans, x, y: _winner(xp, g, _or_nan(xp, x < y, y), x == y),
        lambda xp, g, ans, x, y: _winner(xp, g, _or_nan(xp, y < x, x), x == y),
    ],
    jvp="same",
    save="inputs",
    doc="As minimum, but a number wins over nan.",
)


def _inside(xp: Any, x: Any, low: Any, high: Any) -> Any:
    if low is None and high is None:
        return xp.ones_like(x, dtype=bool)
    if low is None or high is None:
        return x <= high if low is None else x >= low
    return xp.logical_and(x >= low, x <= high)


def _clip_low(xp: Any, g: Any, ans: Any, x: Any, min: Any, max: Any = None) -> Any:
    if max is None:
        return masked(xp, g, x < min)
    return masked(xp, g, xp.logical_and(x < min, min < max))


clip = primitive(
    "clip",
    lambda xp, x, min=None, max=None: xp.clip(x, min, max),
    vjps=[
        lambda xp, g, ans, x, min=None, max=None: masked(xp, g, _inside(xp, x, min, max)),
        _clip_low,
        # With crossed bounds the upper one rules, as in NumPy.
        lambda xp, g, ans, x, min, max: masked(xp, g, x > max if min is None else xp.logical_or(x > max, min >= max)),
    ],
    jvp="same",
    save="inputs",
    doc="x limited to [min, max] (arrays, numbers or None); derivative 1 inside and at the bounds, else 0.",
)


def _truth(xp: Any, condition: Any) -> Any:
    """A condition as booleans; like NumPy, `where` takes numbers too."""
    is_bool = "bool" in str(getattr(condition, "dtype", "bool"))
    return condition if is_bool else xp.not_equal(condition, 0)


where = primitive(
    "where",
    lambda xp, condition, x, y: xp.where(condition, x, y),
    vjps=[
        None,
        lambda xp, g, ans, condition, x, y: masked(xp, g, _truth(xp, condition)),
        lambda xp, g, ans, condition, x, y: masked(xp, g, xp.logical_not(condition)),
    ],
    jvp="same",
    save="inputs",
    doc="x where the condition holds, else y. Both branches are computed; an infinite derivative in the branch that "
    "was not taken gives nan, so keep its argument in its domain by another where.",
)
copysign = elementwise(
    "copysign",
    lambda xp, x, y: xp.copysign(x, y),
    [lambda xp, ans, x, y: xp.sign(x) * xp.sign(ans), lambda xp, ans, x, y: xp.zeros_like(ans)],
    save="all",
    doc="|x| with the sign of y; derivatives ±1 by x (0 at 0) and 0 by y.",
)
nan_to_num = primitive(
    "nan_to_num",
    lambda xp, x, *, copy=True, nan=0.0, posinf=None, neginf=None: xp.nan_to_num(
        x, nan=nan, posinf=posinf, neginf=neginf
    ),
    vjps=[lambda xp, g, ans, x, *, copy=True, nan=0.0, posinf=None, neginf=None: masked(xp, g, xp.isfinite(x))],
    jvp="same",
    save="inputs",
    doc="x with nan and infinities replaced; derivative 1 at finite elements, else 0.",
)
heaviside = elementwise(
    "heaviside",
    lambda xp, x, y: xp.heaviside(x, y),
    [lambda xp, ans, x, y: xp.zeros_like(ans), lambda xp, ans, x, y: xp.astype(xp.equal(x, 0), ans.dtype)],
    save="all",
    doc="0, y or 1 for x below, at or above 0; derivatives 0 by x, 1 by y where x = 0.",
)

# ---- without gradient ------------------------------------------------------------------------------------------------
# Piecewise constant, or not real-valued. What they return is outside any graph.


def _no_gradient(name: str, forward: Any, doc: str) -> None:
    primitive(name, forward, vjps=None, doc=doc)


_no_gradient("floor", lambda xp, x: xp.floor(x), "Largest integer ≤ x.")
_no_gradient("ceil", lambda xp, x: xp.ceil(x), "Smallest integer ≥ x.")
_no_gradient("trunc", lambda xp, x: xp.trunc(x), "x without its fraction.")
_no_gradient("rint", lambda xp, x: xp.rint(x), "The nearest integer, the even one of two.")
_no_gradient("round", lambda xp, x, *, decimals=0: xp.round(x, decimals), "x rounded to `decimals` decimal places.")

_no_gradient("equal", lambda xp, x, y: xp.equal(x, y), "x == y.")
_no_gradient("not_equal", lambda xp, x, y: xp.not_equal(x, y), "x != y.")
_no_gradient("less", lambda xp, x, y: xp.less(x, y), "x < y.")
_no_gradient("less_equal", lambda xp, x, y: xp.less_equal(x, y), "x <= y.")
_no_gradient("greater", lambda xp, x, y: xp.greater(x, y), "x > y.")
_no_gradient("greater_equal", lambda xp, x, y: xp.greater_equal(x, y), "x >= y.")
_no_gradient(
    "isclose",
    lambda xp, x, y, *, rtol=1e-05, atol=1e-08, equal_nan=False: xp.isclose(x, y, rtol, atol, equal_nan),
    "|x - y| <= atol + rtol·|y|.",
)
_no_gradient(
    "allclose",
    lambda xp, x, y, *, rtol=1e-05, atol=1e-08, equal_nan=False: xp.all(xp.isclose(x, y, rtol, atol, equal_nan)),
    "Whether isclose holds everywhere.",
)
_no_gradient(
    "array_equal",
    lambda xp, x, y: xp.all(x == y) if x.shape == y.shape else xp.asarray(False),
    "Whether shapes and elements agree.",
)

_no_gradient("logical_and", lambda xp, x, y: xp.logical_and(x, y), "Both are true.")
_no_gradient("logical_or", lambda xp, x, y: xp.logical_or(x, y), "One or both are true.")
_no_gradient("logical_xor", lambda xp, x, y: xp.logical_xor(x, y), "Exactly one is true.")
_no_gradient("logical_not", lambda xp, x: xp.logical_not(x), "It is not true.")
_no_gradient("bitwise_and", lambda xp, x, y: xp.bitwise_and(x, y), "x & y, of integers or booleans.")
_no_gradient("bitwise_or", lambda xp, x, y: xp.bitwise_or(x, y), "x | y, of integers or booleans.")
_no_gradient("bitwise_xor", lambda xp, x, y: xp.bitwise_xor(x, y), "x ^ y, of integers or booleans.")
_no_gradient("invert", lambda xp, x: xp.invert(x), "~x, of integers or booleans.")

_no_gradient("isnan", lambda xp, x: xp.isnan(x), "Is nan.")
_no_gradient("isinf", lambda xp, x: xp.isinf(x), "Is an infinity.")
_no_gradient("isfinite", lambda xp, x: xp.isfinite(x), "Is neither nan nor an infinity.")
_no_gradient("signbit", lambda xp, x: xp.signbit(x), "Has its sign bit set; true for -0.0.")

_no_gradient(
    "argmax",
    lambda xp, x, *, axis=None, keepdims=False: xp.argmax(x, axis=axis, keepdims=keepdims),
    "Index of the maximum.",
)
_no_gradient(
    "argmin",
    lambda xp, x, *, axis=None, keepdims=False: xp.argmin(x, axis=axis, keepdims=keepdims),
    "Index of the minimum.",
)
_no_gradient(
    "argsort",
    lambda xp, x, *, axis=-1, kind=None, stable=None: xp.argsort(x, axis=axis, stable=bool(stable or kind == "stable")),
    "Indices that would sort x along `axis`.",
)
_no_gradient(
    "searchsorted", lambda xp, a, v, *, side="left": xp.searchsorted(a, v, side=side), "Where to insert v in sorted a."
)
primitive("nonzero", lambda xp, x: tuple(xp.nonzero(x)), vjps=None, outputs="many", doc="Indices of nonzero elements.")
_no_gradient(
    "any", lambda xp, x, *, axis=None, keepdims=False: xp.any(x, axis=axis, keepdims=keepdims), "Whether one is true."
)
_no_gradient(
    "all", lambda xp, x, *, axis=None, keepdims=False: xp.all(x, axis=axis, keepdims=keepdims), "Whether all are true."
)
_no_gradient(
    "count_nonzero",
    lambda xp, x, *, axis=None, keepdims=False: xp.count_nonzero(x, axis=axis, keepdims=keepdims),
    "How many elements are not zero.",
)
