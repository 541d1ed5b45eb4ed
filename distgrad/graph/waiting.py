"""What threads wait for, a result (`Promise`); who waits to compute, a `Task`; and whose turn it is, by `Turns`.

None knows of the others nor starts a thread: `baton.py` joins them.
"""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Callable, Generator, Sequence
from enum import Enum, IntEnum
from types import TracebackType
from typing import Any, Generic, NamedTuple, TypeVar

from distgrad import errors

from .deadlines import current

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Promise(Generic[T]):
    """A result that will come once, from any thread: a value or an error. The first to set it wins.

    Guarantees: a callback runs exactly once, on the thread that sets the promise, or at once on the caller's when it is
    already done; those that were added before it was done run in the order they were added, perhaps later than one that
    is added then; whoever sees `done` can read the result without waiting.
    In a coroutine, `await promise` waits without blocking the event loop, no longer than a `deadline` block around.
    """

    __slots__ = ("__weakref__", "_callbacks", "_done", "_error", "_lock", "_traceback", "_value")

    _value: T  # unset until a value came

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = False
        self._error: BaseException | None = None
        self._traceback: TracebackType | None = None
        self._callbacks: list[Callable[[Promise[T]], object]] = []

    @property
    def done(self) -> bool:
        """Whether a value or an error has come."""
        return self._done

    @property
    def error(self) -> BaseException | None:
        """The error that came; None while nothing came, and when a value did."""
        return self._error

    def set_result(self, value: T) -> bool:
        """Keeps the promise with a value. False, and nothing changes, when it was already done."""
        with self._lock:
            if self._done:
                return False
            self._value = value
            self._done = True
        if self._callbacks:
            self._announce()
        return True

    def set_error(self, error: BaseException) -> bool:
        """Ends the promise with an error. False, and nothing changes, when it was already done."""
        with self._lock:
            if self._done:
                return False
            self._error, self._traceback = error, error.__traceback__
            self._done = True
        if self._callbacks:
            self._announce()
        return True

    def add_callback(self, callback: Callable[[Promise[T]], object]) -> None:
        """Calls `callback(promise)` once the promise is done; at once when it is. Callbacks should not raise."""
        with self._lock:
            if not self._done:
                self._callbacks.append(callback)
                return
        self._call(callback)

    def remove_callback(self, callback: Callable[[Promise[T]], object]) -> bool:
        """Takes back a callback; False when it is not there, as when it has been called or is about to be."""
        with self._lock:
            if self._done or callback not in self._callbacks:
                return False
            self._callbacks.remove(callback)
            return True

    def pass_to(self, other: Promise[T]) -> None:
        """Sets `other` to what this promise is set to."""
        self.add_callback(
            lambda _: other.set_result(self._value) if self._error is None else other.set_error(self._error)
        )

    def wait(self, timeout: float | None = None) -> bool:
        """Blocks this thread until the promise is done, at most `timeout` seconds. Returns `done`.

        A job of an executor calls `Executor.wait` instead, which lets other jobs run meanwhile.
        """
        if self._done:
            return True
        gate = threading.Lock()
        gate.acquire()

        def open_gate(_: Promise[T]) -> None:
            gate.release()

        self.add_callback(open_gate)
        try:
            gate.acquire(timeout=lock_timeout(timeout))
        finally:
            self.remove_callback(open_gate)
        return self._done

    def result(self, timeout: float | None = None) -> T:
        """The value, after at most `timeout` seconds (None: no limit). Raises the error that was set, or `Timeout`."""
        if not self._done and not self.wait(timeout):
            raise errors.Timeout(f"no result came within {timeout:g} s")
        if self._error is not None:
            try:
                raise self._error.with_traceback(self._traceback)  # as it was: else it grows with every call
            finally:
                del self  # else error -> traceback -> this frame -> promise -> error is a cycle that keeps arrays alive
        return self._value

    def __await__(self) -> Generator[Any, None, T]:
        if not self._done:
            import asyncio  # whoever awaits has imported it; others are spared its 30 ms

            loop = asyncio.get_running_loop()
            arrival = loop.create_future()

            def arrive() -> None:
                if not arrival.done():
                    arrival.set_result(None)

            def wake(_: Promise[T]) -> None:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(arrive)

            limit = current()
            seconds = limit.left
            timer = None if seconds is None else loop.call_later(seconds, arrive)
            self.add_callback(wake)
            try:
                yield from arrival
            finally:
                self.remove_callback(wake)
                if timer is not None:
                    timer.cancel()
            if not self._done:
                raise errors.Timeout(
                    f"what is awaited did not come before the deadline of {limit.timeout:g} s had passed"
                )
        return self.result()

    def _announce(self) -> None:
        # Needs no lock: once done, nobody else touches the list.
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            self._call(callback)

    def _call(self, callback: Callable[[Promise[T]], object]) -> None:
        try:
            callback(self)
        except Exception:  # one listener's bug must not cost the others their wake-up
            _log.exception("callback %r of %r raised", callback, self)

    def __repr__(self) -> str:
        if not self._done:
            return "<Promise pending>"
        return "<Promise done>" if self._error is None else f"<Promise failed: {self._error!r}>"


def all_done(promises: Sequence[Promise[Any]], ready: Promise[None]) -> None:
    """Sets `ready` once all `promises` are done: to the first error in their order, if any of them has one."""
    left = len(promises)
    lock = threading.Lock()

    def settle() -> None:
        error = next((promise.error for promise in promises if promise.error is not None), None)
        if error is None:
            ready.set_result(None)
        else:
            ready.set_error(error)

    def count(_: Promise[Any]) -> None:
        nonlocal left
        with lock:
            left -= 1
            last = left == 0
        if last:
            settle()

    if not promises:
        settle()
    for promise in promises:
        promise.add_callback(count)


