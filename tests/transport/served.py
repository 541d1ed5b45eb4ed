"""A lane whose frames are functions of the test, served by a reader thread as on a stream."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

from distgrad.transport.reading import Reading
from distgrad.transport.threads import Threads

from .recorder import DEADLINE


class ServedLane:
    """`with ServedLane() as lane: lane.serve(function)` returns what the reader thread got from it."""

    def __init__(self) -> None:
        self._frames: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._threads = Threads()
        self.reading = Reading(self._serve(), self._start)
        self.readers = [self._threads.start("reader", self.reading.run)]

    def serve(self, frame: Callable[[], Any]) -> Any:
        return self.begin(frame).result(DEADLINE)

    def begin(self, frame: Callable[[], Any]) -> Future[Any]:
        served: Future[Any] = Future()
        self._frames.put((frame, served))
        return served

    @property
    def reader(self) -> threading.Thread:
        return self.readers[-1]

    def _start(self) -> None:
        self.readers.append(self._threads.hand_over(self.reader, "reader", self.reading.run))

    def _serve(self) -> Iterator[None]:
        while (entry := self._frames.get()) is not None:
            frame, served = entry
            try:
                served.set_result(frame())
            except BaseException as error:
                served.set_exception(error)
            yield

    def __enter__(self) -> ServedLane:
        return self

    def __exit__(self, *_: object) -> None:
        self._frames.put(None)
        self._threads.join()
