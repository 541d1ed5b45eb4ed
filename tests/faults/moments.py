"""Things a driver does with three workers, stopped in the middle: there faults strike.

Shard `a` is on w0, `b` on w1, which stops, and `c` on w2.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

import distgrad as dg

from .gates import DEADLINE, Visitor
from .world import SIZE, World

X = np.arange(2.0 * SIZE).reshape(2, SIZE)
SEED = np.ones((2, SIZE))


def _forward(world: World, holding: bool) -> None:
    a, b, c = map(world.driver.shard, "abc")
    with world.driver.context():
        c.forward(b.stop_forward(a.forward(X), holding)).get()


def _nested(world: World, holding: bool) -> None:
    """The driver waits for w0, which waits for w1."""
    a, b = map(world.driver.shard, "ab")
    with world.driver.context():
        a.chain(X, b, "stop_forward", holding).get()


def _backward(world: World, holding: bool) -> None:
    a, b, c = map(world.driver.shard, "abc")
    with world.driver.context() as context:
        context.backward(c.forward(b.stop_backward(a.forward(X), holding)), SEED)


def _prepare(world: World, holding: bool) -> None:
    _update(world, holding, visits=1)


def _commit(world: World, holding: bool) -> None:
    _update(world, holding, visits=2)


def _update(world: World, holding: bool, visits: int) -> None:
    a, b, c = map(world.driver.shard, "abc")
    optimizer = world.driver.optimizer(dg.optim.SGD(lr=0.5), [a, b, c])
    b.stop_update(visits, holding).get()
    with world.driver.context() as context:
        context.backward(c.forward(b.forward(a.forward(X))), SEED)
        optimizer.step(context)


MOMENTS: dict[str, Callable[[World, bool], None]] = {
    "forward": _forward,
    "nested forward": _nested,
    "backward": _backward,
    "prepare": _prepare,
    "commit": _commit,
}


class Trouble:
    """Something a driver has begun, in the middle of which w1 stands still.

    Attributes:
        visitor: w1 at the gate.
    """

    def __init__(self, world: World, moment: str, holding_interpreter: bool = False) -> None:
        for shard, worker in zip("abc", ("w0", "w1", "w2"), strict=True):
            world.place(shard, worker)
        self._outcome: Future[tuple[float, BaseException | None]] = Future()
        self._thread = threading.Thread(target=self._run, args=(world, moment, holding_interpreter), daemon=True)
        self._thread.start()
        self.visitor: Visitor = world.gate.reached()

    def _run(self, world: World, moment: str, holding: bool) -> None:
        try:
            MOMENTS[moment](world, holding)
        except BaseException as error:
            self._outcome.set_result((time.monotonic(), error))
        else:
            self._outcome.set_result((time.monotonic(), None))

    def outcome(self) -> tuple[float, BaseException | None]:
        """When the driver went on, and the error it got."""
        found = self._outcome.result(DEADLINE)
        self._thread.join(DEADLINE)
        return found
