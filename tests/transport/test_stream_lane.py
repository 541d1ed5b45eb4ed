from __future__ import annotations

import re
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from distgrad.transport.stream_frames import HEADER, FrameReader
from distgrad.transport.stream_lane import StreamLane
from distgrad.transport.streams import Stream
from distgrad.transport.threads import Threads

from .recorder import DEADLINE, wait_until

MAX_FRAME = 2**22
SLOT = 2**18


class Box:
    """A port that holds frames to be taken and keeps those that came."""

    def __init__(self) -> None:
        self.outgoing: deque[list[bytes]] = deque()
        self.came: list[bytes] = []
        self.in_slots = 0
        self.parts = 0
        self.placed: list[memoryview] = []
        self.finished = False
        self.ends: list[str] = []
        self.complaints: list[str] = []
        self.changed = threading.Condition()
        self.on_received: Callable[[], Any] = lambda: None
        self.lane: StreamLane

    def plugged(self, lane: Any) -> None:
        self.lane = lane

    def take(self, room: int = 1) -> list[list[bytes]]:
        frames: list[list[bytes]] = []
        while self.outgoing and sum(len(piece) for frame in frames for piece in frame) < room:
            frames.append(self.outgoing.popleft())
        return frames

    def place(self, begun: memoryview) -> tuple[int, memoryview] | None:
        """A frame may say where its payload begins, and how large it is: "at 30, 70000"."""
        found = re.match(rb"at (\d+), (\d+)", begun)
        if found is None:
            return None
        head, size = map(int, found.groups())
        self.placed.append(memoryview(bytearray(size)))
        return head, self.placed[-1]

    def heard(self) -> None:
        with self.changed:
            self.parts += 1
            self.changed.notify_all()

    def received(self, frame: Any, payload: Any = None) -> None:
        self.on_received()
        if payload is not None and self.placed and payload is self.placed[-1]:
            frame, payload = bytes(frame) + payload, None
        with self.changed:
            self.in_slots += payload is not None
            self.came.append(bytes(frame) if payload is None else bytes(frame) + bytes(payload[: int(frame)]))
            self.changed.notify_all()

    def unreadable(self, message: str) -> None:
        self.complaints.append(message)
        self.finished = True
        self.lane.wake()

    def broken(self, reason: str) -> None:
        with self.changed:
            self.ends.append(reason)
            self.changed.notify_all()

    def send(self, *frame: bytes) -> None:
        self.outgoing.append(list(frame))
        self.lane.wake()

    def wait_for(self, condition: Callable[[], Any]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, DEADLINE), f"never came: {self.ends}"


@pytest.fixture(params=["with slots", "without"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Box, Box]]:
    """Two ports joined by a lane, in one process."""
    boxes, threads, ended = (Box(), Box()), Threads(), []
    slot_bytes = SLOT if request.param == "with slots" else 0
    for box, end in zip(boxes, socket.socketpair(), strict=True):
        box.plugged(StreamLane(box, Stream(end), threads, ended.append, MAX_FRAME, slot_bytes))
        box.lane.begin()
    for box in boxes:
        box.send(b"ready")
    for box in boxes:
        box.wait_for(lambda box=box: box.came)
        box.came.clear()
    yield boxes
    for box in boxes:
        box.lane.close()
    threads.join()
    assert all(len(box.ends) == 1 for box in boxes)
    assert set(ended) == {box.lane for box in boxes}


def payload(size: int, seed: int) -> bytes:
    return np.random.default_rng(seed).bytes(size)


@pytest.mark.parametrize("sizes", [[0], [1, 0, 3], [65535, 65536, 65537], [2**20, 5, 2**22], [2**15, 2**15 + 1]])
def test_frames_arrive_whole_and_in_order_whatever_their_size(pair: tuple[Box, Box], sizes: list[int]) -> None:
    near, far = pair
    frames = [payload(size, seed) for seed, size in enumerate(sizes * 20)]
    for frame in frames:
        near.send(frame)
    far.wait_for(lambda: len(far.came) == len(frames))
    assert far.came == frames


def test_large_payloads_travel_in_slots_and_the_rest_as_ever(pair: tuple[Box, Box]) -> None:
    near, far = pair
    sizes = [10, SLOT, SLOT + 1, 2**15 + 1, 100, SLOT - 5] * 10
    for seed, size in enumerate(sizes):
        near.send(str(size).encode(), payload(size, seed))
    far.wait_for(lambda: len(far.came) == len(sizes))
    assert far.came == [str(size).encode() + payload(size, seed) for seed, size in enumerate(sizes)]
    if far.in_slots:
        assert far.in_slots <= sum(2**15 < size <= SLOT for size in sizes)


def test_a_payload_is_read_to_the_place_that_the_port_has_for_it(pair: tuple[Box, Box]) -> None:
    near, far = pair
    frames = [f"at 30, {size}".encode().ljust(30) + payload(size, size) for size in (2**20, 2**16, 10, 2**17) * 5]
    for frame in frames:
        near.send(frame)
    far.wait_for(lambda: len(far.came) == len(frames))
    assert far.came == frames
    assert len(far.placed) == 15, "small frames are read at once"
    assert all(any(memory) for memory in far.placed)


