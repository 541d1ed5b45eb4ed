from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterator

import pytest

from distgrad.errors import WireError
from distgrad.transport.shared_memory import PAGE, SLOTS, SlotReader, SlotWriter, exchange

SIZE = 4096


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


@pytest.fixture
def memory(ends: tuple[socket.socket, socket.socket]) -> Iterator[tuple[SlotWriter, SlotReader]]:
    """A writer at one end and its reader at the other."""
    near, far = ends
    writer = SlotWriter(SLOTS, SIZE)
    writer.announce(near)
    far.sendall(struct.pack("<II", 0, 0))
    none, reader = exchange(far, SIZE)
    none.close()
    yield writer, reader
    writer.close()
    reader.close()


def test_what_is_put_into_a_slot_is_seen_by_the_other_side(memory: tuple[SlotWriter, SlotReader]) -> None:
    writer, reader = memory
    for number in range(3 * SLOTS):
        slot = writer.put([b"number ", str(number).encode()])
        assert bytes(reader.view(slot)).startswith(f"number {number}".encode())
        reader.free()


def test_slots_are_full_until_the_reader_frees_them_in_turn(memory: tuple[SlotWriter, SlotReader]) -> None:
    writer, reader = memory
    slots = [writer.put([b"x"]) for _ in range(SLOTS)]
    assert slots == list(range(1, SLOTS + 1))
    assert writer.full
    reader.view(1)
    assert writer.full, "a slot that is being read is not free"
    reader.free()
    assert not writer.full
    assert writer.put([b"y"]) == 1


@pytest.mark.parametrize("slot", [0, 2, SLOTS + 1, 2**31])
def test_a_slot_out_of_turn_is_refused(memory: tuple[SlotWriter, SlotReader], slot: int) -> None:
    writer, reader = memory
    writer.put([b"x"])
    with pytest.raises(WireError, match=f"slot {slot} of shared memory was named, expected 1"):
        reader.view(slot)


@pytest.mark.parametrize("read", [1, 2**64 - 1])
def test_a_reader_that_counts_nonsense_is_noticed(memory: tuple[SlotWriter, SlotReader], read: int) -> None:
    writer, reader = memory
    reader._count[0] = read
    with pytest.raises(WireError, match=f"{read} slots of shared memory were read, 0 were written"):
        _ = writer.full


def test_what_the_reader_sees_cannot_be_written_by_mistake(memory: tuple[SlotWriter, SlotReader]) -> None:
    writer, reader = memory
    with pytest.raises(TypeError):
        reader.view(writer.put([b"x"]))[0] = 1


def test_the_memory_has_no_name_and_cannot_be_cut_short(memory: tuple[SlotWriter, SlotReader]) -> None:
    before = set(os.listdir("/dev/shm"))
    writer = SlotWriter(SLOTS, SIZE)
    assert set(os.listdir("/dev/shm")) == before
    with pytest.raises(PermissionError):
        os.ftruncate(writer._descriptor, PAGE)
    with pytest.raises(PermissionError):
        fcntl.fcntl(writer._descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    os.close(writer._descriptor)
    writer.close()


def announced(ends: tuple[socket.socket, socket.socket], greeting: bytes, size: int, seals: int) -> None:
    """Reads an announcement made by hand."""
    near, far = ends
    descriptor = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    socket.send_fds(near, [greeting], [descriptor])
    os.close(descriptor)
    exchange(far, SIZE)


@pytest.mark.parametrize(
    ("slots", "slot_bytes", "size", "seals"),
    [
        (4, SIZE, PAGE + 4 * SIZE, 0),
        (4, SIZE, PAGE + 3 * SIZE, fcntl.F_SEAL_SHRINK),
        (4, SIZE, 0, fcntl.F_SEAL_SHRINK),
        (2**32 - 1, SIZE, PAGE, fcntl.F_SEAL_SHRINK),
        (1, 2**32 - 1, PAGE, fcntl.F_SEAL_SHRINK),
        (1, 0, PAGE, fcntl.F_SEAL_SHRINK),
    ],
)
def test_memory_that_could_do_harm_is_refused(
    ends: tuple[socket.socket, socket.socket], slots: int, slot_bytes: int, size: int, seals: int
) -> None:
    with pytest.raises(WireError, match="shared memory"):
        announced(ends, struct.pack("<II", slots, slot_bytes), size, seals)


def test_a_side_without_shared_memory_is_none(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    near.sendall(struct.pack("<II", 0, 0))
    writer, reader = exchange(far, SIZE)
    assert reader is None
    writer.close()


def test_where_the_system_has_none_the_other_side_is_told(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> int:
        raise OSError("too many files")

    monkeypatch.setattr(os, "memfd_create", refuse)
    near, far = ends
    near.sendall(struct.pack("<II", 0, 0))
    assert exchange(far, SIZE) == (None, None)
    assert near.recv(8) == struct.pack("<II", 0, 0)
    assert "too many files" in caplog.text


def test_memory_whose_descriptor_finds_no_room_ends_the_lane(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    near.sendall(struct.pack("<II", SLOTS, SIZE))  # what is left where as many files are open as may be
    with pytest.raises(OSError, match="no descriptor is left"):
        exchange(far, SIZE)


def test_an_end_before_the_greeting_leaves_nothing_open(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    near.close()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        exchange(far, SIZE)


def test_a_view_that_is_kept_too_long_stays_readable(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    far.sendall(struct.pack("<II", 0, 0))
    writer, _ = exchange(near, SIZE)
    none, reader = exchange(far, SIZE)
    view = reader.view(writer.put([b"kept"]))
    for end in (writer, none, reader):
        end.close()
    assert bytes(view[:4]) == b"kept"
