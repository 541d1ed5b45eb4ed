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

from distgrad.errors import ConfigError, LinkError, WireError
from distgrad.wire import pb

from .handshake import Duplicate, exception_for, greeting, identity_from_pb, identity_to_pb, refusal
from .interfaces import Identity, Lanes, Receiver
from .link import ProcessLink
from .plug import Plug
from .pulse import Pulse
from .recovery import recover
from .settings import TransportSettings

logger = logging.getLogger("distgrad.transport")

# How long a link that was closed in order may take to get its last frames out.
FAREWELL = 1.0
# How soon an opener tries again when the other side said that its own link stays, and that one has not shown up.
DUPLICATE_PAUSE = 0.05


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
            lanes: how to reach others; gRPC when not given.
        """
        if lanes is None:
            from .grpc_lane import GrpcLanes

            lanes = GrpcLanes(settings)
        self.identity = identity
        self.settings = settings
        self.receiver = receiver
        self.lanes = lanes
        self.readers = threading.local()
        self.closing = threading.Event()
        # Somebody above may know better than a broken link why a peer is gone. Called in a thread that may wait a bit.
        self.explain: Callable[[Identity, str], str] = lambda peer, reason: reason
        self._changed = threading.Condition()  # guards the tables below; notified when one changes
        self._links: dict[str, ProcessLink] = {}
        self._attempts: dict[str, Future[ProcessLink]] = {}
        self._plugs: set[Plug] = set()
        self._replaced: set[tuple[str, int]] = set()
        self._recoveries: set[threading.Thread] = set()
        self._pulse = Pulse(self)

    # ---- for those above ---------------------------------------------------------------------------------------------

    def listen(self, address: str) -> str:
        """Lets others open links.

        Arguments:
            address: "HOST:PORT" (port 0: a free one) or "unix:/PATH".

        Returns:
            The address that was bound. It becomes this process's own in handshakes, unless its identity has one.

        Raises:
            LinkError: the address is taken or does not exist here.
            ConfigError: it can be reached from other machines and the settings do not protect it.
        """
        self.settings.require_guarded(address)
        bound = self.lanes.listen(address, self._accept)
        if not self.identity.address:
            self.identity = replace(self.identity, address=bound)
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

    def close(self) -> None:
        """Says goodbye on every link, ends them and joins all threads. Harmless when repeated."""
        with self._changed:
            if self.closing.is_set():
                return
            self.closing.set()
            self._changed.notify_all()
        for link in self.links():
            link.close(f"{self.identity.name} ends")
        with self._changed:
            strangers = [plug for plug in self._plugs if not plug.leaving]
        for plug in strangers:
            plug.close()
        deadline = time.monotonic() + FAREWELL
        with self._changed:
            while self._plugs and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            plugs, recoveries = list(self._plugs), list(self._recoveries)
        for plug in plugs:
            plug.close()
        self._pulse.join()
        for thread in recoveries:
            thread.join()
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
        if self.lanes.vacant(address):
            raise LinkError(f"nobody listens at {address}, where {name} should be")
        plug = self._new_plug(greeting(self.identity, self.settings, expected), name, address)
        try:
            self.lanes.open(address, plug)
            return plug.outcome.result(max(deadline - time.monotonic(), 0))
        except BaseException:
            plug.close()
            raise

    def resume(self, link: ProcessLink, timeout: float) -> None:
        """Takes up the session of a link again over a new lane; called by its recovery.

        Raises:
            WorkerLost, PermissionDenied: the process there does not know the session any more.
            LinkError: there was no lane this time.
            TimeoutError: nor an answer.
        """
        hello = greeting(self.identity, self.settings, link.peer.incarnation)
        hello.session, hello.received = link.session_name, link.how_far()
        plug = self._new_plug(hello, link.peer.name, link.opened_at)
        plug.resuming = link
        try:
            self.lanes.open(link.opened_at, plug)
            plug.outcome.result(timeout)
        except BaseException:
            plug.close()
            raise

    def _new_plug(self, hello: pb.Hello | None, name: str = "", address: str = "") -> Plug:
        plug = Plug(self, hello, name, address)
        with self._changed:
            self._plugs.add(plug)
        return plug

    def _accept(self) -> Plug:
        return self._new_plug(None)

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
            if not self._enter(link, plug):
                return
        plug.link = link
        link.attach(plug, welcome.received)
        plug.succeed(link)

    def _admit(self, plug: Plug, hello: pb.Hello) -> None:
        goodbye = refusal(hello, self.identity, self.settings)
        if goodbye is None and self._is_full():
            goodbye = pb.Goodbye(reason=pb.REASON_RESOURCE_EXHAUSTED, message="it has as many links as it may")
        if goodbye is not None:
            plug.say_last(goodbye)
            return
        peer = identity_from_pb(hello.identity)
        link = self._known_session(peer, hello) if hello.session else self._new_link(peer, secrets.token_hex(8), "")
        if link is None:
            plug.say_last(pb.Goodbye(reason=pb.REASON_STALE, message="it has given up that session"))
            return
        if not hello.session and not self._enter(link, plug):
            return
        welcome = pb.Welcome(
            identity=identity_to_pb(self.identity),
            session=link.session_name,
            max_frame_bytes=self.settings.max_frame_bytes,
        )
        if hello.session:
            link.detach()
            self._close_lanes(link)
            welcome.received = link.how_far()
        plug.link = link
        plug.say(pb.Frame(welcome=welcome))
        link.attach(plug, hello.received)

    def _close_lanes(self, link: ProcessLink) -> None:
        with self._changed:
            plugs = [plug for plug in self._plugs if plug.link is link]
        for plug in plugs:
            plug.close()

    def _is_full(self) -> bool:
        with self._changed:
            return len(self._plugs) > self.settings.max_links

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
            if (peer.name, peer.incarnation) in self._replaced:
                refused: tuple[int, str] | None = (pb.REASON_STALE, f"another {peer.name} has taken that name since")
            elif self.closing.is_set():
                refused = pb.REASON_CLOSED, f"{self.identity.name} is closing"
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
        with self._changed:
            self._replaced.add((old.peer.name, old.peer.incarnation))
        self.lose(old, f"it was started anew as {peer!r}")

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
        if link is None or not link.detach(plug) or link.ending:
            return
        with self._changed:
            if self.closing.is_set():
                return
            thread = threading.Thread(
                target=self._recover, args=(link, reason), name=f"distgrad-recover-{link.peer.name}", daemon=True
            )
            self._recoveries.add(thread)
            thread.start()

    def _recover(self, link: ProcessLink, reason: str) -> None:
        try:
            recover(self, link, reason)
        finally:
            with self._changed:
                self._recoveries.discard(threading.current_thread())

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

    def stale_plugs(self, now: float) -> list[Plug]:
        """Lanes whose handshake or farewell takes longer than silence is allowed to."""
        with self._changed:
            return [
                plug
                for plug in self._plugs
                if (plug.link is None or plug.link.ending) and now - plug.since > self.settings.silence
            ]
