"""Workers killed, stopped and started again, over and over, while several threads drive passes through them: every pass
gives the one right answer or an error that names the worker, and nothing is left."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import DistgradError, RemoteError

from .aftermath import assert_survivors_serve
from .gates import DEADLINE
from .moments import SEED, X
from .world import World, world

DRIVERS = 3
BLOWS = 6
# Passes that go well between two blows.
BETWEEN = 10


def chain(context: Any, x: Any, a: Any, b: Any, c: Any) -> float:
    context.backward(c.forward(b.forward(a.forward(x))), SEED)
    return 8.0


def fan_out(context: Any, x: Any, a: Any, b: Any, c: Any) -> float:
    h = b.forward(x)
    context.backward([a.forward(h), c.forward(h), h.get() * 3.0], [SEED, SEED, SEED])
    return 14.0


def nested(context: Any, x: Any, a: Any, b: Any, c: Any) -> float:
    context.backward(a.chain(x, b, "chain", c, "forward"), SEED)
    return 8.0


def dead_branches(context: Any, x: Any, a: Any, b: Any, c: Any) -> float:
    h = a.forward(x)
    c.forward(b.forward(h))  # never used
    try:
        b.fail(h).get()
    except RemoteError as error:
        if error.original != "ValueError":
            raise
    context.backward(c.forward(h), SEED)
    return 4.0


PASSES: list[Callable[..., float]] = [chain, fan_out, nested, dead_branches]


class Driver:
    """A thread that drives passes, one after another, until it is told to stop."""

    def __init__(self, found: World, number: int, shards: dict[str, Any], well: threading.Semaphore) -> None:
        self.faults: list[BaseException] = []
        self.stopped = threading.Event()
        self._found = found
        self._shards = shards
        self._rng = random.Random(number)
        self._well = well
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self.stopped.is_set():
            try:
                self._drive(self._rng.choice(PASSES))
            except BaseException as fault:
                self.faults.append(fault)
                return

    def _drive(self, kind: Callable[..., float]) -> None:
        x = dg.tensor(X, requires_grad=True)
        try:
            with self._found.driver.context() as context:
                expected = kind(context, x, **self._shards)
                np.testing.assert_array_equal(context.gradient(x), np.full_like(X, expected))
        except DistgradError as error:
            assert "w1" in str(error), f"an error that does not name w1: {error!r}"  # noqa: PT017
        else:
            self._well.release()

    def stop(self) -> None:
        self.stopped.set()
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive(), "a driver is stuck"


@pytest.mark.slow
def test_passes_are_right_or_name_the_worker_whatever_befalls_it() -> None:
    rng = random.Random(0)
    well = threading.Semaphore(0)
    with world("w0", "w1", "w2") as found:
        shards = {"a": found.place("a", "w0"), "b": found.place("b", "w1"), "c": found.place("c", "w2")}
        drivers = [Driver(found, number, shards, well) for number in range(DRIVERS)]

        def wait_for_passes() -> None:
            for _ in range(BETWEEN):
                assert well.acquire(timeout=DEADLINE), [driver.faults for driver in drivers]

        for blow in range(BLOWS):
            wait_for_passes()
            victim = found.workers["w1"]
            victim.signal(rng.choice([signal.SIGKILL, signal.SIGSTOP]))
            found.loss(victim)
            found.start("w1")
            shards["b"] = found.place(f"b{blow}", "w1")
        wait_for_passes()
        for driver in drivers:
            driver.stop()
            assert driver.faults == []
        found.assert_nothing_is_held()
        assert_survivors_serve(found, "a", shards["b"].shard_name, "c")
