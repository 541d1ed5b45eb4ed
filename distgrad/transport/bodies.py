"""Bodies of frames, as bytes: messages that are sent by themselves, requests and replies.

Only the message itself goes through protobuf's code; what is around it is written by hand, which takes half the time.
"""

from __future__ import annotations

from typing import Any

from distgrad.errors import WireError
from distgrad.wire import pb
from distgrad.wire.frames import embedded, tag


def _tags(message: Any, but: frozenset[str] = frozenset()) -> dict[type, bytes]:
    """The tags of the fields of a message's oneof `body`, by their messages' classes."""
    fields = message.DESCRIPTOR.oneofs_by_name["body"].fields
    return {getattr(pb, field.message_type.name): tag(field.number) for field in fields if field.name not in but}


# Frames that a link makes itself.
_OWN = frozenset({"hello", "welcome", "goodbye", "heartbeat", "chunk", "request", "reply"})
_MESSAGES = _tags(pb.Frame, but=_OWN)
_REQUESTS = _tags(pb.Request)
_REPLIES = _tags(pb.Reply)
_REQUEST, _REPLY = _tags(pb.Frame)[pb.Request], _tags(pb.Frame)[pb.Reply]


def message_body(body: Any) -> bytes:
    """A message as a field of a frame. Raises WireError when it is not sent by itself."""
    try:
        return embedded(_MESSAGES[type(body)], body.SerializeToString())
    except KeyError:
        raise WireError(f"a {type(body).__name__} is not sent by itself: see the body of pb.Frame") from None


def request_body(number: int, body: Any) -> bytes:
    """A request of that number as a field of a frame. Raises WireError when the message is none."""
    try:
        content = embedded(_REQUESTS[type(body)], body.SerializeToString())
    except KeyError:
        raise WireError(f"a {type(body).__name__} is not a request: see the body of pb.Request") from None
    return embedded(_REQUEST, pb.Request(id=number).SerializeToString() + content)


def reply_body(number: int, body: Any) -> bytes:
    """The reply to the request of that number as a field of a frame. Raises WireError when the message is none."""
    try:
        content = embedded(_REPLIES[type(body)], body.SerializeToString())
    except KeyError:
        raise WireError(f"a {type(body).__name__} is not a reply: see the body of pb.Reply") from None
    return embedded(_REPLY, pb.Reply(id=number).SerializeToString() + content)
