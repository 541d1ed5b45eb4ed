"""`pb.Frame` and its arrays <-> bytes, without copying the arrays through protobuf.

Protobuf's own code copies a `bytes` field on every side. The payload is the frame's last field, so its tag and length
can be written by hand before the arrays' own memory, and read by hand as a view of what arrived. The result is ordinary
protobuf: any other implementation reads and writes it.

    | fields 1 to 30, by protobuf | padding | payload: array 0 | gap | array 1 | ... |
                                             ^ a multiple of 64 from the start    ^ so are these
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Mapping, MutableMapping, Sequence
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from distgrad.errors import WireError

from . import pb
from .dtypes import Array, copied_bytes, dtype_name, from_raw, raw_bytes

ALIGNMENT = 64
# Any message with the fields 30 to 32 of a frame: frames, and the requests and responses of the gradient service.
Carrier = Any
Buffer = bytes | bytearray | memoryview
# Arrays up to this size are copied rather than pointed to, and frames are left to protobuf whole: a copy costs less.
SMALL = 4096

_PAYLOAD_FIELD = pb.Frame.DESCRIPTOR.fields_by_name["payload"].number
_PADDING_FIELD = pb.Frame.DESCRIPTOR.fields_by_name["padding"].number
_LENGTH_DELIMITED = 2
_GAPS = [bytes(n) for n in range(ALIGNMENT)]


# The numbers below 128, and the same with the mark that more follows.
_LAST = [bytes([n]) for n in range(0x80)]
_MORE = [bytes([n | 0x80]) for n in range(0x80)]


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    if number < 0x80:
        return _LAST[number]
    if number < 0x4000:
        return _MORE[number & 0x7F] + _LAST[number >> 7]
    return _MORE[number & 0x7F] + varint(number >> 7)


def tag(field: int) -> bytes:
    """What a length-delimited field begins with, before its length."""
    return varint(field << 3 | _LENGTH_DELIMITED)


def embedded(tag: bytes, content: bytes) -> bytes:
    """A length-delimited field: a message within another, as its bytes."""
    return b"".join((tag, varint(len(content)), content))


_PAYLOAD_TAG = tag(_PAYLOAD_FIELD)
_PADDING_TAG = tag(_PADDING_FIELD)
_ARRAYS_TAG = tag(pb.Frame.DESCRIPTOR.fields_by_name["arrays"].number)
# Both are numbers, not length-delimited.
_SEQUENCE_TAG = varint(pb.Frame.DESCRIPTOR.fields_by_name["sequence"].number << 3)
_ACKNOWLEDGED_TAG = varint(pb.Frame.DESCRIPTOR.fields_by_name["acknowledged"].number << 3)


# ---- writing ---------------------------------------------------------------------------------------------------------


def encode_frame(frame: Carrier, arrays: Sequence[Array], transfers: Mapping[int, int] | None = None) -> list[Buffer]:
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
    frame: Carrier, arrays: Sequence[Array], transfers: Mapping[int, int] | None = None
) -> tuple[list[Buffer], int]:
    """Writes the arrays' headers into `frame`; returns the pieces of its payload and their size together."""
    headers, pieces, size = lay_out_arrays(arrays, transfers)
    frame.MergeFromString(headers)
    return pieces, size


def lay_out_arrays(
    arrays: Sequence[Array], transfers: Mapping[int, int] | None = None
) -> tuple[bytes, list[Buffer], int]:
    """The headers of arrays, as fields of the frame that carries them; the pieces of its payload, and their size
    together."""
    headers: list[bytes] = []
    pieces: list[Buffer] = []
    end = 0
    for index, array in enumerate(arrays):
        transfer = transfers.get(index, 0) if transfers else 0
        size = array.nbytes
        if transfer or not size:
            headers.append(_header(array.dtype, array.shape, 0, transfer))
            continue
        offset = end + -end % ALIGNMENT
        if offset:
            pieces.append(_GAPS[offset - end])
        headers.append(_header(array.dtype, array.shape, offset, 0))
        pieces.append(copied_bytes(array) if size <= SMALL else raw_bytes(array))
        end = offset + size
    return headers[0] if len(headers) == 1 else b"".join(headers), pieces, end


@functools.lru_cache(1024)
def _header(dtype: np.dtype[Any], shape: tuple[int, ...], offset: int, transfer: int) -> bytes:
    """The header of one array, as a field of a frame. Most arrays are like others before them."""
    size = dtype.itemsize * math.prod(shape)
    header = pb.Array(dtype=dtype_name(dtype), shape=shape, offset=offset, size=size, transfer=transfer)
    return embedded(_ARRAYS_TAG, header.SerializeToString())


def join_frame(frame: Carrier, pieces: Sequence[Buffer], size: int) -> list[Buffer]:
    """The bytes of a frame whose payload is `pieces`, `size` bytes together."""
    return append_payload(frame.SerializeToString(), pieces, size)


def frame_head(sequence: int, acknowledged: int, rest: bytes) -> bytes:
    """A sequenced frame without payload, given its other fields: its body and the headers of its arrays."""
    return b"".join((_SEQUENCE_TAG, varint(sequence), _ACKNOWLEDGED_TAG, varint(acknowledged), rest))


