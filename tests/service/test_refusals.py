"""What does not fit is refused with what was expected and got, and the server goes on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.service.raw import Failed, Local, Running, Unary, question

REFUSED = [
    ("evaluate", {"function": "sin", "arguments": {"x": 1.0}}, "NOT_FOUND", "did you mean 'sine'"),
    ("evaluate", {"function": "sine", "arguments": {"y": np.ones(2)}}, "INVALID_ARGUMENT", 'arguments["y"]'),
    ("evaluate", {"function": "sine", "arguments": {}}, "INVALID_ARGUMENT", 'arguments["x"]: expected a value'),
    ("evaluate", {"function": "sine", "arguments": {"x": "abc"}}, "INVALID_ARGUMENT", "float64[n], got str"),
    ("evaluate", {"function": "sine", "arguments": {"x": np.ones(2, complex)}}, "INVALID_ARGUMENT", "complex128[2]"),
    ("evaluate", {"function": "sine", "arguments": [1.0, 2.0]}, "INVALID_ARGUMENT", "at most 1"),
    ("evaluate", {"function": "sine", "arguments": 3.0}, "INVALID_ARGUMENT", "a dict by name"),
    ("evaluate", {"function": "sine"}, "INVALID_ARGUMENT", "arguments: expected a value, got nothing"),
    (
        "vjp",
        {"function": "sine", "arguments": [np.ones(2)], "cotangents": [np.ones(3)]},
        "INVALID_ARGUMENT",
        "float64[n] with n = 2, got float64[3]",
    ),
    ("vjp", {"function": "sine", "arguments": [np.ones(2)]}, "INVALID_ARGUMENT", "cotangents: expected one or more"),
    (
        "vjp",
        {"function": "anything", "arguments": [np.ones(2)], "cotangents": [np.ones(3)]},
        "INVALID_ARGUMENT",
        "cotangents[0]: expected float64[2], got float64[3]",
    ),
    (
        "jvp",
        {"function": "sine", "arguments": [np.ones(2)], "tangents": [{"x": np.ones(3)}]},
        "INVALID_ARGUMENT",
        'tangents[0]["x"]: expected float64[2], got float64[3]',
    ),
    (
        "hvp",
        {"function": "rosenbrock", "arguments": [np.ones(2)], "vectors": [{}]},
        "INVALID_ARGUMENT",
        'vectors[0]["x"]: expected a value',
    ),
    (
        "vjp",
        {"function": "sine", "arguments": [np.ones(2)], "cotangents": [np.ones(2)], "with_respect_to": ["y"]},
        "INVALID_ARGUMENT",
        "with_respect_to[0]: expected one of x",
    ),
    (
        "value_and_gradient",
        {"function": "anything", "arguments": [np.ones(2, int), 3]},
        "INVALID_ARGUMENT",
        "floating-point or complex",
    ),
    ("value_and_gradient", {"function": "anything", "arguments": [np.ones(2)]}, "FAILED_PRECONDITION", "scalar"),
    ("hessian", {"function": "sine", "arguments": [np.ones(2)]}, "FAILED_PRECONDITION", "does not offer hessian"),
    ("evaluate", {"function": "raises", "arguments": [1.0]}, "INTERNAL", "ValueError: no such x"),
    ("evaluate", {"function": "leaves", "arguments": [1.0]}, "INTERNAL", "SystemExit: 3"),
    ("evaluate", {"function": "objects", "arguments": [1.0]}, "INTERNAL", "builtins.object cannot travel"),
    ("evaluate", {"function": "promises", "arguments": [np.ones(2), "nothing"]}, "INTERNAL", "returned None"),
    ("vjp", {"session": "none", "cotangents": [1.0]}, "NOT_FOUND", "no such session"),
]


@pytest.mark.parametrize(("body", "fields", "code", "said"), REFUSED)
def test_what_does_not_fit_is_refused_and_the_server_goes_on(
    running: Running, body: str, fields: dict[str, Any], code: str, said: str
) -> None:
    for made in (Unary(running.address), Local(running.address)):
        with pytest.raises(Failed) as raised:
            made.ask(body, **fields)
        assert said in str(raised.value)
        assert raised.value.code == code
        made.close()


def test_violations_and_exceptions_come_as_details(unary: Unary) -> None:
    with pytest.raises(Failed) as raised:
        unary.ask("evaluate", function="sine", arguments={"x": np.ones((2, 2))})
    (violation,) = raised.value.failure.violations
    assert (violation.field, violation.expected, violation.got) == (
        'arguments["x"]',
        "float64[n]",
        "float64[2, 2]",
    )
    with pytest.raises(Failed) as raised:
        unary.ask("evaluate", function="raises", arguments=[1.0, "lone \udcff".encode(errors="replace").decode()])
    told = raised.value.failure.exception
    assert (told.type, told.file, told.source) == ("ValueError", "served.py", "raise ValueError(message)")


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.arrays[0].shape.append(2**40),
        lambda m: setattr(m.arrays[0], "offset", 2**60),
        lambda m: setattr(m.arrays[0], "dtype", "object"),
        lambda m: setattr(m.arrays[0], "transfer", 5),
        lambda m: setattr(m.arguments.dict.entries[0].value.leaf, "array", 7),
        lambda m: setattr(m.arguments.dict.entries[0].value.leaf, "recorded", True),
        lambda m: setattr(m.arguments.dict.entries[0].value, "shard", "a"),
        lambda m: m.arguments.dict.entries.add(key="x"),
    ],
)
def test_arrays_and_values_that_cannot_be_are_refused(unary: Unary, change: Any) -> None:
    message, pieces, _ = question("evaluate", {"function": "sine", "arguments": {"x": np.ones(3)}})
    change(message)
    message.payload = b"".join(pieces)
    with pytest.raises(Failed) as raised:
        unary.call("Evaluate", message.SerializeToString())
    assert raised.value.code == "INVALID_ARGUMENT"
