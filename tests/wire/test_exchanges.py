"""Messages of the gradient service's streams are the protobuf that any implementation reads and writes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from distgrad.errors import WireError
from distgrad.wire import decode_value, encode_value, pb
from distgrad.wire.exchanges import decode_exchange, encode_exchange
from distgrad.wire.frames import lay_out, view_arrays

SIZES = [0, 3, 1000, 100_000]


def vjp_request(x: Any) -> tuple[pb.VjpRequest, list[Any], int]:
    message = pb.VjpRequest(function="f", with_value=True)
    arrays: list[Any] = []
    message.arguments.CopyFrom(encode_value({"x": x}, arrays))
    message.cotangents.append(encode_value(np.float32(2), arrays))
    pieces, size = lay_out(message, arrays)
    return message, pieces, size


@pytest.mark.parametrize("n", SIZES)
def test_what_is_written_is_read(n: int, rng: np.random.Generator) -> None:
    x = rng.normal(size=n)
    message, pieces, size = vjp_request(x)
    encoded = b"".join(encode_exchange(pb.StreamRequest(id=7, timeout_seconds=2), "vjp", message, pieces, size))
    stream, body, read, payload, length = decode_exchange(pb.StreamRequest, encoded)
    assert (stream.id, stream.timeout_seconds, body, read.function, length) == (7, 2, "vjp", "f", size)
    arrays = view_arrays(read, payload)
    np.testing.assert_array_equal(decode_value(read.arguments, arrays)["x"], x)
    assert decode_value(read.cotangents[0], arrays) == 2


@pytest.mark.parametrize("n", SIZES)
def test_protobuf_alone_reads_and_writes_the_same(n: int, rng: np.random.Generator) -> None:
    message, pieces, size = vjp_request(rng.normal(size=n))
    encoded = b"".join(encode_exchange(pb.StreamRequest(id=7), "vjp", message, pieces, size))
    plain = pb.StreamRequest.FromString(encoded)
    assert (plain.id, len(plain.vjp.payload)) == (7, size)
    plain.vjp.ClearField("padding")
    again = decode_exchange(pb.StreamRequest, plain.SerializeToString())
    assert bytes(again.payload) == plain.vjp.payload


@pytest.mark.parametrize("n", SIZES[1:])
def test_a_payload_may_travel_beside_its_message(n: int, rng: np.random.Generator) -> None:
    message, pieces, size = vjp_request(rng.normal(size=n))
    (encoded,) = encode_exchange(pb.StreamRequest(id=1), "vjp", message, pieces, size, beside=True)
    read = decode_exchange(pb.StreamRequest, encoded, beside=True)
    assert (read.stream.id, read.size, len(read.payload)) == (1, size, 0)
    assert read.message.arguments == message.arguments


@pytest.mark.parametrize(
    ("encoded", "beside", "said"),
    [
        (b"\x08\x01", False, "without a body"),
        (b"\x08\x01", True, "0 bodies"),
        (b"\xff" * 5000, False, "longer than ten bytes"),
        (b"\x3a\x05\x0a", False, "not a StreamRequest"),
        (b"\x3a\x05\x0a", True, "ends within"),
        (b"\x3a\x05" * 4000, False, "longer than|ends within|not a"),
    ],
)
def test_bytes_that_are_no_message_are_refused(encoded: bytes, beside: bool, said: str) -> None:
    with pytest.raises(WireError, match=said):
        decode_exchange(pb.StreamRequest, encoded, beside)
