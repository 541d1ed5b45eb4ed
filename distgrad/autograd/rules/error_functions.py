"""erf, erfc and the inverse of erf.

Sources: W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969), the coefficients
of netlib's `calerf`; M. J. Wichura, "The percentage points of the normal distribution", Applied Statistics 37 (1988),
AS 241; for erf in float32 the minimax approximation of the Eigen library's `erf`. Relative errors are below 1e-15 in
float64 and 5e-7 in float32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..primitive import elementwise
from .regions import by_region, in_parts, kernel, monic, polynomial

_TWO_OVER_ROOT_PI = 2.0 / math.sqrt(math.pi)
_ROOT_HALF = math.sqrt(0.5)

# |x| ≤ 0.46875: erf(x) = x·A(x²)/B(x²).
_A = (
    1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2, 3.20937758913846947e3
)  # fmt: skip
_B = (2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
# 0.46875 ≤ y ≤ 4: erfc(y) = exp(-y²)·C(y)/D(y).
_C = (
    2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1, 2.98635138197400131e2,
    8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3,
)  # fmt: skip
_D = (
    1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3, 3.29079923573345963e3,
    4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3,
)  # fmt: skip
# y ≥ 4: erfc(y) = exp(-y²)/y·(1/√π - z·P(z)/Q(z)), z = 1/y².
_P = (
    1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
    1.60837851487422766e-2, 6.58749161529837803e-4,
)  # fmt: skip
_Q = (
    2.56852019228982242e0,
    1.87295284992346047e0,
    5.27905102951428412e-1,
    6.05183413124413191e-2,
    2.33520497626869185e-3,
)

_SMALL = 0.46875


def _erf_small(xp: Any, x: Any) -> Any:
    z = x * x
    return x * polynomial(z, _A) / monic(z, _B)


def _gaussian(xp: Any, y: Any) -> Any:
    """exp(-y²), with y² split so that its rounding is not amplified."""
    coarse = xp.trunc(y * 16) / 16
    return xp.exp(-coarse * coarse) * xp.exp((coarse - y) * (coarse + y))


def _erfc_middle(xp: Any, y: Any) -> Any:
    return _gaussian(xp, y) * polynomial(y, _C) / monic(y, _D)


def _erfc_large(xp: Any, y: Any) -> Any:
    # From 28 on erfc is 0 in float64, and infinity would give inf·0.
    y = xp.where(y > 28.0, 28.0, y)
    z = 1 / (y * y)
    return _gaussian(xp, y) * (1 / math.sqrt(math.pi) - z * polynomial(z, _P) / monic(z, _Q)) / y


# float32, |x| ≤ 4: erf(x) = x·S(x²)/T(x²).
_S = (
    -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05, -7.34990630326855e-04,
    -2.95459980854025e-03, -1.60960333262415e-02,
)  # fmt: skip
_T = (-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03, -1.42647390514189e-02)


def _erf_single(xp: Any, x: Any) -> Any:
    x = xp.clip(x, -4.0, 4.0)
    z = x * x
    return x * polynomial(z, _S) / polynomial(z, _T)


def _erf(xp: Any, x: Any) -> Any:
    if x.dtype == xp.float32:
        return in_parts(_erf_single, x) if xp is np else _erf_single(xp, x)
    y = xp.abs(x)
    return by_region(
        xp,
        x,
        [
            (y <= _SMALL, _erf_small),
            ((y > _SMALL) & (y <= 4), lambda xp, x: xp.sign(x) * (1 - _erfc_middle(xp, xp.abs(x)))),
            (~(y <= 4), lambda xp, x: xp.sign(x) * (1 - _erfc_large(xp, xp.abs(x)))),
        ],
    )


def _erfc(xp: Any, x: Any) -> Any:
    return by_region(
        xp,
        x,
        [
            (xp.abs(x) <= _SMALL, lambda xp, x: 1 - _erf_small(xp, x)),
            ((x > _SMALL) & (x <= 4), _erfc_middle),
            (x > 4, _erfc_large),
            ((x < -_SMALL) & (x >= -4), lambda xp, x: 2 - _erfc_middle(xp, -x)),
            (~(x >= -4), lambda xp, x: 2 - _erfc_large(xp, -x)),
        ],
    )


# AS 241: the normal quantile of p, for q = p - 1/2 near 0 and for r = √-log min(p, 1 - p) below and above 5.
_CENTRE = (
    (2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
     1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0),
    (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
     5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0),
)  # fmt: skip
_FLANK = (
    (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0,
     3.64784832476320460504e0, 5.76949722146069140550e0, 4.63033784615654529590e0, 1.42343711074968357734e0),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
     6.89767334985100004550e-1, 1.67638483018380384940e0, 2.05319162663775882187e0, 1.0),
)  # fmt: skip
_TAIL = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
     2.96560571828504891230e-1, 1.78482653991729133580e0, 5.46378491116411436990e0, 6.65790464350110377720e0),
    (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
     1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0),
)  # fmt: skip


def _erfinv_centre(xp: Any, x: Any) -> Any:
    q = 0.5 * x
    r = 0.180625 - q * q
    return _ROOT_HALF * q * polynomial(r, _CENTRE[0]) / polynomial(r, _CENTRE[1])


def _erfinv_outer(xp: Any, x: Any) -> Any:
    p = 0.5 * (1 - xp.abs(x))
    end = p == 0
    r = xp.sqrt(-xp.log(xp.where(end, 1.0, p)))
    flank = polynomial(r - 1.6, _FLANK[0]) / polynomial(r - 1.6, _FLANK[1])
    tail = polynomial(r - 5, _TAIL[0]) / polynomial(r - 5, _TAIL[1])
    return xp.sign(x) * xp.where(end, xp.inf, _ROOT_HALF * xp.where(r <= 5, flank, tail))


def _erfinv(xp: Any, x: Any) -> Any:
    size = xp.abs(x)
    return by_region(
        xp,
        x,
        [
            (size <= 0.85, _erfinv_centre),
            ((size > 0.85) & (size <= 1), _erfinv_outer),
            (~(size <= 1), lambda xp, x: xp.full_like(x, xp.nan)),
        ],
    )


_erf_forward = kernel("erf", _erf)
_erfc_forward = kernel("erfc", _erfc)
_erfinv_forward = kernel("erfinv", _erfinv)

erf = elementwise(
    "erf",
    _erf_forward,
    [lambda xp, ans, x: _TWO_OVER_ROOT_PI * xp.exp(-x * x)],
    doc="The error function 2/√π·∫₀ˣ exp(-t²) dt; derivative 2/√π·exp(-x²).",
)
erfc = elementwise(
    "erfc",
    _erfc_forward,
    [lambda xp, ans, x: -_TWO_OVER_ROOT_PI * xp.exp(-x * x)],
    doc="1 - erf(x), exact where erf(x) is near 1.",
)
erfinv = elementwise(
    "erfinv",
    _erfinv_forward,
    [lambda xp, ans, x: 1 / _TWO_OVER_ROOT_PI * xp.exp(ans * ans)],
    save="output",
    doc="The inverse of erf, on [-1, 1]; derivative √π/2·exp(erfinv(x)²).",
)
