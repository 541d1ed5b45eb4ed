"""What the compute slot's time goes to, by kind of work: the methods of shards, gradients, and so on."""

from __future__ import annotations

import threading
import time
from typing import Any, NamedTuple


class Work(NamedTuple):
    """Of one kind.

    Attributes:
        runs: how often it was begun.
        seconds: spent computing in all, without waits.
    """

    runs: int = 0
    seconds: float = 0.0


class Timesheet:
    """Sums of time by kind. May be written and read from any thread; each thread has one kind of work at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._work: dict[str, list[Any]] = {}  # runs and seconds
        self._here = _Here()

    def begin(self, kind: str) -> float:
        """The calling thread computes something of this kind from now on, and no more of another. Returns the time."""
        now = self.pause()
        here = self._here
        here.kind, here.runs, here.since = kind, 1, now
        return now

    def pause(self) -> float:
        """The calling thread computes nothing from now on. Returns the time."""
        here, now = self._here, time.perf_counter()
        if here.since:
            self._add(here.kind, here.runs, now - here.since)
            here.runs, here.since = 0, 0.0
        return now

    def resume(self) -> None:
        """The calling thread goes on with what it did."""
        self._here.since = time.perf_counter()

    def read(self) -> dict[str, Work]:
        """The sums so far, without what is being done."""
        with self._lock:
            return {kind: Work(*work) for kind, work in self._work.items()}

    def _add(self, kind: str, runs: int, seconds: float) -> None:
        with self._lock:
            work = self._work.setdefault(kind, [0, 0.0])
            work[0] += runs
            work[1] += seconds


class _Here(threading.local):
    kind = ""
    runs = 0  # that are not in the sums
    since = 0.0  # 0: it computes nothing
