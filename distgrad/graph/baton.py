"""Passing the baton: which task computes now, and on which pooled thread.

A task computes while it holds a baton. To wait, it parks its thread and hands the baton straight to the next in line;
when the awaited thing has happened it stands in line again, ahead of all new work, and goes on baton in hand.

Invariants, all under `Baton._lock`, which is never held while a thread blocks or foreign code runs:
1. While anyone stands in line no baton is free (`waiting.Turns`).
2. A gate is released exactly once for each time its thread goes to it, by whoever gives that thread a baton or
   dismisses it: no wake-up is lost, none is spurious.
3. At most `max_threads - slots` threads are parked, so a task that is given a baton finds a thread.

Finalisers (`__del__`, weakref callbacks) must not call in here: they may interrupt a thread that holds the lock.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from distgrad import errors

from .waiting import Priority, Promise, Task, TaskState, Turns, Urgency, lock_timeout

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Statistics:
    """An executor at one moment. `progress` grows with every start, resumption and end of a job."""

    threads: int
    idle: int
    running: int
    parked: int
    queued: dict[Priority, int]
    tasks_run: int
    progress: int


class _Runner:
    """A pooled thread. It goes to its gate to idle or to park, and passes when it is given a baton or dismissed."""

    __slots__ = ("gate", "task", "thread")

    def __init__(self, serve: Callable[[_Runner], None], name: str) -> None:
        self.gate = threading.Lock()
        self.gate.acquire()
        self.task: Task | None = None
        self.thread = threading.Thread(target=serve, args=(self,), name=name, daemon=True)


class Baton:
    """`slots` batons and the threads that carry them. `run(task)` runs a task's job on one; it never raises."""

    def __init__(
        self, run: Callable[[Task], None], slots: int, name: str, max_threads: int, idle_seconds: float
    ) -> None:
        self.name = name
        self.progress = 0
        self.closed = False
        self.ended = threading.Event()  # closed, and nothing runs
        self._run = run
        self._slots = slots
        self._max_threads = max_threads
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._turns: Turns[Task] = Turns(slots)
        self._task_numbers = itertools.count(1)
        self._thread_numbers = itertools.count(1)
        self._runners: set[_Runner] = set()
        self._idle: list[_Runner] = []  # the last to come is the first to go, so the others may retire
        self._begun: set[Task] = set()  # running, parked or ready
        self._parked = 0  # those of them that hold no baton
        self._tasks_run = 0

    # ---- Coming and going -------------------------------------------------------------------------------------------

    def add(self, task: Task) -> None:
        """Runs `task` when it is its turn. Raises `Cancelled` when closed."""
        with self._lock:
            if self.closed:
                raise errors.Cancelled(f"executor {self.name!r} is closed and takes no more jobs")
            task.number = next(self._task_numbers)
            has_turn = self._turns.arrive(task, (task.priority, task.order, task.number))
            unstarted = self._give(task) if has_turn else None
        self._start(unstarted)

    def take(self, task: Task) -> bool:
        """Gives `task` a baton if one is free (so nobody is in line), to run on the calling thread, which is not
        pooled."""
        with self._lock:
            if self.closed or not self._turns.enter():
                return False
            task.number = next(self._task_numbers)
            task.gate = threading.Lock()
            task.gate.acquire()
            task.state = TaskState.RUNNING
            self._begun.add(task)
            self.progress += 1
            return True

    def end(self, task: Task) -> None:
        """A task that ran on a thread that is not pooled has ended; hands its baton on."""
        with self._lock:
            self._conclude(task)
            unstarted = self._hand_on()
        if unstarted is not None:
            self._start(unstarted)

    def cancel(self, task: Task) -> bool:
        """Takes a queued task out (True: the caller drops it), or tells one that has begun to stop."""
        with self._lock:
            if task.state is TaskState.QUEUED:
                self._turns.withdraw(task)
                task.state = TaskState.DROPPED
                return True
            if task in self._begun:
                task.told = True
                if task.pause is not None:
                    self._line_up_again(task)
            return False

    # ---- Waiting, on a task's own thread ----------------------------------------------------------------------------

    def wait(self, task: Task, promise: Promise[Any], timeout: float | None) -> None:
        """Lets others compute until `promise` is done, `timeout` seconds are over or `task` is told to stop."""
        task.pause = pause = object()

        def wake(_: object = None) -> None:
            with self._lock:
                if task.pause is pause:  # else this wait is over already
                    self._line_up_again(task)

        promise.add_callback(wake)
        try:
            if self.leave(task, pause) and not task.gate.acquire(timeout=lock_timeout(timeout)):
                wake()  # unless the promise just did; either way a baton is on its way
                task.gate.acquire()
        finally:
            promise.remove_callback(wake)

    def leave(self, task: Task, pause: object = None) -> bool:
        """Parks `task`, without blocking. False, and it keeps its baton, when `pause` is over or it is told to stop.

        Raises `ResourceExhausted`, and it keeps its baton, when too many are parked.
        """
        with self._lock:
            if task.pause is not pause or task.told:
                task.pause = None
                return False
            if self._parked >= self._max_threads - self._slots:
                task.pause = None
                raise errors.ResourceExhausted(
                    f"executor {self.name!r}: {self._parked} jobs wait, each on a thread of its own, and "
                    f"max_threads={self._max_threads}: nest calls less deep, have fewer at once, or raise max_threads"
                )
            task.state = TaskState.PARKED
            self._parked += 1
            unstarted = self._hand_on()
        self._start(unstarted)
        return True

    def rejoin(self, task: Task) -> None:
        """Blocks until a task that left without a pause has a baton again."""
        with self._lock:
            self._line_up_again(task)
        task.gate.acquire()

    # ---- Under the lock ---------------------------------------------------------------------------------------------

    def _line_up_again(self, task: Task) -> None:
        """What `task` waited for is over; if it parked, it wants a baton again."""
        task.pause = None
        if task.state is TaskState.PARKED:
            task.state = TaskState.READY
            if self._turns.arrive(task, (Priority.RESUMED, task.order, task.number)):
                self._give(task)  # starts no thread: it has one

    def _hand_on(self) -> _Runner | None:
        """Gives up a baton, to the first in line. What it returns must be started, as for `_give`."""
        task = self._turns.leave()
        if task is not None:
            return self._give(task)
        if self.closed:
            self._note_end()
        return None

    def _give(self, task: Task) -> _Runner | None:
        """Lets `task` run, which has a baton. Returns the thread that must be started for it once the lock is free."""
        self.progress += 1
        unstarted = None
        if task.state is TaskState.READY:
            self._parked -= 1
        else:
            self._begun.add(task)
            if self._idle:
                runner = self._idle.pop()
            else:
                runner = unstarted = _Runner(self._serve, f"{self.name}-{next(self._thread_numbers)}")
                self._runners.add(runner)
            runner.task, task.gate = task, runner.gate
        task.state = TaskState.RUNNING
        if unstarted is None:
            task.gate.release()  # last: from here on the thread reads, without the lock, what was set above
        return unstarted

    def _finish(self, runner: _Runner) -> None:
        """The runner's task has ended; hands its baton on, to this very thread if the next task is a new one."""
        task = runner.task
        assert task is not None
        runner.task = None
        self._conclude(task)
        if self.closed:
            self._dismiss(runner)
        else:
            self._idle.append(runner)
        self._hand_on()  # starts no thread: this one is idle, or closed and nothing new is in line

    def _conclude(self, task: Task) -> None:
        task.state = TaskState.ENDED
        task.job = task.cancelled = None  # and with them all that the job held
        self._begun.discard(task)
        self._tasks_run += 1
        self.progress += 1

    def _dismiss(self, runner: _Runner) -> None:
        """A runner without a task passes its gate and ends."""
        self._runners.discard(runner)
        runner.gate.release()

    def _note_end(self) -> None:
        if self.closed and not self._begun and self._turns.free == self._slots:
            self.ended.set()

    # ---- Threads ----------------------------------------------------------------------------------------------------

    def _start(self, runner: _Runner | None) -> None:
        """Starts a thread that has a task. If the system refuses, the task is dropped and its baton goes on."""
        while runner is not None:
            try:
                runner.thread.start()
                return
            except RuntimeError as refusal:
                task = runner.task
                assert task is not None
                with self._lock:
                    self._runners.discard(runner)
                    self._begun.discard(task)
                    task.state = TaskState.DROPPED
                    threads = len(self._runners)
                    runner = self._hand_on()
                _log.error("executor %r has %d threads and gets no more: dropped %r", self.name, threads, task)
                task.drop(errors.ResourceExhausted(f"executor {self.name!r} has {threads} threads: {refusal}"))

    def _serve(self, runner: _Runner) -> None:
        """The life of a pooled thread."""
        while runner.task is not None:
            self._run(runner.task)
            with self._lock:
                self._finish(runner)
            if not runner.gate.acquire(timeout=self._idle_seconds):
                self._retire(runner)

    def _retire(self, runner: _Runner) -> None:
        with self._lock:
            if runner in self._idle:
                self._idle.remove(runner)
                self._runners.discard(runner)
                return
        runner.gate.acquire()  # it was given a task, or dismissed, as its time ran out

    # ---- Closing and looking in -------------------------------------------------------------------------------------

    def close(self) -> tuple[list[Task], list[threading.Thread]]:
        """Takes no more tasks. Returns those taken out of the line, for the caller to drop, and all threads."""
        with self._lock:
            self.closed = True
            queued = [task for task in self._turns.in_line() if task.state is TaskState.QUEUED]
            for task in queued:
                self._turns.withdraw(task)
                task.state = TaskState.DROPPED
            threads = [runner.thread for runner in self._runners]
            while self._idle:
                self._dismiss(self._idle.pop())
            self._note_end()
        return queued, threads

    def begun(self) -> list[Task]:
        """The tasks that have begun and not ended."""
        with self._lock:
            return list(self._begun)

    def keeps_waiting(self, urgency: Urgency) -> bool:
        """Whether a task more urgent than that stands in line."""
        if not len(self._turns):  # the usual case, without the lock
            return False
        with self._lock:
            first = self._turns.first()
            return first is not None and first[:2] < urgency

    def statistics(self) -> Statistics:
        """Counts of threads and tasks now."""
        with self._lock:
            counts = Counter(priority for priority, _, _ in self._turns.in_line().values())
            return Statistics(
                threads=len(self._runners),
                idle=len(self._idle),
                running=self._slots - self._turns.free,
                parked=self._parked,
                queued={priority: counts[priority] for priority in Priority},
                tasks_run=self._tasks_run,
                progress=self.progress,
            )
