"""The small network of the command line's tests, one of whose workers can be told to hold its interpreter."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

import distgrad as dg


class Stage(dg.Shard):
    """tanh(x · weightᵀ + bias)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.linear = dg.nn.Linear(inputs, outputs)

    @dg.remote
    def forward(self, x: Any) -> Any:
        hold = Path(os.environ["DISTGRAD_HOLD"])
        if hold.exists() and hold.read_text() == sys.argv[-1]:
            hold.unlink()
            ctypes.PyDLL(None).sleep(60)  # a PyDLL does not let go of the interpreter
        return dg.ops.tanh(self.linear(x))


class Head(Stage):
    """Tells two classes apart."""

    @dg.remote
    def loss(self, x: Any, labels: Any) -> Any:
        return dg.ops.cross_entropy(self.linear(x), labels)


class Points:
    """Points of the square, and whether their coordinates have one sign."""

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        x = np.random.default_rng(step).uniform(-1, 1, (64, 2)).astype(np.float32)
        return x, (x[:, 0] * x[:, 1] > 0).astype(np.int64)
