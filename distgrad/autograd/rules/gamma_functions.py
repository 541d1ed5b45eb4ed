"""gammaln, digamma, polygamma.

Sources: S. L. Moshier, Cephes (`lgam`: a rational function on [2, 3] and Stirling's series); J. Maddock, Boost.Math
(`digamma` on [1, 2], with the root split in three); M. Abramowitz and I. Stegun, "Handbook of Mathematical Functions",
6.3–6.4 (recurrence, reflection, asymptotic series). Arguments are real; at the poles 0, -1, -2, ... the values are
infinite or nan as SciPy's.
"""

from __future__ import annotations

import math
from typing import Any

from ..primitive import Primitive, elementwise
from .nested import nested
from .regions import by_region, kernel, monic, polynomial

_HALF_LOG_2PI = 0.91893853320467274178

# log Γ(2 + u) = u·B(u)/C(u) for 0 ≤ u < 1, in powers of u.
_B = (
    -1.37825152569120859100e3, -3.88016315134637840924e4, -3.31612992738871184744e5, -1.16237097492762307383e6,
    -1.72173700820839662146e6, -8.53555664245765465627e5,
)  # fmt: skip
_C = (
    -3.51815701436523470549e2, -1.70642106651881159223e4, -2.20528590553854454839e5, -1.13933444367982507207e6,
    -2.53252307177582951285e6, -2.01889141433532773231e6,
)  # fmt: skip
# Stirling's series: log Γ(x) - (x - 1/2)·log x + x - log √(2π) = A(1/x²)/x for x ≥ 13.
_A = (
    8.11614167470508450300e-4, -5.95061904284301438324e-4, 7.93650340457716943945e-4, -2.77777777730099687205e-3,
    8.33333333333331927722e-2,
)  # fmt: skip


def _gammaln_moderate(xp: Any, x: Any) -> Any:
    """0 < x < 13: carried to [2, 3) by Γ(x + 1) = x·Γ(x)."""
    factor = xp.ones_like(x)
    for _ in range(10):
        above = x >= 3
        x = xp.where(above, x - 1, x)
        factor = xp.where(above, factor * x, factor)
    for _ in range(2):
        below = x < 2
        factor = xp.where(below, factor / x, factor)
        x = xp.where(below, x + 1, x)
    u = x - 2
    return xp.log(factor) + u * polynomial(u, _B) / monic(u, _C)


def _gammaln_large(xp: Any, x: Any) -> Any:
    # Infinity would give inf - inf.
    finite = xp.where(xp.isinf(x), 13.0, x)
    z = 1 / finite
    value = (finite - 0.5) * xp.log(finite) - finite + _HALF_LOG_2PI + z * polynomial(z * z, _A)
    return xp.where(xp.isinf(x), x, value)


def _gammaln_positive(xp: Any, x: Any) -> Any:
    return by_region(xp, x, [(x < 13, _gammaln_moderate), (~(x < 13), _gammaln_large)])


def _gammaln_negative(xp: Any, x: Any) -> Any:
    """x ≤ 0, by Γ(x)·Γ(1 - x) = π/sin πx; infinite at the poles."""
    pole = (x == xp.floor(x)) | xp.isinf(x)
    x = xp.where(pole, -0.5, x)
    value = math.log(math.pi) - xp.log(xp.abs(_sin_pi(xp, x))) - _gammaln_positive(xp, 1 - x)
    return xp.where(pole, xp.inf, value)


def _gammaln(xp: Any, x: Any) -> Any:
    return by_region(xp, x, [(x > 0, _gammaln_positive), (~(x > 0), _gammaln_negative)])


def _sin_pi(xp: Any, x: Any) -> Any:
    """sin πx, exact for large x: the argument is reduced before it is multiplied by π."""
    r = x - 2 * xp.round(x / 2)
    return xp.sin(math.pi * xp.where(xp.abs(r) > 0.5, xp.sign(r) - r, r))


# digamma(x) = (x - root)·(Y + P(x - 1)/Q(x - 1)) on [1, 2]; the root in three pieces, the first two exact in float64.
_ROOT = (1569415565 / 2**30, 381566830 / 2**60, 0.9016312093258695918615325266959189453125e-19)
_Y = 0.99558162689208984
_DIGAMMA_P = (
    -0.0020713321167745952, -0.045251321448739056, -0.28919126444774784, -0.65031853770896507, -0.32555031186804491,
    0.25479851061131551,
)  # fmt: skip
_DIGAMMA_Q = (
    -0.55789841321675513e-6, 0.0021284987017821144, 0.054151797245674225, 0.43593529692665969, 1.4606242909763515,
    2.0767117023730469, 1.0,
)  # fmt: skip
# The Bernoulli numbers B₂, B₄, ... B₂₀ of the asymptotic series.
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798, -174611 / 330)


def _digamma_moderate(xp: Any, x: Any) -> Any:
    """0 < x < 10: carried to [1, 2] by ψ(x + 1) = ψ(x) + 1/x."""
    shift = xp.zeros_like(x)
    for _ in range(8):
        above = x > 2
        x = xp.where(above, x - 1, x)
        shift = xp.where(above, shift + 1 / x, shift)
    below = x < 1
    shift = xp.where(below, shift - 1 / x, shift)
    x = xp.where(below, x + 1, x)
    g = x - _ROOT[0] - _ROOT[1] - _ROOT[2]
    return shift + (g * _Y + g * polynomial(x - 1, _DIGAMMA_P) / polynomial(x - 1, _DIGAMMA_Q))


