"""Arithmetic, exponentials, logarithms, trigonometry: one value in, one value out, for each element.

Most rules are tables of partial derivatives (`elementwise`). Where a vjp can do with fewer operations than a
multiplication by the derivative, or the function is not complex-analytic (abs, sign, real, ...), the rules are written
out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..primitive import conjugate, elementwise, primitive
from .nested import is_complex, nested

_LN2 = math.log(2.0)
_LN10 = math.log(10.0)
_DEGREE = math.pi / 180.0


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
    """x^y·log x, and its limit 0 at x = 0."""
    if type(x) in (int, float):
        return ans * (math.log(x) if x > 0 else 0.0 if x == 0 else math.nan)
    zero = x == 0
    return ans * xp.log(xp.where(zero, 1.0, x))


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

# ---- exponentials and logarithms -------------------------------------------------------------------------------------

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
logit = elementwise(
    "logit",
    lambda xp, x: xp.log(x) - xp.log1p(-x),
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

# ---- trigonometric and hyperbolic ------------------------------------------------------------------------------------

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
arctan2 = elementwise(
    "arctan2",
    lambda xp, y, x: xp.arctan2(y, x),
    [lambda xp, ans, y, x: ratio(xp, x, x * x + y * y), lambda xp, ans, y, x: ratio(xp, -y, x * x + y * y)],
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
