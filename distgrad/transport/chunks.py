"""Large arrays travel in chunks, before the frame that names them.

The `Outbox` decides what leaves next, the `Assembler` puts together what arrives. A link's messages leave in order; a
reply with large arrays (nobody's order depends on it) leaves beside them, so that what is small does not wait behind
it: whatever has something to send takes turns, one frame each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from distgrad.errors import ResourceExhausted, WireError
from distgrad.wire import pb
from distgrad.wire.dtypes import Array, raw_bytes
from distgrad.wire.frames import ALIGNMENT, Buffer, lay_out_arrays

from .buffers import aligned, copy_into

# A frame ready to be numbered: the bytes of its fields but numbers, padding and payload; the pieces of its payload, and
# their size in bytes; and the bytes of arrays in it, which count for the window.
Outgoing = tuple[bytes, Sequence[Buffer], int, int]


# A message that has not left: its body, as a field of a frame, its arrays, and how many bytes these are together.
_Message = tuple[bytes, Sequence[Array], int]


class Outbox:
    """Messages of one link that have not left, as a set of streams that take turns.

    While there are no chunks, there are no streams either: messages leave as they came.
    """

    def __init__(self, chunk_bytes: int) -> None:
        self._chunk_bytes = chunk_bytes
        self._whole: deque[_Message] = deque()
        self._in_order: deque[_Message] = deque()
        self._streams: deque[Iterator[Outgoing]] = deque()
        self._orderly = False
        self._transfers = 0

    def put(self, body: bytes, arrays: Sequence[Array], size: int, reply: bool = False) -> None:
        """
        Arguments:
            body: as a field of a frame.
            size: of all arrays in bytes.
            reply: it may leave before others that were put earlier.
        """
        message = body, arrays, size
        fits = size + ALIGNMENT * len(arrays) <= self._chunk_bytes
        if fits and not self._streams:
            self._whole.append(message)
        elif reply and not fits and too_large(arrays, self._chunk_bytes):
            self._streams.append(self._leave(message))
        else:
            self._in_order.append(message)
            if not self._orderly:
                self._orderly = True
                self._streams.append(self._leave_in_order())

    def next(self) -> Outgoing | None:
        """What leaves next; None when nothing is left."""
        if self._whole:
            body, arrays, weight = self._whole.popleft()
            if not arrays:
                return body, (), 0, 0
            headers, pieces, size = lay_out_arrays(arrays)
            return body + headers, pieces, size, weight
        while self._streams:
            stream = self._streams.popleft()
            outgoing = next(stream, None)
            if outgoing is not None:
                self._streams.append(stream)
                return outgoing
        return None

    def _leave_in_order(self) -> Iterator[Outgoing]:
        while self._in_order:
            yield from self._leave(self._in_order.popleft())
        self._orderly = False

    def _leave(self, message: _Message) -> Iterator[Outgoing]:
        body, arrays, weight = message
        transfers = {}
        for index in too_large(arrays, self._chunk_bytes):
            self._transfers += 1
            transfers[index] = self._transfers
            weight -= arrays[index].nbytes
            yield from self._chunks(self._transfers, raw_bytes(arrays[index]))
        headers, pieces, size = lay_out_arrays(arrays, transfers)
        yield body + headers, pieces, size, weight

    def _chunks(self, transfer: int, raw: memoryview) -> Iterator[Outgoing]:
        for offset in range(0, len(raw), self._chunk_bytes):
            piece = raw[offset : offset + self._chunk_bytes]
            chunk = pb.Frame(chunk=pb.Chunk(transfer=transfer, total=len(raw), offset=offset))
            yield chunk.SerializeToString(), [piece], len(piece), len(piece)


def too_large(arrays: Sequence[Array], chunk_bytes: int) -> list[int]:
    """Indices of the arrays that do not fit into one message: the smallest stay, up to a chunk together."""
    room = chunk_bytes
    chunked = []
    for index in sorted(range(len(arrays)), key=lambda index: arrays[index].nbytes):
        room -= arrays[index].nbytes + ALIGNMENT
        if room < -ALIGNMENT and arrays[index].nbytes:
            chunked.append(index)
    return sorted(chunked)


class Assembler:
    """Transfers under way to this side of one link.

    Attributes:
        complete: whole transfers by id, for the frames that name them to take.
    """

    def __init__(self, max_bytes: int) -> None:
        """
        Arguments:
            max_bytes: of all transfers that are not complete, together.
        """
        self.complete: dict[int, memoryview] = {}
        self._max_bytes = max_bytes
        self._partial: dict[int, tuple[memoryview, int]] = {}
        self._placed = 0  # the transfer whose next chunk is being read straight to its place

    def place(self, chunk: pb.Chunk, size: int) -> memoryview | None:
        """Where the next chunk of a transfer belongs, of `size` bytes, for a lane to read it there; `add` comes next.
        None when it does not continue its transfer, as `add` will say.

        Raises WireError and ResourceExhausted as `add` does.
        """
        buffer, filled = self._partial.get(chunk.transfer) or (self._new(chunk), 0)
        end = filled + size
        if chunk.total != len(buffer) or chunk.offset != filled or end > len(buffer):
            return None
        self._partial[chunk.transfer] = buffer, filled
        self._placed = chunk.transfer
        return buffer[filled:end]

    def displace(self) -> None:
        """Nobody writes any more to the place that was given last: a lane that is given up may still be reading."""
        if self._placed in self._partial:
            buffer, filled = self._partial[self._placed]
            fresh = aligned(len(buffer))
            copy_into(fresh[:filled], buffer[:filled])
            self._partial[self._placed] = fresh, filled
        self._placed = 0

    def add(self, chunk: pb.Chunk, payload: memoryview) -> None:
        """Puts a chunk in its place, unless it was read there. Memory is set aside once, for the whole transfer, after
        its size was checked.

        Raises:
            WireError: the chunk does not continue its transfer.
            ResourceExhausted: the transfer is larger than may be under way.
        """
        known = self._partial.get(chunk.transfer)
        buffer, filled = known if known is not None else (self._new(chunk), 0)
        end = filled + len(payload)
        if chunk.total != len(buffer) or chunk.offset != filled or end > len(buffer) or not payload:
            raise WireError(
                f"chunk at {chunk.offset} of {len(payload)} bytes of a transfer of {chunk.total} "
                f"does not continue transfer {chunk.transfer}, which has {filled} of {len(buffer)} bytes"
            )
        if payload.obj is not buffer.obj:
            copy_into(buffer[filled:end], payload)
        self._placed = 0
        if end < len(buffer):
            self._partial[chunk.transfer] = buffer, end
            return
        self._partial.pop(chunk.transfer, None)
        self.complete[chunk.transfer] = buffer.toreadonly()

    def _new(self, chunk: pb.Chunk) -> memoryview:
        if chunk.transfer in self.complete or chunk.transfer == 0:
            raise WireError(f"transfer {chunk.transfer} began twice")
        whole = sum(len(buffer) for buffer in self.complete.values())
        under_way = whole + sum(len(buffer) for buffer, _ in self._partial.values())
        if under_way + chunk.total > self._max_bytes:
            raise ResourceExhausted(
                f"an array of {chunk.total} bytes began to arrive with {under_way} bytes under way, "
                f"more than max_transfer_bytes = {self._max_bytes}"
            )
        try:
            return aligned(chunk.total)
        except MemoryError:
            raise ResourceExhausted(f"no memory for an array of {chunk.total} bytes that began to arrive") from None
