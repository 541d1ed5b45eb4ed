"""Modified Bessel functions of the first kind, of whole order.

Source: M. Abramowitz and I. Stegun, "Handbook of Mathematical Functions", 9.6.10 (power series, all of whose terms are
positive), 9.7.1 (asymptotic series) and 9.6.26 (derivative).
"""

from __future__ import annotations

import math
from typing import Any

from ..primitive import Primitive, elementwise
from .nested import nested
from .regions import by_region, kernel, polynomial


def _series(order: int, xp: Any, x: Any) -> Any:
    """(x/2)ⁿ·Σ (x/2)²ᵏ/(k!·(n + k)!)."""
    terms = [1.0]
    for k in range(1, 64):
        terms.append(terms[-1] / (k * (order + k)))
    return (0.5 * x) ** order / math.factorial(order) * polynomial(0.25 * x * x, terms[::-1])


def _asymptotic(order: int, xp: Any, x: Any) -> Any:
    """eˣ/√(2πx)·Σ (-1)ᵏ·Π (4n² - (2j - 1)²)/(k!·(8x)ᵏ)."""
    terms = [1.0]
    for k in range(1, 24):
        terms.append(-terms[-1] * (4 * order**2 - (2 * k - 1) ** 2) / (8 * k))
    return xp.exp(x) / xp.sqrt(2 * math.pi * x) * polynomial(1 / x, terms[::-1])


def _bessel_i(xp: Any, n: int, x: Any) -> Any:
    order = abs(int(n))

    def compute(xp: Any, x: Any) -> Any:
        size = xp.abs(x)
        near = (size <= 32, lambda xp, size: _series(order, xp, size))
        value = by_region(xp, size, [near, (~(size <= 32), lambda xp, size: _asymptotic(order, xp, size))])
        return value * xp.sign(x) if order % 2 else value

    return kernel("bessel_i", compute)(xp, x)


bessel_i: Primitive = elementwise(
    "bessel_i",
    _bessel_i,
    [None, lambda xp, ans, n, x: 0.5 * (nested(xp, bessel_i, int(n) - 1, x) + nested(xp, bessel_i, int(n) + 1, x))],
    doc="The modified Bessel function Iₙ(x) of whole order n; derivative (Iₙ₋₁(x) + Iₙ₊₁(x))/2.",
)
i0 = elementwise(
    "i0",
    lambda xp, x: _bessel_i(xp, 0, x),
    [lambda xp, ans, x: nested(xp, bessel_i, 1, x)],
    doc="The modified Bessel function I₀(x); derivative I₁(x).",
)
