"""All links of one process: at most one to each other process, whoever opened it."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from distgrad.errors import ConfigError, LinkError, PermissionDenied, WireError, WorkerLost
from distgrad.wire import pb

from .addresses import advertised
from .handshake import Duplicate, exception_for, greeting, identity_from_pb, identity_to_pb, refusal
from .health import Health
from .interfaces import Identity, Lanes, Receiver
from .lanes import LanesByAddress
from .link import ProcessLink
from .offers import choose, lane_beside, listen_beside
from .plug import Plug
from .pulse import Pulse
from .recovery import move, recover
from .settings import TransportSettings
from .threads import Threads

logger = logging.getLogger("distgrad.transport")

# How long a link that was closed in order may take to get its last frames out.
FAREWELL = 1.0
# How long a new link is kept from its opener while it moves to a faster lane.
PATIENCE = 0.3
# How soon an opener tries again when the other side said that its own link stays, and that one has not shown up.
DUPLICATE_PAUSE = 0.05
# So many lives of processes that no link is made with again are remembered.
MAX_BANISHED = 10_000


class Endpoint:
    """Opens, accepts, watches and closes the links of this process.

    Use as a context manager, or call `close`. Safe to use from any thread; `close` and `connect` not from a receiver's
    callbacks, since both wait for other threads.
    """

    def __init__(
        self, identity: Identity, settings: TransportSettings, receiver: Receiver, lanes: Lanes | None = None
    ) -> None:
        """
        Arguments:
            lanes: how to reach others; gRPC, and what is faster, when not given.
        """
        self.identity = identity
        self.settings = settings
        self.receiver = receiver
        self.health = Health()
        self.lanes = lanes or LanesByAddress(settings, self.health)
        self.readers = threading.local()
        self.closing = threading.Event()
        # Somebody above may know better than a broken link why a peer is gone. Called in a thread that may wait a bit.
        self.explain: Callable[[Identity, str], str] = lambda peer, reason: reason
        self._changed = threading.Condition()  # guards the tables below; notified when one changes
        self._links: dict[str, ProcessLink] = {}
        self._attempts: dict[str, Future[ProcessLink]] = {}
        self._plugs: set[Plug] = set()
        self._banished: dict[tuple[str, int], str] = {}  # name and incarnation -> why
        self._offers: list[pb.Offer] = []
        self._threads = Threads()
        self._pulse = Pulse(self)

    # ---- for those above ---------------------------------------------------------------------------------------------

    def listen(self, address: str, advertise: str = "") -> str:
        """Lets others open links.

        Arguments:
            address: "HOST:PORT" (port 0: a free one) or "unix:/PATH".
            advertise: "HOST:PORT" or "HOST" at which others reach it, if not there.

        Returns:
            The address that was bound. It becomes this process's own in handshakes, unless its identity has one.

        Raises:
            LinkError: the address is taken or does not exist here.
            ConfigError: it can be reached from other machines and the settings do not protect it.
        """
        self.settings.require_guarded(address)
        bound = self.lanes.listen(address, lambda: self._accept(bound))
        self._offers += listen_beside(self.lanes, bound, self.settings.fast_lanes, self._accept, self._accept_moved)
        if not self.identity.address:
            self.identity = replace(self.identity, address=advertised(bound, advertise))
        return bound

    def connect(
        self, name: str, address: str, expected_incarnation: int = 0, timeout: float | None = None
    ) -> ProcessLink:
        """The link to a process, opened now unless there is one, whichever side opened it.

        Arguments:
            expected_incarnation: refuse any other life of the process; zero accepts any.
            timeout: in seconds; the settings' connect_timeout when None.

        Raises:
            LinkError: nobody listens there, nobody answers in time, or it is not `name`, or of another cluster.
            WorkerLost: the process there is not the incarnation expected.
            PermissionDenied: the token is not accepted.
        """
        if name == self.identity.name:
            raise ConfigError(f"{name} tried to open a link to itself")
        self.settings.require_safe(address)
        seconds = self.settings.connect_timeout if timeout is None else timeout
        deadline = time.monotonic() + seconds
        while True:
            with self._changed:
                link = self._wait_for_turn(name, expected_incarnation, deadline)
                if link is not None:
                    return link
                attempt = self._attempts[name] = Future()
            try:
                return self._open(name, address, expected_incarnation, deadline)
            except Duplicate:
                with self._changed:
                    self._changed.wait(DUPLICATE_PAUSE)
            except TimeoutError:
                raise LinkError(f"{name} at {address} did not answer within {seconds} s") from None
            finally:
                with self._changed:
                    if self._attempts.get(name) is attempt:
                        del self._attempts[name]
                    self._changed.notify_all()

    def link(self, name: str) -> ProcessLink | None:
        """The link to a process; None when there is none."""
        return self._links.get(name)

    def links(self) -> list[ProcessLink]:
        with self._changed:
            return list(self._links.values())

    def banish(self, peer: Identity, reason: str) -> None:
        """Ends the link to one life of a process, if there is one, and makes none with it again."""
        self._never_again(peer, reason)
        link = self._links.get(peer.name)
        if link is not None and link.peer.incarnation == peer.incarnation:
            link.banish(reason)

    def say_goodbye(self, reason: str = "") -> None:
        """Nothing goes out on any link after this, for that reason if there is one: what fails now because this process
        ends is no failure that others should hear of."""
        for link in self.links():
            link.say_goodbye(reason or f"{self.identity.name} ends")

    def close(self, reason: str = "") -> None:
        """Says goodbye on every link, ends them and joins all threads. Harmless when repeated."""
        with self._changed:
            if self.closing.is_set():
                return
            self.closing.set()
            self._changed.notify_all()
        self.health.close()
        self.say_goodbye(reason)
        for link in self.links():
            link.close(reason or f"{self.identity.name} ends")
        with self._changed:
            strangers = [plug for plug in self._plugs if not plug.leaving]
        for plug in strangers:
            plug.close()
        deadline = time.monotonic() + FAREWELL
        with self._changed:
            while self._plugs and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            plugs = list(self._plugs)
        for plug in plugs:
            plug.close()
        self._pulse.join()
        self._threads.join()
        self.lanes.close()

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Endpoint {self.identity!r} at {self.identity.address or 'no address'}, {len(self._links)} links>"

    # ---- opening -----------------------------------------------------------------------------------------------------

    def _wait_for_turn(self, name: str, expected: int, deadline: float) -> ProcessLink | None:
        """The link that is there, or None when it is this thread's turn to open it. Called with `_changed` held."""
        while True:
            if self.closing.is_set():
                raise LinkError(f"{self.identity.name} is closing and opens no link to {name}")
            link = self._links.get(name)
            if link is not None and expected in (0, link.peer.incarnation):
                return link
            if name not in self._attempts:
                return None
            if not self._changed.wait(max(deadline - time.monotonic(), 0)):
                raise LinkError(f"an attempt to reach {name} by another thread did not end in time")

    def _open(self, name: str, address: str, expected: int, deadline: float) -> ProcessLink:
        beside = lane_beside(address) if "unix" in self.settings.fast_lanes else ""
        if beside:
            try:
                return self._greet(name, address, beside, expected, deadline).outcome.result()
            except (Duplicate, WireError, PermissionDenied, WorkerLost):
                raise
            except LinkError as error:
                logger.info("%s has no faster lane than gRPC: %s", name, error)
        if self.lanes.vacant(address):
            raise LinkError(f"nobody listens at {address}, where {name} should be")
        plug = self._greet(name, address, address, expected, deadline)
        link = plug.outcome.result()
        if plug.faster:
            try:
                moved = self._threads.start(f"distgrad-move-{name}", move, self, link, plug.faster)
            except RuntimeError as error:
                logger.info("%s stays on gRPC, since there is no thread to move it in: %s", link, error)
            else:
                moved.join(PATIENCE)
        return link

    def _greet(self, name: str, address: str, lane_address: str, expected: int, deadline: float) -> Plug:
        """Opens a lane and waits for what its handshake leads to."""
        plug = self._new_plug(greeting(self.identity, self.settings, expected), name, address, lane_address)
        self._plug_in(plug, max(deadline - time.monotonic(), 0))
        return plug

    def _plug_in(self, plug: Plug, timeout: float) -> None:
        try:
            self._open_lane(plug)
            plug.outcome.result(timeout)
        except BaseException:
            plug.close()
            raise

    def _open_lane(self, plug: Plug) -> None:
        try:
            self.lanes.open(plug.lane_address, plug)
        except (OSError, RuntimeError, ImportError) as error:  # no descriptor for it (or to import gRPC), or no thread
            plug.broken(str(error))

    def resume(self, link: ProcessLink, lane_address: str, timeout: float) -> None:
        """Takes up the session of a link again over a new lane; called when it moves, and by its recovery.

        Raises:
            WorkerLost, PermissionDenied: the process there does not know the session any more.
            LinkError: there was no lane this time.
            TimeoutError: nor an answer.
        """
        self.settings.require_safe(lane_address)
        hello = greeting(self.identity, self.settings, link.peer.incarnation)
        hello.session, hello.received = link.session_name, link.how_far()
        plug = self._new_plug(hello, link.peer.name, link.opened_at, lane_address)
        plug.resuming = link
        self._plug_in(plug, timeout)

    def _new_plug(self, hello: pb.Hello | None, name: str, address: str, lane_address: str) -> Plug:
        plug = Plug(self, hello, name, address, lane_address)
        with self._changed:
            self._plugs.add(plug)
        return plug

    def _accept(self, lane_address: str) -> Plug:
        return self._new_plug(None, "", "", lane_address)

    def _accept_moved(self, lane_address: str) -> Plug:
        plug = self._accept(lane_address)
        plug.known_sessions_only = True
        return plug

    # ---- the handshake, in the reader threads of lanes ---------------------------------------------------------------

    def greeted(self, plug: Plug, frame: pb.Frame) -> None:
        kind = frame.WhichOneof("body")
        answers: dict[str | None, Callable[[Plug, Any], None]] = (
            {"welcome": self._welcomed, "goodbye": self._refused} if plug.opening else {"hello": self._admit}
        )
        answer = answers.get(kind)
        if answer is None:
            raise WireError(f"the first frame was {kind or 'empty'}, expected {' or '.join(map(str, answers))}")
        answer(plug, getattr(frame, str(kind)))

    def _refused(self, plug: Plug, goodbye: pb.Goodbye) -> None:
        plug.fail(exception_for(goodbye, plug.name, plug.address))
        plug.close()

    def _welcomed(self, plug: Plug, welcome: pb.Welcome) -> None:
        peer = identity_from_pb(welcome.identity)
        if peer.name != plug.name:
            plug.fail(LinkError(f"{peer!r} is at {plug.address}, expected {plug.name}"))
            plug.close()
            return
        if 0 < welcome.max_frame_bytes < self.settings.max_frame_bytes:
            mine, theirs = self.settings.max_frame_bytes, welcome.max_frame_bytes
            plug.fail(LinkError(f"{peer!r} takes frames of {theirs} bytes, this side sends {mine}: set the same limit"))
            plug.close()
            return
        link = plug.resuming
        if link is None:
            link = self._new_link(peer, welcome.session, plug.address)
            link.lane_address = plug.lane_address
            if not self._enter(link, plug):
                return
        plug.link = link
        link.attach(plug, welcome.received)
        self._close_lanes(link, but=plug)
        if plug.lane_address == plug.address:
            plug.faster = choose(welcome.offers, plug.address, self.settings.fast_lanes)
        plug.succeed(link)

    def _admit(self, plug: Plug, hello: pb.Hello) -> None:
        goodbye = refusal(hello, self.identity, self.settings)
        if goodbye is None and plug.known_sessions_only and not hello.session:
            goodbye = pb.Goodbye(reason=pb.REASON_UNAUTHENTICATED, message="links are not opened over this lane")
        if goodbye is None and not self._has_room_for(hello):
            goodbye = pb.Goodbye(reason=pb.REASON_RESOURCE_EXHAUSTED, message="it has as many links as it may")
        if goodbye is not None:
            plug.say_last(goodbye)
            return
        peer = identity_from_pb(hello.identity)
        link = self._known_session(peer, hello) if hello.session else self._new_link(peer, secrets.token_hex(16), "")
        if link is None:
            plug.say_last(pb.Goodbye(reason=pb.REASON_STALE, message="it has given up that session"))
            return
        if not hello.session and not self._enter(link, plug):
            return
        welcome = pb.Welcome(
            identity=identity_to_pb(self.identity),
            session=link.session_name,
            max_frame_bytes=self.settings.max_frame_bytes,
            offers=self._offers,
        )
        if hello.session:
            link.detach()
            self._close_lanes(link, but=plug)
            welcome.received = link.how_far()
        plug.link = link
        plug.say(pb.Frame(welcome=welcome))
        link.attach(plug, hello.received)

    def _close_lanes(self, link: ProcessLink, but: Plug) -> None:
        with self._changed:
            plugs = [plug for plug in self._plugs if plug.link is link and plug is not but]
        for plug in plugs:
            plug.close()

    def _has_room_for(self, hello: pb.Hello) -> bool:
        known = hello.session or hello.identity.name in self._links
        return bool(known) or len(self._links) < self.settings.max_links

    def _new_link(self, peer: Identity, session: str, opened_at: str) -> ProcessLink:
        return ProcessLink(self.identity, peer, session, opened_at, self.settings, self.receiver, self)

    def _known_session(self, peer: Identity, hello: pb.Hello) -> ProcessLink | None:
        link = self._links.get(peer.name)
        if link is None or link.ending or link.session_name != hello.session:
            return None
        return link if link.peer.incarnation == peer.incarnation else None

    def _enter(self, link: ProcessLink, plug: Plug) -> bool:
        """Makes `link` the link to its peer, unless another stays; then ends `plug` and returns False.

        Of two links opened at once, one from each side, the one opened by the process whose name sorts first stays.
        """
        peer = link.peer
        with self._changed:
            old = self._links.get(peer.name)
            if (why := self._banished.get((peer.name, peer.incarnation))) is not None:
                refused: tuple[int, str] | None = (pb.REASON_STALE, why)
            elif self.closing.is_set():
                refused = pb.REASON_CLOSED, f"{self.identity.name} is closing"
            elif peer.name == self.identity.name or (old and old.peer.role != "client" == peer.role):
                # Else a client could put itself in the place of a worker, or of the coordinator.
                refused = pb.REASON_UNAUTHENTICATED, f"{peer.name} is the name of another, and not for a {peer.role}"
            elif old is not None and old.peer.incarnation == peer.incarnation and old.connected:
                refused = pb.REASON_DUPLICATE, "there is a link already"
            elif not plug.opening and peer.name in self._attempts and self.identity.name < peer.name:
                refused = pb.REASON_DUPLICATE, f"the link that {self.identity.name} opens stays"
            else:
                refused = None
                self._links[peer.name] = link
                self._changed.notify_all()
        if refused is not None:
            reason, message = refused
            plug.say_last(pb.Goodbye(reason=reason, message=message))  # type: ignore[arg-type]
            plug.fail(Duplicate(message) if reason == pb.REASON_DUPLICATE else LinkError(message))
            return False
        if old is not None:
            self._replace(old, peer)
        self.receiver.linked(link)
        if link.announced():
            self._tell_lost(link)
        return True

    def _replace(self, old: ProcessLink, peer: Identity) -> None:
        if old.peer.incarnation == peer.incarnation:
            self.lose(old, "it opened a new link")
            return
        self._never_again(old.peer, f"another {peer.name} has taken that name since")
        self.lose(old, f"it was started anew as {peer!r}")

    def _never_again(self, peer: Identity, reason: str) -> None:
        with self._changed:
            self._banished[peer.name, peer.incarnation] = reason
            if len(self._banished) > MAX_BANISHED:
                del self._banished[next(iter(self._banished))]

    # ---- endings -----------------------------------------------------------------------------------------------------

    def spoiled(self, plug: Plug, reason: int, message: str) -> None:
        logger.warning("closing the lane of %s: %s", plug.link or "a stranger", message)
        plug.fail(WireError(f"{plug.name or 'the peer'} sent what cannot be read: {message}"))
        plug.say_last(pb.Goodbye(reason=reason, message=message))  # type: ignore[arg-type]
        if plug.link is not None:
            self.lose(plug.link, f"it sent what cannot be served: {message}")

    def unplugged(self, plug: Plug, reason: str) -> None:
        with self._changed:
            self._plugs.discard(plug)
            self._changed.notify_all()
        if plug.opening:
            plug.fail(LinkError(f"no link to {plug.name} at {plug.address}: {reason}"))
        link = plug.link
        if link is None or not link.detach(plug) or link.ending or link.leaving:
            return
        try:
            with self._changed:
                if self.closing.is_set():
                    return
                self._threads.start(f"distgrad-recover-{link.peer.name}", recover, self, link, reason)
        except RuntimeError as error:
            self.lose(link, f"the connection broke ({reason}), and there is no thread to make it again in: {error}")

    def lose(self, link: ProcessLink, reason: str) -> None:
        """Ends a link for good. The receiver is told the first time."""
        must_tell = link.end(reason)
        with self._changed:
            if self._links.get(link.peer.name) is link:
                del self._links[link.peer.name]
            plugs = [plug for plug in self._plugs if plug.link is link]
            self._changed.notify_all()
        for plug in plugs:
            plug.since = time.monotonic()
            if not plug.leaving:
                plug.close()
        if must_tell:
            self._tell_lost(link)

    def _tell_lost(self, link: ProcessLink) -> None:
        try:
            self.receiver.lost(link.peer, link.ending)
        except Exception:  # this may be the thread of the heartbeats of all links
            logger.exception("the loss of %r could not be served", link.peer)

    def relieve_readers(self, now: float) -> None:
        """Lanes are read on although their readers are busy with something else."""
        with self._changed:
            plugs = list(self._plugs)
        for plug in plugs:
            plug.relieve(now)

    def stale_plugs(self, now: float) -> list[Plug]:
        """Lanes whose handshake or farewell takes longer than silence is allowed to."""
        with self._changed:
            return [
                plug
                for plug in self._plugs
                if (plug.link is None or plug.link.ending) and now - plug.since > self.settings.silence
            ]