def settled(promise: Promise[Any]) -> Promise[None]:
    """A promise that is kept when `promise` is done, well or not."""
    kept: Promise[None] = Promise()
    promise.add_callback(lambda _: kept.set_result(None))
    return kept


def lock_timeout(timeout: float | None) -> float:
    """`timeout` in the terms of `Lock.acquire`, where -1 means for ever and other negative numbers are refused."""
    return -1.0 if timeout is None else min(max(timeout, 0.0), threading.TIMEOUT_MAX)


class Priority(IntEnum):
    """How urgent a job is; smaller goes first. A schedule may give calls and gradients other places than these."""

    RESUMED = 0
    """Work that had begun, waited, and can go on: before anything new."""
    GRADIENT = 1
    """A gradient that another process waits for."""
    CALL = 2
    """A call of a shard's method."""
    FILLER = 3
    """A parameter's gradient: nobody waits for it, it fills gaps."""


OrderKey = tuple[int, ...]
Rank = tuple[Priority, OrderKey, int]


class Urgency(NamedTuple):
    """How soon a job is to run: by priority, then by order, smaller first."""

    priority: Priority
    order: OrderKey = ()


Job = Callable[[], object]
OnCancelled = Callable[[errors.DistgradError], object]


class TaskState(Enum):
    """QUEUED, then RUNNING, then any number of times PARKED, READY, RUNNING, then ENDED. Or from QUEUED to DROPPED."""

    QUEUED = "queued"
    RUNNING = "running"
    PARKED = "parked"  # waits for something to happen
    READY = "ready"  # it has happened: waits for the baton
    ENDED = "ended"
    DROPPED = "dropped"  # never ran and never will


class Task:
    """A job handed to an executor. Its attributes change under the lock of the baton (`baton.py`) only."""

    __slots__ = ("cancelled", "gate", "give_up", "job", "kind", "number", "order", "pause", "priority", "state", "told")

    gate: threading.Lock  # of its thread; unset until it begins

    def __init__(
        self,
        job: Job,
        priority: Priority,
        order: OrderKey,
        cancelled: OnCancelled | None,
        give_up: Callable[[Task], bool],
        kind: str = "",
    ) -> None:
        self.job: Job | None = job
        self.priority = priority
        self.order = order
        self.number = 0  # of submission, from 1
        self.state = TaskState.QUEUED
        self.told = False  # to stop
        self.pause: object = None  # names the wait that its event, its timeout or `cancel` may end
        self.cancelled = cancelled
        self.give_up = give_up
        self.kind = kind

    def cancel(self) -> bool:
        """Gives the job up. True when it was still queued: it never runs, and its `cancelled` callback has been called.

        A job that has begun is told by `errors.Cancelled` from the wait it is in and from every later wait that would
        have to park; a wait whose event has happened returns all the same.
        """
        queued = self.give_up(self)
        if queued:
            self.drop(errors.Cancelled(f"{self} was cancelled before it ran"))
        return queued

    def drop(self, reason: errors.DistgradError) -> None:
        """Tells whoever wanted it that this job will never run."""
        callback, self.cancelled, self.job = self.cancelled, None, None
        if callback is not None:
            try:
                callback(reason)
            except Exception:  # whoever drops several must come to the last
                _log.exception("the `cancelled` callback of %r raised", self)

    def __repr__(self) -> str:
        return f"<Task {self.number} {self.priority.name} {self.order} {self.state.value}>"


class Turns(Generic[T]):
    """Who computes next: `slots` batons and a line of those who want one. Pure bookkeeping, no threads.

    Invariant: while somebody stands in line no baton is free. The line is ordered by rank: priority, then order key,
    then number of submission. Ranks are distinct; an item stands in line at most once.
    """

    def __init__(self, slots: int) -> None:
        self.free = slots
        self._places: dict[T, Rank] = {}
        self._line: list[tuple[Rank, T]] = []  # a heap; entries that disagree with `_places` are withdrawn ones

    def enter(self) -> bool:
        """Takes a baton if one is free."""
        if self.free == 0:
            return False
        self.free -= 1
        return True

    def arrive(self, item: T, rank: Rank) -> bool:
        """Takes a baton for `item` (True), or puts it in line (False)."""
        if self.enter():
            return True
        self._places[item] = rank
        heapq.heappush(self._line, (rank, item))
        return False

    def leave(self) -> T | None:
        """Gives up a baton: returns whose it is now, or None when nobody wanted it."""
        while self._line:
            rank, item = heapq.heappop(self._line)
            if self._places.get(item) is rank:
                del self._places[item]
                return item
        self.free += 1
        return None

    def withdraw(self, item: T) -> bool:
        """Takes `item` out of the line. False when it does not stand there."""
        if self._places.pop(item, None) is None:
            return False
        if len(self._line) > 2 * len(self._places) + 64:  # withdrawn entries hold memory: bound them by the live ones
            self._line = [(rank, item) for item, rank in self._places.items()]
            heapq.heapify(self._line)
        return True

    def first(self) -> Rank | None:
        """The rank of who is first in line."""
        while self._line and self._places.get(self._line[0][1]) is not self._line[0][0]:
            heapq.heappop(self._line)
        return self._line[0][0] if self._line else None

    def in_line(self) -> dict[T, Rank]:
        """Those who stand in line, with their ranks."""
        return dict(self._places)

    def __len__(self) -> int:
        return len(self._places)
