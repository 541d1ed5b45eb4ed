"""Shards that do what the tests of clusters want to see."""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np

import distgrad as dg


class Layer(dg.Shard):
    """relu(x · weight), the weight made of `inputs` rows."""

    def __init__(self, inputs: int, outputs: int) -> None:
        waves = np.cos(np.arange(inputs * outputs, dtype=np.float32))
        self.weight = dg.nn.Parameter(waves.reshape(inputs, outputs))

    @dg.remote
    def forward(self, x: Any) -> Any:
        return dg.ops.relu(x @ self.weight)

    @dg.remote
    def loss(self, x: Any) -> Any:
        return dg.ops.mean(self.forward(x) ** 2)

    @dg.remote
    def never(self, x: Any) -> Any:
        threading.Event().wait()

    @dg.remote
    def exit(self, x: Any) -> Any:
        os._exit(3)


@dg.remote
def threads() -> str:
    """How many threads matrix products have here."""
    print("a program prints")
    return os.environ["OPENBLAS_NUM_THREADS"]
