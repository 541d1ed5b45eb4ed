"""What the tests of the executor share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from distgrad import errors
from distgrad.graph.executor import Executor, Priority, Promise
from tests.transport.served import ServedLane

DEADLINE = 30.0  # seconds until something that should have happened counts as hung
SOON = 0.01  # a timeout that a test waits out


def outcome(
    executor: Executor, work: Callable[[], Any], priority: Priority = Priority.CALL, **more: Any
) -> Promise[Any]:
    """Submits `work`; promises what it returns, what it raises, or why it never ran."""
    promise: Promise[Any] = Promise()

    def job() -> None:
        try:
            promise.set_result(work())
        except errors.DistgradError as error:
            promise.set_error(error)

    executor.submit(job, priority, cancelled=promise.set_error, **more)
    return promise


@contextmanager
def busy(executor: Executor) -> Iterator[None]:
    """Holds a baton, so that what is submitted or resumed inside the block lines up."""
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        assert release.wait(DEADLINE)

    executor.submit(hold, Priority.CALL)
    assert held.wait(DEADLINE)
    try:
        yield
    finally:
        release.set()


def until_nothing_queued(executor: Executor) -> None:
    """Returns once all that was submitted has begun, and has ended or parked."""
    outcome(executor, lambda: None, Priority.FILLER, order=(2**60,)).result(DEADLINE)


def eventually(condition: Callable[[], bool]) -> None:
    """Returns once `condition` holds; for what announces itself by no event."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come to hold"
        time.sleep(0)


def where(executor: Executor, lane: ServedLane, kind: str = "brief") -> threading.Thread:
    """Submits a job of that kind from a frame that `lane` serves; returns the thread that ran it."""
    ran: Promise[threading.Thread] = Promise()
    lane.serve(lambda: executor.submit(lambda: ran.set_result(threading.current_thread()), Priority.CALL, kind=kind))
    return ran.result(DEADLINE)


def settled(executor: Executor) -> None:
    eventually(lambda: executor.statistics().running == 0)


def make_brief(executor: Executor, lane: ServedLane, kind: str = "brief") -> None:
    """From now on the executor expects jobs of that kind to be brief; a busy machine may delay that."""

    def attempt() -> bool:
        settled(executor)
        return where(executor, lane, kind) is lane.reader

    eventually(attempt)
    settled(executor)
