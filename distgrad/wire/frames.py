"""`pb.Frame` and its arrays <-> bytes, without copying the arrays through protobuf.

Protobuf's own code copies a `bytes` field on every side. The payload is the frame's last field, so its tag and length
can be written by hand before the arrays' own memory, and read by hand as a view of what arrived. The result is ordinary
protobuf: any other implementation reads and writes it.

    | fields 1 to 30, by protobuf | padding | payload: array 0 | gap | array 1 | ... |
                                             ^ a multiple of 64 from the start    ^ so are these
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from google.protobuf.message import DecodeError

from distgrad.errors import WireError

from . import pb
from .dtypes import Array, copied_bytes, dtype_name, from_raw, raw_bytes

ALIGNMENT = 64
Buffer = bytes | bytearray | memoryview
# Arrays up to this size are copied rather than pointed to, and frames are left to protobuf whole: a copy costs less.
SMALL = 4096

_PAYLOAD_FIELD = pb.Frame.DESCRIPTOR.fields_by_name["payload"].number
_PADDING_FIELD = pb.Frame.DESCRIPTOR.fields_by_name["padding"].number
_LENGTH_DELIMITED = 2
_GAPS = [bytes(n) for n in range(ALIGNMENT)]


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_PAYLOAD_TAG = _varint(_PAYLOAD_FIELD << 3 | _LENGTH_DELIMITED)
_PADDING_TAG = _varint(_PADDING_FIELD << 3 | _LENGTH_DELIMITED)


# ---- writing ---------------------------------------------------------------------------------------------------------


def encode_frame(frame: pb.Frame, arrays: Sequence[Array], transfers: Mapping[int, int] | None = None) -> list[Buffer]:
    """The bytes of a frame, in pieces to be written one after the other; large pieces are the arrays' own memory.

    Arguments:
        frame: without arrays, padding and payload; its `arrays` are filled in here.
        arrays: of any layout and byte order; must not be written to while the pieces are in use.
        transfers: ids of the transfers that bring some of the arrays in chunks instead, by the arrays' index.

    Raises:
        WireError: an array's elements do not travel.
    """
    return join_frame(frame, *lay_out(frame, arrays, transfers))


def lay_out(
    frame: pb.Frame, arrays: Sequence[Array], transfers: Mapping[int, int] | None = None
) -> tuple[list[Buffer], int]:
    """Writes the arrays' headers into `frame`; returns the pieces of its payload and their size together."""
    pieces: list[Buffer] = []
    end = 0
    for index, array in enumerate(arrays):
        transfer = transfers.get(index, 0) if transfers else 0
        size = array.nbytes
        header = frame.arrays.add(dtype=dtype_name(array.dtype), shape=array.shape, size=size, transfer=transfer)
        if transfer or not size:
            continue
        offset = end + -end % ALIGNMENT
        if offset:
            header.offset = offset
            pieces.append(_GAPS[offset - end])
        pieces.append(copied_bytes(array) if size <= SMALL else raw_bytes(array))
        end = offset + size
    return pieces, end


def join_frame(frame: pb.Frame, pieces: Sequence[Buffer], size: int) -> list[Buffer]:
    """The bytes of a frame whose payload is `pieces`, `size` bytes together."""
    header = frame.SerializeToString()
    if not size:
        return [header]
    payload = _PAYLOAD_TAG + _varint(size)
    # One byte is the padding's own length.
    padding = -(len(header) + len(_PADDING_TAG) + 1 + len(payload)) % ALIGNMENT
    return [b"".join((header, _PADDING_TAG, _varint(padding), _GAPS[padding], payload)), *pieces]


# ---- reading ---------------------------------------------------------------------------------------------------------


def decode_frame(
    buffer: Buffer, transfers: MutableMapping[int, memoryview] | None = None
) -> tuple[pb.Frame, list[Array]]:
    """Reads a frame; its arrays are read-only views of `buffer`, copied only where elements would lie unaligned.

    Arguments:
        buffer: one whole frame; kept alive by the arrays.
        transfers: bytes of completed transfers by id; those the frame names are taken out.

    Returns:
        The frame without padding and payload, and its arrays.

    Raises:
        WireError: the bytes are not a frame, or its arrays are not what it says.
    """
    frame, payload = split_frame(buffer)
    return frame, view_arrays(frame, payload, transfers)


