"""Ways to reach a server: what they have in common.

A line carries any number of requests at a time. Threads put them on it; one of those that wait, or a thread of the
line's own, reads the answers and settles the futures of all.
"""

from __future__ import annotations

import itertools
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import Any

from distgrad.errors import DistgradError, WireError
from distgrad.wire import pb
from distgrad.wire.dtypes import Array
from distgrad.wire.exchanges import Exchange
from distgrad.wire.frames import Buffer, lay_out, view_arrays

from .exceptions import exception_for
from .question import Question

logger = logging.getLogger("distgrad.service")

# A response and its arrays.
Answer = tuple[Any, list[Array]]


@dataclass(eq=False, slots=True)
class UnderWay:
    """A request that has no answer yet.

    Attributes:
        lent: what the line has lent the server with it.
    """

    question: Question[Any]
    future: Future[Answer]
    lent: Any = None


class Line(ABC):
    """One connection to a server. Safe to use from any thread."""

    def __init__(self, address: str) -> None:
        """
        Arguments:
            address: of the server, for messages.
        """
        self.address = address
        self._ids = itertools.count(1)
        self._under_way: dict[int, UnderWay] = {}
        self._lock = threading.Lock()  # guards the two attributes below
        self._broken: DistgradError | None = None

    @property
    def broken(self) -> bool:
        """Whether nothing goes over this line any more."""
        return self._broken is not None

    def start(self, question: Question[Any], timeout: float | None) -> Future[Answer]:
        """Sends a request; its answer, or the exception that stands for its failure, will be in the future. A
        future that is cancelled cancels the request.

        Arguments:
            timeout: seconds after which the server gives it up.

        Raises:
            WireError: an argument cannot travel.
            LinkError: the line is broken.
        """
        request = pb.StreamRequest(id=next(self._ids), timeout_seconds=timeout or 0.0)
        under_way = UnderWay(question, Future())
        number = request.id
        with self._lock:
            if self._broken is not None:
                raise self._broken.with_traceback(None)
            self._under_way[number] = under_way
        try:
            self._send(request, under_way)
        except BaseException:
            if self._forget(number) is not None:
                self._lose(under_way)
            raise
        under_way.future.add_done_callback(lambda future: self._cancel(number) if future.cancelled() else None)
        return under_way.future

    def wait(self, future: Future[Answer], timeout: float | None) -> Answer:
        """The answer to a request of this line. Raises its failure, or TimeoutError."""
        return future.result(timeout)

    def attend(self, future: Future[Answer]) -> None:  # noqa: B027  (most lines read all the time)
        """The answer to a request will be read although no thread waits for it."""

    def _cancel(self, number: int) -> None:
        if number in self._under_way and not self.broken:
            self._send_cancel(pb.StreamRequest(id=number, cancel=pb.CancelRequest()))

    @abstractmethod
    def _send(self, request: pb.StreamRequest, under_way: UnderWay) -> None:
        """Puts a request on the line. Its arrays are read until it has its answer."""

    @abstractmethod
    def _send_cancel(self, request: pb.StreamRequest) -> None:
        """Puts the cancellation of a request on the line."""

    @abstractmethod
    def close(self) -> None:
        """Ends the line; requests under way fail. Harmless when repeated."""

    def _lose(self, under_way: UnderWay) -> None:  # noqa: B027  (most lines lend nothing)
        """Takes back what was lent with a request that gets no answer."""

    # ---- for whoever reads

    def _forget(self, number: int) -> UnderWay | None:
        with self._lock:
            return self._under_way.pop(number, None)

    def _settle(self, under_way: UnderWay, exchange: Exchange[pb.StreamResponse], arrays: list[Array]) -> None:
        question, future = under_way.question, under_way.future
        if exchange.body == "failure":
            in_session = bool(getattr(question.body, "session", ""))
            _fail(future, exception_for(exchange.message, question.function, self.address, in_session))
        elif exchange.body != question.kind:
            _fail(future, WireError(f"{self.address} answered {question.kind} with {exchange.body}"))
        else:
            _succeed(future, (exchange.message, arrays))

    def _reject(self, under_way: UnderWay, error: WireError) -> None:
        """The answer to a request that was forgotten cannot be read. The line breaks, which tells all others."""
        _fail(under_way.future, error)

    def _arrays(self, exchange: Exchange[pb.StreamResponse], payload: memoryview, transfers: Any = None) -> list[Array]:
        """The arrays of a response, which are the caller's to write to."""
        if exchange.body in ("failure", "close_session"):
            return []
        return [_writeable(array) for array in view_arrays(exchange.message, payload, transfers)]

    def _break(self, error: DistgradError) -> None:
        """Nothing comes any more: whoever waits is told."""
        with self._lock:
            if self._broken is None:
                self._broken = error
            waiting = list(self._under_way.values())
            self._under_way.clear()
        for under_way in waiting:
            self._lose(under_way)
            _fail(under_way.future, error)

    def __repr__(self) -> str:
        state = f"broken: {self._broken}" if self._broken else f"{len(self._under_way)} requests under way"
        return f"<{type(self).__name__} to {self.address}, {state}>"


def laid_out(question: Question[Any], transfers: Mapping[int, int] | None = None) -> tuple[list[Buffer], int]:
    """The payload of a request, in pieces, and its size; their places are written into the request's body."""
    if not question.arrays:
        return [], 0
    question.body.ClearField("arrays")  # of an earlier attempt
    return lay_out(question.body, question.arrays, transfers)


def _writeable(array: Array) -> Array:
    """The same array when its memory may be written to, else a copy."""
    try:
        array.flags.writeable = True
    except ValueError:
        return array.copy()
    return array


def _succeed(future: Future[Answer], answer: Answer) -> None:
    try:
        future.set_result(answer)
    except InvalidStateError:
        logger.debug("an answer came after its request was cancelled")


def _fail(future: Future[Answer], error: DistgradError) -> None:
    try:
        future.set_exception(error)
    except InvalidStateError:
        logger.debug("a failure came after its request was cancelled: %s", error)
