"""The order of Taylor remainders: whether derivatives are right, with no step size to choose.

Let φ be a function of one number with derivatives g₁ = φ'(0), g₂ = φ''(0). What a Taylor polynomial of degree d leaves,

    R(h) = |φ(h) − φ(0) − h g₁ − ... − h^d g_d / d!|,

shrinks like h^(d+1) when the derivatives are right, and like h^j when the one of order j is wrong. Plotted with both
axes logarithmic, that is the slope of a line. Where higher terms rule (large h) or rounding does (small h) there is no
line, so R is taken at a whole range of h, half as large each time, and the line is fitted to the smallest steps at
which R stands well above φ's noise. The noise is measured: fourth differences over tiny, equal steps cancel all of a
smooth function and leave only what is not smooth about it (Moré and Wild, "Estimating computational noise", 2011).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# Remainders below so many times the noise say nothing.
ABOVE_NOISE = 20.0
# The line goes through the so many smallest steps above the noise.
WINDOW = 5
# How far below the expected slope a fitted one may be. A wrong derivative lowers it by a whole number.
SLACK = 0.3
# Fourth differences of white noise of variance one have the variance 8! / 4!².
_FOURTH_DIFFERENCE = math.factorial(8) / math.factorial(4) ** 2


def steps(epsilon: float) -> Array:
    """The steps at which φ is to be known: first seven tiny ones for the noise, then ever smaller ones from 1/2.

    Arguments:
        epsilon: the relative rounding error of φ's arithmetic.
    """
    halvings = 4 + math.ceil(-math.log2(epsilon) / 2)
    tiny = epsilon**0.75 * np.arange(-3, 4)
    return np.concatenate([tiny, 0.5 ** np.arange(1, halvings)])


@dataclass(frozen=True)
class Order:
    """What the remainders say about the derivative of one order.

    Attributes:
        expected: the slope when all derivatives are right: one more than the degree of the polynomial.
        found: the slope of the fitted line; None when the remainder is rounding alone at every step.
        smallest, largest: the steps between which the line was fitted.
        error: how wrong the last derivative is, if that is what the remainders at the smallest of these steps show.
    """

    expected: int
    found: float | None
    smallest: float = math.nan
    largest: float = math.nan
    error: float = 0.0

    @property
    def right(self) -> bool:
        return self.found is None or self.found > self.expected - SLACK

    def __str__(self) -> str:
        if self.found is None:
            return "the remainder is rounding alone"
        between = f"h from {self.smallest:.1e} to {self.largest:.1e}"
        return f"remainder slope {self.found:.2f}, expected {self.expected} ({between})"


def order(values: Array, derivatives: Sequence[float], epsilon: float) -> Order:
    """What φ at `steps(epsilon)` says about its derivatives at 0.

    Arguments:
        values: φ at each of these steps; NaN or infinite where it does not exist, which leaves that step out.
        derivatives: φ'(0), φ''(0), ...
    """
    h = steps(epsilon)
    middle = values[3]
    polynomial = middle + sum(g * h**k / math.factorial(k) for k, g in enumerate(derivatives, 1))
    size = np.abs(middle) + np.abs(values) + np.abs(polynomial - middle)
    noise = np.maximum(_noise(values[:7]), epsilon * size)[7:]
    remainders, h = np.abs(values - polynomial)[7:], h[7:]
    telling = np.isfinite(remainders) & (remainders > ABOVE_NOISE * noise)
    remainders, h = remainders[telling][-WINDOW:], h[telling][-WINDOW:]
    expected = len(derivatives) + 1
    if len(h) < 2:
        return Order(expected, None)
    slope = float(np.polyfit(np.log2(h), np.log2(remainders), 1)[0])
    error = float(remainders[-1]) * math.factorial(expected - 1) / float(h[-1]) ** (expected - 1)
    return Order(expected, slope, float(h[-1]), float(h[0]), error)


def _noise(values: Array) -> float:
    """The standard deviation of what is not smooth in values at seven equal, tiny steps."""
    fourth = np.diff(values, 4)
    return float(np.sqrt(np.mean(fourth**2) / _FOURTH_DIFFERENCE)) if np.all(np.isfinite(fourth)) else 0.0
