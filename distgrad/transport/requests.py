"""Requests over a link and their replies: those of this side that wait, and answers to those of the other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from distgrad.errors import ResourceExhausted, WireError, WorkerLost
from distgrad.wire import error_from_pb, error_to_pb, pb
from distgrad.wire.dtypes import Array

from .bodies import reply_body, request_body
from .interfaces import Identity

logger = logging.getLogger("distgrad.transport")


class Post(Protocol):
    """Sends a body, a field of a frame, with its arrays; a large reply need not keep its place among what is sent."""

    def __call__(self, body: bytes, arrays: Sequence[Array], *, reply: bool = False) -> None: ...


class Requests:
    """The requests of one link, in both directions."""

    def __init__(self, me: Identity, peer: Identity, post: Post) -> None:
        self._me = me
        self._peer = peer
        self._post = post
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[tuple[Any, list[Array]]]] = {}
        self._last = 0
        self._ended = ""

    # ---- of this side ------------------------------------------------------------------------------------------------

    def ask(self, body: Any, arrays: Sequence[Array]) -> Future[tuple[Any, list[Array]]]:
        """Sends a request; the future of the reply and its arrays."""
        future: Future[tuple[Any, list[Array]]] = Future()
        future.set_running_or_notify_cancel()
        with self._lock:
            if self._ended:
                raise WorkerLost(self._ended)
            self._last += 1
            number = self._last
            self._waiting[number] = future
        try:
            self._post(request_body(number, body), arrays)
        except BaseException:
            self._waiting.pop(number, None)
            raise
        return future

    def answered(self, reply: pb.Reply, arrays: list[Array]) -> None:
        """A reply came. Raises WireError when no request waits for it."""
        future = self._waiting.pop(reply.id, None)
        if future is None:
            raise WireError(f"a reply to request {reply.id} arrived, which waits for none")
        name = reply.WhichOneof("body")
        if name is None:
            future.set_exception(WireError(f"{self._peer!r} gave a reply of no known kind"))
        elif name == "error":
            future.set_exception(error_from_pb(reply.error))
        else:
            future.set_result((getattr(reply, name), arrays))

    def end(self, why: str) -> None:
        """No replies come any more: requests that wait, and later ones, fail with WorkerLost."""
        with self._lock:
            self._ended = why
            waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            future.set_exception(WorkerLost(why))

    def __len__(self) -> int:
        return len(self._waiting)

    # ---- of the other side -------------------------------------------------------------------------------------------

    def serve(self, request: pb.Request, answer: Callable[[Any, Callable[..., None]], None]) -> None:
        """A request came: `answer` is given its body, and what to call, once, with the reply or an error."""
        name = request.WhichOneof("body")
        reply = self._reply_to(request.id, name or "request")
        if name is None:
            reply(WireError(f"a request arrived that {self._me.name} does not know: is {self._peer.name} newer?"))
            return
        try:
            answer(getattr(request, name), reply)
        except Exception as error:  # whatever is wrong with a request, its sender is told and the link lives on
            reply(error)

    def _reply_to(self, number: int, method: str) -> Callable[..., None]:
        replied = threading.Lock()

        def reply(body: Any, arrays: Sequence[Array] = ()) -> None:
            if not replied.acquire(blocking=False):
                logger.warning("a second reply to %s of %r was dropped", method, self._peer)
                return
            try:
                self._send_reply(number, method, body, arrays)
            except WorkerLost:
                logger.debug("the reply to %s of %r has nobody to go to", method, self._peer)

        return reply

    def _send_reply(self, number: int, method: str, body: Any, arrays: Sequence[Array]) -> None:
        if isinstance(body, BaseException):
            body, arrays = error_to_pb(body, self._me.name, method), ()
        try:
            self._post(reply_body(number, body), arrays, reply=True)
        except (WireError, ResourceExhausted) as error:  # a reply that cannot travel must not leave the peer waiting
            self._send_reply(number, method, error, ())
