"""The link to one process: a session over one lane at a time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from distgrad.errors import ResourceExhausted, WireError, WorkerLost
from distgrad.wire import pb
from distgrad.wire.dtypes import Array, in_c_order
from distgrad.wire.frames import SMALL, Buffer, append_payload, frame_head, split_frame, split_message, view_arrays

from .bodies import message_body
from .buffers import copied
from .chunks import Assembler, Outbox
from .interfaces import Identity, Receiver
from .reading import leave_reading
from .requests import Requests
from .session import MAX_KEPT, Session
from .settings import TransportSettings

logger = logging.getLogger("distgrad.transport")


_ARRAY_HEADER = 100  # bytes, generously, of an array's header in a frame
_UNSEQUENCED = frozenset({None, "hello", "welcome", "goodbye", "heartbeat"})


class LinkOwner(Protocol):
    """What a link asks of its endpoint."""

    # `serving` is true in threads that serve a frame: they must never wait for a window, which only reading opens.
    readers: threading.local

    def lose(self, link: ProcessLink, reason: str) -> None: ...


class LinkPlug(Protocol):
    """What a link asks of the port it is served by."""

    @property
    def lane_address(self) -> str: ...
    def wake(self) -> None: ...
    def finish(self) -> None: ...
    def close(self) -> None: ...


class ProcessLink:
    """Implements `Link`. See there for what holds.

    Two locks: `_receiving` is held while a frame is served, so a lane that takes over waits for the last frame of the
    one before; `_lock` guards all state. `_receiving` is taken first, and neither while calling out with the other
    held.

    Attributes:
        lane_address: where this side opened the last lane that worked; tried first after a break.
        changing_lanes: held by whoever opens a lane for this link's session.
    """

    def __init__(
        self,
        me: Identity,
        peer: Identity,
        session: str,
        opened_at: str,
        settings: TransportSettings,
        receiver: Receiver,
        owner: LinkOwner,
    ) -> None:
        """
        Arguments:
            session: name that both sides know the session by.
            opened_at: address this side opened the link at, and opens it again after a break; empty on the listener's.
        """
        self.peer = peer
        self.session_name = session
        self.opened_at = opened_at
        self.lane_address = ""
        self.changing_lanes = threading.Lock()
        self._me = me
        self._settings = settings
        self._receiver = receiver
        self._owner = owner
        self._receiving = threading.RLock()
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._waiting_for_room = 0  # threads
        self._plug: LinkPlug | None = None
        self._session: Session[list[Buffer]] = Session(acknowledge_after=max(settings.window_bytes // 4, 1))
        # The other half is for the arrays that are not chunked, with the gaps between them.
        self._max_body_bytes = settings.max_frame_bytes // 2
        self._outbox = Outbox(settings.chunk_bytes)
        self._assembler = Assembler(settings.max_transfer_bytes)
        self._requests = Requests(me, peer, self._post)
        self._in_flight = 0
        self._heartbeat: pb.Heartbeat | None = None
        self._acknowledge_now = False
        self._goodbye: pb.Goodbye | None = None
        self._ended = ""
        self._announced = False
        self._heard = time.monotonic()
        self._counts = dict.fromkeys(("frames_sent", "bytes_sent", "frames_received", "bytes_received"), 0)
        self._attached = 0
        self._peer_progress = self._peer_busy = 0

    # ---- Link, for those above ---------------------------------------------------------------------------------------

    def send(self, body: Any, arrays: Sequence[Array] = ()) -> None:
        self._post(message_body(body), arrays, waits=type(body) is not pb.Gradients)

    def request(self, body: Any, arrays: Sequence[Array] = ()) -> Future[tuple[Any, list[Array]]]:
        return self._requests.ask(body, arrays)

    def close(self, reason: str) -> None:
        self.say_goodbye(reason)
        self._owner.lose(self, f"link closed here: {reason}")

    def banish(self, reason: str) -> None:
        """Closes the link because the peer is lost, for that reason."""
        self.say_goodbye(reason)
        self._owner.lose(self, reason)

    def say_goodbye(self, reason: str) -> None:
        """The last thing that goes out. The link has still to be closed."""
        with self._lock:
            if self._goodbye is None:
                self._goodbye = pb.Goodbye(reason=pb.REASON_CLOSED, message=reason)
            plug = self._plug
        if plug is not None:
            plug.wake()

    def statistics(self) -> dict[str, Any]:
        with self._lock:
            return {
                **self._counts,
                "peer": repr(self.peer),
                "state": self._state(),
                "lane": self._plug.lane_address if self._plug is not None else "",
                "reconnects": max(self._attached - 1, 0),
                "bytes_in_flight": self._in_flight,
                "frames_kept": self._session.kept,
                "frames_sent_again": self._session.sent_again,
                "duplicates_dropped": self._session.duplicates,
                "requests_waiting": len(self._requests),
                "peer_progress": self._peer_progress,
                "peer_busy": self._peer_busy,
                "silent_for": time.monotonic() - self._heard,
            }

    def __repr__(self) -> str:
        return f"<Link {self._me!r} - {self.peer!r}, {self._state()}>"

    def _state(self) -> str:
        if self._ended:
            return f"ended: {self._ended}"
        return "connected" if self._plug is not None else "broken"

    def _require_alive(self) -> None:
        if self._ended or self._goodbye is not None:
            raise WorkerLost(f"{self.peer!r} is lost: {self._ended or 'link closed here'}")

    # ---- sending -----------------------------------------------------------------------------------------------------

    def _post(self, body: bytes, arrays: Sequence[Array], *, waits: bool = True, reply: bool = False) -> None:
        """Sends a message, given its body as a field of a frame."""
        size = 0
        if arrays:
            arrays = [in_c_order(array) for array in arrays]
            size = sum([array.nbytes for array in arrays])
        if len(body) + _ARRAY_HEADER * len(arrays) > self._max_body_bytes:
            raise ResourceExhausted(
                f"a message of {len(body)} bytes and {len(arrays)} array headers is larger than "
                f"{self._max_body_bytes}, half of max_frame_bytes: send large text and bytes as uint8 arrays"
            )
        with self._lock:
            if waits and size and not getattr(self._owner.readers, "serving", False):
                while self._in_flight >= self._settings.window_bytes and not self._ended:
                    self._wait_for_room()
            if self._ended or self._goodbye is not None:
                self._require_alive()
            self._in_flight += size
            self._outbox.put(body, arrays, size, reply)
            plug = self._plug
        if plug is not None:
            plug.wake()

    def _wait_for_room(self) -> None:
        """Until some of what is in flight has arrived. Called with the lock held."""
        leave_reading()
        self._waiting_for_room += 1
        try:
            self._room.wait()
        finally:
            self._waiting_for_room -= 1

    def take(self, plug: LinkPlug, room: int = 1) -> list[list[Buffer]]:
        """The next frames for the lane behind `plug`, as `Port.take`; none when another lane serves the link now."""
        frames: list[list[Buffer]] = []
        with self._lock:
            if plug is not self._plug:
                return frames
            while room > 0:
                pieces = self._session.take_again() if self._session.behind else self._take_new()
                if pieces is None:
                    break
                size = len(pieces[0]) if len(pieces) == 1 else sum(map(len, pieces))
                frames.append(pieces)
                room -= size
                self._counts["frames_sent"] += 1
                self._counts["bytes_sent"] += size
            if room > 0 and self._goodbye is not None:
                frames.append([pb.Frame(goodbye=self._goodbye).SerializeToString()])
                plug.finish()
        return frames

    def _take_unsequenced(self) -> list[Buffer] | None:
        if self._heartbeat is not None:
            heartbeat, self._heartbeat = self._heartbeat, None
            return [pb.Frame(acknowledged=self._session.tell(), heartbeat=heartbeat).SerializeToString()]
        self._acknowledge_now = False
        if self._session.owes_acknowledgement:
            return [pb.Frame(acknowledged=self._session.tell()).SerializeToString()]
        return None

    def _take_new(self) -> list[Buffer] | None:
        if self._heartbeat is not None or self._acknowledge_now:
            pieces = self._take_unsequenced()
            if pieces is not None:
                return pieces
        outgoing = self._outbox.next()
        if outgoing is None:
            return None
        rest, payload, size, weight = outgoing
        pieces = append_payload(frame_head(self._session.sent + 1, self._session.tell(), rest), payload, size)
        if size <= SMALL and len(pieces) > 1:
            pieces = [b"".join(pieces)]
        self._session.keep(pieces, weight)
        return pieces

    # ---- receiving ---------------------------------------------------------------------------------------------------

    def place(self, plug: LinkPlug, begun: memoryview) -> tuple[int, memoryview] | None:
        """Where the payload of a frame that has begun to arrive belongs, as `Port.place`: that of a chunk has a place.
        Raises WireError or ResourceExhausted when there is something wrong with it."""
        with self._receiving:
            if plug is not self._plug or self._ended:
                return None
            frame, payload, missing = split_message(pb.Frame, begun, beside=True)
            if frame.WhichOneof("body") != "chunk" or frame.sequence != self._session.received + 1:
                return None
            memory = self._assembler.place(frame.chunk, len(payload) + missing)
            return None if memory is None else (len(begun) - len(payload), memory)

    def heard(self, plug: LinkPlug) -> None:
        """More of a large frame arrived: a peer whose frames come slowly is not silent."""
        if plug is self._plug:
            self._heard = time.monotonic()

    def received(self, plug: LinkPlug, buffer: Buffer, beside: memoryview | None = None) -> None:
        """Serves one frame. Raises WireError or ResourceExhausted when it is not what a peer may send.

        Arguments:
            beside: memory that begins with the payload, when it is not in `buffer`; only valid during the call.
        """
        readers = self._owner.readers
        readers.serving = True
        try:
            self._receive(plug, buffer, beside)
        finally:
            readers.serving = False

    def _receive(self, plug: LinkPlug, buffer: Buffer, beside: memoryview | None) -> None:
        with self._receiving:
            if plug is not self._plug or self._ended:
                return
            self._heard = time.monotonic()
            frame, payload = split_frame(buffer, beside)
            kind = frame.WhichOneof("body")
            size = len(buffer) + (0 if beside is None else len(payload))
            if not self._take_in(frame, kind, size) or kind is None:
                return
            if beside is not None and kind != "chunk":  # a chunk is copied to its place by the assembler
                payload = copied(payload)
            serve = self._SERVE.get(kind)
            if serve is not None:
                serve(self, getattr(frame, kind), frame, payload)
            else:
                arrays = view_arrays(frame, payload, self._assembler.complete)
                self._receiver.receive(self, getattr(frame, kind), arrays)

    def _take_in(self, frame: pb.Frame, kind: str | None, size: int) -> bool:
        """Notes sequence and acknowledgement; False for a frame seen before."""
        plug = None
        with self._lock:
            self._counts["frames_received"] += 1
            self._counts["bytes_received"] += size
            if frame.acknowledged > self._session.acknowledged:
                self._let_go(self._session.acknowledge(frame.acknowledged))
            if not frame.sequence:
                if kind not in _UNSEQUENCED:
                    raise WireError(f"a {kind} arrived without a sequence number")
                return True
            fresh = self._session.accept(frame.sequence, size)
            if self._session.acknowledgement_is_urgent:
                self._acknowledge_now, plug = True, self._plug
        if plug is not None:
            plug.wake()
        return fresh

    def _let_go(self, weight: int) -> None:
        if weight:
            self._in_flight -= weight
            if self._waiting_for_room:
                self._room.notify_all()

    def _serve_greeting(self, body: Any, frame: pb.Frame, payload: memoryview) -> None:
        raise WireError("a second handshake arrived on one lane")

    def _serve_goodbye(self, goodbye: pb.Goodbye, frame: pb.Frame, payload: memoryview) -> None:
        plug = self._plug
        if plug is not None:
            plug.finish()
            plug.wake()
        self._owner.lose(self, f"it closed the link: {goodbye.message}")

    def _serve_heartbeat(self, heartbeat: pb.Heartbeat, frame: pb.Frame, payload: memoryview) -> None:
        self._peer_progress, self._peer_busy = heartbeat.progress, heartbeat.busy

    def _serve_chunk(self, chunk: pb.Chunk, frame: pb.Frame, payload: memoryview) -> None:
        self._assembler.add(chunk, payload)

    def _serve_request(self, request: pb.Request, frame: pb.Frame, payload: memoryview) -> None:
        arrays = view_arrays(frame, payload, self._assembler.complete)
        self._requests.serve(request, lambda body, reply: self._receiver.answer(self, body, arrays, reply))

    def _serve_reply(self, reply: pb.Reply, frame: pb.Frame, payload: memoryview) -> None:
        self._requests.answered(reply, view_arrays(frame, payload, self._assembler.complete))

    _SERVE: dict[str, Callable[..., None]] = {  # noqa: RUF012 - a table of this class's own methods
        "hello": _serve_greeting,
        "welcome": _serve_greeting,
        "goodbye": _serve_goodbye,
        "heartbeat": _serve_heartbeat,
        "chunk": _serve_chunk,
        "request": _serve_request,
        "reply": _serve_reply,
    }

    # ---- for the endpoint --------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether a lane serves this link, or is about to for the first time."""
        return self._plug is not None or not self._attached

    @property
    def leaving(self) -> bool:
        """Whether a goodbye of this side is on its way."""
        return self._goodbye is not None

    def detach(self, plug: LinkPlug | None = None) -> bool:
        """Lets go of the lane behind `plug` (of any, without one). False when that lane did not serve this link."""
        with self._receiving, self._lock:
            if plug is not None and plug is not self._plug:
                return False
            self._plug = None
            return True

    def how_far(self) -> int:
        """The highest sequence number received, for the handshake that takes the session up again."""
        with self._lock:
            return self._session.received

    def attach(self, plug: LinkPlug, peer_received: int) -> None:
        """From now on the lane behind `plug` serves; what the peer has not received is sent again over it.

        Raises:
            WireError: the peer says it received what was never sent.
        """
        with self._receiving, self._lock:
            self._let_go(self._session.resume(peer_received))
            self._assembler.displace()
            self._attached += 1
            self._plug = plug
            self._heard = time.monotonic()
        plug.wake()

    def beat(self, progress: int, busy: int) -> None:
        """Sends a heartbeat when the lane is ready for one; never piles them up."""
        with self._lock:
            self._heartbeat = pb.Heartbeat(progress=progress, busy=busy)
            plug = self._plug
        if plug is not None:
            plug.wake()

    def acknowledge_if_idle(self) -> None:
        """Sends the acknowledgement that found nothing to travel on."""
        with self._lock:
            if not self._session.owes_acknowledgement:
                return
            self._acknowledge_now, plug = True, self._plug
        if plug is not None:
            plug.wake()

    def silent_for(self, now: float) -> float:
        """Seconds since the last frame; zero while there is no lane, when the reconnect window counts instead."""
        return now - self._heard if self._plug is not None else 0.0

    def excuse(self, seconds: float) -> None:
        """This process itself was stopped for so long: the peer is not to blame for that time."""
        self._heard += seconds

    @property
    def hopeless(self) -> bool:
        """Whether so much is kept for the peer that it must be given up."""
        return self._session.kept > MAX_KEPT

    @property
    def ending(self) -> str:
        """Why it ended; empty while it lives."""
        return self._ended

    def announced(self) -> bool:
        """The receiver knows of the link. True when it has ended meanwhile: then the receiver must be told now."""
        with self._lock:
            self._announced = True
            return bool(self._ended)

    def end(self, reason: str) -> bool:
        """Ends the link: senders stop waiting, requests fail. True when the receiver must be told now."""
        with self._lock:
            if self._ended:
                return False
            self._ended = reason
            announced = self._announced
            self._room.notify_all()
        self._requests.end(f"{self.peer!r} is lost: {reason}")
        return announced
