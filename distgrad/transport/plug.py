"""The port of one lane: first the handshake, then a link."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import Protocol

from distgrad.errors import DistgradError, ResourceExhausted, WireError
from distgrad.wire import pb
from distgrad.wire.frames import Buffer, split_frame

from .interfaces import Lane
from .link import ProcessLink

logger = logging.getLogger("distgrad.transport")


class PlugOwner(Protocol):
    """What happens to a plug is decided by the endpoint."""

    def greeted(self, plug: Plug, frame: pb.Frame) -> None:
        """The first frame arrived. Raises WireError when it is not what it should be."""

    def spoiled(self, plug: Plug, reason: int, message: str) -> None:
        """What arrived cannot be read: the lane is of no use any more."""

    def unplugged(self, plug: Plug, reason: str) -> None:
        """The lane has ended."""


class Plug:
    """Implements `Port`. The link, once there is one, is asked for frames after the handshake's own have left.

    Attributes:
        link: the link this lane serves; None during the handshake.
        resuming: the broken link that a new lane is opened for.
        name, address: whom an opener wants to reach, and where.
        lane_address: where the lane goes, or came to.
        opening: whether this side opened the lane.
        known_sessions_only: whether no link may be opened over the lane, but one may move to it.
        faster: for an opener, addresses its link may move to.
        outcome: for an opener, the link its handshake leads to, or why not.
        since: when its handshake or its farewell began, on the monotonic clock.
    """

    def __init__(
        self,
        owner: PlugOwner,
        hello: pb.Hello | None = None,
        name: str = "",
        address: str = "",
        lane_address: str = "",
    ) -> None:
        """
        Arguments:
            hello: what an opener says first; None for a lane that was accepted.
        """
        self.link: ProcessLink | None = None
        self.resuming: ProcessLink | None = None
        self.name = name
        self.address = address
        self.lane_address = lane_address
        self.known_sessions_only = False
        self.faster: list[str] = []
        self.opening = hello is not None
        self.outcome: Future[ProcessLink] = Future()
        self.since = time.monotonic()
        self._owner = owner
        self._lane: Lane | None = None
        self._greetings: deque[pb.Frame] = deque()
        self._last_words = False
        self._closed = False
        self._lock = threading.Lock()
        if hello is not None:
            self._greetings.append(pb.Frame(hello=hello))

    # ---- for the endpoint and the link

    def say(self, frame: pb.Frame) -> None:
        """Sends a frame of the handshake, ahead of the link's."""
        self._greetings.append(frame)
        self.wake()

    def say_last(self, goodbye: pb.Goodbye) -> None:
        """Sends a goodbye and ends the lane when it has left."""
        self._greetings.append(pb.Frame(goodbye=goodbye))
        self._last_words = True
        self.wake()

    def succeed(self, link: ProcessLink) -> None:
        if not self.outcome.done():
            self.outcome.set_result(link)

    def fail(self, error: DistgradError) -> None:
        """The handshake failed; of no effect once it is over."""
        if not self.outcome.done():
            self.outcome.set_exception(error)

    @property
    def leaving(self) -> bool:
        """Whether a goodbye is on its way: the lane ends by itself."""
        return self._last_words or (self.link is not None and self.link.leaving)

    def finish(self) -> None:
        """The link has given its last frame."""
        self._last_words = True

    def wake(self) -> None:
        if self._lane is not None:
            self._lane.wake()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            lane = self._lane
        if lane is not None:
            lane.close()

    def relieve(self, now: float) -> None:
        if self._lane is not None:
            self._lane.relieve(now)

    # ---- Port, for the lane

    def plugged(self, lane: Lane) -> None:
        with self._lock:
            self._lane = lane
            closed = self._closed
        if closed:
            lane.close()
        elif self._greetings:
            lane.wake()

    def take(self, room: int = 1) -> list[list[Buffer]]:
        if not self._greetings:
            return [] if self.link is None or self._last_words else self.link.take(self, room)
        greeting = self._greetings.popleft().SerializeToString()
        return [[greeting], *self.take(room - len(greeting))]

    @property
    def finished(self) -> bool:
        return self._last_words and not self._greetings

    def place(self, begun: memoryview) -> tuple[int, memoryview] | None:
        try:
            return self.link.place(self, begun) if self.link is not None else None
        except (WireError, ResourceExhausted):  # which `received` will raise again, and serve
            return None

    def heard(self) -> None:
        if self.link is not None:
            self.link.heard(self)

    def received(self, frame: Buffer, payload: memoryview | None = None) -> None:
        try:
            if self.link is not None:
                self.link.received(self, frame, payload)
            elif not self._last_words:
                self._owner.greeted(self, split_frame(frame)[0])
        except WireError as error:
            self._owner.spoiled(self, pb.REASON_BAD_FRAME, str(error))
        except ResourceExhausted as error:
            self._owner.spoiled(self, pb.REASON_RESOURCE_EXHAUSTED, str(error))
        except Exception as error:  # the lane's thread must live on to tell that the lane has ended
            logger.exception("a frame from %s could not be served", self.link or "a stranger")
            self._owner.spoiled(self, pb.REASON_CLOSED, f"internal error: {error}")

    def unreadable(self, message: str) -> None:
        self._owner.spoiled(self, pb.REASON_BAD_FRAME, message)

    def broken(self, reason: str) -> None:
        self._owner.unplugged(self, reason)
