"""Activation functions: one value in, one value out, for each element.

Each is declared by its derivative. `relu`, `gelu` and `silu`, which networks spend their time in, compute on NumPy
arrays in place.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..primitive import elementwise, primitive
from .blocks import parts
from .masking import masked
from .precision import floating, refuse_complex


def _is_real(x: Any) -> bool:
    """Whether a fused path applies: an array of float32 or float64."""
    return type(x) is np.ndarray and x.dtype.char in "fd"


def sigmoid_of(xp: Any, x: Any) -> Any:
    """1 / (1 + exp(−x)), without overflow."""
    return xp.exp(xp.minimum(x, 0)) / (1 + xp.exp(-xp.abs(x)))


def softplus_of(xp: Any, x: Any) -> Any:
    """log(1 + exp(x)), without overflow."""
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))


# ---- piecewise linear ------------------------------------------------------------------------------------------------


def _mask(xp: Any, condition: Any, like: Any) -> Any:
    """1 where `condition` holds, else 0, in the dtype of `like`."""
    return xp.astype(condition, like.dtype)


relu = primitive(
    "relu",
    lambda xp, x: xp.maximum(x, 0),
    vjps=[lambda xp, g, ans, x: masked(xp, g, ans > 0)],
    jvp="same",
    save="output",
    doc="max(x, 0); its derivative at 0 is 0.",
)

leaky_relu = elementwise(
    "leaky_relu",
    lambda xp, x, *, slope=0.01: xp.maximum(x, 0) + slope * xp.minimum(x, 0),
    [lambda xp, ans, x, *, slope=0.01: slope + (1 - slope) * _mask(xp, x > 0, x)],
    doc="x where x > 0, slope · x elsewhere; its derivative at 0 is `slope`.",
)

hardtanh = primitive(
    "hardtanh",
    lambda xp, x, *, low=-1.0, high=1.0: xp.minimum(xp.maximum(x, low), high),
    vjps=[lambda xp, g, ans, x, *, low=-1.0, high=1.0: masked(xp, g, (x > low) & (x < high))],
    jvp="same",
    save="inputs",
    doc="x kept within [low, high]; its derivative at the bounds is 0.",
)

# ---- exponential linear ----------------------------------------------------------------------------------------------


def _elu(xp: Any, x: Any, *, alpha: float = 1.0) -> Any:
    refuse_complex("elu", x)
    x = floating(xp, x)
    return xp.maximum(x, 0) + alpha * xp.expm1(xp.minimum(x, 0))


def _elu_derivative(xp: Any, ans: Any, x: Any, *, alpha: float = 1.0) -> Any:
    return alpha * xp.exp(xp.minimum(x, 0)) + (1 - alpha) * _mask(xp, x > 0, x)


elu = elementwise("elu", _elu, [_elu_derivative], doc="x where x > 0, alpha · (exp(x) − 1) elsewhere.")

SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805


def _selu(xp: Any, x: Any) -> Any:
    refuse_complex("selu", x)
    return SELU_SCALE * _elu(xp, x, alpha=SELU_ALPHA)


selu = elementwise(
    "selu",
    _selu,
    [lambda xp, ans, x: SELU_SCALE * _elu_derivative(xp, ans, x, alpha=SELU_ALPHA)],
    doc="1.0507 · elu(x, alpha=1.6733), which keeps mean 0 and variance 1 (Klambauer et al. 2017).",
)

# ---- smooth ----------------------------------------------------------------------------------------------------------


def _softplus(xp: Any, x: Any, *, beta: float = 1.0) -> Any:
    refuse_complex("softplus", x)
    return softplus_of(xp, beta * x) / beta


softplus = elementwise(
    "softplus",
    _softplus,
    [lambda xp, ans, x, *, beta=1.0: sigmoid_of(xp, beta * x)],
    doc="log(1 + exp(beta · x)) / beta, without overflow.",
)


def _mish(xp: Any, x: Any) -> Any:
    refuse_complex("mish", x)
    x = floating(xp, x)
    return x * xp.tanh(softplus_of(xp, x))


def _mish_derivative(xp: Any, ans: Any, x: Any) -> Any:
    t = xp.tanh(softplus_of(xp, x))
    return t + x * (1 - t * t) * sigmoid_of(xp, x)


mish = elementwise(
    "mish",
    _mish,
    [_mish_derivative],
    doc="x · tanh(softplus(x)) (Misra 2019).",
)


def _silu(xp: Any, x: Any) -> Any:
    if not _is_real(x):
        refuse_complex("silu", x)
        x = floating(xp, x)
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
    jvp=lambda xp, tangents, ans, x: tangents[0] * _silu_derivative(xp, ans, x),
    save="inputs",
    residual=True,
    doc="x · sigmoid(x), also called swish.",
)
