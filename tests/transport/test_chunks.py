from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distgrad.errors import ResourceExhausted, WireError
from distgrad.transport.chunks import Assembler, Outbox
from distgrad.wire import pb
from distgrad.wire.frames import append_payload, split_frame, view_arrays

CHUNK = 100
LIMIT = 10**6


def put_call(outbox: Outbox, number: int, *arrays: np.ndarray) -> None:
    body = pb.Frame(call=pb.Call(path=[number])).SerializeToString()
    outbox.put(body, arrays, sum(array.nbytes for array in arrays))


def put_reply(outbox: Outbox, number: int, *arrays: np.ndarray) -> None:
    body = pb.Frame(reply=pb.Reply(id=number)).SerializeToString()
    outbox.put(body, arrays, sum(array.nbytes for array in arrays), reply=True)


def next_frame(outbox: Outbox) -> pb.Frame:
    return pb.Frame.FromString(outbox.next()[0])


def drain(outbox: Outbox) -> list[tuple[pb.Frame, memoryview, int]]:
    """Every frame that leaves, as it arrives, with its weight."""
    frames = []
    while (outgoing := outbox.next()) is not None:
        rest, pieces, size, weight = outgoing
        frames.append((*split_frame(b"".join(append_payload(rest, pieces, size))), weight))
    return frames


@given(st.lists(st.lists(st.integers(0, 500), max_size=4), max_size=6))
def test_messages_leave_in_order_and_their_arrays_are_put_together_again(sizes: list[list[int]]) -> None:
    outbox, assembler = Outbox(CHUNK), Assembler(LIMIT)
    sent = [[np.arange(size, dtype=np.uint8) for size in message] for message in sizes]
    for number, arrays in enumerate(sent):
        put_call(outbox, number, *arrays)
    got = []
    weight = 0
    for frame, payload, frame_weight in drain(outbox):
        weight += frame_weight
        assert len(payload) <= 2 * CHUNK
        if frame.HasField("chunk"):
            assembler.add(frame.chunk, payload)
        else:
            assert list(frame.call.path) == [len(got)]
            got.append(view_arrays(frame, payload, assembler.complete))
    assert weight == sum(map(sum, sizes)), "the window opens by exactly what closed it"
    assert not assembler.complete
    for arrays, there in zip(sent, got, strict=True):
        for array, other in zip(arrays, there, strict=True):
            np.testing.assert_array_equal(array, other)


def test_an_outbox_may_be_filled_while_it_is_emptied() -> None:
    outbox = Outbox(CHUNK)
    put_call(outbox, 0)
    assert next_frame(outbox).call.path == [0]
    put_call(outbox, 1)
    assert next_frame(outbox).call.path == [1]
    assert outbox.next() is None
    put_call(outbox, 2)
    assert next_frame(outbox).call.path == [2]


def test_replies_with_large_arrays_take_turns_with_messages() -> None:
    outbox = Outbox(CHUNK)
    for number in (1, 2):
        put_reply(outbox, number, np.zeros(3 * CHUNK, np.uint8))
    for number in range(3):
        put_call(outbox, number)
    kinds = [frame.WhichOneof("body") for frame, _, _ in drain(outbox)]
    assert kinds == ["chunk", "chunk", "call"] * 3 + ["reply", "reply"]


def test_small_replies_keep_their_order_with_messages() -> None:
    outbox = Outbox(CHUNK)
    put_call(outbox, 0, np.zeros(3 * CHUNK, np.uint8))
    put_reply(outbox, 1, np.zeros(3, np.uint8))
    assert [frame.WhichOneof("body") for frame, _, _ in drain(outbox)] == ["chunk"] * 3 + ["call", "reply"]


def test_the_smallest_arrays_stay_in_the_frame() -> None:
    outbox = Outbox(1000)
    put_call(outbox, 0, np.zeros(990, np.uint8), np.zeros(5, np.uint8), np.zeros(0, np.uint8), np.zeros(7, np.uint8))
    (chunk, _, _), (frame, _payload, weight) = drain(outbox)
    assert chunk.chunk.total == 990
    assert [array.transfer for array in frame.arrays] == [1, 0, 0, 0]
    assert weight == 12


