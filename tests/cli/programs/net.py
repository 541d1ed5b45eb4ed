"""A small network and its data, for jobs that are over in a second."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np

import distgrad as dg


class Stage(dg.Shard):
    """tanh(x · weightᵀ + bias)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.linear = dg.nn.Linear(inputs, outputs)

    @dg.remote
    def forward(self, x: Any) -> Any:
        return dg.ops.tanh(self.linear(x))


class Head(Stage):
    """Tells two classes apart."""

    @dg.remote
    def loss(self, x: Any, labels: Any) -> Any:
        return dg.ops.cross_entropy(self.linear(x), labels)

    @dg.remote
    def predict(self, x: Any) -> Any:
        return dg.ops.argmax(self.linear(x), axis=-1)


class Points:
    """Points of the square, and whether their coordinates have one sign."""

    def __init__(self, batch: int, seed: int = 0) -> None:
        self.size = batch
        self.seed = seed

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        x = np.random.default_rng([self.seed, step]).uniform(-1, 1, (self.size, 2)).astype(np.float32)
        return x, (x[:, 0] * x[:, 1] > 0).astype(np.int64)

    def held_out(self) -> tuple[np.ndarray, np.ndarray]:
        return self.batch(2**31)


class Short(Points):
    """Points without a sixth batch."""

    def batch(self, step: int) -> tuple[Any, Any]:
        if step == 5:
            raise IndexError(f"there is no step {step}")
        return super().batch(step)


class Held(Points):
    """Points of which a few batches are there at once, the others when the file DISTGRAD_GO is."""

    def __init__(self, batch: int, at_once: int, seed: int = 0) -> None:
        super().__init__(batch, seed)
        self.at_once = at_once

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        while step == self.at_once and not os.path.exists(os.environ["DISTGRAD_GO"]):
            time.sleep(0.01)
        return super().batch(step)


class Forking(Points):
    """Points from a program that has forked, as one that loads data ahead may."""

    def __init__(self, batch: int, seed: int = 0) -> None:
        super().__init__(batch, seed)
        if os.fork() == 0:
            signal.pause()
