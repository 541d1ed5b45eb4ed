"""Links on demand: whom this process knows, and messages to them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Protocol

from distgrad.errors import DistgradError, LinkError, ResourceExhausted, WorkerLost
from distgrad.transport.interfaces import Identity, Link
from distgrad.wire import normalise

from .share import remember
from .waiting import Promise

_log = logging.getLogger(__name__)

# Seconds to reach a process for the first time.
OPEN_TIMEOUT = 3.0


class Opener(Protocol):
    """What peers need of an endpoint."""

    def connect(self, name: str, address: str, expected_incarnation: int = 0, timeout: float = ...) -> Link: ...
    def link(self, name: str) -> Link | None: ...


class Peers:
    """The processes this one knows by name, and the way to each: an open link, or one being opened.

    Messages to one peer leave in the order they were given, also while its link is being opened.

    Arguments:
        own: a link to this process itself.
        unreachable: told when a process cannot be reached; what waited for it has failed.
        refused: told of a message that waited for a link and cannot travel over it.
    """

    def __init__(
        self,
        opener: Opener,
        own: Link,
        unreachable: Callable[[str, DistgradError], None],
        refused: Callable[[Any, DistgradError], None],
    ) -> None:
        self._opener = opener
        self._own = own
        self._unreachable = unreachable
        self._refused = refused
        self._lock = threading.Lock()
        self._known: dict[str, Identity] = {}
        self._greeted: set[int] = set()  # incarnations known by their link alone, and forgotten with it
        self._opening: dict[str, _Opening] = {}
        self._gone: dict[str, DistgradError] = {}
        self._closed: DistgradError | None = None

    # ---- who is there ------------------------------------------------------------------------------------------------

    def introduce(self, *identities: Identity) -> None:
        """From now on the names of these mean these incarnations at these addresses."""
        with self._lock:
            for identity in identities:
                self._known[identity.name] = identity
                self._greeted.discard(identity.incarnation)
                self._gone.pop(identity.name, None)

    def greet(self, identity: Identity) -> None:
        """A process has introduced itself, by making a link. Unless others introduce it too, it is known as long as the
        link lasts."""
        with self._lock:
            if self.incarnation(identity.name) != identity.incarnation:
                self._known[identity.name] = identity
                self._greeted.add(identity.incarnation)

    def leave(self, identity: Identity) -> None:
        """The link to a process is lost."""
        with self._lock:
            if identity.incarnation in self._greeted:
                self._greeted.discard(identity.incarnation)
                if self.incarnation(identity.name) == identity.incarnation:
                    del self._known[identity.name]

    def dismiss(self, identity: Identity, error: DistgradError) -> None:
        """This incarnation is gone; messages to it fail with `error` until another is introduced, those that wait for
        a link at once."""
        abandoned: list[_Message] = []
        with self._lock:
            if self.incarnation(identity.name) in (0, identity.incarnation):
                self._known.pop(identity.name, None)
                self._greeted.discard(identity.incarnation)
                remember(self._gone, identity.name, error)
            opening = self._opening.get(identity.name)
            if opening is not None and opening.incarnation == identity.incarnation:
                del self._opening[identity.name]
                abandoned, opening.pending = opening.pending, []
        for message in abandoned:
            message.fail(error)

    def known(self) -> list[Identity]:
        """The processes that messages can be sent to by name."""
        with self._lock:
            return list(self._known.values())

    def incarnation(self, name: str) -> int:
        """The incarnation that `name` means now; 0 when unknown."""
        known = self._known.get(name)
        return known.incarnation if known else 0

    def role(self, name: str) -> str:
        """The role of the process that `name` means now; empty when unknown."""
        known = self._known.get(name)
        return known.role if known else ""

    def reaches(self, name: str) -> bool:
        """Whether there is a link to that process, or a way to open one."""
        known = self._known.get(name)
        return name == self._own.peer.name or self._opener.link(name) is not None or bool(known and known.address)

    # ---- messages ----------------------------------------------------------------------------------------------------

    def send(self, name: str, body: Any, arrays: Sequence[Any] = ()) -> None:
        """Sends a message. One that cannot be delivered is dropped: whoever waits for its effect learns that the peer
        is lost.

        Raises:
            ResourceExhausted: it is too large, and would have gone at once, or the system has no thread to open a link.
        """
        link = self._open_link(name)
        if link is None:
            self._give(name, _Message(body, arrays))
            return
        try:
            link.send(body, arrays)
        except LinkError as error:
            _log.debug("a %s for %s is dropped: %s", type(body).__name__, name, error)

    def request(self, name: str, body: Any, arrays: Sequence[Any] = ()) -> Promise[tuple[Any, list[Any]]]:
        """Sends a request; the promise of the reply and its arrays fails with what the peer answered, with WorkerLost,
        or with ResourceExhausted as `send` does."""
        message = _Message(body, arrays, Promise())
        try:
            self._give(name, message)
        except DistgradError as error:  # whoever asks several peers must come to the last
            message.fail(error)
        assert message.reply is not None
        return message.reply

    def close(self, error: DistgradError) -> None:
        """From now on nothing is sent: requests fail with `error`."""
        self._closed = error

    def _open_link(self, name: str) -> Link | None:
        """The link to the process that `name` means now, if messages can go over it at once. Needs no lock: who is
        being reached ceases to be so when all that waited for the link has gone over it."""
        if self._closed is not None or name in self._opening:
            return None
        link, known = self._opener.link(name), self._known.get(name)
        return link if link is not None and (known is None or known.incarnation == link.peer.incarnation) else None

    def _give(self, name: str, message: _Message) -> None:
        if self._closed is not None:
            message.fail(self._closed)
            return
        link = self._own if name == self._own.peer.name else None
        if link is None:
            with self._lock:
                opening = self._opening.get(name)
                if opening is not None:
                    opening.pending.append(message)
                    return
                link = self._opener.link(name)
                known = self._known.get(name)
                if link is None or (known is not None and known.incarnation != link.peer.incarnation):
                    self._open(name, message)
                    return
        with suppress(LinkError):  # as when it is sent at once
            message.give(link)

    def _open(self, name: str, message: _Message) -> None:
        """Starts to open a link; called with the lock held."""
        identity = self._known.get(name)
        if identity is None or not identity.address:
            error = self._gone.get(name) or WorkerLost(
                f"no way to {name!r}: it is not a member, or it does not listen and has closed its link"
            )
            # From a thread of its own: whoever sends may hold locks that those who are told want.
            _start("refuse", name, self._refuse, name, [message], error)
            return
        opening = _Opening(identity.incarnation, [message])
        _start("open", name, self._connect, identity, opening)
        self._opening[name] = opening

    def _connect(self, identity: Identity, opening: _Opening) -> None:
        name = identity.name
        try:
            link = self._opener.connect(name, identity.address, identity.incarnation, timeout=OPEN_TIMEOUT)
        except DistgradError as error:
            lost = WorkerLost(f"{name} cannot be reached at {identity.address}: {error}")
            with self._lock:
                if not self._end(name, opening):
                    return
            self._refuse(name, opening.pending, lost)
            return
        while True:
            with self._lock:
                messages, opening.pending = opening.pending, []
                if not messages:
                    self._end(name, opening)
                    return
            for message in messages:
                try:
                    message.give(link)
                except LinkError as error:  # the link was lost, and all were told so, before they came to wait for it
                    self._unreachable(name, error)
                except DistgradError as error:
                    self._refused(message.body, error)

    def _end(self, name: str, opening: _Opening) -> bool:
        """The link is open, or will not be. False when nobody waits for it any more: the process was dismissed."""
        if self._opening.get(name) is not opening:
            return False
        del self._opening[name]
        return True

    def _refuse(self, name: str, messages: list[_Message], error: DistgradError) -> None:
        for message in messages:
            message.fail(error)
        self._unreachable(name, error)


def _start(what: str, peer: str, task: Callable[..., None], *arguments: Any) -> None:
    """Does what there is to do for a link in a thread. Raises ResourceExhausted when the system has none to give."""
    try:
        threading.Thread(target=task, args=arguments, name=f"{what}-{peer}", daemon=True).start()
    except RuntimeError as refusal:
        raise ResourceExhausted(f"no thread is left to open a link to {peer} in: {refusal}") from refusal


class _Opening:
    """A link being opened to one incarnation of a process, and what waits for it."""

    def __init__(self, incarnation: int, pending: list[_Message]) -> None:
        self.incarnation = incarnation
        self.pending = pending


class _Message:
    """Something to send, with the promise of the reply if it is a request."""

    __slots__ = ("arrays", "body", "reply")

    def __init__(self, body: Any, arrays: Sequence[Any], reply: Promise[Any] | None = None) -> None:
        self.body = body
        self.arrays = arrays
        self.reply = reply

    def give(self, link: Link) -> None:
        try:
            if self.reply is None:
                link.send(self.body, self.arrays)
            else:
                link.request(self.body, self.arrays).add_done_callback(self._answered)
        except DistgradError as error:
            self.fail(error)
            raise

    def _answered(self, future: Future[tuple[Any, list[Any]]]) -> None:
        assert self.reply is not None
        error = future.exception()
        if error is None:
            self.reply.set_result(future.result())
        else:
            self.reply.set_error(error)

    def fail(self, error: DistgradError) -> None:
        if self.reply is not None:
            self.reply.set_error(error)


class OwnLink:
    """A process's link to itself: the same messages and the same normalisation of arrays, without a wire."""

    def __init__(self, identity: Identity, receiver: Any) -> None:
        self.peer = identity
        self._receiver = receiver

    def send(self, body: Any, arrays: Sequence[Any] = ()) -> None:
        self._receiver.receive(self, body, [normalise(array) for array in arrays])

    def request(self, body: Any, arrays: Sequence[Any] = ()) -> Future[tuple[Any, list[Any]]]:
        future: Future[tuple[Any, list[Any]]] = Future()

        def reply(answer: Any, arrays: Sequence[Any] = ()) -> None:
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result((answer, [normalise(array) for array in arrays]))

        self._receiver.answer(self, body, [normalise(array) for array in arrays], reply)
        return future

    def close(self, reason: str) -> None:
        raise LinkError(f"the link of {self.peer} to itself ends with the process, not before")

    def statistics(self) -> dict[str, Any]:
        return {}

    def __repr__(self) -> str:
        return f"<OwnLink of {self.peer}>"
