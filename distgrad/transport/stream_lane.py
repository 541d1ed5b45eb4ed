"""A lane over a byte stream: frames one after the other, each behind a header of its length.

A frame is written by the thread that has it, when nobody else is writing: handing it to another thread costs more than
the system call. What the system does not take at once, and what is much, is left to a thread of the lane's own, so that
no thread ever waits for the other side to read, least of all one that reads itself.
"""

from __future__ import annotations

import math
import struct
import threading
from collections.abc import Iterator

import numpy as np

from distgrad.errors import WireError
from distgrad.wire.frames import ALIGNMENT, Buffer

from .interfaces import Port
from .streams import Stream

# Number of bytes of the frame that follows.
HEADER = struct.Struct("<I")
# Small frames are gathered up to so many bytes for one system call.
GATHERED = 2**16
# After so many bytes a thread that came to send leaves the rest to the lane's own.
IN_PASSING = 2**18
# Read at once; a longer frame is read straight into memory of its own.
BUFFER = 2**16


class StreamLane:
    """Implements `Lane`.

    The right to write is a lock. Whoever holds it asks the port for frames until there are none; it may be handed on,
    held, to the lane's writer thread.
    """

    def __init__(self, port: Port, stream: Stream, max_frame_bytes: int) -> None:
        self._port = port
        self._stream = stream
        self._max_frame_bytes = max_frame_bytes
        self._writing = threading.Lock()
        self._writing.acquire()  # nobody writes before the stream has started
        self._woken = False
        self._rest: list[Buffer] = []  # taken from the port, not yet by the system
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
            if not self._write(IN_PASSING):
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

    def _write(self, limit: float) -> bool:
        """Writes what the port has. False when something is left: the system takes no more now, or `limit` bytes have
        been written."""
        self._woken = False
        try:
            while not self._closed and (self._rest or self._take()):
                if limit <= 0:
                    return False
                sent = self._stream.send(self._rest)
                self._rest = _without(self._rest, sent)
                limit -= sent
        except BlockingIOError:
            return False
        except OSError as error:
            self._break(f"writing failed: {error}")
        except BaseException:  # an interrupt, perhaps between two halves of a frame: a new lane starts afresh
            self._break("writing was interrupted")
            self._writing.release()
            raise
        return True

    def _take(self) -> bool:
        """Takes what is to be written next: a large frame, or small ones together. False when there is none."""
        taken: list[Buffer] = []
        size = 0
        while size < GATHERED and (pieces := self._port.take()) is not None:
            length = sum(map(len, pieces))
            taken.append(HEADER.pack(length))
            taken += pieces
            size += length
        self._rest = taken if size > GATHERED else [b"".join(taken)] if taken else []
        if not taken and self._port.finished:
            self._stream.finish()
        return bool(taken)

    def _hand_on(self) -> None:
        """Leaves the right to write to the lane's own thread."""
        if self._writer is None:
            self._writer = threading.Thread(target=self._write_on, name="distgrad-writer", daemon=True)
            self._writer.start()
        self._handed_on.release()

    def _write_on(self) -> None:
        """The life of the writer thread: every time the right comes, it writes to the last frame."""
        while self._handed_on.acquire() and not self._ended:
            while not self._write(math.inf):
                self._stream.wait_writable()
            self._writing.release()
            self.wake()

    # ---- reading: by the lane's reader thread ------------------------------------------------------------------------

    def run(self) -> None:
        """The life of the reader thread, and so of the lane."""
        started = False
        try:
            self._stream.start()
            started = True
            self._writing.release()
            self.wake()
            self._read()
            self._break("the other side ended the connection")
        except OSError as error:
            self._break(str(error))
        finally:
            self._end(started)
            self._port.broken(self._reason)

    def _end(self, started: bool) -> None:
        """Takes the right to write for good, from a writer who finds the stream ended, and gives everything back."""
        self._break("reading failed")
        if started:
            self._writing.acquire()
        self._ended = True
        if self._writer is not None:
            self._handed_on.release()
            self._writer.join()
        self._stream.close()

    def _read(self) -> None:
        try:
            for frame in self._frames():
                self._port.received(frame)
        except WireError as error:
            self._port.unreadable(str(error))
            # What it says to that must arrive: closing a socket with unread bytes would destroy it.
            rest = memoryview(bytearray(BUFFER))
            while self._stream.receive_into(rest):
                continue

    def _frames(self) -> Iterator[Buffer]:
        """The frames that arrive until the stream ends."""
        buffer = bytearray(BUFFER)
        view = memoryview(buffer)
        start = end = 0  # of what was read and not yet given
        while got := self._stream.receive_into(view[end:]):
            end += got
            while end - start >= HEADER.size:
                (length,) = HEADER.unpack_from(buffer, start)
                if length > self._max_frame_bytes:
                    raise WireError(f"a frame of {length} bytes was announced, {self._max_frame_bytes} are allowed")
                first, last = start + HEADER.size, start + HEADER.size + length
                if last <= end:
                    yield bytes(view[first:last])
                    start = last
                elif HEADER.size + length <= BUFFER:
                    break
                else:
                    frame = self._complete(length, view[first:end])
                    if frame is None:
                        return
                    yield frame
                    start = end = 0
            view[: end - start] = view[start:end]
            start, end = 0, end - start

    def _complete(self, length: int, begun: memoryview) -> memoryview | None:
        """Reads the rest of a large frame; None when the stream ends before."""
        frame = aligned(length)
        frame[: len(begun)] = begun
        missing = frame[len(begun) :]
        return frame if self._stream.receive_into(missing, wait_for_all=True) == len(missing) else None


def _without(pieces: list[Buffer], sent: int) -> list[Buffer]:
    """What is left of `pieces` when `sent` bytes have gone."""
    for index, piece in enumerate(pieces):
        if sent < len(piece):
            return [memoryview(piece)[sent:], *pieces[index + 1 :]] if sent else pieces[index:]
        sent -= len(piece)
    return []


def aligned(size: int) -> memoryview:
    """Fresh memory that begins at a multiple of 64, so that the arrays of a frame read into it do too."""
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.__array_interface__["data"][0] % ALIGNMENT
    return memory[start : start + size].data
