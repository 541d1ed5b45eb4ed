"""The shards whose calls `distgrad bench` measures: a program of its workers."""

from __future__ import annotations

from typing import Any

import numpy as np

from distgrad.nn.parameter import Parameter
from distgrad.worker.shard import Shard, remote


class Scale(Shard):
    """Does next to nothing, so that what is measured is the call."""

    @remote
    def echo(self, x: Any) -> Any:
        return x

    @remote
    def multiply(self, x: Any, y: Any) -> Any:
        return x * y

    @remote
    def sink(self, x: Any) -> None:
        return None


class Layer(Shard):
    """A linear layer without bias: a stage of a pipeline."""

    def __init__(self, width: int) -> None:
        self.weight = Parameter(np.eye(width, dtype=np.float32))

    @remote
    def forward(self, x: Any) -> Any:
        return x @ self.weight
