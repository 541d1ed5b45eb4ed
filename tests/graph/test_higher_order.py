"""Gradients of gradients through any number of processes."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import GradientError, RemoteError

from .shards import Dense, Gate, Router, Table
from .worlds import SPREAD, ClusterWorld, Factories, Program, agree, assert_empty, cluster_world

X = np.array([0.3, -1.2, 0.7])
Y = np.array([1.1, 0.4, -0.5])
SHARDS: Factories = {"a": partial(Dense, 1), "b": partial(Dense, 2), "r": Router}
PROGRAMS: dict[str, Program] = {}


def program(run: Program) -> Program:
    PROGRAMS[run.__name__] = run
    return run


# ---- restricted passes -----------------------------------------------------------------------------------------------


@program
def grad_finds_what_is_asked_for_and_accumulates_nothing(w: Any) -> dict[str, Any]:
    x, y = w.variable("x", X), w.variable("y", Y)
    with w.context() as ctx:
        h = w.shard("a").forward(x)
        t = h.get() * 2.0
        loss = w.shard("b").loss(w.shard("b").add(h, t))
        gx, gy, gh, gt, ga, gr = ctx.grad(loss, [x, y, h, t, w.shard("a"), w.shard("r")], retain_graph=True)
        nothing = w.gradients(ctx)
        ctx.backward(loss)
        return {
            "gx": gx,
            "gy": gy,
            "gh": gh.numpy(),
            "gt": gt,
            "ga": {name: ref.numpy() for name, ref in ga.items()},
            "gr": gr,
            "nothing": nothing,
            "gradients": w.gradients(ctx),
        }


@program
def grad_of_several_roots_with_seeds(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    with w.context() as ctx:
        h = w.shard("a").forward(x)
        k = w.shard("b").forward(h)
        g = ctx.grad([k, h, x * 2.0], x, [Y, X, Y])
        return {"g": g, "requires_grad": g.requires_grad}


@program
def grad_where_there_is_none(w: Any) -> dict[str, Any]:
    x, y = w.variable("x", X), w.variable("y", Y)
    with w.context() as ctx:
        h = w.shard("a").forward(x)
        k = w.shard("b").ignores(h, y)
        found = ctx.grad(w.shard("a").loss(k), [x, h, w.shard("b"), y])
        return {"x": found[0], "h": found[1], "b": sorted(found[2]), "y": found[3]}


@program
def backward_for_some_variables_only(w: Any) -> dict[str, Any]:
    x, y, a, b = w.variable("x", X), w.variable("y", Y), w.shard("a"), w.shard("b")
    with w.context() as ctx:
        loss = b.loss(a.forward(x * y), a.forward(y))
        ctx.backward(loss, inputs=[y, b], retain_graph=True)
        some = w.gradients(ctx)
        ctx.backward(loss, inputs=x)
        return {"some": some, "gradients": w.gradients(ctx)}


@program
def gradients_are_passed_on_as_references(w: Any) -> dict[str, Any]:
    x, a, b = w.variable("x", X), w.shard("a"), w.shard("b")
    with w.context() as ctx:
        found = ctx.grad(a.loss(x, Y), a)
        updated = b.descend(a.weight(), found["w"], 0.1)
        return {"updated": updated.numpy(), "names": sorted(found)}


# ---- second order ----------------------------------------------------------------------------------------------------


@program
def a_gradient_penalty(w: Any) -> dict[str, Any]:
    x, a, b = w.variable("x", X), w.shard("a"), w.shard("b")
    with w.context() as ctx:
        loss = b.loss(a.forward(x), Y)
        g = ctx.grad(loss, x, create_graph=True)
        penalty = (g * g).sum()
        ctx.backward([loss, penalty], [1.0, 0.3])
        return {"g": g, "gradients": w.gradients(ctx)}


@program
def a_gradient_penalty_on_a_worker(w: Any) -> dict[str, Any]:
    x, a, b = w.variable("x", X), w.shard("a"), w.shard("b")
    with w.context() as ctx:
        h = a.forward(x)
        loss = b.loss(b.forward(h), Y)
        g, gw = ctx.grad(loss, [h, a], create_graph=True)
        penalty = a.add(a.dot(g, g), a.dot(gw["w"], gw["w"]), b.dot(gw["b"], h))
        ctx.backward(penalty, np.ones(3))
        return {"g": g.numpy(), "penalty": penalty.numpy(), "gradients": w.gradients(ctx)}


@program
def a_hessian_vector_product(w: Any) -> dict[str, Any]:
    x, a, b = w.variable("x", X), w.shard("a"), w.shard("b")
    with w.context() as ctx:
        loss = b.loss(b.forward(a.forward(x)), a.forward(x))
        gx, ga = ctx.grad(loss, [x, a], create_graph=True)
        hx, ha, hb = ctx.grad([(gx * Y).sum(), b.dot(ga["b"], X)], [x, a, b], retain_graph=True)
        return {
            "hx": hx,
            "ha": {name: ref.numpy() for name, ref in ha.items()},
            "hb": {name: ref.numpy() for name, ref in hb.items()},
        }


@program
def third_order(w: Any) -> dict[str, Any]:
    x, a, b = w.variable("x", X), w.shard("a"), w.shard("b")
    with w.context() as ctx:
        loss = b.total(b.forward(a.forward(x)))
        g = ctx.grad(loss, x, create_graph=True)
        h = ctx.grad(a.dot(g, Y), x, create_graph=True)
        ctx.backward((h * h * x).sum())
        return {"g": g, "h": h, "gradients": w.gradients(ctx)}


@program
def backward_that_is_recorded_accumulates_tensors(w: Any) -> dict[str, Any]:
    x, a, b = w.variable("x", X), w.shard("a"), w.shard("b")
    with w.context() as ctx:
        loss = b.loss(a.forward(x))
        ctx.backward(loss, create_graph=True)
        ctx.backward(b.loss(loss.get() * x), retain_graph=True)
        ctx.backward(dg.ops.sum(w.own_gradient(ctx, x) ** 2))
        return {"gradients": w.gradients(ctx)}


@program
def an_inner_step_is_differentiated(w: Any) -> dict[str, Any]:
    x, y, a, b = w.variable("x", X), w.variable("y", Y), w.shard("a"), w.shard("b")
    with w.context() as ctx:
        weight = a.weight()
        for _ in range(3):
            inner = b.total(b.times(weight, x))
            weight = a.descend(weight, ctx.grad(inner, weight, create_graph=True), 0.05)
        ctx.backward(b.loss(b.times(weight, y)))
        return {"weight": weight.numpy(), "gradients": w.gradients(ctx)}


@program
def second_order_with_dead_branches(w: Any) -> dict[str, Any]:
    x, y, a, b = w.variable("x", X), w.variable("y", Y), w.shard("a"), w.shard("b")
    with w.context() as ctx:
        h = a.forward(x)
        k = b.ignores(h, b.add(h, x))
        dead = a.forward(b.detached(k))
        with pytest.raises(RemoteError):
            b.fail(h).get()
        loss = a.loss(k, b.add(dead, y))
        g, gy = ctx.grad(loss, [x, y], create_graph=True)
        unused = ctx.grad(b.loss(h), x, create_graph=True)
        ctx.backward((g * y).sum() + (gy * gy).sum(), retain_graph=True)
        ctx.backward(b.total(unused))
        return {"g": g, "unused": unused, "gradients": w.gradients(ctx)}


@program
def many_consumers_of_second_order(w: Any) -> dict[str, Any]:
    x, a, b, r = w.variable("x", X), w.shard("a"), w.shard("b"), w.shard("r")
    with w.context() as ctx:
        h = r.through(x, a, b)
        parts = [a.forward(h), b.forward(h), a.add(h, x, h), b.add(x, x, h)]
        loss = b.loss(a.add(*parts), h)
        g, gh = ctx.grad(loss, [x, h], create_graph=True)
        second = [a.dot(gh, part) for part in parts] + [b.dot(g, h), a.dot(g, g), b.dot(gh, gh)]
        ctx.backward([*second, (g * x * g).sum()])
        return {"g": g, "gradients": w.gradients(ctx)}


@program
def checkpoints_are_differentiated_twice(w: Any) -> dict[str, Any]:
    x, a, b, r = w.variable("x", X), w.shard("a"), w.shard("b"), w.shard("r")
    block = w.checkpoint(lambda x: r.through(x * x, a, b).get() * x)
    with w.context() as ctx:
        loss = b.loss(block(a.forward(x).get()), Y)
        g, ga = ctx.grad(loss, [x, a], create_graph=True)
        ctx.backward([(g * g).sum(), a.dot(ga["w"], ga["w"])])
        return {"g": g, "gradients": w.gradients(ctx)}


@program
def a_shard_differentiates_its_own_computation(w: Any) -> dict[str, Any]:
    x, a, b = w.variable("x", X), w.shard("a"), w.shard("b")
    with w.context() as ctx:
        ctx.backward(b.loss(a.own_gradient(b.forward(x))))
        return {"gradients": w.gradients(ctx)}


@program
def two_calls_in_one_method_are_differentiated_twice(w: Any) -> dict[str, Any]:
    x, a, r = w.variable("x", X), w.shard("a"), w.shard("r")
    with w.context() as ctx:
        h = r.through_waiting(x, a, a)
        g = ctx.grad(h, x, Y, create_graph=True)
        ctx.backward(a.loss(g, h))
        return {"g": g, "gradients": w.gradients(ctx)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_means_the_same_everywhere(name: str) -> None:
    agree(SHARDS, PROGRAMS[name], range(3))


# ---- the rest --------------------------------------------------------------------------------------------------------


@pytest.fixture
def world() -> Any:
    with cluster_world(SHARDS, SPREAD, seed=5) as world:
        yield world


def test_wrong_inputs_are_refused_with_their_position(world: ClusterWorld) -> None:
    x = world.variable("x", X)
    with world.context() as ctx, world.context() as other:
        with other:
            foreign = world.shard("a").forward(x)
        with ctx:
            loss = world.shard("a").loss(x)
            tree = world.shard("a").tree(x)
            for wrong, message in [
                (3.0, "input 1 must be a tensor, a Ref or a shard's handle, not float"),
                (dg.tensor(X), "input 1 does not require grad"),
                (foreign, "input 1, .*belongs to context"),
                (tree, "input 1 must be one tensor, but its value on w0 has"),
                (world.shard("a").detached(x), "input 1 does not require grad"),
            ]:
                with pytest.raises((GradientError, dg.DistgradError), match=message):
                    ctx.grad(loss, [x, wrong], retain_graph=True)
            assert ctx.grad(loss, x).shape == (3,)


def test_an_embedding_table_gets_a_dense_gradient_from_grad() -> None:
    with cluster_world({"t": Table, "a": partial(Dense, 1)}, SPREAD) as world, world.context() as ctx:
        loss = world.shard("a").total(world.shard("t").rows(np.array([3, 1, 3])))
        assert ctx.grad(loss, world.shard("t"))["table"].numpy().shape == (10, 3)


def test_gradients_that_were_found_are_released_with_their_context(world: ClusterWorld) -> None:
    x = world.variable("x", X)
    with world.context() as ctx:
        loss = world.shard("b").loss(world.shard("a").forward(x))
        found = [ctx.grad(loss, [x, world.shard("a")], create_graph=True) for _ in range(5)]
        assert found[0][1]["w"].numpy().shape == (3, 3)
    assert_empty(world.cluster)


def test_gradients_that_are_fetched_leave_nothing_behind(world: ClusterWorld) -> None:
    a, x = world.shard("a"), world.variable("x", X)
    with world.context() as ctx:
        for _ in range(3):
            h = a.forward(x)
            ctx.grad(a.loss(h), h).get()
    assert not world.home.caller._taken


def test_a_grad_that_times_out_is_aborted(world: ClusterWorld) -> None:
    gate = Gate()
    world.cluster.place("gate", gate, "w1")
    x = world.variable("x", X)
    with world.context() as ctx:
        loss = world.shard("a").loss(world.shard("gate").slow_backward(x))
        with pytest.raises(dg.DistgradError, match=r"did not end within 0\.05 s"):
            ctx.grad(loss, x, timeout=0.05)
        gate.open.set()
        assert ctx.grad(world.shard("a").loss(x), x).shape == (3,)


def test_grad_can_be_awaited(world: ClusterWorld) -> None:
    import asyncio

    async def main() -> Any:
        x = world.variable("x", X)
        async with world.context() as ctx:
            loss = world.shard("b").loss(world.shard("a").forward(x))
            gx, ga = await ctx.grad_async(loss, [x, world.shard("a")], create_graph=True)
            return gx, await ga["w"], await ctx.grad_async((gx * gx).sum(), x)

    gx, gw, hx = asyncio.run(main())
    with world.context() as ctx:
        x = world.variable("x", X)
        loss = world.shard("b").loss(world.shard("a").forward(x))
        g, found = ctx.grad(loss, [x, world.shard("a")], create_graph=True)
        np.testing.assert_array_equal(g.numpy(), gx.numpy())
        np.testing.assert_array_equal(found["w"].numpy(), gw.numpy())
        np.testing.assert_array_equal(ctx.grad((g * g).sum(), x).numpy(), hx.numpy())
