"""Running calls: coroutines, the order of calls, and calls that cannot be told apart."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import ContextError, RemoteError
from distgrad.graph.waiting import Promise
from distgrad.wire import pb

from .shards import Dense, Gate, Router
from .worlds import SPREAD, TOGETHER, ClusterWorld, LocalWorld, Placement, cluster_world, same

X = np.array([0.3, -1.2, 0.7])
Y = np.array([1.1, 0.4, -0.5])
SHARDS = {"a": partial(Dense, 1), "r": Router}


@pytest.fixture(params=[SPREAD, TOGETHER], ids=lambda placement: placement.name)
def world(request: pytest.FixtureRequest) -> Any:
    placement: Placement = request.param
    with cluster_world(SHARDS, placement) as world:
        yield world


# ---- coroutines ------------------------------------------------------------------------------------------------------


def test_a_method_can_be_a_coroutine(world: ClusterWorld) -> None:
    local = LocalWorld(SHARDS)
    y = local.variable("x", X)
    with local.context() as expected:
        a, v = local.shard("a"), local.shards["r"].v
        expected.backward(a.forward(y).get() * a.forward(y * v).get() * v, Y)
    x = world.variable("x", X)
    with world.context() as ctx:
        ctx.backward(world.shard("r").awaits(x, world.shard("a")), Y)
        same(world.gradients(ctx), local.gradients(expected), "gradients", exact=False)


def test_others_compute_while_a_coroutine_awaits() -> None:
    """All on one worker with one compute slot: were it held, the second call would never run."""
    order: list[str] = []

    class Meeting:
        def __init__(self) -> None:
            self.other = threading.Event()

        async def waits(self, x: Any) -> Any:
            import asyncio

            order.append("waits")
            await asyncio.to_thread(self.other.wait, 10)
            order.append("goes on")
            return x

        def comes(self, x: Any) -> Any:
            order.append("comes")
            self.other.set()
            return x

    with cluster_world({"m": Meeting, "n": Meeting}, TOGETHER) as world, world.context():
        world.cluster.places["n"] = ("w0", world.cluster.places["m"][1])
        first = world.shard("m").waits(X)
        second = world.shard("n").comes(X)
        first.wait(timeout=10)
        second.wait(timeout=10)
    assert order == ["waits", "comes", "goes on"]


def test_a_coroutine_that_raises_is_an_error_like_any_other(world: ClusterWorld) -> None:
    with world.context(), pytest.raises(RemoteError, match=r"a\.fail on w0 raised ValueError"):
        world.shard("r").awaits_failing(X, world.shard("a")).get()
    with world.context():
        assert world.shard("r").awaits_events(X).get().shape == (3,)


# ---- order -----------------------------------------------------------------------------------------------------------


def test_calls_of_one_caller_to_one_shard_start_in_the_order_of_issue() -> None:
    class Log:
        def __init__(self) -> None:
            self.seen: list[int] = []

        def note(self, k: int, x: Any) -> Any:
            self.seen.append(k)
            return x

        def all(self) -> Any:
            return list(self.seen)

    gate = Gate()
    shards = {"gate": lambda: gate, "log": Log}
    with cluster_world(shards, SPREAD, seed=4) as world, world.context():
        slow = world.shard("gate").wait(X)
        log = world.shard("log")
        log.note(0, slow)
        for k in range(1, 20):
            log.note(k, X)
        gate.open.set()
        assert log.all().get() == list(range(20))


def test_two_calls_of_one_path_are_refused(world: ClusterWorld) -> None:
    with world.context() as ctx:
        first = world.shard("a").forward(X)
        first.wait()
        worker = world.cluster.workers["w0"]
        again = pb.Call(context=ctx.share.identity, path=first.path, shard="a", method="forward", depth=1)
        link = worker.endpoint.link("driver")
        assert link is not None
        with pytest.raises(ContextError, match=r"two calls have the path 0.*ctx\.branch"):
            ctx.share.call(first.path, "driver", "a.forward")
            ctx.share.call(first.path, "driver", "a.forward")
        worker.callee.receive(link, again, [])
        assert first.get().shape == (3,)


class Early(Promise[Any]):
    """A value that is there before the first of those who wait for it is told, as when the thread that brings it is
    held up in between. `told` is set when somebody waits."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self._coming = value
        self.told: Promise[Any] = Promise()

    def add_callback(self, callback: Any) -> None:
        if self.done:
            super().add_callback(callback)
            return
        self.set_result(self._coming)
        self.told.set_result(callback)


def test_a_call_runs_with_its_arguments_also_when_it_was_ready_before_others_were_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with cluster_world(SHARDS, SPREAD) as world, world.context():
        worker = world.cluster.workers[world.cluster.places["a"][0]]
        value = Early(dg.tensor(X))
        expected = world.shard("a").forward(X).numpy()
        monkeypatch.setattr(worker, "fetch", lambda *_: value)
        called = world.shard("a").forward(world.shard("r").use(X))
        value.told.result(10)(value)
        np.testing.assert_array_equal(called.numpy(), expected)
