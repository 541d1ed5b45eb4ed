"""What a link between two processes is, to those above it and to the lanes below it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from distgrad.wire.dtypes import Array
from distgrad.wire.frames import Buffer

ROLES = ("client", "worker", "coordinator")


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """One life of one process.

    Attributes:
        name: unique within the cluster.
        incarnation: 64 random bits, drawn anew at every start and never zero.
        role: "client", "worker" or "coordinator".
        address: where it listens; empty when it does not.
        pid: its process id on its own machine.
    """

    name: str
    incarnation: int
    role: str
    address: str = ""
    pid: int = 0

    @classmethod
    def new(cls, name: str, role: str, address: str = "") -> Identity:
        """The identity of this process from now on."""
        return cls(name, secrets.randbits(64) or 1, role, address, os.getpid())

    def __repr__(self) -> str:
        return f"{self.name}#{self.incarnation & 0xFFFF:04x}"


class Link(Protocol):
    """The link to one process. Safe to use from any thread.

    It survives breaks of the connection: what was sent arrives once and in order, or the peer is lost. One exception to
    the order: a reply that carries large arrays may be overtaken by what was sent after it.
    """

    @property
    def peer(self) -> Identity: ...

    def send(self, body: Any, arrays: Sequence[Array] = ()) -> None:
        """Sends a message of `pb.Frame`'s body and the arrays it names.

        Returns at once, except that a message with arrays waits while the bytes in flight fill the window. Gradients,
        and whatever is sent from a receiver's callback, never wait.

        Arguments:
            arrays: must not be written to any more; they are read again after a reconnect.

        Raises:
            WorkerLost: the peer is lost or the link closed.
            WireError: not a message of a frame, or elements of an array do not travel.
            ResourceExhausted: the message without its arrays is larger than a frame may be.
        """

    def request(self, body: Any, arrays: Sequence[Array] = ()) -> Future[tuple[Any, list[Array]]]:
        """Sends a message of `pb.Request`'s body; waits and raises as `send` does.

        Returns:
            A future of the reply's message and its arrays. It fails with the exception the peer answered, or with
            WorkerLost. Its callbacks run in the reader thread and must not block.
        """

    def close(self, reason: str) -> None:
        """Says goodbye after what was sent before. Requests without a reply fail; the receiver is told `lost`."""

    def statistics(self) -> dict[str, Any]:
        """Counts, sizes in bytes and times in seconds, for operators."""


Reply = Callable[..., None]


class Receiver(Protocol):
    """What a process does with its links. `receive` and `answer` are called one at a time per link, in order, from the
    link's reader thread; they must not block. The others may be called from any thread."""

    def receive(self, link: Link, body: Any, arrays: list[Array]) -> None:
        """A message that needs no reply arrived."""

    def answer(self, link: Link, body: Any, arrays: list[Array], reply: Reply) -> None:
        """A request arrived. Call `reply(body_or_exception, arrays=())` once, now or later, from any thread."""

    def linked(self, link: Link) -> None:
        """A link was made. Comes before anything from it."""

    def lost(self, peer: Identity, reason: str) -> None:
        """The peer of a link is lost, or either side closed the link. Comes once for every `linked`."""

    def progress(self) -> tuple[int, int]:
        """For heartbeats: a counter that grows while the process computes, and how many tasks run or wait."""


# ---- below a link ----------------------------------------------------------------------------------------------------


class Port(Protocol):
    """Where a lane gets the frames it carries and puts those it brought. Called from the lane's threads."""

    def plugged(self, lane: Lane) -> None:
        """Comes first: the lane this port belongs to."""

    def take(self, room: int = 1) -> list[list[Buffer]]:
        """The next frames to write, at least one, until they are `room` bytes or more; fewer or none when there are no
        others for now. Each is in pieces, of which the first is all but the payload."""

    @property
    def finished(self) -> bool:
        """True when `take` will never give another frame: write what was taken, then end the lane."""

    def place(self, begun: memoryview) -> tuple[int, memoryview] | None:
        """The beginning of a large frame arrived. Where its payload begins, and memory of the payload's size to read it
        into, which is then given to `received`; None when it may be read anywhere. Never raises."""

    def heard(self) -> None:
        """More of a large frame arrived: the other side lives. Never raises."""

    def received(self, frame: Buffer, payload: memoryview | None = None) -> None:
        """One whole frame arrived. Comes from one thread, in order. Never raises.

        Arguments:
            payload: memory that begins with the frame's payload, when that is not in `frame` itself. Only valid during
                the call, and the other side may change it meanwhile.
        """

    def unreadable(self, message: str) -> None:
        """What arrives is no frame: nothing more will come, and the lane ends once the last words have left."""

    def broken(self, reason: str) -> None:
        """The lane has ended, for whatever reason. Comes once, last."""


class Lane(Protocol):
    """One connection that carries whole frames both ways, in order and unharmed, until it breaks."""

    def wake(self) -> None:
        """The port has something to take. Cheap; may write in the calling thread."""

    def close(self) -> None:
        """Ends the lane now. Does not wait, and may be called from its own threads, more than once."""

    def relieve(self, now: float) -> None:
        """Called now and then: if the thread that reads has been doing something else for long, another goes on."""


class Lanes(Protocol):
    """A way to make lanes: gRPC, memory, a socket. Every endpoint has its own."""

    def listen(self, address: str, accept: Callable[[], Port]) -> str:
        """Accepts lanes at an address; returns the address that was bound. Raises LinkError when it cannot be."""

    def open(self, address: str, port: Port) -> None:
        """Starts to make a lane to an address; a failure is told to the port as `broken`."""

    def vacant(self, address: str) -> bool:
        """True when it is certain that nobody listens at an address; False when unsure."""

    def close(self) -> None:
        """Ends all lanes and listeners, and joins their threads."""
