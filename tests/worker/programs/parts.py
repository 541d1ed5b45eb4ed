"""Shards, data and functions that the tests of workers and of the coordinator use."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

import distgrad as dg
from distgrad import nn


class Layer(dg.Shard):
    """tanh(x · weightᵀ + bias), in float64."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.linear = nn.Linear(inputs, outputs, dtype="float64")

    @dg.remote
    def forward(self, x: Any) -> Any:
        return dg.ops.tanh(self.linear(x))

    @dg.remote
    def loss(self, x: Any, y: Any) -> Any:
        return ((self.linear(x) - y) ** 2).mean()

    @dg.remote
    def error(self, x: Any, y: Any) -> Any:
        """Of numbers, or of the one that should be the largest."""
        return self.loss(x, y if y.ndim == 2 else np.eye(3)[np.asarray(y.data)])

    @dg.remote
    def predict(self, x: Any) -> Any:
        return dg.ops.argmax(self.linear(x), axis=-1)

    @dg.remote(outputs=2)
    def both(self, x: Any, count: int = 2) -> Any:
        return tuple(self.linear(x) for _ in range(count))

    @dg.remote
    def fail(self) -> Any:
        raise ValueError("no luck")

    def secret(self) -> Any:
        return self.linear.weight


class Statistics(dg.Shard):
    """Normalises by running statistics, drops out, and looks rows up: all that is staged or random or sparse."""

    def __init__(self, width: int = 3) -> None:
        self.norm = nn.BatchNorm(width, dtype="float64")
        self.dropout = nn.Dropout(0.5)
        self.table = nn.Embedding(5, width, dtype="float64")
        self.unused = nn.Parameter(np.full(2, 7.0))

    @dg.remote
    def normalise(self, x: Any) -> Any:
        return self.norm(x).sum()

    @dg.remote(outputs=2)
    async def wait_and_normalise(self, x: Any, shard: Any) -> Any:
        """As a coroutine, which awaits another shard before."""
        h = await shard.noise(x)
        return self.norm(x).sum(), self.dropout(h)

    @dg.remote
    def forward(self, x: Any) -> Any:
        return self.dropout(self.norm(x))

    @dg.remote
    def noise(self, x: Any) -> Any:
        return self.dropout(x)

    @dg.remote
    def rows(self, indices: Any) -> Any:
        return (self.table(np.asarray(indices.data)) ** 2).sum()


class Sum(dg.Shard):
    """weight · x, whose gradient is x; a buffer counts the calls."""

    def __init__(self, size: int = 2) -> None:
        self.weight = nn.Parameter(np.zeros(size))
        self.calls = nn.Buffer(np.zeros(()))

    @dg.remote
    def dot(self, x: Any) -> Any:
        self.calls.blend(1.0, 1.0)
        return (self.weight * x).sum()

    @dg.remote
    def length(self, x: Any, y: Any) -> Any:
        """Has no derivative where it begins, at zero."""
        return dg.ops.sqrt((self.weight**2).sum())


class Counted(dg.Shard):
    """Scales, and counts the calls whose gradient is still to come. `fails`: so do as many of its next calls."""

    alive, most, fails = 0, 0, 0
    counting = threading.Lock()

    def __init__(self) -> None:
        self.scale = nn.Parameter(np.ones(()))

    @classmethod
    def count(cls, change: int) -> None:
        with cls.counting:
            cls.alive += change
            cls.most = max(cls.most, cls.alive)

    @dg.remote
    def forward(self, x: Any) -> Any:
        if self.fails:
            type(self).fails -= 1
            raise ValueError("no luck")
        self.count(1)
        x.register_hook(lambda gradient: self.count(-1))
        return x * self.scale


class Gate(dg.Shard):
    """Holds a call up until the test opens it; waits for another one that does."""

    reached, opened = threading.Event(), threading.Event()

    def __init__(self) -> None:
        self.scale = nn.Parameter(np.ones(()))

    @dg.remote
    def hold(self) -> Any:
        self.reached.set()
        assert self.opened.wait(20)
        return np.ones(())

    @dg.remote
    def wait_for(self, other: Any) -> Any:
        return other.hold().get() * self.scale


class Constant(dg.Shard):
    """Is given an array."""

    def __init__(self, values: Any) -> None:
        self.values = nn.Buffer(values)

    @dg.remote
    def get_values(self) -> Any:
        return self.values


class Failing(dg.Shard):
    """Cannot be made, unless told not to fail."""

    def __init__(self, fail: bool = True) -> None:
        if fail:
            raise ValueError("this one is never made")


class Data:
    """Points of three numbers, and which of them is the largest.

    `spoil` and `at` say what goes wrong at which step.
    """

    def __init__(self, batch: int = 6, seed: int = 0, spoil: str = "", at: int = 0) -> None:
        if spoil == "constructor":
            raise ValueError("no data today")
        self.size = batch
        self.seed = seed
        self.spoil = spoil
        self.at = at

    def _draw(self, *names: int) -> tuple[Any, Any]:
        x = np.random.default_rng([self.seed, *names]).standard_normal((self.size, 3))
        return x, np.eye(3)[x.argmax(axis=1)]

    def batch(self, step: int) -> Any:
        x, y = self._draw(1, step)
        if step != self.at:
            return x, y
        match self.spoil:
            case "raise":
                raise RuntimeError("the file has ended")
            case "lengths":
                return x, y[1:]
            case "scalar":
                return x, 3
            case "single":
                return x
            case "empty":
                return x[:0], y[:0]
            case "undefined":
                return x * np.nan, y
            case "infinite":
                return x, y + np.inf
        return x, y

    def held_out(self) -> Any:
        x, y = self._draw(2)
        return x, y.argmax(axis=1)


class BatchesOnly:
    """Data without held-out examples."""

    def batch(self, step: int) -> Any:
        return Data().batch(step)


@dg.remote
def double(x: Any) -> Any:
    return x * 2.0


def unmarked(x: Any) -> Any:
    return x
