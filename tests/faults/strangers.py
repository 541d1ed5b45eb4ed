"""Peers that send what no peer should: bytes, broken frames, and frames that are whole and mean nothing.

A `Target` is a worker or coordinator in this process whose only way in is a port that the caller feeds, frame by frame,
in its own thread: fast enough for hypothesis and for a fuzzer. A `Stranger` speaks over any lane to any listener.
"""

from __future__ import annotations

import itertools
import logging
import queue
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message_factory import GetMessageClass

from distgrad.coordinator.server import Coordinator
from distgrad.graph.process import Process
from distgrad.graph.releases import LEASE
from distgrad.transport.interfaces import Lane, Port
from distgrad.transport.settings import TransportSettings
from distgrad.wire import pb
from distgrad.worker.worker import Worker

from .gates import DEADLINE
from .world import HOLDINGS, PROGRAMS, SIZE

_incarnations = itertools.count(1)
# What the contexts of ordinary frames are named after; every visit is of another owner.
OWNER = "driver#1"


def hello(settings: TransportSettings, role: int = pb.ROLE_WORKER, name: str = "stranger", address: str = "") -> bytes:
    """A first frame that is let in."""
    identity = pb.Identity(name=name, incarnation=next(_incarnations), role=role, address=address)
    return pb.Frame(
        hello=pb.Hello(protocol=1, cluster=settings.cluster, token=settings.token, identity=identity)
    ).SerializeToString()


# ---- frames ----------------------------------------------------------------------------------------------------------


# What fields of these names usually say; others say "a", 1, true, or hold one message that is filled likewise.
USUAL: dict[str, Any] = {
    "context": f"{OWNER}/0",
    "contexts": f"{OWNER}/0",
    "id": f"{OWNER}/0",
    "owner": "driver",
    "initiator": "driver",
    "process": "w0",
    "met": "w0",
    "worker": "w0",
    "method": "forward",
    "name": "z",
    "program": "gated.py:Gated",
    "kind": "SGD",
    "state": "alive",
    "role": "worker",
    "direction": pb.DIRECTION_RESULT,
    "reason": pb.REASON_CLOSED,
}
ARRAY = pb.Array(dtype="float64", shape=[1, SIZE], size=8 * SIZE)


def ordinary_frames() -> list[bytes]:
    """One frame of each kind as a peer may send it, for mutations to begin with."""
    frames = []
    for field in pb.Frame.DESCRIPTOR.oneofs_by_name["body"].fields:
        if field.name == "request":
            requests = pb.Request.DESCRIPTOR.oneofs_by_name["body"].fields
            frames += [_frame(request=pb.Request(id=1, **{r.name: filled(r.message_type)})) for r in requests]
        elif field.name not in ("hello", "welcome"):
            frames.append(_frame(**{field.name: filled(field.message_type)}))
    inference = filled(pb.Call.DESCRIPTOR)
    inference.context.id = f"{OWNER}/inference"
    return [frame.SerializeToString() for frame in (*frames, _frame(call=inference))]


def _frame(**body: Any) -> pb.Frame:
    return pb.Frame(sequence=1, arrays=[ARRAY], payload=bytes(64), **body)


def filled(kind: Descriptor) -> Any:
    """A message whose fields say what is usual."""
    if kind is pb.Value.DESCRIPTOR:
        return pb.Value(tuple=pb.Values(items=[pb.Value(leaf=pb.Leaf(array=0))]))
    message = GetMessageClass(kind)()
    for field in kind.fields:
        oneof = field.containing_oneof
        if (oneof is not None and oneof.fields[0] is not field) or field.message_type is kind:
            continue
        if field.message_type is None:
            value = USUAL.get(field.name)
            usual = value if isinstance(value, str) == (field.cpp_type == field.CPPTYPE_STRING) else None
            value = usual or {field.CPPTYPE_STRING: "a", field.CPPTYPE_BOOL: True}.get(field.cpp_type, 1)
            if field.type == field.TYPE_BYTES:
                value = b"a"
            if field.is_repeated:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)
        elif field.message_type.GetOptions().map_entry:
            continue
        elif field.is_repeated:
            getattr(message, field.name).append(filled(field.message_type))
        else:
            getattr(message, field.name).CopyFrom(filled(field.message_type))
    return message


def mutated(frame: bytes, seed: int) -> bytes:
    """A frame with a few bytes changed, lost, added or doubled."""
    rng = random.Random(seed)
    data = bytearray(frame)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        until = min(at + rng.randint(1, 8), len(data))
        match rng.randrange(4):
            case 0:
                data[at:until] = bytes(rng.randrange(256) for _ in range(until - at))
            case 1:
                del data[at:until]
            case 2:
                data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 8)))
            case _:
                data[at:at] = data[at:until]
    return bytes(data)


def numbered(frames: Sequence[bytes]) -> Iterator[bytes]:
    """The frames with the sequence numbers a link expects, so that what is in them is looked at; those that cannot be
    read stay as they are."""
    sequence = 0
    for data in frames:
        try:
            frame = pb.Frame.FromString(data)
        except Exception:
            yield data
            continue
        frame.acknowledged = 0
        if frame.WhichOneof("body") not in (None, "hello", "welcome", "goodbye", "heartbeat"):
            sequence += 1
            frame.sequence = sequence
        yield frame.SerializeToString()


# ---- a process whose port is fed -------------------------------------------------------------------------------------


class _StillLane:
    """Implements `Lane`: carries nothing by itself."""

    def wake(self) -> None: ...
    def close(self) -> None: ...
    def relieve(self, now: float) -> None: ...


