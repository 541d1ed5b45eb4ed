"""Peers that send what no peer should: bytes, broken frames, and frames that are whole and mean nothing.

`Target` is a worker in this process whose only way in is a port that the caller feeds, frame by frame, in its own
thread: fast enough for hypothesis and for a fuzzer. `Stranger` speaks over any lane to any listener.
"""

from __future__ import annotations

import itertools
import logging
import queue
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from distgrad.graph.process import LEASE
from distgrad.transport.interfaces import Identity, Lane, Port
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


def ordinary_frames() -> list[bytes]:
    """One frame of each kind as a peer may send it, for mutations to begin with."""
    context = pb.ContextId(id=f"{OWNER}/0", owner="driver", owner_incarnation=1)
    inference = pb.ContextId(id=f"{OWNER}/inference", owner="driver", owner_incarnation=1)
    ref = pb.RefId(owner="w0", context=context.id, path=[0])
    edge = pb.EdgeId(path=[0], direction=pb.DIRECTION_RESULT)
    header = pb.Pass(context=context, path=[1], initiator="driver")
    header.roots.add(process="w0").roots.add(ref=ref)
    leaf = pb.Value(leaf=pb.Leaf(array=0))
    arguments = pb.Value(tuple=pb.Values(items=[leaf]))
    error = pb.Error(kind="RemoteError", message="m", worker="w9", method="a.b", original="ValueError")
    bodies: list[Any] = [
        pb.Call(context=context, path=[0], shard="a", method="forward", record=True, depth=1, arguments=arguments),
        pb.Call(context=inference, path=[0], shard="a", method="forward", depth=1, arguments=arguments),
        pb.Done(context=context.id, path=[0], error=error),
        pb.Start(header=header, seeds=[leaf]),
        pb.Gradients(header=header, gradients=[pb.EdgeGradient(edge=edge, gradient=leaf)]),
        pb.PassAck(context=context.id, path=[1], waiting=1, met=["w0"], count=1),
        pb.Mark(header=header, reached=[edge], begin=True),
        pb.Resume(header=header),
        pb.Abort(context=context.id, path=[1], error=error),
        pb.MemberEvent(member=pb.Member(name="w7", incarnation=7, role="worker", state="alive")),
        pb.Drop(refs=[ref]),
        pb.Cancel(context=context.id, path=[0]),
        pb.Fetch(ref=ref, edge=edge),
        pb.Release(context=context.id),
        pb.Finish(context=context.id, path=[1]),
        pb.ReadGradients(context=context.id, shard="a"),
        pb.Statistics(),
        pb.LoadShard(name="z", program="gated.py:Gated", seed=1),
        pb.ReadState(shard="a"),
        pb.WriteState(shard="a", version=1, state=leaf),
        pb.Prepare(term=1, optimizer="o", version=1, contexts=[context.id]),
        pb.Commit(term=1, optimizer="o", version=1, clip_factor=1.0, learning_rate=0.1),
        pb.Withdraw(term=1, optimizer="o", version=1),
        pb.Adopt(optimizer="o", shards=["a"], kind="SGD", version=0, term=1),
        pb.Heartbeat(progress=1, busy=1),
        pb.Goodbye(reason=pb.REASON_CLOSED, message="bye"),
        pb.Chunk(transfer=1, total=64, offset=0),
    ]
    return [_frame(body).SerializeToString() for body in bodies]


def _frame(body: Any) -> pb.Frame:
    """A frame of a message, as a request where it is one."""
    frame = pb.Frame(sequence=1, arrays=[pb.Array(dtype="float64", shape=[1, SIZE], size=8 * SIZE)], payload=bytes(64))
    place: Any = frame
    if not _field_for(frame, body):
        place = frame.request
        place.id = 1
    getattr(place, _field_for(place, body)).CopyFrom(body)
    return frame


def _field_for(message: Any, body: Any) -> str:
    fields = message.DESCRIPTOR.oneofs_by_name["body"].fields
    return next((field.name for field in fields if field.message_type.name == type(body).__name__), "")


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