def test_a_place_of_another_size_than_the_payload_is_not_written_to(pair: tuple[Box, Box]) -> None:
    near, far = pair
    frames = [f"at 30, {size}".encode().ljust(30) + payload(2**20, 1) for size in (2**20 - 1, 2**20 + 1)]
    for frame in frames:
        near.send(frame)
    far.wait_for(lambda: len(far.came) == 2)
    assert far.came == frames
    assert not any(any(memory) for memory in far.placed)


def test_a_large_frame_is_noticed_while_it_comes() -> None:
    box, (near, far) = Box(), socket.socketpair()
    reader = FrameReader(Stream(far), None, MAX_FRAME)
    reading = threading.Thread(target=lambda: list(reader.serve(box)))
    reading.start()
    with near, far:
        near.sendall(HEADER.pack(2**20, 0) + bytes(2**19))
        box.wait_for(lambda: box.parts)
        assert not box.came
        near.sendall(bytes(2**19))
        box.wait_for(lambda: box.came)
        near.shutdown(socket.SHUT_WR)
        reading.join(DEADLINE)


def test_without_a_free_slot_payloads_go_over_the_socket(pair: tuple[Box, Box]) -> None:
    near, far = pair
    gate = threading.Event()
    far.on_received = lambda: gate.wait(DEADLINE)
    content = payload(SLOT, 1)
    for _ in range(40):
        near.send(str(SLOT).encode(), content)
    wait_until(lambda: near.lane._frames._bytes)  # the socket is full as well
    gate.set()
    far.wait_for(lambda: len(far.came) == 40)
    assert set(far.came) == {str(SLOT).encode() + content}
    assert far.in_slots < 40


def test_both_sides_write_much_while_neither_reads_and_nobody_waits_for_ever(pair: tuple[Box, Box]) -> None:
    """A reader that had to wait for the other side to read would never read what the other side waits to write."""
    replies = 64
    for box in pair:
        box.on_received = lambda box=box: box.send(payload(2**19, 1)) if len(box.came) < replies else None
        for _ in range(8):
            box.send(payload(2**19, 2))
    for box in pair:
        box.wait_for(lambda box=box: len(box.came) >= replies)


def test_no_wake_up_is_lost_whoever_sends(pair: tuple[Box, Box]) -> None:
    near, far = pair
    count, senders = 300, 6

    def send(sender: int) -> None:
        for number in range(count):
            near.send(f"{sender} {number}".encode())

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    far.wait_for(lambda: len(far.came) == count * senders)
    for sender in range(senders):
        own = [frame for frame in far.came if frame.startswith(f"{sender} ".encode())]
        assert own == [f"{sender} {number}".encode() for number in range(count)]


def test_the_last_words_arrive_before_the_end(pair: tuple[Box, Box]) -> None:
    near, far = pair
    near.outgoing.extend([[payload(2**20, number)] for number in range(20)])
    near.finished = True
    near.lane.wake()
    far.wait_for(lambda: far.ends)
    assert far.came == [payload(2**20, number) for number in range(20)]
    near.wait_for(lambda: near.ends)


def test_an_announcement_of_too_much_is_told_and_the_answer_still_arrives(pair: tuple[Box, Box]) -> None:
    near, far = pair
    far.outgoing.append([b"no"])
    near.send(bytes(MAX_FRAME + 1))
    near.wait_for(lambda: near.came)
    assert near.came == [b"no"]
    assert f"{MAX_FRAME} are allowed" in far.complaints[0]


def test_an_interrupt_while_writing_breaks_the_lane_rather_than_its_order(
    pair: tuple[Box, Box], monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = pair
    near.send(b"before")
    far.wait_for(lambda: far.came)

    def interrupt(pieces: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(near.lane._stream, "send", interrupt)
    with pytest.raises(KeyboardInterrupt):
        near.send(b"lost")
    near.wait_for(lambda: near.ends)
    assert near.ends == ["writing was interrupted"]
    near.send(b"after")
    far.wait_for(lambda: far.ends)
    assert far.came == [b"before"]


def test_closing_wakes_a_writer_that_waits_for_the_other_side(pair: tuple[Box, Box]) -> None:
    near, far = pair
    gate = threading.Event()
    far.on_received = lambda: gate.wait(DEADLINE)
    for _ in range(20):
        near.send(payload(2**21, 1))
    assert near.lane._writer is not None
    near.lane.close()
    near.wait_for(lambda: near.ends)
    assert near.ends == ["the lane was closed"]
    gate.set()


def test_without_a_thread_to_write_on_in_the_lane_breaks(
    pair: tuple[Box, Box], monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = pair
    gate = threading.Event()
    far.on_received = lambda: gate.wait(DEADLINE)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patches:
        patches.setattr(threading.Thread, "start", refuse)
        for _ in range(20):
            near.send(payload(2**21, 1))
    near.wait_for(lambda: near.ends)
    assert near.ends == ["there is no thread to write on in: can't start new thread"]
    gate.set()
