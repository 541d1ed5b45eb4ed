"""What streams of the gradient service carry (`pb.StreamRequest`, `pb.StreamResponse`) <-> bytes, arrays uncopied.

    | id, timeout | tag and length of the body | the body: fields 1 to 30 | padding | payload |

The body is a request or response with arrays and payload of its own, laid out as a frame is; see `frames`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from google.protobuf.message import Message

from distgrad.errors import WireError

from . import pb
from .frames import SMALL, Buffer, join_frame, parse, read_varint, split_message, tag, take_out, varint

# pb.StreamRequest or pb.StreamResponse.
S = TypeVar("S", bound=Message)


class Exchange(NamedTuple, Generic[S]):
    """One message of a stream, taken apart.

    Attributes:
        stream: id and timeout; its body is empty.
        body: name of the body's field: "vjp".
        message: the body without padding and payload.
        payload: of the body; empty when it is elsewhere.
        size: of the payload.
    """

    stream: S
    body: str
    message: Any
    payload: memoryview
    size: int


def encode_exchange(
    stream: S, body: str, message: Any, pieces: Sequence[Buffer] = (), size: int = 0, beside: bool = False
) -> list[Buffer]:
    """The bytes of a message of a stream, in pieces to be written one after the other.

    Arguments:
        stream: without body.
        body: name of the body's field.
        message: the body, without payload; `lay_out` has filled in its arrays.
        pieces, size: its payload.
        beside: the payload's bytes are not among those returned; they travel beside them.
    """
    inner = join_frame(message, pieces, size)
    head = bytes(inner[0])
    prefix = stream.SerializeToString() + tag(_NUMBERS[type(stream)][body]) + varint(len(head) + size)
    return [prefix + head] if beside else [prefix + head, *inner[1:]]


def decode_exchange(kind: type[S], buffer: Buffer, beside: bool = False) -> Exchange[S]:
    """Takes a message of a stream apart; the payload is a read-only view of `buffer`.

    Arguments:
        beside: the payload's bytes do not follow their length.

    Raises:
        WireError: the bytes are not such a message, or it has no body that is known here.
    """
    if len(buffer) <= SMALL and not beside:
        return _decode_small(kind, buffer)
    names = _NAMES[kind]
    view = memoryview(buffer).toreadonly().cast("B")
    rest, contents, missing = take_out(view, names, beside)
    if len(contents) != 1:
        raise WireError(f"a {kind.DESCRIPTOR.name} with {len(contents)} bodies that are known here, expected one")
    ((number, content),) = contents.items()
    name = names[number]
    if name in BARE:
        return Exchange(parse(kind, rest), name, parse(BODIES[kind][name], content), content[:0], 0)
    message, payload, size = split_message(BODIES[kind][name], content, beside)
    if beside and (payload or size != missing):
        raise WireError(f"a {kind.DESCRIPTOR.name} says that {missing} bytes are elsewhere, its body {size}")
    return Exchange(parse(kind, rest), name, message, payload, size or len(payload))


def _decode_small(kind: type[S], buffer: Buffer) -> Exchange[S]:
    stream = parse(kind, buffer)
    name: Any = stream.WhichOneof("body")
    if name is None:
        raise WireError(f"a {kind.DESCRIPTOR.name} without a body that is known here")
    message: Any = type(getattr(stream, name))()
    message.MergeFrom(getattr(stream, name))
    stream.ClearField(name)
    payload = b""
    if name not in BARE:
        payload = message.payload
        message.ClearField("payload")
        message.ClearField("padding")
    return Exchange(stream, name, message, memoryview(payload), len(payload))


def heading(kind: Any, body: str, message: Any, size: int) -> bytes:
    """What `encode_exchange` writes between id and timeout and the payload.

    Arguments:
        size: of the payload.
    """
    return bytes(encode_exchange(kind(), body, message, (), size, beside=True)[0])


def split_stream(encoded: bytes) -> tuple[int, float, bytes]:
    """The id and the timeout of a request as `encode_exchange` writes it, and what is behind them. Raises WireError."""
    number, rest = split_id(encoded)
    if rest[:1] != _TIMEOUT_TAG or len(rest) <= _TIMEOUT.size:
        return number, 0.0, rest
    return number, _TIMEOUT.unpack_from(rest, 1)[0], rest[1 + _TIMEOUT.size :]


def split_id(encoded: bytes) -> tuple[int, bytes]:
    """The id of a response that `encode_exchange` has written, and what is behind it. Raises WireError."""
    if encoded[:1] != _ID_TAG:
        return 0, encoded
    if len(encoded) > 1 and encoded[1] < 0x80:
        return encoded[1], encoded[2:]
    number, position = read_varint(memoryview(encoded), 1)
    return number, encoded[position:]


def body_of(rest: bytes) -> tuple[bytes, int]:
    """The bytes of the body in what `split_id` has left, and how many bytes of its payload are not among them.

    Raises WireError."""
    view = memoryview(rest)
    _, position = read_varint(view, 0)
    length, position = read_varint(view, position)
    return rest[position:], length - (len(rest) - position)


def with_id(number: int, rest: bytes) -> bytes:
    """A message from an id and what was behind another."""
    return _ID_TAG + varint(number) + rest


# Field 1, a varint; field 2, a double.
_ID_TAG = b"\x08"
_TIMEOUT_TAG = b"\x11"
_TIMEOUT = struct.Struct("<d")
# Bodies without arrays.
BARE = frozenset({"cancel", "close_session", "failure"})


def _table(kind: Any) -> dict[str, Any]:
    return {field.name: field for field in kind.DESCRIPTOR.oneofs_by_name["body"].fields}


_FIELDS: dict[Any, dict[str, Any]] = {kind: _table(kind) for kind in (pb.StreamRequest, pb.StreamResponse)}
_NUMBERS = {kind: {name: field.number for name, field in fields.items()} for kind, fields in _FIELDS.items()}
_NAMES = {kind: {number: name for name, number in numbers.items()} for kind, numbers in _NUMBERS.items()}
# Types of the bodies by their names.
BODIES: dict[Any, dict[str, Any]] = {
    kind: {name: getattr(pb, field.message_type.name) for name, field in fields.items()}
    for kind, fields in _FIELDS.items()
}