def _digamma_large(xp: Any, x: Any) -> Any:
    z = 1 / (x * x)
    series = polynomial(z, [b / (2 * k) for k, b in reversed(list(enumerate(_BERNOULLI, 1)))])
    return xp.log(x) - 0.5 / x - z * series


def _digamma_positive(xp: Any, x: Any) -> Any:
    return by_region(xp, x, [(x < 10, _digamma_moderate), (~(x < 10), _digamma_large)])


def _digamma_negative(xp: Any, x: Any) -> Any:
    """x ≤ 0, by ψ(1 - x) - ψ(x) = π·cot πx; at 0 an infinity of the opposite sign, at the other poles nan."""
    pole = x == xp.floor(x)
    safe = xp.where(pole, -0.5, x)
    value = _digamma_positive(xp, 1 - safe) - math.pi * _cot_pi(xp, safe)
    at_pole = xp.where(x == 0, xp.copysign(xp.full_like(x, xp.inf), -x), xp.nan)
    return xp.where(pole, at_pole, value)


def _digamma(xp: Any, x: Any) -> Any:
    return by_region(xp, x, [(x > 0, _digamma_positive), (~(x > 0), _digamma_negative)])


def _cot_pi(xp: Any, x: Any) -> Any:
    """cot πx; the argument is reduced before it is multiplied by π."""
    return 1 / xp.tan(math.pi * (x - xp.round(x)))


def _polygamma_positive(xp: Any, n: int, x: Any) -> Any:
    """ψ⁽ⁿ⁾(x) = (-1)ⁿ⁺¹·n!·ζ(n + 1, x), the Hurwitz zeta function by Euler and Maclaurin's formula from x + 12 on."""
    s = n + 1
    zeta = xp.zeros_like(x)
    for _ in range(12):
        zeta = zeta + x**-s
        x = x + 1
    tail = x**-n / n + 0.5 * x**-s
    rising, power = s / 2, x ** (-s - 1)
    for k, b in enumerate(_BERNOULLI, 1):
        # b/(2k)!·s(s + 1)...(s + 2k - 2)·x^(1 - s - 2k)
        tail = tail + b * rising * power
        rising *= (s + 2 * k - 1) * (s + 2 * k) / ((2 * k + 1) * (2 * k + 2))
        power = power / (x * x)
    return (-1) ** (n + 1) * math.factorial(n) * (zeta + tail)


def _polygamma_negative(xp: Any, n: int, x: Any) -> Any:
    """x ≤ 0, by ψ⁽ⁿ⁾(x) = (-1)ⁿ·ψ⁽ⁿ⁾(1 - x) - π·dⁿ/dxⁿ cot πx; infinite at the poles."""
    pole = x == xp.floor(x)
    x = xp.where(pole, -0.5, x)
    # The n-th derivative is a polynomial in c = cot πx, as dc/dx = -π(1 + c²). Coefficients from the lowest power up.
    p = [0.0, math.pi]
    for _ in range(n):
        slope = [k * c for k, c in enumerate(p)][1:]
        p = [-math.pi * (a + b) for a, b in zip([*slope, 0.0, 0.0], [0.0, 0.0, *slope], strict=True)]
    value = (-1) ** n * _polygamma_positive(xp, n, 1 - x) - polynomial(_cot_pi(xp, x), p[::-1])
    return xp.where(pole, xp.inf, value)


def _polygamma(xp: Any, n: int, x: Any) -> Any:
    n = int(n)
    if n < 0:
        raise ValueError(f"polygamma(n, x) is the n-th derivative of digamma: n must be 0 or more, not {n}")
    if n == 0:
        return _digamma_forward(xp, x)

    def compute(xp: Any, x: Any) -> Any:
        positive = (x > 0, lambda xp, x: _polygamma_positive(xp, n, x))
        return by_region(xp, x, [positive, (~(x > 0), lambda xp, x: _polygamma_negative(xp, n, x))])

    return kernel("polygamma", compute)(xp, x)


_gammaln_forward, _digamma_forward = kernel("gammaln", _gammaln), kernel("digamma", _digamma)

polygamma: Primitive = elementwise(
    "polygamma",
    _polygamma,
    [None, lambda xp, ans, n, x: nested(xp, polygamma, int(n) + 1, x)],
    doc="The n-th derivative of digamma (n an integer, 0 or more); its derivative is polygamma(n + 1, x).",
)
digamma = elementwise(
    "digamma",
    _digamma_forward,
    [lambda xp, ans, x: nested(xp, polygamma, 1, x)],
    doc="ψ(x) = d log Γ(x)/dx; derivative polygamma(1, x).",
)
gammaln = elementwise(
    "gammaln",
    _gammaln_forward,
    [lambda xp, ans, x: nested(xp, digamma, x)],
    doc="log |Γ(x)|; derivative digamma(x).",
)
