"""What a process does first in a pass, and what it lets others do before."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest

from distgrad.errors import Cancelled
from distgrad.graph.initiator import Run
from distgrad.graph.timesheet import Timesheet

from .shards import parameter
from .worlds import SPREAD, cluster_world

X = np.array([0.3, -1.2, 0.7])


class Logged:
    """Notes in which order its calls run and its gradients come, and can hold a pass up at its beginning."""

    def __init__(self) -> None:
        self.v = parameter(7, 3)
        self.log: list[str] = []
        self.entered = threading.Event()
        self.open = threading.Event()
        self.v.register_hook(lambda gradient: self.log.append("gradient of its own"))

    def forward(self, x: Any) -> Any:
        x.register_hook(lambda gradient: self.log.append("gradient for another"))
        y = x * self.v
        y.register_hook(lambda gradient: self._hold())
        return y

    def call(self, x: Any) -> Any:
        self.log.append("call")
        return x

    def _hold(self) -> None:
        self.entered.set()
        assert self.open.wait(10)


def until(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds, which must be soon."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def beside(ctx: Any, work: Callable[[], None]) -> threading.Thread:
    """Runs something in a thread and a branch of its own."""

    def run() -> None:
        with ctx.branch(0):
            work()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_gradients_for_others_go_before_calls_and_those_before_gradients_of_its_own() -> None:
    shard = Logged()
    with cluster_world({"s": lambda: shard}, SPREAD) as world:
        x = world.variable("x", X)
        with world.context() as ctx:
            loss = world.shard("s").forward(x)
            loss.wait()
            backward = beside(ctx, lambda: ctx.backward(loss, np.ones(3)))
            assert shard.entered.wait(10)
            executor = world.cluster.workers["w0"].executor
            calls = [world.shard("s").call(X) for _ in range(3)]
            until(lambda: sum(executor.statistics().queued.values()) == 3)
            shard.open.set()
            backward.join()
            for call in calls:
                call.wait()
            assert world.gradients(ctx).keys() == {"x", "s.v"}
    assert shard.log == ["gradient for another", "call", "call", "call", "gradient of its own"]


def test_a_gradient_that_comes_meanwhile_goes_first_again() -> None:
    """The pass has stepped aside with gradients of its own left, when another process sends it more."""
    shard, other = Logged(), Logged()
    other.open.set()
    with cluster_world({"s": lambda: shard, "t": lambda: other}, SPREAD) as world:
        x = world.variable("x", X)
        with world.context() as ctx:
            h = world.shard("s").forward(x)
            loss = world.shard("t").forward(h)
            both = world.shard("s").call(loss)
            both.wait()
            backward = beside(ctx, lambda: ctx.backward([loss, both, h], [np.ones(3), X, X]))
            assert shard.entered.wait(10)
            calls = [world.shard("s").call(X) for _ in range(5)]
            shard.open.set()
            backward.join()
            for call in calls:
                call.wait()
            assert world.gradients(ctx).keys() == {"x", "s.v", "t.v"}
    assert shard.log.count("call") == 6


# ---- the initiator's own part ----------------------------------------------------------------------------------------


def hooked(world: Any, hook: Callable[[Any], Any]) -> Any:
    """A root whose gradient meets the hook in the driver, and goes on to a worker from there."""
    y = world.shard("s").call(world.variable("x", X)).get()
    root = (y * y).sum()
    root.register_hook(hook)
    return root


@pytest.mark.parametrize("timeout", [None, 30.0])
def test_the_thread_that_waits_for_a_pass_begins_it_itself_unless_it_may_have_to_stop_waiting(
    timeout: float | None,
) -> None:
    threads: list[threading.Thread] = []
    with cluster_world({"s": Logged}, SPREAD) as world, world.context() as ctx:
        root = hooked(world, lambda gradient: threads.append(threading.current_thread()))
        ctx.backward(root, timeout=timeout)
        assert (threads == [threading.current_thread()]) is (timeout is None)
        np.testing.assert_array_equal(world.gradients(ctx)["x"], 2 * X)


def test_an_interrupt_in_its_beginning_is_raised_and_ends_the_pass_everywhere() -> None:
    def interrupt(gradient: Any) -> None:
        raise KeyboardInterrupt

    with cluster_world({"s": Logged}, SPREAD) as world, world.context() as ctx:
        root = hooked(world, interrupt)
        with pytest.raises(KeyboardInterrupt):
            ctx.backward(root)
        assert world.gradients(ctx) == {}
        y = world.shard("s").call(world.variable("y", X)).get()
        ctx.backward(y.sum())
        np.testing.assert_array_equal(world.gradients(ctx)["y"], np.ones(3))


@contextmanager
def interrupted_at(owner: type, method: str) -> Iterator[None]:
    """The user interrupts this thread whenever it comes to that method within the block."""
    usual, me = getattr(owner, method), threading.current_thread()

    def interrupt(*args: Any) -> Any:
        if threading.current_thread() is me:
            raise KeyboardInterrupt
        return usual(*args)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(owner, method, interrupt)
        yield


def test_an_interrupt_while_gradients_are_kept_is_told_whenever_they_are_asked_for() -> None:
    with cluster_world({"s": Logged}, SPREAD) as world, world.context() as ctx:
        y = world.shard("s").call(world.variable("x", X)).get()
        with pytest.raises(KeyboardInterrupt), interrupted_at(Run, "finish"):
            ctx.backward(y.sum(), retain_graph=True)
        for _ in range(2):
            with pytest.raises(Cancelled, match=r"not every process was told to keep its gradients of .*Interrupt"):
                world.gradients(ctx)


def test_an_interrupt_as_the_beginning_ends_leaves_the_compute_slot_free() -> None:
    with cluster_world({"s": Logged}, SPREAD) as world, world.context() as ctx, ExitStack() as interrupted:
        y = world.shard("s").call(world.variable("y", X)).get()
        root = hooked(world, lambda gradient: interrupted.enter_context(interrupted_at(Timesheet, "pause")))
        with pytest.raises(KeyboardInterrupt):
            ctx.backward(root)
        interrupted.close()
        ctx.backward(y.sum(), timeout=10)
        np.testing.assert_array_equal(world.gradients(ctx)["y"], np.ones(3))
