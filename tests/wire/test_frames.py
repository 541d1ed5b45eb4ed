from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from distgrad.errors import WireError
from distgrad.wire import decode_frame, encode_frame, pb
from distgrad.wire.frames import ALIGNMENT, join_frame, split_frame

from .test_values import DTYPES, same

shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
dtypes = st.builds(
    lambda name, order: np.dtype(name).newbyteorder(order), st.sampled_from(DTYPES), st.sampled_from("<>")
)
arrays_of_any_layout = st.builds(
    lambda array, order, step: np.asarray(array, order=order)[::step] if array.ndim else array,
    hnp.arrays(dtypes, shapes),
    st.sampled_from("CF"),
    st.sampled_from([1, -1, 2]),
)


def encode(frame: pb.Frame, arrays: list[Any]) -> bytes:
    return b"".join(encode_frame(frame, arrays))


def a_call() -> pb.Frame:
    return pb.Frame(sequence=7, acknowledged=3, call=pb.Call(shard="head", method="forward", path=[0, -1, 2**31 - 1]))


@given(st.lists(arrays_of_any_layout, max_size=5))
def test_arrays_of_any_layout_arrive_in_c_order_and_native_byte_order(arrays: list[Any]) -> None:
    frame, received = decode_frame(encode(a_call(), arrays))
    assert frame.call == a_call().call
    assert frame.sequence == 7
    assert frame.acknowledged == 3
    for sent, array in zip(arrays, received, strict=True):
        expected = np.array(sent, dtype=sent.dtype.newbyteorder("="), order="C")
        assert same(array, expected)
        assert array.flags.c_contiguous
        assert array.flags.aligned
        assert not array.flags.writeable
        assert array.dtype.isnative
        assert array.strides == expected.strides or not array.size


@given(st.lists(arrays_of_any_layout, max_size=5))
def test_the_bytes_are_the_protobuf_message_that_any_implementation_reads(arrays: list[Any]) -> None:
    frame = a_call()
    encoded = encode(frame, arrays)
    read = pb.Frame.FromString(encoded)
    ours, payload = split_frame(encoded)
    assert read.payload == bytes(payload)
    for header, array in zip(read.arrays, arrays, strict=True):
        there = read.payload[header.offset : header.offset + header.size]
        assert there == np.asarray(array, array.dtype.newbyteorder("<")).tobytes()
    read.ClearField("payload")
    read.ClearField("padding")
    assert read == ours == frame


@given(st.lists(arrays_of_any_layout, max_size=4))
def test_a_frame_serialised_by_protobuf_alone_is_read(arrays: list[Any]) -> None:
    theirs = pb.Frame.FromString(encode(a_call(), arrays))
    theirs.ClearField("padding")
    frame, received = decode_frame(theirs.SerializeToString())
    assert frame.call == a_call().call
    for sent, array in zip(arrays, received, strict=True):
        assert same(array, np.array(sent, dtype=sent.dtype.newbyteorder("="), order="C"))
        assert array.flags.aligned


@pytest.mark.parametrize("text", ["x" * n for n in range(0, 70, 3)], ids=len)
@pytest.mark.parametrize("count", [1, 200, 20_000])
def test_arrays_begin_at_multiples_of_64_from_the_start_of_the_frame(text: str, count: int) -> None:
    arrays = [np.arange(count, dtype=np.uint8), np.arange(3, dtype=np.float64)]
    encoded = encode(pb.Frame(call=pb.Call(method=text)), arrays)
    start = len(encoded) - len(pb.Frame.FromString(encoded).payload)
    assert start % ALIGNMENT == 0
    assert all(header.offset % ALIGNMENT == 0 for header in pb.Frame.FromString(encoded).arrays)


def test_large_arrays_are_neither_copied_when_written_nor_when_read() -> None:
    array = np.arange(100_000, dtype=np.float64)
    pieces = encode_frame(a_call(), [array])
    assert np.shares_memory(np.frombuffer(pieces[1], np.uint8), array)
    encoded = b"".join(pieces)
    _, (received,) = decode_frame(encoded)
    assert np.shares_memory(received, np.frombuffer(encoded, np.uint8))


def test_a_frame_without_bytes_in_arrays_has_neither_padding_nor_payload() -> None:
    frame = a_call()
    assert encode(frame, [np.zeros((0, 3), np.float32)]) == frame.SerializeToString()
    _, (received,) = decode_frame(frame.SerializeToString())
    assert received.shape == (0, 3)
    assert received.dtype == np.float32


def test_an_array_brought_by_a_transfer_is_taken_from_it_once() -> None:
    first, second = np.arange(5, dtype=np.int32), np.arange(4, dtype=np.float32)
    encoded = b"".join(encode_frame(a_call(), [first, second], {1: 12}))
    transfers = {12: memoryview(second.tobytes()), 13: memoryview(b"")}
    _, received = decode_frame(encoded, transfers)
    assert same(received[0], first)
    assert same(received[1], second)
    assert list(transfers) == [13]
    with pytest.raises(WireError, match="transfer 12"):
        decode_frame(encoded, transfers)


