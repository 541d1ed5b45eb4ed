"""Exponentials, logarithms, and the sigmoid between them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..primitive import elementwise, primitive
from .arithmetic import ratio
from .nested import nested
from .precision import floating, refuse_complex

_LN2 = math.log(2.0)
_LN10 = math.log(10.0)

exp = elementwise(
    "exp", lambda xp, x: xp.exp(x), [lambda xp, ans, x: ans], save="output", doc="eˣ, its own derivative."
)
exp2 = elementwise(
    "exp2", lambda xp, x: xp.exp2(x), [lambda xp, ans, x: _LN2 * ans], save="output", doc="2ˣ; derivative 2ˣ·ln 2."
)
expm1 = elementwise(
    "expm1", lambda xp, x: xp.expm1(x), [lambda xp, ans, x: ans + 1], save="output", doc="eˣ - 1, exact for small x."
)
log = elementwise("log", lambda xp, x: xp.log(x), [lambda xp, ans, x: 1 / x], doc="Natural logarithm; derivative 1/x.")
log2 = elementwise("log2", lambda xp, x: xp.log2(x), [lambda xp, ans, x: 1 / (_LN2 * x)], doc="Logarithm to base 2.")
log10 = elementwise(
    "log10", lambda xp, x: xp.log10(x), [lambda xp, ans, x: 1 / (_LN10 * x)], doc="Logarithm to base 10."
)
log1p = elementwise(
    "log1p", lambda xp, x: xp.log1p(x), [lambda xp, ans, x: 1 / (1 + x)], doc="log(1 + x), exact for small x."
)


def _sigmoid(xp: Any, x: Any) -> Any:
    """1 / (1 + e⁻ˣ); in general from e^-|x|, which cannot overflow."""
    if type(x) is np.ndarray and x.dtype.char in "fd":
        # In one buffer. Where e⁻ˣ overflows, the reciprocal of infinity is the right value.
        value = np.negative(x, out=np.empty_like(x))
        with np.errstate(over="ignore"):
            np.exp(value, out=value)
        value += 1
        return np.reciprocal(value, out=value)
    refuse_complex("sigmoid", x)
    x = floating(xp, x)
    e = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1.0, e) / (1 + e)


def _sigmoid_vjp(xp: Any, g: Any, ans: Any, x: Any) -> Any:
    if type(ans) is np.ndarray and ans.dtype == g.dtype:
        # The formula below in one buffer.
        factor = 1 - ans
        factor *= ans
        factor *= g
        return factor
    return g * (ans * (1 - ans))


sigmoid = primitive(
    "sigmoid",
    _sigmoid,
    vjps=[_sigmoid_vjp],
    jvp="same",
    save="output",
    doc="1 / (1 + e⁻ˣ), also called expit; derivative s(1 - s).",
)


def _share(xp: Any, x: Any, y: Any, scale: float = 1.0) -> Any:
    """sigmoid(scale·(x - y)), the weight of x in logaddexp; one half where both are the same infinity."""
    limit = 1e38  # large for any floating point, and the difference of two such is finite in float32
    return nested(xp, sigmoid, scale * (xp.clip(x, -limit, limit) - xp.clip(y, -limit, limit)))


logaddexp = elementwise(
    "logaddexp",
    lambda xp, x, y: xp.logaddexp(x, y),
    [lambda xp, ans, x, y: _share(xp, x, y), lambda xp, ans, x, y: _share(xp, y, x)],
    doc="log(eˣ + eʸ); derivatives sigmoid(x - y) and sigmoid(y - x).",
)
logaddexp2 = elementwise(
    "logaddexp2",
    lambda xp, x, y: xp.logaddexp2(x, y),
    [lambda xp, ans, x, y: _share(xp, x, y, _LN2), lambda xp, ans, x, y: _share(xp, y, x, _LN2)],
    doc="log2(2ˣ + 2ʸ).",
)


def _logit(xp: Any, x: Any) -> Any:
    x = floating(xp, x)
    return xp.log(x) - xp.log1p(-x)


logit = elementwise(
    "logit",
    _logit,
    [lambda xp, ans, x: 1 / (x * (1 - x))],
    doc="log(x / (1 - x)), the inverse of sigmoid; derivative 1 / (x(1 - x)).",
)


def _xlogy(xp: Any, x: Any, y: Any) -> Any:
    zero = x == 0
    value = x * xp.log(xp.where(zero, 1.0, y))
    return xp.where(zero & xp.isnan(y), xp.nan, value)


def _xlogy_by_x(xp: Any, ans: Any, x: Any, y: Any) -> Any:
    """log y, and 0 where x is 0 and log y is not finite."""
    outside = (x == 0) & (y <= 0)
    return xp.where(outside, 0.0, xp.log(xp.where(outside, 1.0, y)))


xlogy = elementwise(
    "xlogy",
    _xlogy,
    [_xlogy_by_x, lambda xp, ans, x, y: ratio(xp, x, y)],
    doc="x·log y, 0 where x is 0; derivatives log y and x/y, 0 where the factor x is 0 and y too.",
)
