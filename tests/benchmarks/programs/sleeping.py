"""Stages of a pipeline that take a certain time and no processor, for `tests.benchmarks.predicted`."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import distgrad as dg


def sleeping(seconds: float) -> Any:
    """The identity, whose gradient takes so long."""

    def pullback(residual: None, gradient: Any) -> tuple[Any]:
        time.sleep(seconds)
        return (gradient,)

    same = dg.custom_vjp(lambda x: x * 1.0)
    same.defvjp(lambda x: (x * 1.0, None), pullback)
    return same


class Stage(dg.Shard):
    """x + weight.

    Arguments:
        forward, gradient, weight: seconds that a call, the gradient of x and that of the weight take.
    """

    def __init__(self, forward: float, gradient: float, weight: float) -> None:
        self.weight = dg.nn.Parameter(np.zeros(4, np.float32))
        self._forward = forward
        self._gradient = sleeping(gradient)
        self._weight = sleeping(weight)

    @dg.remote
    def forward(self, x: Any) -> Any:
        time.sleep(self._forward)
        return self._gradient(x) + self._weight(self.weight)

    @dg.remote
    def loss(self, x: Any, y: Any) -> Any:
        return ((self.forward(x) - y) ** 2).mean()
