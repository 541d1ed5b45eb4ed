"""A lane over a byte stream: who writes when, and how it ends.

A frame is written by the thread that has it, when nobody else is writing: handing it to another thread costs more than
the system call. What the system does not take at once, and what is much, is left to a thread of the lane's own, so that
no thread ever waits for the other side to read, least of all one that reads itself.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator

from distgrad.errors import WireError

from .interfaces import Port
from .reading import Reading
from .shared_memory import SlotReader, SlotWriter, exchange
from .stream_frames import FrameReader, FrameWriter
from .streams import Stream
from .threads import Threads


class StreamLane:
    """Implements `Lane`.

    The right to write is a lock. Whoever holds it writes until the port has nothing more; it may be handed on, held, to
    the lane's writer thread.
    """

    def __init__(
        self,
        port: Port,
        stream: Stream,
        threads: Threads,
        ended: Callable[[StreamLane], None],
        max_frame_bytes: int,
        slot_bytes: int = 0,
    ) -> None:
        """
        Arguments:
            threads: where its own are counted.
            ended: called when nothing is left of the lane.
            slot_bytes: payloads up to this size travel in shared memory; 0 where there is none, on the way to another
                machine.
        """
        self._port = port
        self._stream = stream
        self._threads = threads
        self._on_end = ended
        self._max_frame_bytes = max_frame_bytes
        self._slot_bytes = slot_bytes
        self._slots: SlotWriter | None = None
        self._arrivals: SlotReader | None = None
        self._frames: FrameWriter
        self._writing = threading.Lock()
        self._writing.acquire()  # nobody writes before the stream has started
        self._woken = False
        self._writer: threading.Thread | None = None
        self._reader: threading.Thread
        self._reading: Reading | None = None
        self._handed_on = threading.Semaphore(0)
        self._closed = False  # the stream has ended, or is about to
        self._ended = False  # and nobody will write any more
        self._reason = ""

    # ---- Lane --------------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        # Set before trying: another thread that writes now looks at it after it has let go of the right.
        self._woken = True
        while self._woken and self._writing.acquire(blocking=False):
            if not self._write(passing=True):
                self._hand_on()
                return
            self._writing.release()

    def close(self) -> None:
        self._break("the lane was closed")
        self.relieve(math.inf)

    def relieve(self, now: float) -> None:
        if self._reading is not None:
            self._reading.relieve(now)

    def _break(self, reason: str) -> None:
        self._reason = self._reason or reason
        self._closed = True
        self._stream.end()

    # ---- writing: by whoever has the right ---------------------------------------------------------------------------

    def _write(self, passing: bool) -> bool:
        """Writes what the port has; False when something is left. The lane breaks when it cannot be written."""
        self._woken = False
        try:
            return self._closed or self._frames.write(passing)
        except (OSError, WireError) as error:
            self._break(f"writing failed: {error}")
            return True
        except BaseException:  # an interrupt, perhaps between two halves of a frame: a new lane starts afresh
            self._break("writing was interrupted")
            self._writing.release()
            raise

    def _hand_on(self) -> None:
        """Leaves the right to write to the lane's own thread. Without one the lane breaks."""
        if self._writer is None:
            writer = threading.Thread(target=self._write_on, name="distgrad-writer", daemon=True)
            try:
                writer.start()
            except RuntimeError as refusal:
                self._break(f"there is no thread to write on in: {refusal}")
                self._writing.release()
                return
            self._writer = writer
        self._handed_on.release()

    def _write_on(self) -> None:
        """The life of the writer thread: every time the right comes, it writes to the last frame."""
        while self._handed_on.acquire() and not self._ended:
            while not self._write(passing=False):
                self._stream.wait_writable()
            self._writing.release()
            self.wake()

    # ---- reading: by the lane's reader thread, later perhaps another -------------------------------------------------

    def begin(self) -> None:
        """Starts the life of the lane. Raises RuntimeError when the system has no thread to give."""
        self._reader = self._threads.start("distgrad-reader", self._run)

    def _run(self) -> None:
        try:
            reader = self._start()
        except (OSError, WireError) as error:
            self._break(str(error))
            self._end(started=False)
            return
        self._reading = Reading(self._serve(reader), self._go_on)
        self._writing.release()
        self.wake()
        self._read()

    def _start(self) -> FrameReader:
        """Makes the stream ready, and shared memory where there can be some."""
        self._stream.start()
        if self._slot_bytes:
            self._slots, self._arrivals = exchange(self._stream.socket, self._slot_bytes)
        self._frames = FrameWriter(self._port, self._stream, self._slots)
        return FrameReader(self._stream, self._arrivals, self._max_frame_bytes)

    def _serve(self, reader: FrameReader) -> Iterator[None]:
        try:
            yield from reader.serve(self._port)
        except WireError as error:
            self._port.unreadable(str(error))
            # Words said to that must arrive: closing a socket with unread bytes would destroy them.
            reader.discard()

    def _read(self) -> None:
        """The life of a reader thread: until the lane ends, unless another thread takes over."""
        assert self._reading is not None
        try:
            if not self._reading.run():
                return
            self._break("the other side ended the connection")
        except OSError as error:
            self._break(str(error))
        self._end(started=True)

    def _go_on(self) -> None:
        self._reader = self._threads.hand_over(self._reader, "distgrad-reader", self._read)

    def _end(self, started: bool) -> None:
        """Takes the right to write for good, from a writer who finds the stream ended, and gives everything back."""
        if started:
            self._writing.acquire()
        self._ended = True
        if self._writer is not None:
            self._handed_on.release()
            self._writer.join()
        for memory in (self._slots, self._arrivals):
            if memory is not None:
                memory.close()
        self._stream.close()
        self._on_end(self)
        self._port.broken(self._reason)
