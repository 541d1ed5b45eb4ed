"""What is fuzzed: functions that take bytes and raise when these did harm."""

from __future__ import annotations

import contextlib
import io
import itertools
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from distgrad.errors import WireError
from distgrad.transport import stream_frames
from distgrad.transport.settings import TransportSettings
from distgrad.transport.shared_memory import exchange
from distgrad.transport.stream_frames import HEADER, FrameReader
from distgrad.wire import decode_frame, decode_value, pb
from tests.faults.strangers import CoordinatorTarget, Target, WorkerTarget, filled, hello, numbered, ordinary_frames
from tests.service.fuzz import seeds as good_requests
from tests.service.fuzz import try_one

Harm = Callable[[bytes], None]

CORPUS = Path(__file__).parent / "corpus"


def pack(frames: Sequence[bytes]) -> bytes:
    """Several frames as one input: each behind its length."""
    return b"".join(len(frame).to_bytes(2, "big") + frame for frame in frames)


def unpack(data: bytes) -> list[bytes]:
    """The frames of any input; the last one may be cut short."""
    frames = []
    while data:
        length = int.from_bytes(data[:2], "big")
        frames.append(data[2 : 2 + length])
        data = data[2 + length :]
    return frames


# ---- targets ---------------------------------------------------------------------------------------------------------


@contextmanager
def frame() -> Iterator[Harm]:
    def decode(data: bytes) -> None:
        with contextlib.suppress(WireError):
            found, arrays = decode_frame(data)
            assert [list(header.shape) for header in found.arrays] == [list(array.shape) for array in arrays]

    yield decode


@contextmanager
def value() -> Iterator[Harm]:
    arrays = [np.zeros(3), np.zeros((), np.int64)]

    def decode(data: bytes) -> None:
        try:
            message = pb.Value.FromString(data)
        except Exception:
            return
        with contextlib.suppress(WireError):
            decode_value(message, arrays)

    yield decode


@contextmanager
def request() -> Iterator[Harm]:
    """Of the gradient service."""

    def ask(data: bytes) -> None:
        try_one(data)

    yield ask


class _Bytes:
    """Stands for a socket: brings bytes in pieces of at most `piece`."""

    def __init__(self, data: bytes, piece: int) -> None:
        self._data = io.BytesIO(data)
        self._piece = piece

    def receive_into(self, view: memoryview, wait_for_all: bool = False) -> int:
        return self._data.readinto(view if wait_for_all else view[: self._piece])


class _Noted:
    """Stands for a port: reads all it gets."""

    def place(self, begun: memoryview) -> tuple[int, memoryview] | None:
        head = min(begun[0], len(begun)) if begun else 0  # whatever the bytes are, some payloads have a place
        return (head, memoryview(bytearray(300))) if head % 2 else None

    def heard(self) -> None: ...

    def received(self, frame: Any, payload: memoryview | None = None) -> None:
        bytes(frame), bytes(payload or b"")


@contextmanager
def stream() -> Iterator[Harm]:
    """A byte stream with frames, and shared memory that they may name. The first byte says how it comes in pieces.
    Frames of 256 bytes count as large, which are read to a place of their own."""
    ends = socket.socketpair()
    with patch.object(stream_frames, "BUFFER", 256), ends[0], ends[1], ThreadPoolExecutor(1) as other:
        theirs = other.submit(exchange, ends[1], 4096)
        pairs = [exchange(ends[0], 4096), theirs.result()]
        reader = pairs[0][1]

        def read(data: bytes) -> None:
            with contextlib.suppress(WireError):
                lane = FrameReader(_Bytes(data[1:], 1 + (data[0] if data else 0)), reader, max_frame_bytes=2**16)
                for _ in lane.serve(_Noted()):
                    pass

        yield read
        for memory in itertools.chain(*pairs):
            memory.close()


@contextmanager
def handshake() -> Iterator[Harm]:
    with target(WorkerTarget) as found:

        def knock(data: bytes) -> None:
            found.knock(unpack(data))
            found.assert_unharmed()

        yield knock


@contextmanager
def worker() -> Iterator[Harm]:
    with target(WorkerTarget) as found:
        yield lambda data: visit(found, data)


@contextmanager
def coordinator() -> Iterator[Harm]:
    with target(CoordinatorTarget) as found:
        yield lambda data: visit(found, data)


@contextmanager
def target(kind: type[Target]) -> Iterator[Target]:
    """A process, in a working directory of its own: a coordinator writes checkpoints where it is told to."""
    with tempfile.TemporaryDirectory() as directory, contextlib.chdir(directory):
        found = kind()
        try:
            yield found
        finally:
            found.close()


def visit(found: Target, data: bytes) -> None:
    """A stranger whose role is said by the first byte sends frames of the right numbers."""
    said = found.visit(list(numbered(unpack(data[1:]))), role=1 + (data[0] if data else 0) % 3)
    assert "internal error" not in said
    found.assert_unharmed()


TARGETS: dict[str, Callable[[], AbstractContextManager[Harm]]] = {
    target.__name__: target for target in (frame, value, request, stream, handshake, worker, coordinator)
}


# ---- inputs to begin with --------------------------------------------------------------------------------------------


def seeds(name: str) -> list[bytes]:
    """Ordinary inputs of a target."""
    frames = ordinary_frames()
    match name:
        case "frame":
            return frames
        case "value":
            return [filled(pb.Value.DESCRIPTOR).SerializeToString()]
        case "request":
            return list(good_requests().values())
        case "stream":
            return [
                bytes([piece]) + b"".join(HEADER.pack(len(each), slot) + each for each in frames[:3])
                for piece in (0, 7, 255)
                for slot in (0, 1, 9)
            ]
        case "handshake":
            return [
                pack([first, each]) for first in (hello(TransportSettings.for_tests()), frames[0]) for each in frames
            ]
        case _:
            return [bytes([role]) + pack([each]) for role in range(3) for each in frames]


def kept(name: str) -> list[Path]:
    """The inputs in the corpus of a target."""
    return sorted((CORPUS / name).glob("*"))
