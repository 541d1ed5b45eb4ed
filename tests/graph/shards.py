"""Shards that the tests of the graph place on workers. Every public method can be called; `outputs` says which return
several references."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np

import distgrad as dg
from distgrad.autograd.tensor import Tensor


def parameter(seed: int, *shape: int, dtype: Any = np.float64) -> Tensor:
    """A parameter of random numbers that depend on the seed alone."""
    return dg.nn.Parameter(np.random.default_rng(seed).standard_normal(shape).astype(dtype))


class Dense:
    """tanh(w x + b), and what else one does to a vector of three."""

    outputs: ClassVar[dict[str, int]] = {"split": 2, "three": 3}

    def __init__(self, seed: int = 0, dtype: Any = np.float64) -> None:
        self.w = parameter(seed, 3, 3, dtype=dtype)
        self.b = parameter(seed + 100, 3, dtype=dtype)

    def forward(self, x: Any) -> Any:
        return dg.ops.tanh(self.w @ x + self.b)

    def loss(self, x: Any, target: Any = 0.0) -> Any:
        return ((self.w @ x - target) ** 2).sum()

    def total(self, x: Any) -> Any:
        return (x * x * self.b).sum()

    def add(self, x: Any, y: Any, *more: Any) -> Any:
        total = x + y
        for item in more:
            total = total + item
        return total * self.b

    def split(self, x: Any) -> Any:
        h = self.w @ x
        return dg.ops.sin(h), dg.ops.cos(h)

    def three(self, x: Any) -> Any:
        return x * self.b, x + self.b, (self.w @ x).sum()

    def tree(self, x: Any) -> Any:
        return {"twice": x * 2.0, "rest": [x * self.b, (x.sum(), "text", None, 3)], "constant": np.arange(3.0)}

    def of_tree(self, tree: Any, *, scale: float = 1.0, label: str = "", nothing: Any = None) -> Any:
        assert nothing is None
        first, (second, number) = tree["items"]
        return (first * second * self.b).sum() * scale * number + len(label)

    def detached(self, x: Any) -> Any:
        return (self.w @ x).detach()

    def constant(self, x: Any) -> Any:
        return np.ones(3)

    def ignores(self, x: Any, y: Any) -> Any:
        return self.w @ y

    def square_without_grad(self, x: Any) -> Any:
        with dg.no_grad():
            return self.w @ x

    def needs_gradient(self, x: Any) -> Any:
        """Whether the method's argument, and what is computed from it, would be differentiated."""
        return [x.requires_grad, (x * 2.0).requires_grad, (self.w @ x).requires_grad]

    def weight(self) -> Any:
        return self.w

    def bias(self) -> Any:
        return self.b

    def times(self, w: Any, x: Any) -> Any:
        return w @ x

    def identity(self, x: Any) -> Any:
        return x

    def dot(self, x: Any, y: Any) -> Any:
        return (x * y).sum()

    def descend(self, w: Any, g: Any, rate: float) -> Any:
        return w - rate * g

    def own_gradient(self, x: Any) -> Any:
        """The gradient of a loss of this shard by x, found here."""
        return dg.grad(lambda y: ((self.w @ y) ** 3).sum())(x)

    def pick(self, x: Any, index: Any, k: int = 0) -> Any:
        return x[np.asarray(index.data)] * self.b[k]

    def fail(self, x: Any) -> Any:
        raise ValueError(f"no luck with shape {x.shape}")

    def fails_backward(self, x: Any) -> Any:
        y = x * self.b
        y.register_hook(_raise)
        return y

    def returns_a_set(self, x: Any) -> Any:
        return {1, 2}

    def matmul_wrong(self, x: Any) -> Any:
        return self.w @ dg.ops.concatenate([x, x])


def _raise(gradient: Any) -> None:
    raise ArithmeticError("no gradient today")


def dense(seed: int) -> Callable[[], Dense]:
    """Makes such a shard."""
    return partial(Dense, seed)


