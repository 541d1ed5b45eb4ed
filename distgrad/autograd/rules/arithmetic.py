"""Arithmetic, absolute values, the parts of complex numbers, copies and casts: one value in, one value out.

Most rules are tables of partial derivatives (`elementwise`). Where a vjp can do with fewer operations than a
multiplication by the derivative, or the function is not complex-analytic (abs, sign, real, ...), the rules are written
out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..primitive import conjugate, elementwise, primitive
from .nested import is_complex


def ratio(xp: Any, a: Any, b: Any) -> Any:
    """a / b, and 0 where b is 0: the subgradient of least norm of norms, abs and the like."""
    zero = b == 0
    return xp.where(zero, 0.0, a / xp.where(zero, 1.0, b))


# ---- arithmetic ------------------------------------------------------------------------------------------------------

add = primitive(
    "add",
    lambda xp, x, y: x + y,
    vjps=[lambda xp, g, ans, x, y: g, lambda xp, g, ans, x, y: g],
    jvp="same",
    save="nothing",
    doc="x + y.",
)
subtract = primitive(
    "subtract",
    lambda xp, x, y: x - y,
    vjps=[lambda xp, g, ans, x, y: g, lambda xp, g, ans, x, y: -g],
    jvp="same",
    save="nothing",
    doc="x - y.",
)
multiply = elementwise(
    "multiply",
    lambda xp, x, y: x * y,
    [lambda xp, ans, x, y: y, lambda xp, ans, x, y: x],
    doc="x · y.",
)


def _divide_jvp(xp: Any, tangents: Sequence[Any], ans: Any, x: Any, y: Any) -> Any:
    dx, dy = tangents
    if dy is None:
        return dx / y
    return -(dy * ans) / y if dx is None else (dx - dy * ans) / y


divide = primitive(
    "divide",
    lambda xp, x, y: xp.divide(x, y),
    vjps=[
        lambda xp, g, ans, x, y: g / conjugate(xp, y),
        lambda xp, g, ans, x, y: -g * conjugate(xp, ans / y),
    ],
    jvp=_divide_jvp,
    doc="x / y; derivatives 1/y and -x/y².",
)
negative = primitive(
    "negative", lambda xp, x: xp.negative(x), vjps=[lambda xp, g, ans, x: -g], jvp="linear", save="nothing", doc="-x."
)
positive = primitive(
    "positive", lambda xp, x: xp.positive(x), vjps=[lambda xp, g, ans, x: g], jvp="linear", save="nothing", doc="+x."
)


def _power(xp: Any, x: Any, y: Any) -> Any:
    # numpy.power takes 63 ns an element whatever the exponent; products take less than one.
    if type(y) in (int, float) and getattr(getattr(x, "dtype", None), "kind", "") in ("f", "c"):
        if y == 2:
            return x * x
        if y == 3:
            return x * x * x
    return xp.power(x, y)


def _power_by_base(xp: Any, ans: Any, x: Any, y: Any) -> Any:
    """y·x^(y-1), and 0 where y is 0, even at x = 0."""
    if type(y) in (int, float, complex):
        return y * _power(xp, x, y - 1) if y != 0 else xp.zeros_like(x)
    zero = y == 0
    return y * xp.power(x, xp.where(zero, 1, y - 1))


def _power_by_exponent(xp: Any, ans: Any, x: Any, y: Any) -> Any:
    """x^y·log x, and its limit 0 at x = 0. Negative numbers have a logarithm, a complex one, where y is complex."""
    if type(x) in (int, float):
        negative = complex(math.log(-x), math.pi) if x < 0 and is_complex(ans) else math.nan
        return ans * (math.log(x) if x > 0 else 0.0 if x == 0 else negative)
    base = xp.where(x == 0, 1.0, x)
    return ans * xp.log(xp.astype(base, ans.dtype) if is_complex(ans) else base)


power = elementwise(
    "power",
    _power,
    [_power_by_base, _power_by_exponent],
    save="all",
    doc="x ** y; derivatives y·x^(y-1) (0 where y = 0) and x^y·log x (0 where x = 0).",
)
float_power = elementwise(
    "float_power",
    lambda xp, x, y: xp.float_power(x, y),
    [_power_by_base, _power_by_exponent],
    save="all",
    doc="x ** y computed in at least float64.",
)
square = elementwise("square", lambda xp, x: xp.square(x), [lambda xp, ans, x: 2 * x], doc="x²; derivative 2x.")
reciprocal = elementwise(
    "reciprocal",
    lambda xp, x: xp.reciprocal(x),
    [lambda xp, ans, x: -ans * ans],
    save="output",
    doc="1/x; derivative -1/x².",
)
sqrt = elementwise(
    "sqrt",
    lambda xp, x: xp.sqrt(x),
    [lambda xp, ans, x: 0.5 / ans],
    save="output",
    doc="√x; derivative 1/(2√x), which is infinite at 0.",
)
rsqrt = elementwise(
    "rsqrt",
    lambda xp, x: 1 / xp.sqrt(x),
    [lambda xp, ans, x: -0.5 * ans * ans * ans],
    save="output",
    doc="1/√x; derivative -1/(2x√x).",
)
cbrt = elementwise(
    "cbrt",
    lambda xp, x: xp.cbrt(x),
    [lambda xp, ans, x: 1 / (3 * ans * ans)],
    save="output",
    doc="The real cube root; derivative 1/(3·cbrt(x)²).",
)
remainder = elementwise(
    "remainder",
    lambda xp, x, y: xp.remainder(x, y),
    [lambda xp, ans, x, y: xp.ones_like(ans), lambda xp, ans, x, y: -xp.floor_divide(x, y)],
    save="all",
    doc="x - y·floor(x/y), with the sign of y; derivatives 1 and -floor(x/y).",
)
fmod = elementwise(
    "fmod",
    lambda xp, x, y: xp.fmod(x, y),
    # Rounding (x - fmod) / y finds the quotient where x / y itself, rounded up, would truncate to the next one.
    [lambda xp, ans, x, y: xp.ones_like(ans), lambda xp, ans, x, y: -xp.rint((x - ans) / y)],
    save="all",
    doc="x - y·trunc(x/y), with the sign of x; derivatives 1 and -trunc(x/y).",
)
floor_divide = elementwise(
    "floor_divide",
    lambda xp, x, y: xp.floor_divide(x, y),
    [lambda xp, ans, x, y: xp.zeros_like(ans), lambda xp, ans, x, y: xp.zeros_like(ans)],
    save="output",
    doc="floor(x/y); derivative 0.",
)

# ---- absolute value, sign and the parts of complex numbers -----------------------------------------------------------
# For w = f(z) that is not analytic the vjp is that of (re, im) -> (re, im), read as one complex number.


def _abs_jvp(xp: Any, tangents: Sequence[Any], ans: Any, x: Any) -> Any:
    turned = conjugate(xp, xp.sign(x)) * tangents[0]
    return xp.real(turned) if is_complex(turned) else turned


abs = primitive(
    "abs",
    lambda xp, x: xp.abs(x),
    vjps=[lambda xp, g, ans, x: g * xp.sign(x)],
    jvp=_abs_jvp,
    save="inputs",
    doc="|x|; derivative sign(x), which is 0 at 0.",
)


def _sign_rule(xp: Any, g: Any, ans: Any, x: Any) -> Any:
    """For complex z the part of g across the direction s of z, over |z|; this linear map is its own adjoint."""
    if not is_complex(x):
        return xp.zeros_like(g)
    along = xp.real(xp.conj(ans) * g)
    return ratio(xp, g - ans * along, xp.abs(x))


sign = primitive(
    "sign",
    lambda xp, x: xp.sign(x),
    vjps=[_sign_rule],
    jvp="same",
    doc="-1, 0 or 1, with derivative 0; for complex z, z/|z|.",
)
conj = primitive(
    "conj", lambda xp, x: xp.conj(x), vjps=[lambda xp, g, ans, x: xp.conj(g)], jvp="linear", save="nothing", doc="x̄."
)
real = primitive(
    "real", lambda xp, x: xp.real(x), vjps=[lambda xp, g, ans, x: g], jvp="linear", save="nothing", doc="Real part."
)
imag = primitive(
    "imag",
    lambda xp, x: xp.imag(x),
    vjps=[lambda xp, g, ans, x: g * 1j if is_complex(x) else xp.zeros_like(g)],
    jvp="linear",
    save="nothing",
    doc="Imaginary part.",
)


def _angle_vjp(xp: Any, g: Any, ans: Any, x: Any) -> Any:
    if not is_complex(x):
        return xp.zeros_like(g)
    return g * ratio(xp, 1j * x, xp.square(xp.abs(x)))


def _angle_jvp(xp: Any, tangents: Sequence[Any], ans: Any, x: Any) -> Any:
    if not is_complex(x):
        return xp.zeros_like(tangents[0])
    return ratio(xp, xp.imag(xp.conj(x) * tangents[0]), xp.square(xp.abs(x)))


angle = primitive(
    "angle",
    lambda xp, x: xp.angle(x),
    vjps=[_angle_vjp],
    jvp=_angle_jvp,
    save="inputs",
    doc="The argument of a complex number, in radians; of a real one 0 or π, with derivative 0.",
)

# ---- storage ---------------------------------------------------------------------------------------------------------

astype = primitive(
    "astype",
    lambda xp, x, *, dtype: xp.astype(x, dtype),
    # The engine casts back.
    vjps=[lambda xp, g, ans, x, *, dtype: g],
    jvp="linear",
    save="nothing",
    doc="x converted to `dtype`. The gradient comes back in the dtype of x.",
)
copy = primitive(
    "copy",
    lambda xp, x: xp.copy(x),
    vjps=[lambda xp, g, ans, x: g],
    jvp="linear",
    save="nothing",
    doc="x in memory of its own.",
)
