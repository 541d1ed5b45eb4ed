"""One way through everything that looks at a request, for bytes that anyone may have sent: a target of `tests.fuzz`."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from distgrad.errors import WireError
from distgrad.service.evaluator import Evaluator, Work
from distgrad.service.failures import Refused
from distgrad.service.functions import Served
from distgrad.service.requests import PRODUCTS, batch_key, check_request, read_headers
from distgrad.wire import pb
from distgrad.wire.exchanges import decode_exchange, encode_exchange
from tests.service.raw import PROGRAM, question

SERVED = ("sine", "rosenbrock", "affine", "anything", "square")
# No answer of a request of a few hundred bytes may be larger: shapes that are claimed must not become memory.
LARGEST = 2**22


@cache
def evaluator() -> Evaluator:
    return Evaluator(_served(), 60.0)


@cache
def _served() -> Served:
    return Served([f"{PROGRAM}:{name}" for name in SERVED])


def seeds() -> dict[str, bytes]:
    """A good request of every kind, as it is on a stream."""
    x = np.array([0.5, -1.0, 2.0])
    at: dict[str, Any] = {"function": "rosenbrock", "arguments": {"x": x}}
    model = {"weights": [np.ones((2, 3)), np.ones(2)], "scale": 2.0}
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "evaluate": ("evaluate", at),
        "evaluate-tree": ("evaluate", {"function": "affine", "arguments": (model, x.astype("f4"), "plain")}),
        "value_and_gradient": ("value_and_gradient", {**at, "with_respect_to": ["x"]}),
        "vjp": ("vjp", {"function": "sine", "arguments": [x], "cotangents": [x, x], "with_value": True}),
        "vjp-complex": ("vjp", {"function": "square", "arguments": [x + 1j], "cotangents": [x * 1j]}),
        "jvp": ("jvp", {**at, "tangents": [{"x": x}], "second_tangents": [{"x": x}]}),
        "jacobian": ("jacobian", {"function": "sine", "arguments": [x]}),
        "hessian": ("hessian", at),
        "hvp": ("hvp", {**at, "vectors": [{"x": x}], "with_value": True}),
        "hvp-cotangents": ("hvp", {"function": "sine", "arguments": [x], "vectors": [{"x": x}], "cotangents": [x]}),
        "linearize": ("linearize", at),
        "close_session": ("close_session", {"session": "none"}),
    }
    found = {}
    for name, (body, fields) in kinds.items():
        message, pieces, size = question(body, fields)
        found[name] = b"".join(encode_exchange(pb.StreamRequest(id=3), body, message, pieces, size))
    return found


def try_one(data: bytes) -> str:
    """What the server and a process of its pool make of a message on a stream; returns how it ended.

    Raises whatever is neither an answer nor a refusal: a bug.
    """
    try:
        _, body, message, payload, size = decode_exchange(pb.StreamRequest, data)
    except WireError:
        return "no message"
    if body not in PRODUCTS:
        return body
    try:
        function = _served().functions.get(message.function)
        if function is None:
            return "no function"
        headers = read_headers(message, size)
        point = check_request(function.description, body, message, headers, None)
        batch_key(function.description, body, message, point, headers)
    except Refused as refused:
        return f"refused: {refused.code.name} {len(refused.to_pb().SerializeToString()) < 20_000}"
    result = evaluator().answer(Work(body, message, payload))
    evaluator().sessions.clear()
    assert result.size <= LARGEST
    return result.body
