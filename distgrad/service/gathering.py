"""Requests that wait a bounded time for others like them, to be computed as one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .tasks import Task


@dataclass(eq=False, slots=True)
class _Batch:
    """Requests that are alike, and when the first of them has waited long enough."""

    alarm: asyncio.TimerHandle
    tasks: list[Task] = field(default_factory=list)


class Gathering:
    """Requests in front of the queue: they enter it together when they are enough, or when the first has waited for the
    time that its function allows.

    Arguments:
        call_later: as of an event loop.
        enough: so many are not kept waiting for more.
        ready: called with requests that wait no longer.

    Attributes:
        waiting: how many are here.
    """

    def __init__(
        self, call_later: Callable[..., asyncio.TimerHandle], enough: int, ready: Callable[[list[Task]], None]
    ) -> None:
        self.waiting = 0
        self._call_later = call_later
        self._enough = enough
        self._ready = ready
        self._batches: dict[Any, _Batch] = {}

    def __iter__(self) -> Iterator[Task]:
        return iter([task for batch in self._batches.values() for task in batch.tasks])

    def __contains__(self, task: Task) -> bool:
        batch = self._batches.get(task.batch)
        return batch is not None and task in batch.tasks

    def put(self, task: Task, delay: float) -> None:
        """Takes a request in, for at most so many seconds."""
        batch = self._batches.get(task.batch)
        if batch is None:
            batch = self._batches[task.batch] = _Batch(self._call_later(delay, self._release, task.batch))
        batch.tasks.append(task)
        self.waiting += 1
        if len(batch.tasks) == self._enough:
            self._release(task.batch)

    def remove(self, task: Task) -> None:
        """A request that is here is given up."""
        batch = self._batches[task.batch]
        batch.tasks.remove(task)
        self.waiting -= 1
        if not batch.tasks:
            self._batches.pop(task.batch).alarm.cancel()

    def release_all(self) -> None:
        """Nobody is waited for any more."""
        for key in list(self._batches):
            self._release(key)

    def _release(self, key: Any) -> None:
        batch = self._batches.pop(key)
        batch.alarm.cancel()
        self.waiting -= len(batch.tasks)
        self._ready(batch.tasks)
