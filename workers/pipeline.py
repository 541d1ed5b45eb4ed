"""A served function that spans two workers: `distgrad serve workers/pipeline.py:Pipeline --workers 1`

Each process of the server has a cluster of its own. The function calls two shards on it, one after the other; values
and gradients go from worker to worker, and whoever asks the server for a derivative sees none of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import distgrad as dg


class Layer(dg.Shard):
    """tanh(W x + b), of `size` numbers, with weights that follow from `phase`."""

    def __init__(self, size: int, phase: float) -> None:
        self.weight = dg.nn.Parameter(np.cos(np.arange(size * size) + phase).reshape(size, size) / np.sqrt(size))
        self.bias = dg.nn.Parameter(np.sin(np.arange(size) + phase))

    @dg.remote
    def forward(self, x: Any) -> Any:
        return dg.ops.tanh(self.weight @ x + self.bias)


class Pipeline:
    """Two layers, on a worker each."""

    SIZE = 8

    def __init__(self) -> None:
        self._cluster = dg.LocalCluster(workers=2, programs=Path(__file__).parent)
        place = self._cluster.place
        self._layers = [
            place(f"layer{k}", "pipeline.py:Layer", worker=f"w{k}", config={"size": self.SIZE, "phase": float(k)})
            for k in range(2)
        ]

    @dg.served(takes={"x": f"float64[{SIZE}]"}, gives=f"float64[{SIZE}]")
    def forward(self, x: Any) -> Any:
        """What the second layer makes of what the first makes of x."""
        first, second = self._layers
        return second.forward(first.forward(x))

    @dg.served(takes={"x": f"float64[{SIZE}]"}, gives="float64")
    def energy(self, x: Any) -> Any:
        """Half the sum of squares of `forward`."""
        return 0.5 * dg.ops.sum(self.forward(x).get() ** 2)

    def close(self) -> None:
        self._cluster.close()
