"""The compute slot of a process: one job computes at a time, and a job that waits costs nobody a turn.

Calls nest hundreds deep, through other processes and back, without deadlock: a job that waits passes the baton on
(`baton.py`) and keeps only its thread's stack. Who goes next is decided in `waiting.Turns`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from functools import partial
from typing import Any, Protocol

from distgrad import errors
from distgrad.transport.reading import leave_reading, reading_here

from .baton import Baton, Statistics
from .deadlines import current, seconds_of
from .timesheet import Timesheet
from .waiting import Job, OnCancelled, OrderKey, Priority, Promise, Task, TaskState, Urgency

__all__ = ["Executor", "Priority", "Promise", "Statistics", "Task", "TaskState"]

_log = logging.getLogger(__name__)

# Seconds that a job may take to be worth running on a thread that should rather read.
BRIEF = 3e-4

# The kind of jobs that have none.
_OTHER = "other"


class EventLike(Protocol):
    """What `threading.Event` offers. A job's wait for one cannot be cancelled; its wait for a promise or future can."""

    def is_set(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> bool: ...


class FutureLike(Protocol):
    """What `concurrent.futures.Future` offers."""

    def add_done_callback(self, fn: Callable[[Any], object], /) -> object: ...


class _Seat(threading.local):
    """What this thread does for an executor: the task whose baton it holds."""

    task: Task | None = None


class Executor:
    """Runs jobs one at a time (`slots` at a time), the most urgent first.

    Every method may be called from any thread. `with Executor() as executor:` closes it at the end.

    Args:
        slots: how many jobs compute at once.
        name: prefix of the threads' names; appears in messages.
        max_threads: bound on threads, running and parked.
        idle_seconds: how long a thread without work is kept.

    Raises:
        ConfigError: `slots` is below 1 or leaves no thread to park.
    """

    def __init__(
        self, slots: int = 1, name: str = "compute", max_threads: int = 4096, *, idle_seconds: float = 10.0
    ) -> None:
        if not 1 <= slots < max_threads:
            raise errors.ConfigError(f"executor {name!r}: {slots=}, expected at least 1 and below {max_threads=}")
        self.name = name
        self.failures = 0
        """How many jobs raised, which is a bug of whoever wrote them; each has been logged with its traceback."""
        self.forked: errors.DistgradError | None = None
        """In a fork, which has none of the threads, what waits raise."""
        self._baton = Baton(self._run, slots, name, max_threads, idle_seconds)
        # Kinds of jobs of which the last took little time and did not wait.
        self._brief: set[str] = set()
        self.timesheet = Timesheet()
        """What jobs have spent their time on, by kind."""
        self._seat = _Seat()
        self._failures_lock = threading.Lock()

    # ---- Giving work ------------------------------------------------------------------------------------------------

    def submit(
        self,
        job: Job,
        priority: Priority,
        order: OrderKey = (),
        *,
        context: Context | None = None,
        cancelled: OnCancelled | None = None,
        kind: str = "",
        here: bool = False,
    ) -> Task:
        """Runs `job` on a pooled thread once it is its turn: by priority, then `order`, then submission.

        A thread that reads a lane runs it itself if that is sooner: nobody is in line, and jobs of its kind are brief.

        Args:
            job: must not raise; what escapes it is logged and counted in `failures`.
            priority: see `Priority`.
            order: the smaller goes first among jobs of one priority.
            context: the job runs in a copy of it, taken now; in an empty one by default.
            cancelled: called with the reason, once, if the job will never run: it was cancelled, the executor closed,
                or the system refused a thread. Runs on the thread that drops the job.
            kind: jobs of one kind are expected to take as long as the last of them did; see also `timesheet`.
            here: the caller is about to wait for what the job does; if it does no job and nobody is in line, it runs
                this one before `submit` returns.

        Raises:
            Cancelled: the executor is closed.
        """
        task = Task(_in_context(job, context), priority, order, cancelled, self._baton.cancel, kind)
        if here and self._seat.task is None and reading_here() is None and self._baton.take(task):
            self._run_unpooled(task)
        elif not (kind in self._brief and self._run_here(task)):
            self._baton.add(task)
        return task

    def _run_here(self, task: Task) -> bool:
        """Has the calling thread run a job if it reads a lane and a baton is free (so nobody is in line): at once after
        it has served the frame it serves now."""
        reading = reading_here()
        if reading is None or not reading.free or not self._baton.take(task):
            return False
        reading.later(partial(self._run_unpooled, task))
        return True

    def _run_unpooled(self, task: Task) -> None:
        """Runs a task that has a baton on the calling thread, which may be interrupted by the user as soon as the job
        has ended."""
        try:
            self._run(task)
        finally:
            self._seat.task = None
            self._baton.end(task)

    # ---- Waiting, inside a job --------------------------------------------------------------------------------------

    @property
    def holds_baton(self) -> bool:
        """Whether the calling thread computes for this executor right now."""
        return self._seat.task is not None

    def wait(
        self, thing: Promise[Any] | FutureLike | EventLike, timeout: float | None = None, what: str = "the result"
    ) -> None:
        """Returns once `thing` has happened; meanwhile other jobs compute. `what` names it in messages.

        `timeout` (seconds; None: no limit) and a `deadline` block around bound the waiting for `thing`, not for the
        turn that follows; if `thing` has happened by then, it wins over them and over cancellation. A thread that holds
        no baton simply blocks.

        Raises:
            ConfigError: `timeout` is no number.
            Timeout: `thing` has not happened.
            Cancelled: the job was told to stop, and `thing` has not happened.
            ResourceExhausted: too many jobs wait already.
        """
        timeout = seconds_of(timeout)
        limit = current().left
        limited = limit is not None and (timeout is None or limit < timeout)
        if limited:
            timeout = limit
        if isinstance(thing, Promise):
            happened = self._wait_for(thing, timeout, what)
        elif hasattr(thing, "add_done_callback"):
            promise: Promise[None] = Promise()
            thing.add_done_callback(lambda _: promise.set_result(None))
            happened = self._wait_for(promise, timeout, what)
        else:
            happened = self._wait_for_event(thing, timeout, what)
        if not happened and limited:
            raise errors.Timeout(f"{what} did not come before the deadline of {current().timeout:g} s had passed")
        if not happened:
            raise errors.Timeout(f"{what} did not come within {timeout:g} s")

    @contextmanager
    def parked(self, what: str = "something") -> Iterator[None]:
        """Lets other jobs compute while the block waits for `what` in its own way. It must not touch what jobs share.

        Raises `Cancelled` and `ResourceExhausted` as `wait` does, on entry only.
        """
        task = self._parkable(what)
        if task is None:
            yield
            return
        if not self._baton.leave(task):
            raise self._told_to_stop(task, what)
        self._seat.task = None
        self.timesheet.pause()
        try:
            yield
        finally:
            self._baton.rejoin(task)
            self.timesheet.resume()
            self._seat.task = task

    def _wait_for(self, promise: Promise[Any], timeout: float | None, what: str) -> bool:
        if promise.done:
            return True
        if self.forked is not None:
            raise self.forked
        task = self._parkable(what)
        if task is None:
            return promise.wait(timeout)
        self.timesheet.pause()
        try:
            self._baton.wait(task, promise, timeout)
        finally:
            self.timesheet.resume()
        if task.told and not promise.done:
            raise self._told_to_stop(task, what)
        return promise.done

    def _wait_for_event(self, event: EventLike, timeout: float | None, what: str) -> bool:
        if event.is_set():
            return True
        with self.parked(what):
            happened = event.wait(timeout)
        return happened or event.is_set()

    def _parkable(self, what: str) -> Task | None:
        """The task of this thread; None when it runs none, so that it may block. Jobs that wait are not brief; if this
        thread read a lane, another does now."""
        task = self._seat.task
        if task is not None:
            self._brief.discard(task.kind)
            task.kind = ""
            try:
                leave_reading()
            except RuntimeError as refusal:
                raise errors.ResourceExhausted(
                    f"a job waits for {what}, and no thread can read on: {refusal}"
                ) from None
        return task

    def _told_to_stop(self, task: Task, what: str) -> errors.Cancelled:
        return errors.Cancelled(f"{task} of executor {self.name!r} was cancelled before {what} came")

    # ---- Running ----------------------------------------------------------------------------------------------------

    def _run(self, task: Task) -> None:
        assert task.job is not None
        self._seat.task = task
        start = self.timesheet.begin(task.kind or _OTHER)
        self._perform(task.job)
        end = self.timesheet.pause()
        if task.kind:
            (self._brief.add if end - start < BRIEF else self._brief.discard)(task.kind)
        self._seat.task = None

    def _perform(self, job: Job) -> None:
        try:
            job()
        except BaseException:  # even SystemExit: the thread has other jobs to serve
            with self._failures_lock:
                self.failures += 1
            _log.critical("executor %r: a job raised, which jobs must not do", self.name, exc_info=True)

    # ---- Ending and looking in --------------------------------------------------------------------------------------

    def close(self, timeout: float = 0.0, grace: float = 1.0) -> bool:
        """Takes no more jobs, drops the queued ones, and returns whether all that ran has ended. May be called again.

        Running jobs have `timeout` seconds to end by themselves; then they are cancelled and have `grace` seconds to
        unwind. Computing cannot be interrupted: what still runs then is left to its daemon thread, and False returned.
        """
        if self.holds_baton:
            raise errors.DistgradError(f"executor {self.name!r}: close() inside one of its jobs would wait for itself")
        dropped, threads = self._baton.close()
        for task in dropped:
            task.drop(errors.Cancelled(f"executor {self.name!r} closed before {task} ran"))
        if not self._baton.ended.wait(timeout):
            for task in self._baton.begun():
                task.cancel()
            if not self._baton.ended.wait(grace):
                return False
        for thread in threads:
            thread.join(grace)
        return True

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def keeps_waiting(self, urgency: Urgency) -> bool:
        """Whether a job more urgent than that stands in line."""
        return self._baton.keeps_waiting(urgency)

    @property
    def progress(self) -> int:
        """Grows with every start, resumption and end of a job: a heartbeat that carries it shows life, not presence."""
        return self._baton.progress

    def statistics(self) -> Statistics:
        """Counts of threads and jobs now."""
        return self._baton.statistics()

    def __repr__(self) -> str:
        now = self.statistics()
        closed = ", closed" if self._baton.closed else ""
        return (
            f"<Executor {self.name!r}: {now.running} running, {now.parked} parked, {sum(now.queued.values())} queued, "
            f"{now.threads} threads{closed}>"
        )


def _in_context(job: Job, context: Context | None) -> Job:
    return partial(Context().run if context is None else context.copy().run, job)