def split_frame(buffer: Buffer, beside: memoryview | None = None) -> tuple[pb.Frame, memoryview]:
    """A frame without padding and payload, and a view of its payload.

    Arguments:
        beside: memory that begins with the payload's bytes, when they do not follow their length in `buffer`.

    Raises:
        WireError: the bytes are not a frame.
    """
    if len(buffer) <= SMALL and beside is None:
        return _split_small_frame(buffer)
    view = memoryview(buffer).toreadonly().cast("B")
    payload = view[:0]
    kept: list[memoryview] = []
    kept_from = position = 0
    end = len(view)
    while position < end:
        start = position
        tag, position = _read_varint(view, position)
        field, kind = tag >> 3, tag & 7
        if beside is not None and field == _PAYLOAD_FIELD and kind == _LENGTH_DELIMITED:
            payload = _payload_beside(view, position, beside)
            position = end
        else:
            position, length = _skip(view, position, kind)
            if kind != _LENGTH_DELIMITED or field not in (_PAYLOAD_FIELD, _PADDING_FIELD):
                continue
            if field == _PAYLOAD_FIELD:
                payload = view[position - length : position]
        kept.append(view[kept_from:start])
        kept_from = position
    kept.append(view[kept_from:])
    return _parse(kept[0] if len(kept) == 1 else b"".join(kept)), payload


def _split_small_frame(buffer: Buffer) -> tuple[pb.Frame, memoryview]:
    frame = _parse(buffer)
    payload = memoryview(frame.payload)
    frame.ClearField("payload")
    frame.ClearField("padding")
    return frame, payload


def _parse(buffer: Any) -> pb.Frame:
    # Any: the stubs ask for bytes, and parsing takes any buffer.
    try:
        return pb.Frame.FromString(buffer)
    except (DecodeError, ValueError) as error:
        raise WireError(f"bytes that are not a frame: {error}") from None


def _payload_beside(view: memoryview, position: int, beside: memoryview) -> memoryview:
    """The payload whose length, the last of the frame's bytes, is at `position`."""
    length, position = _read_varint(view, position)
    if position != len(view) or length > len(beside):
        raise WireError(
            f"a payload of {length} bytes beside its frame, which has room for {len(beside)}, was announced"
        )
    return beside[:length]


def view_arrays(
    frame: pb.Frame, payload: memoryview, transfers: MutableMapping[int, memoryview] | None = None
) -> list[Array]:
    """The arrays of a frame, as `decode_frame` gives them. Raises WireError."""
    arrays = []
    for header in frame.arrays:
        raw = payload
        if header.transfer:
            if not transfers or header.transfer not in transfers:
                raise WireError(f"a frame names transfer {header.transfer}, which is not complete or not known")
            raw = transfers.pop(header.transfer)
        arrays.append(from_raw(raw, header.dtype, tuple(header.shape), header.offset, header.size))
    return arrays


def _skip(view: memoryview, position: int, kind: int) -> tuple[int, int]:
    """Where a field's content ends, and its length when it is length-delimited."""
    length = 0
    if kind == _LENGTH_DELIMITED:
        length, position = _read_varint(view, position)
        position += length
    elif kind == 0:
        _, position = _read_varint(view, position)
    elif kind in (1, 5):
        position += 8 if kind == 1 else 4
    else:
        raise WireError(f"bytes that are not a frame: wire type {kind}")
    if position > len(view):
        raise WireError(f"a frame of {len(view)} bytes ends within a field: {position} were announced")
    return position, length


def _read_varint(view: memoryview, position: int) -> tuple[int, int]:
    number = shift = 0
    for _ in range(10):
        if position >= len(view):
            raise WireError(f"a frame of {len(view)} bytes ends within a number")
        byte = view[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
    raise WireError("a number of a frame is longer than ten bytes")
