"""Activation functions: one value in, one value out, for each element.

Each is declared by its derivative. `relu`, `gelu` and `silu`, which networks spend their time in, compute on NumPy
arrays in place.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from distgrad.errors import GradientError

from ..primitive import Rule, elementwise, ops, primitive
from .blocks import PART, parts
from .error_functions import erf


def _is_real(x: Any) -> bool:
    """Whether a fused path applies: an array of float32 or float64."""
    return type(x) is np.ndarray and x.dtype.char in "fd"


def sigmoid_of(xp: Any, x: Any) -> Any:
    """1 / (1 + exp(−x)), without overflow."""
    return xp.exp(xp.minimum(x, 0)) / (1 + xp.exp(-xp.abs(x)))


def softplus_of(xp: Any, x: Any) -> Any:
    """log(1 + exp(x)), without overflow."""
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))


def erf_of(xp: Any, x: Any) -> Any:
    """The error function, wherever the rule runs."""
    return erf(x) if xp is ops() else erf.forward(xp, x)


def _jvp_of(derivative: Rule) -> Rule:
    def jvp(xp: Any, tangents: Any, ans: Any, x: Any, **params: Any) -> Any:
        return tangents[0] * derivative(xp, ans, x, **params)

    return jvp


# ---- piecewise linear ------------------------------------------------------------------------------------------------


def _relu_vjp(xp: Any, g: Any, ans: Any, x: Any) -> Any:
    # A product with the mask: `where` branches at every element and takes ten times as long.
    return g * (ans > 0) if xp is np else g * xp.astype(ans > 0, g.dtype)


relu = primitive(
    "relu",
    lambda xp, x: xp.maximum(x, 0),
    vjps=[_relu_vjp],
    jvp="same",
    save="output",
    doc="max(x, 0); its derivative at 0 is 0.",
)

leaky_relu = elementwise(
    "leaky_relu",
    lambda xp, x, *, slope=0.01: xp.maximum(x, 0) + slope * xp.minimum(x, 0),
    [lambda xp, ans, x, *, slope=0.01: xp.where(x > 0, 1.0, slope)],
    doc="x where x > 0, slope · x elsewhere; its derivative at 0 is `slope`.",
)

hardtanh = elementwise(
    "hardtanh",
    lambda xp, x, *, low=-1.0, high=1.0: xp.minimum(xp.maximum(x, low), high),
    [lambda xp, ans, x, *, low=-1.0, high=1.0: xp.where((x > low) & (x < high), 1.0, 0.0)],
    doc="x kept within [low, high]; its derivative at the bounds is 0.",
)

# ---- exponential linear ----------------------------------------------------------------------------------------------


def _elu(xp: Any, x: Any, *, alpha: float = 1.0) -> Any:
    return xp.maximum(x, 0) + alpha * xp.expm1(xp.minimum(x, 0))


def _elu_derivative(xp: Any, ans: Any, x: Any, *, alpha: float = 1.0) -> Any:
    return xp.where(x > 0, 1.0, alpha * xp.exp(xp.minimum(x, 0)))


elu = elementwise("elu", _elu, [_elu_derivative], doc="x where x > 0, alpha · (exp(x) − 1) elsewhere.")

SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805

selu = elementwise(
    "selu",
    lambda xp, x: SELU_SCALE * _elu(xp, x, alpha=SELU_ALPHA),
    [lambda xp, ans, x: SELU_SCALE * _elu_derivative(xp, ans, x, alpha=SELU_ALPHA)],
    doc="1.0507 · elu(x, alpha=1.6733), which keeps mean 0 and variance 1 (Klambauer et al. 2017).",
)

# ---- smooth ----------------------------------------------------------------------------------------------------------

softplus = elementwise(
    "softplus",
    lambda xp, x, *, beta=1.0: softplus_of(xp, beta * x) / beta,
    [lambda xp, ans, x, *, beta=1.0: sigmoid_of(xp, beta * x)],
    doc="log(1 + exp(beta · x)) / beta, without overflow.",
)


def _mish_derivative(xp: Any, ans: Any, x: Any) -> Any:
    t = xp.tanh(softplus_of(xp, x))
    return t + x * (1 - t * t) * sigmoid_of(xp, x)


mish = elementwise(
    "mish",
    lambda xp, x: x * xp.tanh(softplus_of(xp, x)),
    [_mish_derivative],
    doc="x · tanh(softplus(x)) (Misra 2019).",
)


def _silu(xp: Any, x: Any) -> Any:
    if not _is_real(x):
        return x * sigmoid_of(xp, x), None
    out, sigmoid = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)
    # exp overflows to inf for very negative x, of which the reciprocal is the right value, 0.
    with np.errstate(over="ignore"):
        for a, s, o in parts(x, sigmoid, out):
            np.negative(a, out=s)
            np.exp(s, out=s)
            s += 1
            np.reciprocal(s, out=s)
            np.multiply(a, s, out=o)
    return out, sigmoid


def _silu_derivative(xp: Any, ans: Any, x: Any) -> Any:
    s = sigmoid_of(xp, x)
    return s * (1 + x * (1 - s))


def _silu_vjp(xp: Any, g: Any, ans: Any, x: Any, *, residual: Any = None) -> Any:
    if residual is None:
        return g * _silu_derivative(xp, ans, x)
    out = np.empty(x.shape, x.dtype)
    for a, s, o, pulled in parts(x, residual, out, g):
        np.subtract(1, s, out=o)
        o *= a
        o += 1
        o *= s
        o *= pulled
    return out


silu = primitive(
    "silu",
    _silu,
    vjps=[_silu_vjp],
    jvp=_jvp_of(_silu_derivative),
    save="inputs",
    residual=True,
    doc="x · sigmoid(x), also called swish.",
)

# ---- gelu ------------------------------------------------------------------------------------------------------------

_ROOT = math.sqrt(2 / math.pi)
_CUBIC = 0.044715


def _gelu(xp: Any, x: Any, *, approximate: str = "none") -> Any:
    if approximate == "tanh":
        return _gelu_tanh(xp, x)
    if approximate != "none":
        raise GradientError(f"gelu(approximate={approximate!r}) is unknown; it is 'none' or 'tanh'")
    return x * _normal_cdf(xp, x), None


def _gelu_tanh(xp: Any, x: Any) -> Any:
    if not _is_real(x):
        return 0.5 * x * (1 + _gelu_inner(xp, x)), None
    out, tanh = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)
    for a, t, o in parts(x, tanh, out):
        np.multiply(a, a, out=t)
        t *= _ROOT * _CUBIC
        t += _ROOT
        t *= a
        np.tanh(t, out=t)
        np.add(t, 1, out=o)
        o *= a
        o *= 0.5
    return out, tanh


def _gelu_inner(xp: Any, x: Any) -> Any:
    return xp.tanh(_ROOT * (x + _CUBIC * x * x * x))


def _normal_cdf(xp: Any, x: Any) -> Any:
    return 0.5 * (1 + erf_of(xp, x * math.sqrt(0.5)))


def _gelu_derivative(xp: Any, ans: Any, x: Any, *, approximate: str = "none") -> Any:
    if approximate == "tanh":
        t = _gelu_inner(xp, x)
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * (_ROOT + 3 * _ROOT * _CUBIC * x * x)
    return _normal_cdf(xp, x) + x * xp.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))


def _gelu_vjp(xp: Any, g: Any, ans: Any, x: Any, *, approximate: str = "none", residual: Any = None) -> Any:
    if residual is None:
        return g * _gelu_derivative(xp, ans, x, approximate=approximate)
    out, spare = np.empty(x.shape, x.dtype), np.empty(min(x.size, PART), x.dtype)
    for a, t, o, pulled in parts(x, residual, out, g):
        s = spare[: a.size]
        np.multiply(a, a, out=o)
        o *= 1.5 * _ROOT * _CUBIC
        o += 0.5 * _ROOT
        o *= a
        np.multiply(t, t, out=s)
        np.subtract(1, s, out=s)
        o *= s
        np.multiply(t, 0.5, out=s)
        o += s
        o += 0.5
        o *= pulled
    return out


gelu = primitive(
    "gelu",
    _gelu,
    vjps=[_gelu_vjp],
    jvp=_jvp_of(_gelu_derivative),
    save="inputs",
    residual=True,
    doc="x · Φ(x), Φ the normal distribution; approximate='tanh': its usual approximation (Hendrycks & Gimpel 2016).",
)
