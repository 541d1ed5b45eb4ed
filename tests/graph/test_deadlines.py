"""`dg.deadline`: nothing in the block waits for longer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import ConfigError, Timeout
from tests.processes import eventually

from .shards import Dense, Gate
from .worlds import SPREAD, ClusterWorld, cluster_world

X = np.array([0.3, -1.2, 0.7])
SHORT = 0.05


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


@pytest.fixture
def world(gate: Gate) -> Iterator[ClusterWorld]:
    with cluster_world({"a": partial(Dense, 1), "gate": lambda: gate}, SPREAD) as world:
        yield world
        gate.open.set()


WAITS: dict[str, Callable[[Any, Any], Any]] = {
    "get": lambda ref, ctx: ref.get(),
    "get with a longer timeout": lambda ref, ctx: ref.get(timeout=60),
    "numpy": lambda ref, ctx: ref.numpy(),
    "wait": lambda ref, ctx: ref.wait(),
    "backward": lambda ref, ctx: ctx.backward(ref, X),
    "grad": lambda ref, ctx: ctx.grad(ref, ref, X),
    "the context's calls": lambda ref, ctx: ctx.wait(),
}


@pytest.mark.parametrize("wait", WAITS)
def test_whatever_waits_in_the_block_gives_up(world: ClusterWorld, gate: Gate, wait: str) -> None:
    x = world.variable("x", X)
    with world.context() as ctx:
        ref = world.shard("gate").wait(x)
        with pytest.raises(Timeout, match=rf"before the deadline of {SHORT} s had passed"), dg.deadline(SHORT):
            WAITS[wait](ref, ctx)
        gate.open.set()
        np.testing.assert_array_equal(ref.numpy(), X)


AWAITS: dict[str, Callable[[Any, Any], Any]] = {
    "the value": lambda ref, ctx: ref.get_async(),
    "the call": lambda ref, ctx: ref.wait_async(),
    "backward": lambda ref, ctx: ctx.backward_async(ref, X),
    "grad": lambda ref, ctx: ctx.grad_async(ref, ref, X),
    "the context's calls": lambda ref, ctx: ctx.wait_async(),
}


@pytest.mark.parametrize("awaited", AWAITS)
def test_whatever_a_coroutine_awaits_in_the_block_gives_up(world: ClusterWorld, gate: Gate, awaited: str) -> None:
    x = world.variable("x", X)

    async def program() -> None:
        async with world.context() as ctx:
            ref = world.shard("gate").wait(x)
            with pytest.raises(Timeout, match=rf"before the deadline of {SHORT} s had passed"), dg.deadline(SHORT):
                await AWAITS[awaited](ref, ctx)
            gate.open.set()
            np.testing.assert_array_equal((await ref).numpy(), X)

    asyncio.run(program())


def test_a_pass_that_is_given_up_is_aborted_everywhere(world: ClusterWorld, gate: Gate) -> None:
    x = world.variable("x", X)
    with world.context() as ctx:
        loss = world.shard("a").loss(world.shard("gate").slow_backward(x))
        loss.wait()
        with pytest.raises(Timeout), dg.deadline(SHORT):
            ctx.backward(loss)
        gate.open.set()
        ctx.backward(world.shard("a").loss(x))
        assert ctx.gradient(x) is not None
        assert eventually(lambda: all(counts["passes"] == 0 for counts in world.cluster.counts().values()))


def test_a_context_that_ends_in_the_block_is_released(world: ClusterWorld, gate: Gate) -> None:
    with pytest.raises(Timeout), dg.deadline(SHORT), world.context() as ctx:
        world.shard("gate").wait(X)
    assert ctx.closed


def test_of_deadlines_within_one_another_the_first_counts(world: ClusterWorld, gate: Gate) -> None:
    with world.context():
        ref = world.shard("gate").wait(X)
        with dg.deadline(60):
            with pytest.raises(Timeout, match=r"deadline of 0\.05 s"), dg.deadline(SHORT):
                ref.get()
            with pytest.raises(Timeout, match=r"within 0\.01 s"):
                ref.get(timeout=0.01)
        with pytest.raises(Timeout, match=r"deadline of 0\.05 s"), dg.deadline(SHORT), dg.deadline(60):
            ref.get()
        gate.open.set()
        with dg.deadline(60):
            np.testing.assert_array_equal(ref.numpy(), X)


def test_a_deadline_ends_with_its_block_and_what_has_come_is_had_after_it(world: ClusterWorld, gate: Gate) -> None:
    gate.open.set()
    with world.context():
        ref = world.shard("a").forward(X)
        ref.get()
        with dg.deadline(0):
            ref.get()
            with pytest.raises(Timeout):
                world.shard("a").forward(X).get()
        assert world.shard("a").forward(X).numpy().shape == (3,)


@pytest.mark.parametrize("timeout", [float("nan"), "5", [1]], ids=str)
def test_a_timeout_that_is_no_number_is_refused_and_costs_no_later_pass(world: ClusterWorld, timeout: Any) -> None:
    x = world.variable("x", X)
    with world.context() as ctx:
        ref = world.shard("a").loss(x)
        waits: list[Callable[[], Any]] = [
            partial(ref.get, timeout=timeout),
            partial(asyncio.run, ref.get_async(timeout=timeout)),
            partial(ctx.backward, ref, timeout=timeout),
            partial(asyncio.run, ctx.backward_async(ref, timeout=timeout)),
            partial(ctx.grad, ref, x, timeout=timeout),
            partial(ctx.graph, timeout=timeout),
            partial(dg.deadline(timeout).__enter__),
        ]
        for wait in waits:
            with pytest.raises(ConfigError, match="a timeout is a number of seconds"):
                wait()
        ctx.backward(ref)
        assert sorted(ctx.gradients("a")) == ["w"]