def append_payload(head: bytes, pieces: Sequence[Buffer], size: int) -> list[Buffer]:
    """The bytes of a frame, given those of all fields but padding and payload. The first piece is all but that."""
    if not size:
        return [head]
    payload = _PAYLOAD_TAG + varint(size)
    # One byte is the padding's own length.
    padding = -(len(head) + len(_PADDING_TAG) + 1 + len(payload)) % ALIGNMENT
    return [b"".join((head, _PADDING_TAG, _LAST[padding], _GAPS[padding], payload)), *pieces]


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
    if beside is None:
        return split_message(pb.Frame, buffer)[:2]
    frame, payload, missing = split_message(pb.Frame, buffer, beside=True)
    if payload or missing > len(beside):
        raise WireError(
            f"a payload of {missing} bytes beside its frame, which has room for {len(beside)}, was announced"
        )
    return frame, beside[:missing]


M = TypeVar("M", bound=Message)


def split_message(kind: type[M], buffer: Buffer, beside: bool = False) -> tuple[M, memoryview, int]:
    """A message that has arrays, padding and payload as a frame has: without the latter two; a view of its payload; and
    how many bytes of the payload are missing at the end of `buffer`: none, unless the payload is `beside`.

    Raises:
        WireError: the bytes are not such a message.
    """
    if len(buffer) <= SMALL and not beside:
        message: Any = parse(kind, buffer)
        payload = memoryview(message.payload)
        message.ClearField("payload")
        message.ClearField("padding")
        return message, payload, 0
    view = memoryview(buffer).toreadonly().cast("B")
    rest, contents, missing = take_out(view, (_PAYLOAD_FIELD, _PADDING_FIELD), beside)
    return parse(kind, rest), contents.get(_PAYLOAD_FIELD, view[:0]), missing


def take_out(
    view: memoryview, fields: Collection[int], beside: bool = False
) -> tuple[Buffer, dict[int, memoryview], int]:
    """The bytes of a message without some of its length-delimited fields, views of these fields, and how many bytes are
    missing of the last one, which may go on elsewhere when `beside` is set.

    Raises:
        WireError: the bytes are not a message.
    """
    contents: dict[int, memoryview] = {}
    kept: list[memoryview] = []
    kept_from = position = missing = 0
    end = len(view)
    while position < end:
        start = position
        key, position = read_varint(view, position)
        field, kind = key >> 3, key & 7
        position, length = _skip(view, position, kind)
        taken = kind == _LENGTH_DELIMITED and field in fields
        if position > end:
            if not (beside and taken):
                raise WireError(f"a message of {end} bytes ends within a field: {position} were announced")
            missing = position - end
        if taken:
            contents[field] = view[position - length : position]
            kept.append(view[kept_from:start])
            kept_from = position
    kept.append(view[kept_from:])
    return kept[0] if len(kept) == 1 else b"".join(kept), contents, missing


def parse(kind: type[M], buffer: Buffer) -> M:
    """The message that bytes are. Raises WireError when they are none."""
    try:
        return kind.FromString(buffer)  # type: ignore[arg-type]  # it takes any buffer
    except (DecodeError, ValueError) as error:
        raise WireError(f"bytes that are not a {kind.DESCRIPTOR.name}: {error}") from None


def view_arrays(
    frame: Carrier, payload: memoryview, transfers: MutableMapping[int, memoryview] | None = None
) -> list[Array]:
    """The arrays of a frame, as `decode_frame` gives them. Raises WireError."""
    arrays = []
    for header in frame.arrays:
        name, shape, offset, size, transfer = _read_header(header.SerializeToString())
        raw = payload
        if transfer:
            if not transfers or transfer not in transfers:
                raise WireError(f"a frame names transfer {transfer}, which is not complete or not known")
            raw = transfers.pop(transfer)
        arrays.append(from_raw(raw, name, shape, offset, size))
    return arrays


@functools.lru_cache(1024)
def _read_header(encoded: bytes) -> tuple[str, tuple[int, ...], int, int, int]:
    """What the header of an array says. Most are like others before them."""
    header = pb.Array.FromString(encoded)
    return header.dtype, tuple(header.shape), header.offset, header.size, header.transfer


def _skip(view: memoryview, position: int, kind: int) -> tuple[int, int]:
    """Where a field's content ends, perhaps behind the view, and its length when it is length-delimited."""
    length = 0
    if kind == _LENGTH_DELIMITED:
        length, position = read_varint(view, position)
        position += length
    elif kind == 0:
        _, position = read_varint(view, position)
    elif kind in (1, 5):
        position += 8 if kind == 1 else 4
    else:
        raise WireError(f"bytes that are not a message: wire type {kind}")
    return position, length


def read_varint(view: memoryview, position: int) -> tuple[int, int]:
    """A number, and where it ends. Raises WireError."""
    number = shift = 0
    for _ in range(10):
        if position >= len(view):
            raise WireError(f"a message of {len(view)} bytes ends within a number")
        byte = view[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
    raise WireError("a number of a message is longer than ten bytes")
