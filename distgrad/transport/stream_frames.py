"""Frames on a byte stream, written and read.

    | length, 4 bytes, little-endian | slot, 4 bytes | a frame of that length | length | ...

Where there is shared memory, a large payload travels in one of its slots, and the stream carries the rest of its frame
with the slot's number. With slot 0 the payload is part of the frame, as it is on other lanes.
"""

from __future__ import annotations

import math
import struct
import time
from collections import deque
from collections.abc import Iterator

from distgrad.errors import WireError
from distgrad.wire.frames import Buffer

from .buffers import aligned
from .interfaces import Port
from .shared_memory import SlotReader, SlotWriter
from .streams import Stream

HEADER = struct.Struct("<II")
# Small frames are gathered up to so many bytes for one system call.
GATHERED = 2**16
# After so many bytes a thread that writes in passing leaves the rest to another.
IN_PASSING = 2**21
# Read at once; a longer frame is read straight into memory of its own.
BUFFER = 2**16
# The rest of a longer frame is waited for in such parts, so that one which comes slowly is noticed to come.
PART = 2**18
# Larger payloads go into a slot.
WORTH_A_SLOT = 2**15
# A writer that finds no free slot looks again so often, after so many seconds; then the payload goes over the stream.
LOOKS = 20
PAUSE = 5e-5


class FrameWriter:
    """Writes what a port has. Used by one thread at a time, which never waits for the other side to read the stream."""

    def __init__(self, port: Port, stream: Stream, slots: SlotWriter | None) -> None:
        self._port = port
        self._stream = stream
        self._slots = slots
        self._taken: deque[list[Buffer]] = deque()  # frames of the port that are not yet packed
        self._bytes: list[Buffer] = []  # packed, but not yet taken by the system
        self._emptied = False  # the port had no other frame when it was last asked

    def write(self, passing: bool) -> bool:
        """Writes until the port has no frame. False when something is left: the system takes no more now, or it is too
        much to write in passing.

        Raises:
            OSError: the stream has ended.
            WireError: the other side has written nonsense into the shared memory.
        """
        room = IN_PASSING if passing else math.inf
        try:
            while self._bytes or self._taken or not self._emptied:
                if not self._bytes:
                    if room <= 0:
                        return False
                    room -= self._pack(passing)
                    if not self._bytes:
                        continue
                sent = self._stream.send(self._bytes)
                whole = len(self._bytes) == 1 and sent == len(self._bytes[0])
                self._bytes = [] if whole else _without(self._bytes, sent)
        except BlockingIOError:
            return False
        self._emptied = False
        if self._port.finished:
            self._stream.finish()
        return True

    def _pack(self, passing: bool) -> int:
        """Packs a frame whose payload goes into a slot, or some others. Returns their size."""
        fresh = not self._taken
        if fresh:
            self._taken.extend(self._port.take(GATHERED))
        packed: list[Buffer] = []
        size = 0
        while self._taken and size < GATHERED:
            frame = self._taken[0]
            length = len(frame[0]) if len(frame) == 1 else sum(map(len, frame))
            payload = length - len(frame[0])
            if self._slots is not None and WORTH_A_SLOT < payload <= self._slots.slot_bytes:
                if packed:  # let those go first
                    break
                if self._slot_is_free(self._slots, passing):
                    slot = self._slots.put(frame[1:])
                    self._bytes = [HEADER.pack(len(frame[0]), slot) + frame[0]]
                    self._taken.popleft()
                    return payload
                if passing:
                    raise BlockingIOError("all slots are taken")
            packed.append(HEADER.pack(length, 0))
            packed += frame
            size += HEADER.size + length
            self._taken.popleft()
        self._emptied = fresh and not self._taken and size < GATHERED
        self._bytes = packed if size > GATHERED else [b"".join(packed)] if packed else []
        return size

    def _slot_is_free(self, slots: SlotWriter, passing: bool) -> bool:
        """Gives the other side, which is busy reading, a moment when no slot is free."""
        for _ in range(0 if passing else LOOKS):
            if not slots.full:
                return True
            time.sleep(PAUSE)
        return not slots.full


class FrameReader:
    """Reads what the other side writes. Used by one thread."""

    def __init__(self, stream: Stream, slots: SlotReader | None, max_frame_bytes: int) -> None:
        self._stream = stream
        self._slots = slots
        self._max_frame_bytes = max_frame_bytes

    def serve(self, port: Port) -> Iterator[None]:
        """Gives the port one frame at each step, until the stream ends.

        Raises:
            OSError: the stream broke.
            WireError: what came is no frame; nothing more can be read.
        """
        for frame, slot, payload in self._frames(port):
            if slot == 0:
                port.received(frame, payload)
            elif self._slots is None:
                raise WireError(f"slot {slot} of shared memory was named, and there is none")
            else:
                port.received(frame, self._slots.view(slot))
                self._slots.free()
            yield

    def _frames(self, port: Port) -> Iterator[tuple[Buffer, int, memoryview | None]]:
        """Frames, the slots that hold their payloads, and their payloads where these are somewhere else."""
        buffer = bytearray(BUFFER)
        view = memoryview(buffer)
        start = end = 0  # of what was read and not yet given
        while got := self._stream.receive_into(view[end:]):
            end += got
            while end - start >= HEADER.size:
                length, slot = HEADER.unpack_from(buffer, start)
                if length > self._max_frame_bytes:
                    raise WireError(f"a frame of {length} bytes was announced, {self._max_frame_bytes} are allowed")
                first, last = start + HEADER.size, start + HEADER.size + length
                if last <= end:
                    yield bytes(view[first:last]), slot, None
                    start = last
                elif HEADER.size + length <= BUFFER:
                    break
                else:
                    whole = self._complete(port, length, view[first:end])
                    if whole is None:
                        return
                    frame, payload = whole
                    yield frame, slot, payload
                    start = end = 0
            view[: end - start] = view[start:end]
            start, end = 0, end - start

    def _complete(self, port: Port, length: int, begun: memoryview) -> tuple[Buffer, memoryview | None] | None:
        """Reads the rest of a large frame, its payload to where the port wants it; None when the stream ends before."""
        head, payload = port.place(begun) or (0, None)
        if payload is None or head + len(payload) != length:
            head, payload = 0, None
        target = aligned(length) if payload is None else payload
        here = len(begun) - head
        target[:here] = begun[head:]
        for start in range(here, len(target), PART):
            part = target[start : start + PART]
            if self._stream.receive_into(part, wait_for_all=True) < len(part):
                return None
            port.heard()
        return (target, None) if payload is None else (bytes(begun[:head]), payload)

    def discard(self) -> None:
        """Reads on without a look, until the stream ends."""
        rest = memoryview(bytearray(BUFFER))
        while self._stream.receive_into(rest):
            continue


def _without(pieces: list[Buffer], sent: int) -> list[Buffer]:
    """What is left of `pieces` when `sent` bytes have gone."""
    for index, piece in enumerate(pieces):
        if sent < len(piece):
            return [memoryview(piece)[sent:], *pieces[index + 1 :]] if sent else pieces[index:]
        sent -= len(piece)
    return []