def chunk(transfer: int = 1, total: int = 10, offset: int = 0, size: int = 5) -> tuple[pb.Chunk, memoryview]:
    return pb.Chunk(transfer=transfer, total=total, offset=offset), memoryview(bytes(size))


WRONG = {
    "a gap": chunk(offset=6, size=4),
    "a repeat": chunk(offset=0),
    "another total": chunk(total=11, offset=5),
    "too many bytes": chunk(offset=5, size=6),
    "no bytes": chunk(offset=5, size=0),
    "a beginning in the middle": chunk(transfer=2, offset=5),
    "no transfer": chunk(transfer=0),
    "a total of nothing": chunk(transfer=2, total=0),
    "a transfer that is complete": chunk(transfer=9),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_chunk_that_does_not_continue_its_transfer_is_a_wire_error(wrong: tuple[pb.Chunk, memoryview]) -> None:
    assembler = Assembler(LIMIT)
    assembler.add(*chunk())
    assembler.add(*chunk(transfer=9, total=5))
    with pytest.raises(WireError):
        assembler.add(*wrong)


@pytest.mark.parametrize("total", [LIMIT - 9, 2**40, 2**64 - 1])
def test_a_transfer_beyond_the_limit_is_refused_before_memory_is_set_aside(total: int) -> None:
    assembler = Assembler(LIMIT)
    assembler.add(*chunk(total=10))
    tracemalloc.start()
    with pytest.raises(ResourceExhausted, match="max_transfer_bytes"):
        assembler.add(*chunk(transfer=2, total=total))
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


def test_a_limit_that_no_memory_backs_is_an_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "empty", no_memory)
    with pytest.raises(ResourceExhausted, match="no memory"):
        Assembler(LIMIT).add(*chunk())


def test_a_chunk_that_was_read_to_its_place_is_not_copied() -> None:
    assembler, content = Assembler(LIMIT), np.arange(250, dtype=np.uint8).data
    for offset in (0, 100, 200):
        piece = content[offset : offset + 100]
        chunk = pb.Chunk(transfer=1, total=250, offset=offset)
        memory = assembler.place(chunk, len(piece))
        memory[:] = piece
        assembler.add(chunk, memory.toreadonly())
    assert assembler.complete[1] == content
    assert assembler.complete[1].obj is memory.obj


@pytest.mark.parametrize(
    "chunk",
    [
        pb.Chunk(transfer=1, total=250, offset=0),
        pb.Chunk(transfer=1, total=250, offset=200),
        pb.Chunk(transfer=1, total=300, offset=100),
        pb.Chunk(transfer=1, total=199, offset=100),
        pb.Chunk(transfer=2, total=300, offset=100),
    ],
)
def test_a_chunk_that_does_not_continue_its_transfer_has_no_place(chunk: pb.Chunk) -> None:
    assembler = Assembler(LIMIT)
    assembler.add(pb.Chunk(transfer=1, total=250, offset=0), memoryview(bytes(100)))
    assert assembler.place(chunk, 100) is None
    with pytest.raises(WireError, match="does not continue"):
        assembler.add(chunk, memoryview(bytes(100)))


def test_a_chunk_beyond_the_limit_has_no_place() -> None:
    with pytest.raises(ResourceExhausted, match="more than max_transfer_bytes"):
        Assembler(LIMIT).place(pb.Chunk(transfer=1, total=LIMIT + 1), 100)


def test_who_still_writes_to_a_place_that_was_taken_back_changes_nothing() -> None:
    assembler, content = Assembler(LIMIT), np.arange(200, dtype=np.uint8).data
    first, second = (pb.Chunk(transfer=1, total=200, offset=offset) for offset in (0, 100))
    assembler.add(first, content[:100])
    stale = assembler.place(second, 100)
    assembler.displace()
    assembler.add(second, content[100:])
    stale[:] = bytes(100)
    assert assembler.complete[1] == content