# ---- a worker whose port is fed --------------------------------------------------------------------------------------


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
    """A worker with a shard `a`. Frames are served in the caller's thread."""

    def __init__(self) -> None:
        self.settings = TransportSettings.for_tests()
        self._lanes = _OnePort()
        self.worker = Worker("w0", "memory:nowhere", PROGRAMS, self.settings, "memory:w0", lanes=self._lanes)
        self.process = self.worker.process
        self.process.listen("memory:w0")
        self.worker.host.load("a", "gated.py:Gated", {"size": SIZE, "gate": ""}, 0)
        self._owners = itertools.count()
        self.complaints = _Complaints()
        logging.getLogger("distgrad").addHandler(self.complaints)

    def visit(self, frames: Sequence[bytes], role: int = pb.ROLE_WORKER) -> str:
        """A stranger is let in, sends these frames, and goes; returns why its link ended while it was there."""
        port = self._lanes.accept()
        port.plugged(_StillLane())
        port.received(hello(self.settings, role))
        owner = f"{next(self._owners):0{len(OWNER)}x}".encode()
        for frame in frames:
            port.received(frame.replace(OWNER.encode(), owner))
        said = self._drain(port)
        port.broken("the stranger goes")
        link = self.process.endpoint.link("stranger")
        if link is not None:
            self.process.endpoint.lose(link, "the stranger has gone")
        return said

    def _drain(self, port: Port) -> str:
        """What the port has to say; the text of its goodbye."""
        while (pieces := port.take()) is not None:
            frame = pb.Frame.FromString(b"".join(pieces))
            if frame.HasField("goodbye"):
                return frame.goodbye.message
        return ""

    def assert_unharmed(self) -> None:
        """It has forgotten the stranger, complained of no error of its own, and works."""
        deadline = time.monotonic() + DEADLINE
        while True:
            self.process.release_orphans(time.monotonic() + 2 * LEASE)
            counts = self.process.counts()
            held = {what: counts[what] for what in HOLDINGS if counts[what]}
            running = self.process.executor.statistics()
            if not held and not running.running and not running.parked and not sum(running.queued.values()):
                break
            assert time.monotonic() < deadline, f"still there: {held}, {running}"
        assert self.process.endpoint.links() == []
        assert self.process.executor.failures == 0
        assert self.complaints.heard == []
        function = self.worker.host.shards["a"].shard.forward
        assert function([[1.0] * SIZE]).shape == (1, SIZE)

    def close(self) -> None:
        logging.getLogger("distgrad").removeHandler(self.complaints)
        self.worker.close()


class _Complaints(logging.Handler):
    """What was logged as an error: bugs, since what strangers do wrong is warned of."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(self.format(record))


# ---- a stranger on a real lane ---------------------------------------------------------------------------------------


class Stranger:
    """Implements `Port`: sends frames as they are, and notes what comes back."""

    def __init__(self, frames: Sequence[bytes]) -> None:
        self._frames = list(frames)
        self._answers: queue.SimpleQueue[pb.Frame | str] = queue.SimpleQueue()
        self._lane: Lane | None = None

    def plugged(self, lane: Lane) -> None:
        self._lane = lane
        lane.wake()

    def take(self) -> list[bytes] | None:
        return [self._frames.pop(0)] if self._frames else None

    finished = False

    def received(self, frame: Any, payload: memoryview | None = None) -> None:
        self._answers.put(pb.Frame.FromString(bytes(frame)))

    def unreadable(self, message: str) -> None:
        self._answers.put(message)

    def broken(self, reason: str) -> None:
        self._answers.put(reason)

    def send(self, frame: bytes) -> None:
        assert self._lane is not None
        self._frames.append(frame)
        self._lane.wake()

    def answer(self) -> pb.Frame | str:
        """The next frame, or why the lane has ended."""
        return self._answers.get(timeout=DEADLINE)

    def end(self) -> str:
        """Why the link or the lane ended, in the listener's words when there were any."""
        goodbye = ""
        while isinstance(answer := self.answer(), pb.Frame):
            goodbye = answer.goodbye.message or goodbye
        return goodbye or answer

    def leave(self) -> None:
        assert self._lane is not None
        self._lane.close()


def identity_of(frame: bytes) -> Identity:
    """Who says hello."""
    identity = pb.Frame.FromString(frame).hello.identity
    return Identity(identity.name, identity.incarnation, "worker")
