"""First and second derivatives of a function against central differences, along random directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import distgrad as dg
from distgrad.autograd.tensor import Tensor
from tests.autograd.case import inner, plain

STEP = 1e-6


def check_derivatives(
    f: Callable[..., Any], *xs: np.ndarray, order: int = 2, tolerance: float = 1e-6, forward: bool = True
) -> None:
    """Fails unless vjp, (`forward`) jvp and (order 2) the vjp of the vjp of `f`, which gives one tensor, agree with
    them."""
    rng = np.random.default_rng(0)
    along = [_random(rng, x) for x in xs]
    value = f(*map(Tensor, xs)).numpy()
    cotangent = _random(rng, value)

    def gradient(*primals: Any) -> tuple[Any, ...]:
        return dg.vjp(f, *primals)[1](cotangent)  # type: ignore[no-any-return]

    numerical = _difference(lambda *a: [f(*map(Tensor, a)).numpy()], xs, along)
    gradients = gradient(*xs)
    for x, g in zip(xs, gradients, strict=True):
        assert g.shape == x.shape
        assert g.dtype == x.dtype
    _compare("vjp", inner(along, gradients), inner([cotangent], numerical), tolerance)
    if forward:
        tangent = dg.jvp(f, tuple(xs), tuple(along))[1]
        _compare("jvp", inner([cotangent], [plain(tangent)]), inner([cotangent], numerical), tolerance)
    if order > 1:
        weights = [_random(rng, x) for x in xs]
        second = dg.vjp(gradient, *xs)[1](tuple(weights))
        numerical = _difference(lambda *a: [plain(g) for g in gradient(*a)], xs, along)
        _compare("vjp of the vjp", inner(along, second), inner(weights, numerical), 10 * tolerance)


def _random(rng: np.random.Generator, like: np.ndarray) -> np.ndarray:
    drawn = rng.standard_normal(like.shape)
    return drawn + 1j * rng.standard_normal(like.shape) if like.dtype.kind == "c" else drawn


def _difference(f: Callable[..., list[np.ndarray]], xs: Any, along: list[np.ndarray]) -> list[np.ndarray]:
    ahead = f(*(x + STEP * d for x, d in zip(xs, along, strict=True)))
    behind = f(*(x - STEP * d for x, d in zip(xs, along, strict=True)))
    return [(a - b) / (2 * STEP) for a, b in zip(ahead, behind, strict=True)]


def _compare(what: str, found: float, expected: float, tolerance: float) -> None:
    assert abs(found - expected) <= tolerance * max(1.0, abs(expected)), f"{what}: {found} instead of {expected}"
