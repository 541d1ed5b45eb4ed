"""Requests and responses of the gradient service <-> Python values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distgrad.errors import WireError
from distgrad.wire import decode_value, pb
from distgrad.wire.dtypes import Array
from distgrad.wire.exchanges import BODIES
from distgrad.wire.frames import Buffer, lay_out, view_arrays
from distgrad.wire.values import encode_into

from .products import Answer, Question

_RESPONSES: dict[str, Any] = BODIES[pb.StreamResponse]
# By the name of a request's body, its fields of cotangents, tangents and vectors.
_DIRECTIONS = {
    body: [
        name
        for name in ("cotangents", "tangents", "second_tangents", "vectors")
        if name in kind.DESCRIPTOR.fields_by_name
    ]
    for body, kind in BODIES[pb.StreamRequest].items()
}


def question_from(body: str, message: Any, arrays: list[Array]) -> Question:
    """What a request asks, but for the point. Raises WireError."""
    directions = {name: [decode_value(value, arrays) for value in getattr(message, name)] for name in _DIRECTIONS[body]}
    return Question(body, with_value=getattr(message, "with_value", False), **directions)


def arrays_of(message: Any, payload: memoryview) -> list[Array]:
    """The arrays of a request or response, views of its payload. Raises WireError."""
    return view_arrays(message, payload)


def response(body: str, answer: Answer, plain: Mapping[str, Any]) -> tuple[Any, list[Buffer], int]:
    """A response without its payload; the payload's pieces and their size.

    Arguments:
        plain: what its other fields are.

    Raises:
        WireError: something in the answer cannot travel.
    """
    message = _RESPONSES[body](**plain)
    arrays: list[Array] = []
    for field, found in answer.items():
        target = getattr(message, field)
        if isinstance(target, pb.Value):
            encode_into(target, found, arrays, field)
        else:
            for k, item in enumerate(found):
                encode_into(target.add(), item, arrays, f"{field}[{k}]")
    return message, *lay_out(message, arrays)


def decoded_arguments(message: Any, arrays: list[Array]) -> Any:
    """The arguments of a request, as they were sent. Raises WireError."""
    if message.arguments.WhichOneof("kind") is None:
        raise WireError("a request without arguments")
    return decode_value(message.arguments, arrays)