def test_the_last_of_several_payloads_counts_and_fields_may_follow_it() -> None:
    array = np.arange(16, dtype=np.float32)
    encoded = encode(a_call(), [array])
    moved = b"\x82\x02\x03abc" + encoded + pb.Frame(acknowledged=99).SerializeToString()
    frame, (received,) = decode_frame(moved)
    assert frame.acknowledged == 99 == pb.Frame.FromString(moved).acknowledged
    assert same(received, array)


def with_array(payload: bytes = b"\0" * 64, **header: Any) -> bytes:
    fields: dict[str, Any] = {"dtype": "float32", "shape": [4], "offset": 0, "size": 16} | header
    return pb.Frame(done=pb.Done(), arrays=[pb.Array(**fields)], payload=payload).SerializeToString()


def test_the_array_that_the_malformed_ones_differ_from_is_right() -> None:
    assert decode_frame(with_array())[1][0].shape == (4,)


HUGE = 2**64 - 1
MALFORMED = {
    "unknown dtype": with_array(dtype="object"),
    "evaluated dtype": with_array(dtype="f4,f4"),
    "no dtype": with_array(dtype=""),
    "size of another shape": with_array(size=15),
    "size that wraps": with_array(shape=[HUGE, 4], size=16),
    "huge shape": with_array(shape=[2**62], size=2**63),
    "huge shape and size that match": with_array(shape=[2**40], size=2**42),
    "offset outside": with_array(offset=64),
    "huge offset": with_array(offset=HUGE),
    "end outside": with_array(offset=56),
    "no payload": with_array(payload=b""),
    "too many axes": with_array(shape=[1] * 65, size=4),
    "very many axes": with_array(shape=[HUGE] * 5000),
    "no elements but axes that cannot be": with_array(shape=[0, HUGE], size=0),
    "no elements but axes whose product cannot be": with_array(shape=[0, 2**40, 2**40], size=0),
    "bool that is neither": with_array(dtype="bool", payload=b"\2" * 64, shape=[4], size=4),
    "unknown transfer": with_array(transfer=5),
    "bfloat16 without ml_dtypes": with_array(dtype="bfloat16", shape=[8]),
    "payload shorter than announced": with_array()[:-1],
    "payload of 2**63 bytes": b"\x82\x02" + b"\xff" * 8 + b"\x7f",
    "number of eleven bytes": b"\x82\x02" + b"\xff" * 11,
    "number that does not end": b"\x08\xff",
    "a group": pb.Frame(padding=bytes(5000)).SerializeToString() + b"\x0b\x0c",
    "an unknown wire type": b"\x0f",
    "field zero": b"\x00\x00",
    "text that is not UTF-8": b"\x52\x03\x1a\x01\xff",
    "body shorter than announced": b"\x52\x09\x1a",
    "fixed field cut short": b"\xf9\x07\x01",
}


@pytest.mark.parametrize("encoded", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_frame_is_a_wire_error(encoded: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distgrad.wire.dtypes._bfloat16", _no_bfloat16)
    tracemalloc.start()
    with pytest.raises(WireError):
        decode_frame(encoded)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000, "refusing must not cost memory"


def _no_bfloat16() -> np.dtype[Any]:
    raise WireError("install ml_dtypes")


@pytest.mark.parametrize("cut", range(0, 384, 7))
def test_a_truncated_frame_is_a_wire_error_or_lacks_its_arrays(cut: int) -> None:
    encoded = encode(a_call(), [np.arange(80, dtype=np.float32)])
    assert cut < len(encoded)
    try:
        _, arrays = decode_frame(encoded[:cut])
    except WireError:
        return
    assert not arrays


@given(st.binary(max_size=300))
def test_garbage_is_a_frame_or_a_wire_error(garbage: bytes) -> None:
    decode_or_refuse(garbage)


@given(st.data())
def test_a_damaged_frame_is_a_frame_or_a_wire_error(data: st.DataObject) -> None:
    encoded = bytearray(encode(a_call(), [np.arange(6, dtype=np.float32), np.ones((2, 2), bool)]))
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    decode_or_refuse(bytes(encoded))


def decode_or_refuse(encoded: bytes) -> None:
    try:
        _, arrays = decode_frame(encoded)
    except WireError:
        return
    assert sum(array.nbytes for array in arrays) <= len(encoded) * len(arrays)


def test_pieces_become_the_payload_of_a_frame() -> None:
    encoded = b"".join(join_frame(pb.Frame(chunk=pb.Chunk(transfer=1, total=5)), [b"abc", memoryview(b"de")], 5))
    frame, payload = split_frame(encoded)
    assert bytes(payload) == b"abcde"
    assert frame.chunk.total == 5
