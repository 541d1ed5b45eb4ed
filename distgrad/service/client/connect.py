"""`dg.client`: a server as a mapping of its functions."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from typing import Any, TypeVar

import grpc

from distgrad.errors import Cancelled, ConfigError, DistgradError, LinkError, NotServed, RequestError, Timeout
from distgrad.transport.grpc_channel import open_channel
from distgrad.transport.offers import this_machine
from distgrad.transport.settings import TLS, TransportSettings
from distgrad.transport.tls_trouble import tls_trouble
from distgrad.wire import pb

from .exceptions import exception_for_rpc
from .function import RemoteFunction
from .lines import Answer, Line
from .local_line import LocalLine
from .question import Question
from .retries import Attempts, Retries, in_seconds
from .stream_line import StreamLine

R = TypeVar("R")

SERVICE = "/distgrad.v1.GradientService/"
# A server that is gone without a word is noticed after 25 s.
KEEPALIVE = (("grpc.keepalive_time_ms", 20_000), ("grpc.keepalive_timeout_ms", 5_000))
# Seconds a server may take to describe itself, when the caller has no deadline.
PATIENCE = 10.0
# Seconds it may take to say what it does not like about us.
REASON = 2.0


def client(
    address: str,
    *,
    token: str = "",
    tls: TLS | None = None,
    insecure: bool = False,
    timeout: float | None = None,
    connect_timeout: float = 10.0,
    local: bool = True,
) -> Client:
    """A client of the gradient service at an address. It connects when it is first asked something, and waits for a
    server that is starting.

        with dg.client("host:7500", token=token, tls=tls) as service:
            f = service["rosenbrock"]
            print(f(x), f.grad(x))

    Arguments:
        address: "HOST:PORT", or "unix:/PATH".
        token: sent with every request.
        tls: files that make the connection private; needed for hosts other than this one.
        insecure: go there without TLS, over a network you trust.
        timeout: seconds until an answer must be there, unless a call says otherwise; None: as long as it takes.
        connect_timeout: for so many seconds, if `timeout` allows, a server that cannot be reached or does not serve yet
            is tried again.
        local: on the server's own machine use its Unix socket, and shared memory for large arrays.

    Raises:
        ConfigError: the address is on another host and neither `tls` nor `insecure` is given, or an argument is not
            what was expected.
    """
    _require_token(token)
    patience = in_seconds(connect_timeout, "connect_timeout")
    settings = TransportSettings(token=token, tls=tls, insecure=insecure)
    retries = Retries(patience=math.inf if patience is None else patience)
    return Client(address, settings, timeout=timeout, local=local, retries=retries)


def _arguments(described: Any) -> str:
    return ", ".join(argument.name for argument in described.arguments)


def _require_token(token: Any) -> None:
    """Raises ConfigError for what cannot be sent with a request."""
    if not (isinstance(token, str) and token.isascii() and token.isprintable()):
        raise ConfigError("a token is text of printable ASCII characters")


class Client(Mapping[str, RemoteFunction]):
    """What a server offers, by name. Safe to use from any thread; one connection carries what all of them ask.

    Requests that failed in passing (the server was not reached, ends, or has a full queue) are sent again after a
    pause, as long as their `timeout` allows.

    A process that is forked from this one cannot use it: what it has to ask would come between the requests of this
    one. It makes a client of its own.
    """

    def __init__(
        self,
        address: str,
        settings: TransportSettings,
        *,
        timeout: float | None = None,
        local: bool = True,
        retries: Retries | None = None,
    ) -> None:
        settings.require_safe(address)
        self.address = address
        self.timeout = in_seconds(timeout)
        self._local = local
        self._retries = retries or Retries()
        self._metadata = [("authorization", f"Bearer {settings.token}")] if settings.token else []
        self._tls = settings.tls
        self._channel = open_channel(address, settings, KEEPALIVE)
        self._process = os.getpid()
        self._opening = threading.Lock()  # guards the line
        self._line: Line | None = None
        self._closed = False
        self._descriptions: dict[str, Any] = {}

    # ---- what is served

    def __getitem__(self, name: str) -> RemoteFunction:
        """The function of that name. Asks nothing: whether the server has it shows when it is used."""
        return RemoteFunction(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.summaries())

    def __len__(self) -> int:
        return len(self.summaries())

    def __contains__(self, name: object) -> bool:
        return name in self.summaries()

    def summaries(self, timeout: float | None = None) -> dict[str, str]:
        """The first line of the documentation of every function, by name."""
        answer = self._unary("ListFunctions", pb.ListFunctionsRequest(), pb.ListFunctionsResponse, timeout)
        return {function.name: function.summary for function in answer.functions}

    def describe(self, name: str, timeout: float | None = None) -> Any:
        """All the server says of a function: a pb.DescribeFunctionResponse. It is asked once, and again when the
        connection was lost.

        Raises:
            NotServed: there is no such function.
        """
        known = self._descriptions.get(name)
        if known is None:
            request = pb.DescribeFunctionRequest(name=name)
            known = self._unary("DescribeFunction", request, pb.DescribeFunctionResponse, timeout, name)
            self._descriptions[name] = known
        return known

    def knows(self, name: str) -> bool:
        """Whether `describe` asks nothing."""
        return name in self._descriptions

    def statistics(self, timeout: float | None = None) -> dict[str, int]:
        """The server's counts of requests, workers, sessions, ...; for tokens of the role admin."""
        answer = self._unary("GetStatistics", pb.GetStatisticsRequest(), pb.GetStatisticsResponse, timeout)
        return dict(answer.counts.counts)

    def _unary(self, method: str, request: Any, answer: Any, timeout: float | None, function: str = "") -> Any:
        call = self._channel.unary_unary(
            SERVICE + method,
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        self._require_own_process()
        attempts = Attempts(self._retries, self._seconds(timeout))
        while True:
            try:
                return call(request, timeout=attempts.left or PATIENCE, metadata=self._metadata)
            except grpc.RpcError as error:
                time.sleep(self._pause(exception_for_rpc(error, function, self.address), function, attempts))
            except ValueError:
                raise LinkError(f"the client of {self.address} was closed") from None

    # ---- questions

    def ask(self, question: Question[R]) -> R:
        """Waits for the answer to a question, through any number of attempts."""
        attempts, described = self._attempts(question)
        while True:
            try:
                return question.read(*self._answer(question, described, attempts.left))
            except DistgradError as error:
                time.sleep(self._pause(error, question.function, attempts))

    def _attempts(self, question: Question[Any]) -> tuple[Attempts, Any]:
        """All attempts to get an answer; and the description of the function by which the question was made, if any."""
        return Attempts(self._retries, self._seconds(question.timeout)), self._descriptions.get(question.function)

    def _answer(self, question: Question[Any], described: Any, timeout: float | None) -> Answer:
        line = self._line_for(question, described, timeout)
        started = line.start(question, timeout)
        try:
            return line.wait(started, timeout)
        except TimeoutError as error:
            raise self._too_late(error, question) from None
        except CancelledError:
            raise Cancelled(f"{question.kind} of {question.function} was cancelled") from None
        finally:
            started.cancel()

    async def ask_async(self, question: Question[R]) -> R:
        """The same, for coroutines; cancelling one cancels the request."""
        attempts, described = self._attempts(question)
        while True:
            try:
                return question.read(*await self._answer_async(question, described, attempts.left))
            except DistgradError as error:
                await asyncio.sleep(await asyncio.to_thread(self._pause, error, question.function, attempts))

    async def _answer_async(self, question: Question[Any], described: Any, timeout: float | None) -> Answer:
        line = self._open
        if line is None or self._descriptions.get(question.function) is not described:
            line = await asyncio.to_thread(self._line_for, question, described, timeout)
        started = line.start(question, timeout)
        line.attend(started)
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.wrap_future(started)
        except TimeoutError as error:
            raise self._too_late(error, question) from None

    def _seconds(self, timeout: float | None) -> float | None:
        return self.timeout if timeout is None else timeout

    def _too_late(self, error: TimeoutError, question: Question[Any]) -> Timeout:
        if isinstance(error, Timeout):  # the server gave it up
            return error
        seconds = self._seconds(question.timeout)
        return Timeout(f"{question.function} gave no answer to {question.kind} within {seconds:g} s")

    def _pause(self, error: DistgradError, function: str, attempts: Attempts) -> float:
        """Seconds to wait before the next attempt. Raises the error when there is to be none."""
        if isinstance(error, NotServed):
            self._descriptions.pop(function, None)
        if isinstance(error, LinkError) and self._tls is not None and not (attempts.failed or self._closed):
            trouble = tls_trouble(self.address, self._tls, REASON)
            if trouble is not None:
                raise trouble from error
        pause = None if self._closed else attempts.pause(error)
        if pause is None:
            raise error
        return pause

    # ---- the connection

    def _require_own_process(self) -> None:
        """Raises ConfigError in a fork."""
        if os.getpid() != self._process:
            raise ConfigError(
                f"this client of {self.address} belongs to process {self._process}, of which this one, {os.getpid()}, "
                "is a fork: make a client here"
            )

    @property
    def _open(self) -> Line | None:
        """The line, if there is one to be used."""
        self._require_own_process()
        line = self._line
        return None if line is None or line.broken else line

    def _line_for(self, question: Question[Any], described: Any, timeout: float | None) -> Line:
        """The line. Raises RequestError when the function takes other arguments than when the question was made, by
        their names or places, as it is the function of another server."""
        line = self._open_line(timeout)
        if described is not None and self._descriptions.get(question.function) is not described:
            took, takes = _arguments(described), _arguments(self.describe(question.function, timeout))
            if took != takes:
                raise RequestError(
                    f"{self.address}: {question.function} took ({took}) when this was asked, and takes ({takes}) since "
                    "the server was replaced: ask again"
                )
        return line

    def _open_line(self, timeout: float | None) -> Line:
        line = self._open
        if line is not None:
            return line
        # Whoever opens it may have more time.
        if not self._opening.acquire(timeout=-1 if timeout is None else timeout):
            raise Timeout(f"{self.address} was not reached within {timeout:g} s")
        try:
            if self._closed:
                raise LinkError(f"the client of {self.address} was closed")
            if self._line is None or self._line.broken:
                if self._line is not None:
                    self._line.close()
                    self._descriptions.clear()  # the server may be another one now
                self._line = self._local_line(timeout) or StreamLine(self.address, self._channel, self._metadata)
            return self._line
        finally:
            self._opening.release()

    def _local_line(self, timeout: float | None) -> Line | None:
        """The line to a server of this machine; None when it offers none to us."""
        if not self._local:
            return None
        call = self._channel.unary_unary(
            SERVICE + "GetLocalSocket",
            request_serializer=pb.GetLocalSocketRequest.SerializeToString,
            response_deserializer=pb.GetLocalSocketResponse.FromString,
        )
        try:
            offer = call(
                pb.GetLocalSocketRequest(host=this_machine()), timeout=timeout or PATIENCE, metadata=self._metadata
            )
            return LocalLine(self.address, offer.path, offer.ticket) if offer.path else None
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                return None
            raise exception_for_rpc(error, "", self.address) from None
        except OSError:
            return None  # the server may be in a container of the same machine: it is reached by gRPC only

    def close(self) -> None:
        """Ends the connection; requests under way fail. Harmless when repeated, and in a fork."""
        if os.getpid() != self._process:
            return
        with self._opening:
            self._closed = True
            line, self._line = self._line, None
        if line is not None:
            line.close()
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    # A mapping compares and hashes by its items, which would ask the server.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<Client of the gradient service at {self.address}, {self._line or 'not connected'}>"
