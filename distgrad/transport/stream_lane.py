"""A lane over a byte stream: who writes when, and how it ends.

A frame is written by the thread that has it, when nobody else is writing: handing it to another thread costs more than
the system call. What the system does not take at once, and what is much, is left to a thread of the lane's own, so that
no thread ever waits for the other side to read, least of all one that reads itself.
"""

from __future__ import annotations

import threading

from distgrad.errors import WireError

from .interfaces import Port
from .shared_memory import SlotReader, SlotWriter, exchange
from .stream_frames import FrameReader, FrameWriter
from .streams import Stream


class StreamLane:
    """Implements `Lane`.

    The right to write is a lock. Whoever holds it writes until the port has nothing more; it may be handed on, held, to
    the lane's writer thread.
    """

    def __init__(self, port: Port, stream: Stream, max_frame_bytes: int, slot_bytes: int = 0) -> None:
        """
        Arguments:
            slot_bytes: payloads up to this size travel in shared memory; 0 where there is none, on the way to another
                machine.
        """
        self._port = port
        self._stream = stream
        self._max_frame_bytes = max_frame_bytes
        self._slot_bytes = slot_bytes
        self._slots: SlotWriter | None = None
        self._arrivals: SlotReader | None = None
        self._frames: FrameWriter
        self._writing = threading.Lock()
        self._writing.acquire()  # nobody writes before the stream has started
        self._woken = False
        self._writer: threading.Thread | None = None
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
        """Leaves the right to write to the lane's own thread."""
        if self._writer is None:
            self._writer = threading.Thread(target=self._write_on, name="distgrad-writer", daemon=True)
            self._writer.start()
        self._handed_on.release()

    def _write_on(self) -> None:
        """The life of the writer thread: every time the right comes, it writes to the last frame."""
        while self._handed_on.acquire() and not self._ended:
            while not self._write(passing=False):
                self._stream.wait_writable()
            self._writing.release()
            self.wake()

    # ---- reading: by the lane's reader thread ------------------------------------------------------------------------

    def run(self) -> None:
        """The life of the reader thread, and so of the lane."""
        started = False
        try:
            reader = self._start()
            started = True
            self._writing.release()
            self.wake()
            self._read(reader)
            self._break("the other side ended the connection")
        except (OSError, WireError) as error:
            self._break(str(error))
        finally:
            self._end(started)
            self._port.broken(self._reason)

    def _start(self) -> FrameReader:
        """Makes the stream ready, and shared memory where there can be some."""
        self._stream.start()
        if self._slot_bytes:
            self._slots, self._arrivals = exchange(self._stream.socket, self._slot_bytes)
        self._frames = FrameWriter(self._port, self._stream, self._slots)
        return FrameReader(self._stream, self._arrivals, self._max_frame_bytes)

    def _read(self, reader: FrameReader) -> None:
        try:
            reader.give_to(self._port)
        except WireError as error:
            self._port.unreadable(str(error))
            # Words said to that must arrive: closing a socket with unread bytes would destroy them.
            reader.discard()

    def _end(self, started: bool) -> None:
        """Takes the right to write for good, from a writer who finds the stream ended, and gives everything back."""
        self._break("reading failed")
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
