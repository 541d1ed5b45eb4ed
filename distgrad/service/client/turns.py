"""Which of the threads that wait for answers reads them from the connection."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class Turns:
    """Whoever waits reads, one thread at a time, what comes for all; so an answer wakes the thread that wants it, and
    no other before. A thread of its own waits in place of coroutines.

    Arguments:
        read: reads once, waiting at most so many seconds (None: as long as it takes), and settles the futures of what
            came. When nothing comes any more it settles all of them.
    """

    def __init__(self, read: Callable[[float | None], None]) -> None:
        self._read = read
        self._lock = threading.Lock()  # guards the two attributes below
        self._reading = False
        self._waiting: deque[threading.Event] = deque()
        self._unattended: queue.SimpleQueue[Future[Any] | None] = queue.SimpleQueue()
        self._attendant: threading.Thread | None = None

    def wait(self, future: Future[Any], timeout: float | None) -> None:
        """Returns when the future is settled, or so many seconds are over."""
        until = None if timeout is None else time.monotonic() + timeout
        ready: threading.Event | None = None
        try:
            while not future.done() and (until is None or time.monotonic() < until):
                if self._begin(ready):
                    self._read_until(future, until)
                elif ready is None:  # most who wait are alone, and need none
                    ready = _set_when_done(future)
                else:
                    ready.wait(None if until is None else max(until - time.monotonic(), 0))
                    ready.clear()
        finally:
            self._leave(ready)

    def _begin(self, ready: threading.Event | None) -> bool:
        """Whether it is this thread's turn to read. Otherwise `ready` is set when it may be."""
        with self._lock:
            if self._reading:
                if ready is not None and ready not in self._waiting:
                    self._waiting.append(ready)
                return False
            self._reading = True
            return True

    def _read_until(self, future: Future[Any], until: float | None) -> None:
        try:
            while not future.done():
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return
                self._read(left)
        finally:
            with self._lock:
                self._reading = False

    def _leave(self, ready: threading.Event | None) -> None:
        """Another thread reads on."""
        with self._lock:
            if ready is not None and ready in self._waiting:
                self._waiting.remove(ready)
            if not self._reading and self._waiting:
                self._waiting.popleft().set()

    # ---- for those who cannot wait

    def attend(self, future: Future[Any]) -> None:
        """Lets the thread of its own wait for a future."""
        self._unattended.put(future)
        with self._lock:
            if self._attendant is None:
                self._attendant = threading.Thread(target=self._attend, name="distgrad-answers", daemon=True)
                self._attendant.start()

    def _attend(self) -> None:
        while (future := self._unattended.get()) is not None:
            self.wait(future, None)

    def close(self) -> None:
        """Ends the thread. All futures must have been settled."""
        with self._lock:
            attendant = self._attendant
        self._unattended.put(None)
        if attendant is not None and attendant is not threading.current_thread():
            attendant.join()


def _set_when_done(future: Future[Any]) -> threading.Event:
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    return done
