"""A heated rod: which source explains what some thermometers have measured? `distgrad serve workers/heat.py:Heat`

The temperature u(x, t) of a rod from x = 0 to 1, whose ends are kept at 0 and which starts cold, follows

    ∂u/∂t = κ ∂²u/∂x² + s(x)

with an unknown source s. Implicit Euler steps on a grid make of this a linear recurrence, u ← A (u + τ s), with
A = (1 − τ κ Δ)⁻¹. What comes after, the derivatives of the misfit by s, is left to the service.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import distgrad as dg

POINTS = 40
STEPS = 30
TIME_STEP = 0.02
CONDUCTIVITY = 0.05
THERMOMETERS = slice(2, POINTS, 4)
# Every so many steps they are read.
READ_EVERY = 5
NOISE = 0.002
# How much a source is expected to vary from point to point.
ROUGHNESS = 0.15


class Heat:
    """The rod, and measurements on one whose source is known to this class alone."""

    def __init__(self) -> None:
        self._x = (np.arange(POINTS) + 1) / (POINTS + 1)
        ends = np.eye(POINTS, k=1) + np.eye(POINTS, k=-1) - 2 * np.eye(POINTS)
        laplacian = ends * (POINTS + 1) ** 2
        self._step = np.linalg.inv(np.eye(POINTS) - TIME_STEP * CONDUCTIVITY * laplacian)
        exact = self._temperatures(self._true_source())
        self._measured = exact + NOISE * np.random.default_rng(0).normal(size=exact.shape)

    def _true_source(self) -> Any:
        return np.exp(-(((self._x - 0.3) / 0.08) ** 2)) + 0.5 * np.exp(-(((self._x - 0.75) / 0.1) ** 2))

    def _temperatures(self, source: Any) -> Any:
        u = np.zeros(POINTS)
        read = []
        for step in range(1, STEPS + 1):
            u = self._step @ (u + TIME_STEP * source)
            if step % READ_EVERY == 0:
                read.append(u[THERMOMETERS])
        return np.stack(read)

    @dg.served(takes={"source": f"float64[{POINTS}]"}, gives="float64[times, thermometers]")
    def temperatures(self, source: Any) -> Any:
        """What the thermometers would show, at the times they are read."""
        return self._temperatures(source)

    @dg.served(takes={"source": f"float64[{POINTS}]"}, gives="float64")
    def misfit(self, source: Any) -> Any:
        """Minus the logarithm of the source's posterior density, up to a constant: normal noise, smooth sources."""
        residual = (self._temperatures(source) - self._measured) / NOISE
        change = (source[1:] - source[:-1]) / ROUGHNESS
        return 0.5 * np.sum(residual**2) + 0.5 * np.sum(change**2)

    @dg.served(takes={"source": f"float64[{POINTS}]"}, gives="float64")
    def error(self, source: Any) -> Any:
        """How far a source is from the true one: the root of the mean square."""
        return np.sqrt(np.mean((source - self._true_source()) ** 2))
