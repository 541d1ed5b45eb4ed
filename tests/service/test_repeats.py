"""Messages that differ from an earlier one in id, deadline and contents alone are recognised, and no others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from distgrad.service.repeats import MAX_ALIKE, MAX_HEADING, MAX_LENGTHS, Repeats
from distgrad.wire import pb
from distgrad.wire.exchanges import decode_exchange, encode_exchange, split_stream
from tests.service.raw import question


def message(
    n: int, *, number: int = 1, timeout: float = 0, beside: bool = False, fill: float = 1.0, **fields: Any
) -> bytes:
    """A request for the vjp of sin at n numbers."""
    x = np.full(n, fill)
    asked, pieces, size = question("vjp", {"function": "sine", "arguments": [x], "cotangents": [x], **fields})
    stream = pb.StreamRequest(id=number, timeout_seconds=timeout)
    return b"".join(encode_exchange(stream, "vjp", asked, pieces, size, beside))


def kept(repeats: Repeats[str], encoded: bytes, known: str = "known", beside: bool = False) -> None:
    repeats.keep(split_stream(encoded)[2], beside, decode_exchange(pb.StreamRequest, encoded, beside), known)


@pytest.mark.parametrize("n", [1, 10, 5000])
@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize(("number", "timeout"), [(1, 0), (7, 0.25), (200, 0), (2**40, 3600.0)])
def test_what_differs_in_id_deadline_and_contents_is_recognised(
    n: int, beside: bool, number: int, timeout: float
) -> None:
    repeats: Repeats[str] = Repeats()
    kept(repeats, message(n, beside=beside), beside=beside)
    other = message(n, number=number, timeout=timeout, fill=2.5, beside=beside)
    found_number, found_timeout, rest = split_stream(other)
    assert (found_number, found_timeout) == (number, timeout)
    found = repeats.find(rest, beside)
    assert found is not None
    assert found.known == "known"
    expected = decode_exchange(pb.StreamRequest, other, beside)
    assert (rest[found.start :], expected.stream.id) == (b"" if beside else bytes(expected.payload), number)
    assert repeats.find(rest, not beside) is None


@pytest.mark.parametrize(
    "other",
    [
        message(9),
        message(10, function="sinf"),
        message(10, with_respect_to=["x"]),
        message(10, arguments=[np.ones(10, np.int64)]),
        message(10)[:-1],
        message(10) + b"\x08\x05",
        b"",
        b"\x08\x01\x11",
    ],
)
def test_others_are_not(other: bytes) -> None:
    repeats: Repeats[str] = Repeats()
    kept(repeats, message(10))
    assert repeats.find(split_stream(other)[2], False) is None


def test_a_message_whose_fields_are_in_another_order_is_not_kept() -> None:
    repeats: Repeats[str] = Repeats()
    number, _, rest = split_stream(message(10))
    swapped = rest + bytes([8, number])
    kept(repeats, swapped)
    assert repeats.find(swapped, False) is None
    assert repeats.find(rest, False) is None


def test_little_is_kept() -> None:
    repeats: Repeats[str] = Repeats()
    for k in range(MAX_ALIKE + 1):
        kept(repeats, message(10, function=f"f{k}"), str(k))
    found = [repeats.find(split_stream(message(10, function=f"f{k}"))[2], False) for k in range(MAX_ALIKE + 1)]
    assert [each.known for each in found if each is not None] == [str(k) for k in range(1, MAX_ALIKE + 1)]
    long = message(10, function="f" * MAX_HEADING)
    kept(repeats, long)
    assert repeats.find(split_stream(long)[2], False) is None
    for n in range(1, MAX_LENGTHS + 2):
        kept(repeats, message(n))
    assert repeats.find(split_stream(message(2))[2], False) is None
    assert repeats.find(split_stream(message(MAX_LENGTHS + 1))[2], False) is not None
