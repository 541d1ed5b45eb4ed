"""Contexts used from several threads and from asyncio: branches, and who may enter and leave."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import ContextError, RemoteError, Timeout
from distgrad.graph.context import Context
from distgrad.graph.process import Process

from .shards import Dense, Gate, Router
from .worlds import SPREAD, TOGETHER, ClusterWorld, agree, assert_empty, cluster_world, same

X = np.array([0.3, -1.2, 0.7])
Y = np.array([1.1, 0.4, -0.5])
TWO = {"a": partial(Dense, 1), "b": partial(Dense, 2), "r": Router}


@pytest.fixture
def world() -> Any:
    with cluster_world(TWO, SPREAD, seed=3) as world:
        yield world


def in_threads(*functions: Callable[[], Any]) -> list[Any]:
    """What the functions return, run at once; raises what the first of them raised."""
    results: list[Any] = [None] * len(functions)

    def run(k: int) -> None:
        try:
            results[k] = functions[k]()
        except BaseException as error:
            results[k] = error

    threads = [threading.Thread(target=run, args=(k,)) for k in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


# ---- threads ---------------------------------------------------------------------------------------------------------


def test_branches_give_the_same_bits_whichever_thread_is_faster() -> None:
    def program(w: Any) -> dict[str, Any]:
        x = w.variable("x", X)
        with w.context() as ctx:
            h = w.shard("a").forward(x)

            def work(k: int) -> Any:
                with ctx.branch(k):
                    parts = [w.shard("b").add(h, h, np.full(3, 0.1 * k + j)) for j in range(3)]
                    loss = w.shard("a").loss(w.shard("a").add(parts[0], parts[1], parts[2], x))
                    ctx.backward(loss, retain_graph=True)
                    return loss

            if w.local:
                losses = [work(k) for k in range(4)]
            else:
                order = (3, 1, 0, 2)
                found = dict(zip(order, in_threads(*(partial(work, k) for k in order)), strict=True))
                losses = [found[k] for k in range(4)]
            ctx.backward(losses)
            return {"losses": [loss.item() for loss in losses], "gradients": w.gradients(ctx)}

    agree(TWO, program, seeds=range(4))


@pytest.mark.parametrize("index", [-1, 2**31 - 1])
def test_a_branch_whose_path_could_not_travel_is_refused(world: ClusterWorld, index: int) -> None:
    with (
        world.context() as ctx,
        pytest.raises(ContextError, match="from 0 to 2147483646, not"),
        ctx.branch(index),
    ):
        pass


def test_a_branch_that_is_entered_again_goes_on_counting(world: ClusterWorld) -> None:
    with world.context() as ctx:
        paths = []
        for _ in range(2):
            with ctx.branch(1):
                paths.append(world.shard("a").forward(X).path)
        assert paths == [(-2, 0), (-2, 1)]


def test_a_branch_that_is_left_last_ends_the_context(world: ClusterWorld) -> None:
    inside, outlives = threading.Event(), threading.Event()

    def branch(ctx: Any) -> None:
        with ctx.branch(0):
            world.shard("a").forward(X)
            inside.set()
            assert outlives.wait(10)

    ctx = world.context()
    with ctx:
        thread = threading.Thread(target=branch, args=(ctx,))
        thread.start()
        assert inside.wait(10)
    assert not ctx.closed
    outlives.set()
    thread.join()
    assert ctx.closed
    assert_empty(world.cluster)


def test_calls_side_by_side_in_one_frame_are_refused(world: ClusterWorld) -> None:
    with world.context() as ctx:
        world.shard("a").forward(X)

        def beside() -> None:
            with ctx:
                world.shard("a").forward(X)

        with pytest.raises(ContextError, match=r"side by side.*ctx\.branch"):
            in_threads(beside)
        with pytest.raises(ContextError, match=r"side by side"):
            in_threads(lambda: ctx.backward(world.shard("a").loss(X)))


def test_a_context_is_entered_again_in_another_thread(world: ClusterWorld) -> None:
    x = world.variable("x", X)
    ctx = world.context()

    def inside() -> Any:
        with ctx:
            loss = world.shard("a").loss(x)
            ctx.backward(loss)
            return loss.item()

    ctx.__enter__()
    (value,) = in_threads(inside)
    assert not ctx.closed
    assert ctx.gradient(x) is not None
    assert value > 0
    world.shard("a").forward(x)
    ctx.__exit__(None, None, None)
    assert ctx.closed


def test_a_context_is_left_for_a_task_that_has_ended_inside(world: ClusterWorld) -> None:
    """As an asynchronous fixture does: what is before its `yield` and what is after run in tasks of their own."""

    async def enter(ctx: Any) -> None:
        await ctx.__aenter__()
        world.shard("a").forward(X)

    async def leave(ctx: Any) -> None:
        await ctx.__aexit__(None, None, None)

    async def main() -> Any:
        ctx = world.context()
        await asyncio.create_task(enter(ctx))
        await asyncio.create_task(leave(ctx))
        return ctx

    assert asyncio.run(main()).closed
    assert_empty(world.cluster)


def test_a_context_is_not_left_by_somebody_else(world: ClusterWorld) -> None:
    with world.context() as ctx:

        def leave() -> None:
            with pytest.raises(ContextError, match=r"leaves context .*, inside of which is MainThread: whoever enters"):
                ctx.__exit__(None, None, None)

        in_threads(leave)
        world.shard("a").forward(X).wait()
    with pytest.raises(ContextError, match="inside of which is nobody"):
        ctx.__exit__(None, None, None)


def test_contexts_in_threads_do_not_see_each_other(world: ClusterWorld) -> None:
    x = world.variable("x", X)

    def one(k: int) -> Any:
        with world.context() as ctx:
            loss = world.shard("b").loss(world.shard("a").forward(x), float(k))
            ctx.backward(loss)
            return world.gradients(ctx)

    alone = [one(k) for k in range(6)]
    beside = in_threads(*(partial(one, k) for k in range(6)))
    for first, second in zip(alone, beside, strict=True):
        assert first.keys() == second.keys()
        for name in first:
            np.testing.assert_array_equal(first[name], second[name])


def test_several_drivers_at_once_do_not_see_each_other(world: ClusterWorld) -> None:
    """The same shards, the same paths, other numbers: a client, and two workers that run programs of their own."""

    def drive(process: Process, scale: float) -> list[Any]:
        x = dg.tensor(X * scale, requires_grad=True)
        a, b, r = map(process.handle, "abr")
        found = []
        for _ in range(3):
            with Context(process) as ctx:
                h = r.through(a.forward(x), a, b)
                b.ignores(h, x)
                ctx.backward(b.loss(h, scale))
                found.append({"x": ctx.gradient(x), **ctx.gradients(a), **ctx.gradients(r)})
        return found

    drivers = [world.cluster.driver, world.cluster.workers["w0"], world.cluster.workers["w1"]]
    alone = [drive(process, 1.0 + k) for k, process in enumerate(drivers)]
    beside = in_threads(*(partial(drive, process, 1.0 + k) for k, process in enumerate(drivers)))
    same(beside, alone, "side by side", exact=True)
    assert not np.array_equal(alone[0][0]["x"], alone[1][0]["x"])


# ---- asyncio ---------------------------------------------------------------------------------------------------------


def test_everything_that_waits_can_be_awaited(world: ClusterWorld) -> None:
    async def main() -> dict[str, Any]:
        x = world.variable("x", X)
        async with world.context() as ctx:
            h = world.shard("a").forward(x)
            loss = world.shard("b").loss(h, await h)
            await ctx.backward_async(loss)
            await loss.wait_async()
            with pytest.raises(RemoteError, match="no luck"):
                await world.shard("a").fail(h)
            return {
                "loss": await loss.get_async(),
                "x": await ctx.gradient_async(x),
                "a": await ctx.gradients_async("a"),
                "b": await ctx.gradients_async("b"),
            }

    found = asyncio.run(main())
    with world.context() as ctx:
        x = world.variable("x", X)
        h = world.shard("a").forward(x)
        loss = world.shard("b").loss(h, h.get())
        ctx.backward(loss)
        assert loss.item() == found["loss"].item()
        np.testing.assert_array_equal(ctx.gradient(x), found["x"])
        assert found["a"].keys() == found["b"].keys() - {"b"} | {"b"} == {"w", "b"}


def test_tasks_side_by_side_enter_branches(world: ClusterWorld) -> None:
    async def step(ctx: Any, k: int) -> float:
        with ctx.branch(k):
            h = await world.shard("a").forward(X * k)
            loss = world.shard("b").loss(h)
            await ctx.backward_async(loss)
            return (await loss).item()

    async def beside(ctx: Any) -> None:
        await world.shard("a").forward(X)
        await world.shard("a").forward(X)

    async def main() -> list[float]:
        async with world.context() as ctx:
            losses = await asyncio.gather(*(step(ctx, k) for k in range(5)))
            with pytest.raises(ContextError, match="side by side"):
                await asyncio.gather(beside(ctx), beside(ctx))
            return losses

    losses = asyncio.run(main())
    with world.context():
        for k, loss in enumerate(losses):
            assert world.shard("b").loss(world.shard("a").forward(X * k)).item() == loss


def test_an_await_can_time_out_or_be_cancelled(world: ClusterWorld) -> None:
    gate = Gate()
    world.cluster.place("gate", gate, "w0")

    async def main() -> None:
        x = world.variable("x", X)
        async with world.context() as ctx:
            ref = world.shard("gate").wait(x)
            with pytest.raises(Timeout):
                await ref.get_async(timeout=0.01)
            with pytest.raises(asyncio.TimeoutError):
                async with asyncio.timeout(0.01):
                    await ref
            gate.open.set()
            await ref
            gate.open.clear()
            loss = world.shard("a").loss(world.shard("gate").slow_backward(x))
            with pytest.raises(Timeout):
                await ctx.backward_async(loss, timeout=0.05)
            gate.open.set()
            retried = world.shard("a").loss(world.shard("gate").slow_backward(x))
            await ctx.backward_async(retried)
            assert (await ctx.gradient_async(x)).shape == (3,)

    asyncio.run(main())


class Impatient:
    """A shard whose method waits for something in vain."""

    def give_up(self) -> None:
        raise Timeout("the solver took too long")


@pytest.mark.parametrize("timeout", [None, 10.0])
def test_an_await_raises_the_timeout_of_a_call_as_it_is(timeout: float | None) -> None:
    with (
        cluster_world({"s": Impatient}, TOGETHER) as world,
        pytest.raises(Timeout, match="the solver took too long"),
        world.context(),
    ):
        asyncio.run(world.shard("s").give_up().get_async(timeout))


def test_a_pass_given_up_by_a_cancelled_task_is_aborted(world: ClusterWorld) -> None:
    gate = Gate()
    world.cluster.place("gate", gate, "w0")

    async def main() -> None:
        async with world.context() as ctx:
            loss = world.shard("a").loss(world.shard("gate").slow_backward(world.variable("x", X)))
            await loss.wait_async()
            with pytest.raises(asyncio.TimeoutError):
                async with asyncio.timeout(0.05):
                    await ctx.backward_async(loss)
            gate.open.set()
            assert world.gradients(ctx) == {}

    asyncio.run(main())


def test_passes_overlap_in_one_context(world: ClusterWorld) -> None:
    x = world.variable("x", X)

    def gradients(run: Callable[[Any, list[Any]], None]) -> Any:
        with world.context() as ctx:
            h = world.shard("a").forward(x)
            run(ctx, [world.shard("b").loss(h, float(k)) for k in range(4)])
            return world.gradients(ctx)

    def backward(ctx: Any, k: int, loss: Any) -> None:
        with ctx.branch(k):
            ctx.backward(loss, retain_graph=True)

    def at_once(ctx: Any, losses: list[Any]) -> None:
        in_threads(*(partial(backward, ctx, k, loss) for k, loss in enumerate(losses)))

    def in_turn(ctx: Any, losses: list[Any]) -> None:
        for k, loss in enumerate(losses):
            backward(ctx, k, loss)

    first, second = gradients(in_turn), gradients(at_once)
    assert first.keys() == second.keys() == {"a.w", "a.b", "b.w", "x"}
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