class _OnePort:
    """Implements `Lanes`: whoever has this makes the lanes that are accepted."""

    def __init__(self) -> None:
        self.accept: Callable[[], Port]

    def listen(self, address: str, accept: Callable[[], Port]) -> str:
        self.accept = accept
        return address

    def open(self, address: str, port: Port) -> None:
        port.plugged(_StillLane())
        port.broken("nobody is there")

    def vacant(self, address: str) -> bool:
        return True

    def close(self) -> None: ...


class Target:
    """A process in this one. Frames are served in the caller's thread."""

    process: Process

    def __init__(self) -> None:
        self.settings = TransportSettings.for_tests()
        self.lanes = _OnePort()
        self._visitors = itertools.count()
        self.complaints = _Complaints()
        logging.getLogger("distgrad").addHandler(self.complaints)

    def works(self) -> bool:
        """Whether it does what it is for."""
        raise NotImplementedError

    def close(self) -> None:
        logging.getLogger("distgrad").removeHandler(self.complaints)

    def visit(self, frames: Sequence[bytes], role: int = pb.ROLE_WORKER) -> str:
        """A stranger is let in, sends these frames, and goes; returns why its link ended while it was there."""
        return self.knock([hello(self.settings, role), *frames])

    def knock(self, frames: Sequence[bytes]) -> str:
        """A stranger sends these frames, the first of which should be a Hello, and goes."""
        port = self.lanes.accept()
        port.plugged(_StillLane())
        owner = f"{next(self._visitors):0{len(OWNER)}x}".encode()
        for frame in frames:
            port.received(frame.replace(OWNER.encode(), owner))
        said = _last_words(port)
        port.broken("the stranger goes")
        for link in self.process.endpoint.links():
            self.process.endpoint.lose(link, "the stranger has gone")
        return said

    def assert_unharmed(self) -> None:
        """It has forgotten the stranger, complained of no error of its own, and works."""
        deadline = time.monotonic() + DEADLINE
        while True:
            self.process.releases.release_orphans(time.monotonic() + 2 * LEASE)
            counts = self.process.counts()
            held = {what: counts[what] for what in HOLDINGS if counts[what]}
            running = self.process.executor.statistics()
            if not held and not running.running and not running.parked and not sum(running.queued.values()):
                break
            assert time.monotonic() < deadline, f"still there: {held}, {running}"
        assert self.process.endpoint.links() == []
        assert self.complaints.taken() == []
        assert self.works()


def _last_words(port: Port) -> str:
    """The text of the goodbye that a port has to say, if any."""
    while frames := port.take():
        for pieces in frames:
            frame = pb.Frame.FromString(b"".join(pieces))
            if frame.HasField("goodbye"):
                return frame.goodbye.message
    return ""


class WorkerTarget(Target):
    """A worker with a shard `a`."""

    def __init__(self) -> None:
        super().__init__()
        self.worker = Worker("w0", "memory:nowhere", PROGRAMS, self.settings, "memory:w0", lanes=self.lanes)
        self.process = self.worker.process
        self.process.listen("memory:w0")

    def visit(self, frames: Sequence[bytes], role: int = pb.ROLE_WORKER) -> str:
        if "a" not in self.worker.host.shards:  # a coordinator may have it unloaded
            self.worker.host.load("a", "gated.py:Gated", {"size": SIZE, "gate": ""}, 0)
        return super().visit(frames, role)

    def works(self) -> bool:
        a = self.worker.host.shards.get("a")
        return a is None or bool(a.shard.forward([[1.0] * SIZE]).shape == (1, SIZE))

    def close(self) -> None:
        super().close()
        self.worker.close()


class CoordinatorTarget(Target):
    """A coordinator without members."""

    def __init__(self) -> None:
        super().__init__()
        self.coordinator = Coordinator(self.settings, "memory:coordinator", lanes=self.lanes)
        self.process = self.coordinator.process
        self.coordinator.start()

    def works(self) -> bool:
        return not self.coordinator.workers()

    def close(self) -> None:
        super().close()
        self.coordinator.close()


class _Complaints(logging.Handler):
    """What was logged as an error: bugs, since what strangers do wrong is warned of."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(self.format(record))

    def taken(self) -> list[str]:
        """What was heard since the last time; so that one visitor's trouble is not blamed on the next."""
        heard, self.heard = self.heard, []
        return heard


# ---- a stranger on a real lane ---------------------------------------------------------------------------------------


# No frame: whoever gets it ends the lane and says why.
GARBAGE = b"\xff\xff"


class Stranger:
    """Implements `Port`: sends frames as they are, and garbage at the end, and hears what comes back."""

    finished = False

    def __init__(self, frames: Sequence[bytes]) -> None:
        self._frames = [*frames, GARBAGE]
        self._answers: queue.SimpleQueue[pb.Frame | str] = queue.SimpleQueue()

    def plugged(self, lane: Lane) -> None:
        lane.wake()

    def take(self, room: int = 1) -> list[list[bytes]]:
        frames, self._frames = self._frames, []
        return [[frame] for frame in frames]

    def place(self, begun: memoryview) -> None:
        return None

    def heard(self) -> None: ...

    def received(self, frame: Any, payload: memoryview | None = None) -> None:
        self._answers.put(pb.Frame.FromString(bytes(frame)))

    def unreadable(self, message: str) -> None:
        self._answers.put(message)

    def broken(self, reason: str) -> None:
        self._answers.put(reason)

    def end(self) -> str:
        """Why the lane ended, in the listener's words when there were any."""
        goodbye = ""
        while isinstance(answer := self._answers.get(timeout=DEADLINE), pb.Frame):
            goodbye = answer.goodbye.message or goodbye
        return goodbye or answer