class Router:
    """Calls the shards it is handed."""

    def __init__(self, seed: int = 0) -> None:
        self.v = parameter(seed + 200, 3)
        self.kept: Any = None

    def through(self, x: Any, *shards: Any) -> Any:
        """Forwards a reference: it does not wait for the last call."""
        ref = shards[0].forward(x * self.v)
        for shard in shards[1:]:
            ref = shard.forward(ref)
        return ref

    def through_waiting(self, x: Any, *shards: Any) -> Any:
        for shard in shards:
            x = shard.forward(x * self.v).get()
        return x * self.v

    def both(self, x: Any, first: Any, second: Any) -> Any:
        """Two references forwarded within a tree, beside a value of its own."""
        return {"first": first.forward(x), "second": [second.forward(x * self.v)], "own": x + self.v}

    def rally(self, x: Any, me: Any, other: Any, left: int) -> Any:
        """Calls the other, which calls back, until nothing is left."""
        if left == 0:
            return x * self.v
        return other.rally(dg.ops.sin(x), other, me, left - 1).get() + x

    def itself(self, x: Any, me: Any, left: int) -> Any:
        return x * self.v if left == 0 else me.itself(x + 1.0, me, left - 1).get() * self.v

    def gradient_through(self, x: Any, shard: Any) -> Any:
        """The gradient of a loss that is computed by another shard."""
        return dg.grad(lambda y: (shard.forward(y * self.v).get() ** 2).sum())(x)

    def tangent_through(self, x: Any, direction: Any, shard: Any) -> Any:
        """The derivative, along a direction, of what another shard computes of x, times x."""
        return dg.jvp(lambda y: shard.forward(y * self.v).get() * x, (x,), (direction,))[1]

    def keep(self, x: Any) -> Any:
        self.kept = dg.ops.exp(x * self.v)
        return x * self.v

    def catches(self, x: Any, shard: Any) -> Any:
        h = x * self.v
        try:
            return shard.fail(h).get()
        except dg.DistgradError as error:
            return h + len(error.original_message)  # type: ignore[attr-defined]

    def use(self, x: Any) -> Any:
        return x * self.v

    def hooked(self, x: Any, shard: Any) -> Any:
        """Its gradient is changed by another shard on the way back, each time it passes a hook."""
        y = x * self.v
        y.register_hook(lambda gradient: shard.forward(gradient).get() * 2.0)
        z = dg.ops.sin(y)
        z.register_hook(lambda gradient: shard.identity(gradient).get() + shard.bias().get())
        return z

    def custom(self, x: Any, shard: Any) -> Any:
        """A function whose derivative another shard computes."""

        @dg.custom_vjp
        def double(x: Any) -> Any:
            return x * 2.0

        double.defvjp(lambda x: (x * 2.0, x), lambda x, g: (shard.add(g, x).get(),))
        return double(x * self.v)

    async def awaits(self, x: Any, shard: Any) -> Any:
        first, second = shard.forward(x), shard.forward(x * self.v)
        return (await first) * (await second) * self.v

    async def awaits_failing(self, x: Any, shard: Any) -> Any:
        return await shard.fail(x)

    async def awaits_events(self, x: Any) -> Any:
        await asyncio.sleep(0.01)
        return x * self.v

    def keep_and_fail(self, x: Any) -> Any:
        self.kept = dg.ops.exp(x * self.v)
        raise RuntimeError("kept it, though")

    def use_kept(self, y: Any) -> Any:
        return (self.kept * y).sum()

    def fails_below(self, x: Any, *shards: Any) -> Any:
        """Goes through shards[0], [1], ... and fails at the last."""
        if len(shards) == 1:
            return shards[0].fail(x).get()
        return shards[0].fails_below(x, *shards[1:]).get()

    def unused_call(self, x: Any, shard: Any) -> Any:
        shard.forward(x)
        return x * self.v

    def unused_failure(self, x: Any, shard: Any) -> Any:
        shard.fail(x)
        return x * self.v

    def calls_and_forgets(self, x: Any, gate: Any) -> Any:
        gate.wait(x)
        return x * self.v

    def tie(self, owner: Any, x: Any) -> Any:
        """Uses a parameter of another shard as its own."""
        return owner.weight().get() @ (x * self.v)


class Hooked:
    """Its parameter has a hook, which notes what it sees."""

    def __init__(self, seed: int = 0) -> None:
        self.w = parameter(seed + 500, 3)
        self.saw: list[Any] = []
        self.w.register_hook(self._note)

    def _note(self, gradient: Any) -> Any:
        self.saw.append(np.array(gradient.data))
        return gradient * 2.0

    def forward(self, x: Any) -> Any:
        return x * self.w

    def weight(self) -> Any:
        return self.w

    def seen(self) -> Any:
        return list(self.saw)


class Counted:
    """A method of several operations that counts how often it runs, and calls on if it is to."""

    def __init__(self, seed: int = 0) -> None:
        self.w = parameter(seed + 400, 3, 3)
        self.count = 0

    def forward(self, x: Any, *shards: Any) -> Any:
        self.count += 1
        h = dg.ops.tanh(self.w @ x)
        for shard in shards:
            h = shard.forward(h * 0.5).get()
        return {"h": dg.ops.sin(self.w @ h), "note": "text", "none": None, "n": 3}

    async def awaits(self, x: Any) -> Any:
        self.count += 1
        await asyncio.sleep(0)
        return dg.ops.sin(self.w @ x) * x

    def runs(self) -> int:
        return self.count


class Table:
    """An embedding."""

    def __init__(self, seed: int = 0, dtype: Any = np.float64) -> None:
        self.table = parameter(seed + 300, 10, 3, dtype=dtype)

    def rows(self, indices: Any) -> Any:
        return dg.ops.embedding(self.table, indices)

    def rows_of(self, table: Any, indices: Any) -> Any:
        return dg.ops.embedding(table, indices)

    def whole(self) -> Any:
        return self.table


class Gate:
    """Calls and backward passes that wait until the test opens the gate."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()
        self.left = threading.Event()

    def wait(self, x: Any) -> Any:
        self._pass()
        return x

    def slow_backward(self, x: Any) -> Any:
        y = x * 1.0
        if y.requires_grad:
            y.register_hook(lambda gradient: self._pass())
        return y

    def _pass(self) -> None:
        self.entered.set()
        assert self.open.wait(10)
        self.left.set()
