"""Minimisation of smooth functions of one array: L-BFGS and Newton's method with conjugate gradients.

Both are for deterministic functions and high accuracy; the optimizers beside them are for noisy ones.
Source: Nocedal & Wright, "Numerical Optimization", 2nd edition; the algorithms are named where they stand.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from distgrad.autograd.jacobians import hvp
from distgrad.autograd.transforms import value_and_grad
from distgrad.errors import ConfigError

Method = Literal["lbfgs", "newton-cg"]
Pair = tuple[Any, Any]

# Sufficient decrease and curvature (Wolfe conditions): c₁ and c₂ of Nocedal & Wright.
DECREASE, CURVATURE = 1e-4, 0.9


@dataclass(frozen=True)
class Minimum:
    """Where a minimisation ended.

    Attributes:
        x: the point, in the shape and dtype given.
        value: the function there.
        gradient: its gradient there.
        steps: iterations made.
        converged: whether the largest element of the gradient is within the tolerance.
        message: why it ended.
    """

    x: Any
    value: float
    gradient: Any
    steps: int
    converged: bool
    message: str


def minimize(
    f: Callable[[Any], Any],
    x: Any,
    *,
    method: Method = "lbfgs",
    tolerance: float = 1e-8,
    max_steps: int = 1000,
    history: int = 10,
) -> Minimum:
    """A local minimum of `f`, a scalar function of one array, from `x` on.

    Arguments:
        f: takes a tensor of the shape of x; made of differentiable operations.
        method: "lbfgs" (gradients only) or "newton-cg" (Hessian-vector products too; few, dearer steps).
        tolerance: ends when no element of the gradient is larger.
        history: how many steps L-BFGS remembers.
    """
    if method not in ("lbfgs", "newton-cg"):
        raise ConfigError(f"minimize(method={method!r}) is unknown; it is 'lbfgs' or 'newton-cg'")
    if np.iscomplexobj(x):
        raise ConfigError("minimize() moves real numbers; let f make complex ones of their real and imaginary parts")
    problem = _Problem(f, np.array(x))
    direction = _lbfgs_direction(history) if method == "lbfgs" else problem.newton_direction
    x, value, gradient = problem.start
    for step in range(max_steps):
        if np.max(np.abs(gradient), initial=0.0) <= tolerance:
            return problem.minimum(x, value, gradient, step, True, "the gradient vanishes")
        if not math.isfinite(value):
            return problem.minimum(x, value, gradient, step, False, f"the function is {value}")
        towards = direction(x, gradient)
        found = _line_search(problem.at, x, value, gradient, towards)
        if found is None:
            return problem.minimum(x, value, gradient, step, False, "no lower point was found along the direction")
        x, value, gradient = found
    converged = bool(np.max(np.abs(gradient), initial=0.0) <= tolerance)
    return problem.minimum(x, value, gradient, max_steps, converged, f"{max_steps} steps were made")


Point = tuple[Any, float, Any]


class _Problem:
    """The function on flat float vectors, whatever shape its argument has."""

    def __init__(self, f: Callable[[Any], Any], x: Any) -> None:
        self._shape, self._dtype = x.shape, x.dtype
        self._value_and_grad = value_and_grad(f)
        self._hvp = hvp(f)
        self.start = self.at(x.reshape(-1))

    def at(self, x: Any) -> Point:
        """The point, the value and the gradient there."""
        value, gradient = self._value_and_grad(self._shaped(x))
        return x, float(value), np.asarray(gradient, np.float64).reshape(-1)

    def _shaped(self, x: Any) -> Any:
        return x.reshape(self._shape).astype(self._dtype)

    def newton_direction(self, x: Any, gradient: Any) -> Any:
        """Solves Hessian · d = −gradient inexactly by conjugate gradients (algorithm 7.1, line search Newton-CG)."""
        length = float(np.linalg.norm(gradient))
        enough = min(0.5, math.sqrt(length)) * length
        direction, residual = np.zeros_like(gradient), gradient.copy()
        search = -residual
        for _ in range(2 * len(gradient)):
            bent = np.asarray(self._hvp(self._shaped(x), self._shaped(search)), np.float64).reshape(-1)
            curvature = float(search @ bent)
            if curvature <= 0:
                # Not convex here: what was found so far is downhill; at first that is steepest descent.
                return direction if direction.any() else search
            along = float(residual @ residual)
            direction = direction + along / curvature * search
            residual = residual + along / curvature * bent
            if np.linalg.norm(residual) <= enough:
                break
            search = -residual + float(residual @ residual) / along * search
        return direction

    def minimum(self, x: Any, value: float, gradient: Any, steps: int, converged: bool, message: str) -> Minimum:
        return Minimum(self._shaped(x), value, gradient.reshape(self._shape), steps, converged, message)


def _lbfgs_direction(history: int) -> Callable[[Any, Any], Any]:
    """The two-loop recursion (algorithm 7.4) over the steps it has seen; called once for each step."""
    pairs: deque[Pair] = deque(maxlen=history)
    last: list[Pair] = []

    def direction(x: Any, gradient: Any) -> Any:
        if last:
            s, y = x - last[0][0], gradient - last[0][1]
            # Without positive curvature the pair would spoil the approximation.
            if s @ y > 1e-10 * (y @ y):
                pairs.append((s, y))
        last[:] = [(x, gradient)]
        q = gradient.copy()
        weights = []
        for s, y in reversed(pairs):
            weights.append((s @ q) / (s @ y))
            q -= weights[-1] * y
        if pairs:
            s, y = pairs[-1]
            q *= (s @ y) / (y @ y)
        else:
            q /= max(1.0, float(np.linalg.norm(gradient)))
        for (s, y), weight in zip(pairs, reversed(weights), strict=True):
            q += (weight - (y @ q) / (s @ y)) * s
        return -q

    return direction


def _line_search(at: Callable[[Any], Point], x: Any, value: float, gradient: Any, towards: Any) -> Point | None:
    """A point along `towards` that satisfies the Wolfe conditions, by bracketing and bisection; None when none is
    lower.

    Bisection in place of algorithm 3.6's interpolation: one evaluation or two more, and nothing to go wrong.
    """
    slope = float(gradient @ towards)
    if slope >= 0:
        return None
    low, high, length = 0.0, math.inf, 1.0
    best: Point | None = None
    for _ in range(60):
        found = at(x + length * towards)
        if not found[1] <= value + DECREASE * length * slope:
            high = length
        else:
            best = found
            if float(found[2] @ towards) >= CURVATURE * slope:
                return found
            low = length
        length = 2 * low if math.isinf(high) else 0.5 * (low + high)
    return best if best is not None and best[1] < value else None
