"""The thread that reads a lane, and the brief work it may do between two frames.

Handing a call that just arrived to another thread costs as much as a small call itself. So the thread that read it may
run it, once the frame has been served. If the work turns out not to be brief, because it waits or just goes on, another
thread becomes the reader, and the first only finishes its work.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

# Work that goes on for longer, in seconds, is not brief.
BRIEF = 0.05

_here = threading.local()


def reading_here() -> Reading | None:
    """What the calling thread is the reader of; None when it reads no lane, or does no longer."""
    reading: Reading | None = getattr(_here, "reading", None)
    return reading if reading is not None and reading.mine else None


def leave_reading() -> None:
    """To be called before the calling thread waits: if it does work between two frames of a lane, another thread reads
    on, for what it waits for may come there. Raises RuntimeError when the system has no thread to give."""
    reading = reading_here()
    if reading is not None:
        reading.leave()


class Reading:
    """Serves the frames of one lane, in one thread at a time.

    Arguments:
        frames: reads and serves one frame at each step.
        go_on: starts a thread that calls `run`, in place of the one that does so now.
    """

    def __init__(self, frames: Iterator[None], go_on: Callable[[], object]) -> None:
        self._frames = frames
        self._go_on = go_on
        self._lock = threading.Lock()
        self._reader = 0  # identifies the thread
        self._work: Callable[[], object] | None = None
        self._working_since = 0.0  # zero: it reads

    def run(self) -> bool:
        """Serves frames until the lane ends (True), or another thread has become the reader (False)."""
        with self._lock:
            self._reader = me = threading.get_ident()
        _here.reading = self
        for _ in self._frames:
            if self._work is not None:
                self._do_work()
                if self._reader != me:
                    return False
        return True

    @property
    def mine(self) -> bool:
        """Whether the calling thread is the reader."""
        return self._reader == threading.get_ident()

    @property
    def free(self) -> bool:
        """Whether the calling thread, the reader, has no work for after the frame it serves now."""
        return self._work is None and not self._working_since

    def later(self, work: Callable[[], object]) -> None:
        """Has `work` done by the calling thread, the free reader, after the frame it serves now."""
        self._work = work

    def _do_work(self) -> None:
        work, self._work = self._work, None
        assert work is not None
        me = self._reader
        self._working_since = time.monotonic()
        work()
        with self._lock:
            if self._reader == me:
                self._working_since = 0.0

    def leave(self) -> None:
        """The work that the calling thread does is about to wait: another thread becomes the reader.

        Raises RuntimeError when the system has no thread to give; then this one stays the reader.
        """
        with self._lock:
            if self.mine and self._working_since:
                self._replace()

    def relieve(self, now: float) -> None:
        """Makes another thread the reader if this one has been at work for too long."""
        with self._lock, suppress(RuntimeError):  # no thread to be had: it reads on when it has done its work
            if self._working_since and now - self._working_since > BRIEF:
                self._replace()

    def _replace(self) -> None:
        reader, since = self._reader, self._working_since
        self._reader = 0
        self._working_since = 0.0
        try:
            self._go_on()
        except RuntimeError:
            self._reader, self._working_since = reader, since
            raise
