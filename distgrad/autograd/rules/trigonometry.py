"""Trigonometric and hyperbolic functions and their inverses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..primitive import conjugate, elementwise, primitive
from .arithmetic import ratio
from .nested import is_complex

_DEGREE = math.pi / 180.0

sin = elementwise("sin", lambda xp, x: xp.sin(x), [lambda xp, ans, x: xp.cos(x)], doc="sin x.")
cos = elementwise("cos", lambda xp, x: xp.cos(x), [lambda xp, ans, x: -xp.sin(x)], doc="cos x.")
tan = elementwise(
    "tan",
    lambda xp, x: xp.tan(x),
    [lambda xp, ans, x: 1 + ans * ans],
    save="output",
    doc="tan x; derivative 1 + tan²x.",
)
arcsin = elementwise(
    "arcsin",
    lambda xp, x: xp.arcsin(x),
    [lambda xp, ans, x: 1 / xp.sqrt((1 - x) * (1 + x))],
    doc="Inverse of sin; derivative 1/√(1 - x²).",
)
arccos = elementwise(
    "arccos",
    lambda xp, x: xp.arccos(x),
    [lambda xp, ans, x: -1 / xp.sqrt((1 - x) * (1 + x))],
    doc="Inverse of cos; derivative -1/√(1 - x²).",
)
arctan = elementwise(
    "arctan", lambda xp, x: xp.arctan(x), [lambda xp, ans, x: 1 / (1 + x * x)], doc="Inverse of tan; 1/(1 + x²)."
)


def _norm2(x: Any, y: Any) -> Any:
    """x² + y² in floating point: a square of small integers would wrap around."""
    return x * (1.0 * x) + y * (1.0 * y)


arctan2 = elementwise(
    "arctan2",
    lambda xp, y, x: xp.arctan2(y, x),
    [lambda xp, ans, y, x: ratio(xp, x, _norm2(x, y)), lambda xp, ans, y, x: ratio(xp, -1.0 * y, _norm2(x, y))],
    doc="The angle of the point (x, y); derivatives x/r² by y and -y/r² by x, 0 at the origin.",
)
hypot = elementwise(
    "hypot",
    lambda xp, x, y: xp.hypot(x, y),
    [lambda xp, ans, x, y: ratio(xp, x, ans), lambda xp, ans, x, y: ratio(xp, y, ans)],
    save="all",
    doc="√(x² + y²); derivatives x/r and y/r, 0 at the origin.",
)
sinh = elementwise("sinh", lambda xp, x: xp.sinh(x), [lambda xp, ans, x: xp.cosh(x)], doc="sinh x.")
cosh = elementwise("cosh", lambda xp, x: xp.cosh(x), [lambda xp, ans, x: xp.sinh(x)], doc="cosh x.")


def _tanh_vjp(xp: Any, g: Any, ans: Any, x: Any) -> Any:
    if type(ans) is np.ndarray and ans.dtype == g.dtype and not is_complex(g):
        # The formula below in one buffer.
        factor = ans * ans
        np.subtract(1, factor, out=factor)
        return np.multiply(g, factor, out=factor)
    return g * conjugate(xp, 1 - ans * ans)


tanh = primitive(
    "tanh",
    lambda xp, x: xp.tanh(x),
    vjps=[_tanh_vjp],
    jvp=lambda xp, tangents, ans, x: tangents[0] * (1 - ans * ans),
    save="output",
    doc="tanh x; derivative 1 - tanh²x.",
)
arcsinh = elementwise(
    "arcsinh",
    lambda xp, x: xp.arcsinh(x),
    [lambda xp, ans, x: 1 / xp.sqrt(x * x + 1)],
    doc="Inverse of sinh; derivative 1/√(x² + 1).",
)
arccosh = elementwise(
    "arccosh",
    lambda xp, x: xp.arccosh(x),
    [lambda xp, ans, x: 1 / (xp.sqrt(x - 1) * xp.sqrt(x + 1))],
    doc="Inverse of cosh; derivative 1/√(x² - 1).",
)
arctanh = elementwise(
    "arctanh",
    lambda xp, x: xp.arctanh(x),
    [lambda xp, ans, x: 1 / ((1 - x) * (1 + x))],
    doc="Inverse of tanh; derivative 1/(1 - x²).",
)


def _sinc_derivative(xp: Any, ans: Any, x: Any) -> Any:
    """(cos πx - sinc x) / x; near 0, where that cancels, its power series π·z·Σ (-1)ᵏ 2k z²ᵏ⁻²/(2k + 1)!, z = πx."""
    near = xp.abs(x) < 0.15
    z = math.pi * xp.where(near, x, 0.0)
    u = z * z
    series = 0.0
    for k in range(8, 0, -1):
        series = series * u + (-1) ** k * 2 * k / math.factorial(2 * k + 1)
    far = xp.where(near, 1.0, x)
    return xp.where(near, math.pi * z * series, (xp.cos(math.pi * far) - xp.sinc(far)) / far)


sinc = elementwise(
    "sinc", lambda xp, x: xp.sinc(x), [_sinc_derivative], doc="sin(πx)/(πx), 1 at 0; derivative (cos πx - sinc x)/x."
)
deg2rad = primitive(
    "deg2rad",
    lambda xp, x: xp.deg2rad(x),
    vjps=[lambda xp, g, ans, x: g * _DEGREE],
    jvp="linear",
    save="nothing",
    doc="Degrees to radians.",
)
rad2deg = primitive(
    "rad2deg",
    lambda xp, x: xp.rad2deg(x),
    vjps=[lambda xp, g, ans, x: g / _DEGREE],
    jvp="linear",
    save="nothing",
    doc="Radians to degrees.",
)
