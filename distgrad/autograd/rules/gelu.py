"""gelu, the activation of transformers: x · Φ(x), Φ the distribution function of the normal distribution.

Both forms, exact and by tanh, have a fused path for NumPy arrays: in place, part by part. It keeps one array of the
size of x.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from distgrad.errors import GradientError

from ..operands import ops
from ..primitive import primitive
from .blocks import PART, parts
from .error_functions import erf
from .precision import refuse_complex

_ROOT = math.sqrt(2 / math.pi)
_CUBIC = 0.044715
_ROOT_HALF = math.sqrt(0.5)
_DENSITY = 1 / math.sqrt(2 * math.pi)


def _inner(xp: Any, x: Any) -> Any:
    """The hyperbolic tangent of the approximation."""
    return xp.tanh(_ROOT * (x + _CUBIC * x * x * x))


def _cdf(xp: Any, x: Any) -> Any:
    """Φ(x)."""
    scaled = x * _ROOT_HALF
    return 0.5 * (1 + (erf(scaled) if xp is ops() else erf.forward(xp, scaled)))


def _derivative(xp: Any, ans: Any, x: Any, *, approximate: str = "none") -> Any:
    if approximate == "tanh":
        t = _inner(xp, x)
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * (_ROOT + 3 * _ROOT * _CUBIC * x * x)
    return _cdf(xp, x) + x * xp.exp(-0.5 * x * x) * _DENSITY


# ---- fused -----------------------------------------------------------------------------------------------------------
# Each forward function writes its value into `out` and what it keeps into `kept`; each backward one the derivative into
# `out`.


def _tanh_forward(x: Any, kept: Any, out: Any) -> None:
    np.multiply(x, x, out=kept)
    kept *= _ROOT * _CUBIC
    kept += _ROOT
    kept *= x
    np.tanh(kept, out=kept)
    np.add(kept, 1, out=out)
    out *= x
    out *= 0.5


def _tanh_backward(x: Any, kept: Any, out: Any, spare: Any) -> None:
    np.multiply(x, x, out=out)
    out *= 1.5 * _ROOT * _CUBIC
    out += 0.5 * _ROOT
    out *= x
    np.multiply(kept, kept, out=spare)
    np.subtract(1, spare, out=spare)
    out *= spare
    np.multiply(kept, 0.5, out=spare)
    out += spare
    out += 0.5


# erf(z) = z · P(z²) / Q(z²) for |z| ≤ 4, in single precision (the coefficients of Eigen and XLA, highest power first).
_P = (
    -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05, -7.34990630326855e-04,
    -2.95459980854025e-03, -1.60960333262415e-02,
)  # fmt: skip
_Q = (
    -1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03, -1.42647390514189e-02
)  # fmt: skip


def _exact_forward(x: Any, kept: Any, out: Any) -> None:
    """In float32. Keeps Φ(x)."""
    z = np.multiply(x, np.float32(_ROOT_HALF))
    np.clip(z, -4, 4, out=z)
    square = z * z
    _horner(_P, square, kept)
    kept *= z
    _horner(_Q, square, out)
    kept /= out
    kept += 1
    kept *= 0.5
    np.multiply(x, kept, out=out)


def _horner(coefficients: tuple[float, ...], z: Any, out: Any) -> None:
    np.multiply(z, coefficients[0], out=out)
    for c in coefficients[1:-1]:
        out += c
        out *= z
    out += coefficients[-1]


def _exact_backward(x: Any, kept: Any, out: Any, spare: Any) -> None:
    np.multiply(x, x, out=out)
    out *= -0.5
    np.exp(out, out=out)
    out *= x
    out *= _DENSITY
    out += kept


# ---- the primitive ---------------------------------------------------------------------------------------------------


def _gelu(xp: Any, x: Any, *, approximate: str = "none") -> Any:
    if approximate not in ("none", "tanh"):
        raise GradientError(f"gelu(approximate={approximate!r}) is unknown; it is 'none' or 'tanh'")
    x = xp.asarray(x)
    kernel = _tanh_forward if approximate == "tanh" else _exact_forward
    if xp is not np or x.dtype.char not in ("fd" if approximate == "tanh" else "f"):
        refuse_complex("gelu", x)
        value = 0.5 * x * (1 + _inner(xp, x)) if approximate == "tanh" else x * _cdf(xp, x)
        return value, None
    out, kept = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)
    for a, k, o in parts(x, kept, out):
        kernel(a, k, o)
    return out, kept


def _gelu_vjp(xp: Any, g: Any, ans: Any, x: Any, *, approximate: str = "none", residual: Any = None) -> Any:
    if residual is None:
        return g * _derivative(xp, ans, x, approximate=approximate)
    kernel = _tanh_backward if approximate == "tanh" else _exact_backward
    out, spare = np.empty(x.shape, x.dtype), np.empty(min(x.size, PART), x.dtype)
    for a, k, o, pulled in parts(x, residual, out, g):
        kernel(a, k, o, spare[: a.size])
        o *= pulled
    return out


def _gelu_jvp(xp: Any, tangents: Any, ans: Any, x: Any, *, approximate: str = "none") -> Any:
    return tangents[0] * _derivative(xp, ans, x, approximate=approximate)


gelu = primitive(
    "gelu",
    _gelu,
    vjps=[_gelu_vjp],
    jvp=_gelu_jvp,
    save="inputs",
    residual=True,
    doc="x · Φ(x), Φ the normal distribution; approximate='tanh': its usual approximation (Hendrycks & Gimpel 2016).",
)
