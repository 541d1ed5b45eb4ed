"""Programs that nobody writes every day: values in odd places, of odd shapes, and derivatives taken inside methods.

They mean the same in one process and on a cluster, to the last bit wherever their shards are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import DistgradError

from .shards import Dense, parameter
from .worlds import SPREAD, Factories, Program, agree, cluster_world

PROGRAMS: dict[str, Program] = {}

X = np.array([0.3, -1.2, 0.7])
Y = np.array([1.1, 0.4, -0.5])


class Odd:
    """Returns arguments, parameters, references and handles in all manner of places."""

    outputs: ClassVar[dict[str, int]] = {"pair": 2}

    def __init__(self) -> None:
        self.w = parameter(1, 3)
        self.kept: Any = None

    def times(self, x: Any) -> Any:
        return x * self.w

    def total(self, x: Any) -> Any:
        return x.sum()

    def pair(self, x: Any) -> Any:
        return x * self.w, dg.ops.sin(x)

    def first(self, tree: Any) -> Any:
        return tree[0] * self.w

    # ---- one tensor in several places

    def the_same(self, x: Any) -> Any:
        return [x, x, self.w, self.w, x * self.w]

    def both(self, x: Any, y: Any) -> Any:
        return (x, {"y": y, "w": self.w})

    # ---- odd shapes and types

    def nothing_of(self, x: Any) -> Any:
        return dg.ops.concatenate([x[:0], self.w[:0]])

    def where(self, mask: Any, x: Any) -> Any:
        return dg.ops.where(mask, x, self.w)

    def half(self, x: Any) -> Any:
        return dg.ops.astype(x, np.float16) * 2

    def columns(self, matrix: Any) -> Any:
        return matrix.sum(axis=0) * self.w

    def write(self, x: Any) -> Any:
        with dg.no_grad():
            x[0] = 5.0
        return x

    # ---- what is kept between calls

    def store(self, x: Any) -> Any:
        self.kept = x * self.w
        return x

    def stored(self, y: Any) -> Any:
        return self.kept * y

    def remember(self, shard: Any) -> Any:
        self.kept = shard

    def ask_remembered(self, x: Any) -> Any:
        return self.kept.times(x)

    # ---- references in the value

    def each(self, x: Any, me: Any, count: int) -> Any:
        return [me.the_same(x * float(k)) for k in range(count)]

    def one_way_or_other(self, x: Any, shard: Any) -> Any:
        return shard.both(x, x) if shard.total(x).item() > 0 else x * 2

    def rewrap(self, x: Any, shard: Any) -> Any:
        refs = shard.pair(x)
        return {"a": refs[0], "both": list(refs), "b": [shard.times(refs[1]), refs[1]]}

    def relay(self, x: Any, shards: Any, left: int) -> Any:
        """Through shards that are handed on in a container."""
        if left == 0:
            return [x * self.w, {"k": x}]
        here, there = shards["next"], shards["after"]
        return here.relay(x * self.w, {"next": there, "after": here}, left - 1)

    def fails(self, x: Any) -> Any:
        raise ValueError("bad luck")

    def tries(self, x: Any, shard: Any) -> Any:
        with pytest.raises(DistgradError):
            shard.fails(x).get()
        return [shard.times(x), (shard.times(x * 2.0), x)]

    # ---- derivatives inside methods

    def gradient(self, x: Any, shard: Any) -> Any:
        h = x * self.w
        return shard.times(dg.grad(lambda z: (shard.times(z).get() * shard.pair(z)[1].get()).sum())(h))

    def product(self, x: Any, shard: Any) -> Any:
        return dg.hvp(lambda z: (shard.times(z).get() ** 3).sum())(x, x * self.w)

    def pulled_back(self, x: Any, shard: Any) -> Any:
        value, pull = dg.vjp(lambda z: shard.pair(z)[1].get() * z, x)
        return pull(value)[0]

    def matrix(self, x: Any, shard: Any) -> Any:
        return dg.jacobian(lambda z: dg.ops.exp(shard.times(z).get()))(x).sum(axis=0)


SHARDS: Factories = {"a": Odd, "b": Odd, "c": Odd, "d": partial(Dense, 3)}


def program(run: Program) -> Program:
    PROGRAMS[run.__name__] = run
    return run


# ---- one tensor in several places ------------------------------------------------------------------------------------


@program
def one_tensor_comes_back_in_several_places(w: Any) -> dict[str, Any]:
    x, a, b = w.variable("x", X), w.shard("a"), w.shard("b")
    with w.context() as ctx:
        r = a.the_same(x)
        s = b.the_same(r[0])
        t = a.the_same(s[1])
        ctx.backward([t[4], r[1], s[2], t[3]], [X, Y, X, Y], retain_graph=True)
        ctx.backward([r[2], r[2], r[0]], [X, X, Y])
        return {"t": t.numpy(), "gradients": w.gradients(ctx)}


@program
def an_argument_that_comes_back_is_a_root(w: Any) -> dict[str, Any]:
    x, d = w.variable("x", X), w.shard("d")
    with w.context() as ctx:
        r = d.identity(x)
        ctx.backward([d.identity(r), r, x], [X, Y, X])
        return {"gradients": w.gradients(ctx)}


@program
def a_root_is_its_own_input(w: Any) -> dict[str, Any]:
    x, d = w.variable("x", X), w.shard("d")
    with w.context() as ctx:
        r = d.forward(x)
        of_itself, of_x = ctx.grad(r, [r, x], Y)
        return {"of itself": of_itself.numpy(), "of x": of_x}


@program
def parameters_come_back_beside_arguments(w: Any) -> dict[str, Any]:
    x, y, a, b = w.variable("x", X), w.variable("y", Y), w.shard("a"), w.shard("b")
    with w.context() as ctx:
        r = a.both(x, y)
        value = b.both(r[1]["w"], r[0]).get()
        ctx.backward([(value[0] * value[1]["y"]).sum(), a.total(value[1]["w"]), a.total(r[1]["y"])])
        return {"gradients": w.gradients(ctx)}


# ---- odd shapes and types --------------------------------------------------------------------------------------------


@program
def arrays_of_no_elements_and_of_no_axes(w: Any) -> dict[str, Any]:
    x, empty, scalar = w.variable("x", X), w.variable("empty", np.zeros((0,))), w.variable("scalar", 2.0)
    a, d = w.shard("a"), w.shard("d")
    with w.context() as ctx:
        nothing, number = a.nothing_of(x), d.identity(scalar)
        ctx.backward([a.total(nothing), d.identity(empty), number, a.total(x)], [None, np.zeros(0), None, None])
        return {"nothing": nothing.numpy(), "number": number.item(), "gradients": w.gradients(ctx)}


@program
def masks_and_half_precision(w: Any) -> dict[str, Any]:
    x, a = w.variable("x", X), w.shard("a")
    with w.context() as ctx:
        half = a.half(a.where(np.array([True, False, True]), x))
        ctx.backward(a.total(half))
        return {"half": half.numpy(), "gradients": w.gradients(ctx)}


@program
def arrays_in_any_order_of_memory(w: Any) -> dict[str, Any]:
    a, matrix = w.shard("a"), w.variable("matrix", np.asfortranarray(np.arange(12.0).reshape(4, 3)))
    with w.context() as ctx:
        columns = [a.columns(m) for m in (matrix, np.arange(12.0).reshape(3, 4).T, matrix[::-2])]
        ctx.backward([a.total(column) for column in columns])
        return {"gradients": w.gradients(ctx)}


# ---- what is kept between calls --------------------------------------------------------------------------------------


@program
def values_kept_between_calls_of_a_context(w: Any) -> dict[str, Any]:
    x, y, a, b = w.variable("x", X), w.variable("y", Y), w.shard("a"), w.shard("b")
    with w.context() as ctx:
        passed_on = a.store(b.store(x))
        ctx.backward([a.total(a.stored(b.stored(y))), a.total(passed_on)])
        return {"gradients": w.gradients(ctx)}


@program
def handles_kept_between_calls(w: Any) -> dict[str, Any]:
    x, a, b = w.variable("x", X), w.shard("a"), w.shard("b")
    with w.context() as ctx:
        a.remember(b).wait()
        b.remember(a).wait()
        r = b.ask_remembered(a.ask_remembered(x))
        ctx.backward([r, a.ask_remembered(r.get())], [X, Y])
        return {"gradients": w.gradients(ctx)}


# ---- references in the value -----------------------------------------------------------------------------------------


@program
def parts_of_what_other_calls_returned(w: Any) -> dict[str, Any]:
    x, a, b = w.variable("x", X), w.shard("a"), w.shard("b")
    with w.context() as ctx:
        r = a.each(x, a, 4)
        s = b.each(r[1][0], a, 2)
        ctx.backward([r[2][4].get(), s[1][4], r[3][2]], [X, Y, X])
        return {"gradients": w.gradients(ctx)}


@program
def parts_of_a_value_that_another_call_may_have_returned(w: Any) -> dict[str, Any]:
    x, y, a, b, d = w.variable("x", X), w.variable("y", Y), w.shard("a"), w.shard("b"), w.shard("d")
    with w.context() as ctx:
        plain, forwarded = a.one_way_or_other(x, b), a.one_way_or_other(y, b)
        ctx.backward([d.loss(plain), d.loss(forwarded[0])])
        return {"gradients": w.gradients(ctx)}


@program
def references_wrapped_again_and_again(w: Any) -> dict[str, Any]:
    x, a, b, c = w.variable("x", X), w.shard("a"), w.shard("b"), w.shard("c")
    with w.context() as ctx:
        r = a.rewrap(x, b)
        s = c.rewrap(r["both"][1], a)
        part, whole, pair = s["b"][0].get(), s.get(), s["both"].get()
        roots = [part, r["b"][1], whole["a"], pair[1], s["both"][0], b.first(s["both"])]
        ctx.backward(roots, [X, Y] * 3)
        return {"s": s.numpy(), "gradients": w.gradients(ctx)}


@program
def references_forwarded_through_many_calls(w: Any) -> dict[str, Any]:
    x, a, b, c = w.variable("x", X), w.shard("a"), w.shard("b"), w.shard("c")
    with w.context() as ctx:
        r = a.relay(x, {"next": b, "after": c}, 5)
        ctx.backward([b.first(r), c.times(r[0]).get() * r[1]["k"].get(), r[1]["k"], r[0]], [X, Y, X, Y])
        return {"r": r.numpy(), "gradients": w.gradients(ctx)}


@program
def items_that_are_not_there(w: Any) -> dict[str, Any]:
    x, a, b, c = w.variable("x", X), w.shard("a"), w.shard("b"), w.shard("c")

    def missing(use: Callable[[], Any]) -> bool:
        try:
            use()
        except (DistgradError, LookupError, TypeError):
            return True
        return False

    with w.context() as ctx:
        r = a.tries(x, b)
        uses = [
            lambda: r[7].get(),
            lambda: r["k"].get(),
            lambda: c.times(r[9]).get(),
            lambda: r[1][0][1][2].get(),
        ]
        found = [missing(use) for use in uses]
        ctx.backward([r[1][0], r[0]], [X, Y])
        return {"missing": found, "gradients": w.gradients(ctx)}


# ---- derivatives inside methods --------------------------------------------------------------------------------------


@program
def methods_differentiate_what_other_shards_compute(w: Any) -> dict[str, Any]:
    x, a, b, c = w.variable("x", X), w.shard("a"), w.shard("b"), w.shard("c")
    with w.context() as ctx:
        g = a.gradient(x, b)
        h = b.product(g, c)
        v = c.pulled_back(h, a)
        ctx.backward([g, h, v, a.matrix(v, c)], [X, Y, X, Y])
        return {"gradients": w.gradients(ctx)}


@program
def and_are_differentiated_twice_in_turn(w: Any) -> dict[str, Any]:
    x, a, b, c = w.variable("x", X), w.shard("a"), w.shard("b"), w.shard("c")
    with w.context() as ctx:
        loss = c.total(b.product(a.gradient(x, b), c))
        gx, _, gb = ctx.grad(loss, [x, a, b], create_graph=True)
        ctx.backward([(gx * gx).sum(), c.total(gb["w"])])
        return {"gradients": w.gradients(ctx)}


@program
def and_are_checkpointed(w: Any) -> dict[str, Any]:
    x, a, b, c = w.variable("x", X), w.shard("a"), w.shard("b"), w.shard("c")
    with w.context() as ctx:
        block = w.checkpoint(lambda z: a.gradient(z, b).get() + b.rewrap(z, c)["b"][0].get())
        tree = w.checkpoint(a.rewrap)(x, b)
        ctx.backward([block(x), tree["b"][0], c.first(tree["both"])], [X, Y, X], retain_graph=True)
        ctx.backward(tree["a"], X)
        return {"gradients": w.gradients(ctx)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_means_the_same_everywhere(name: str) -> None:
    agree(SHARDS, PROGRAMS[name])


def test_arguments_cannot_be_written_to() -> None:
    with cluster_world(SHARDS, SPREAD) as world, world.context():
        for x in (X, world.variable("x", X)):
            with pytest.raises(DistgradError, match="read-only"):
                world.shard("a").write(x).get()
        np.testing.assert_array_equal(X, [0.3, -1.2, 0.7])
