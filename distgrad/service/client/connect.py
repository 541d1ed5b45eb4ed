"""`dg.client`: a server as a mapping of its functions."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from typing import Any, TypeVar

import grpc

from distgrad.errors import Cancelled, DistgradError, LinkError, NotServed, Timeout
from distgrad.transport.grpc_channel import open_channel
from distgrad.transport.offers import this_machine
from distgrad.transport.settings import TLS, TransportSettings
from distgrad.wire import pb

from .exceptions import exception_for_rpc
from .function import RemoteFunction
from .lines import Answer, Line
from .local_line import LocalLine
from .question import Question
from .retries import Retries
from .stream_line import StreamLine

R = TypeVar("R")

SERVICE = "/distgrad.v1.GradientService/"
# A server that is gone without a word is noticed after 25 s.
KEEPALIVE = (("grpc.keepalive_time_ms", 20_000), ("grpc.keepalive_timeout_ms", 5_000))
# Seconds a server may take to describe itself, when the caller has no deadline.
PATIENCE = 10.0


def client(
    address: str,
    *,
    token: str = "",
    tls: TLS | None = None,
    insecure: bool = False,
    timeout: float | None = None,
    local: bool = True,
) -> Client:
    """A client of the gradient service at an address. It connects when it is first asked something.

        with dg.client("host:7500", token=token, tls=tls) as service:
            f = service["rosenbrock"]
            print(f(x), f.grad(x))

    Arguments:
        address: "HOST:PORT", or "unix:/PATH".
        token: sent with every request.
        tls: files that make the connection private; needed for hosts other than this one.
        insecure: go there without TLS, over a network you trust.
        timeout: seconds until an answer must be there, unless a call says otherwise; None: as long as it takes.
        local: on the server's own machine use its Unix socket, and shared memory for large arrays.

    Raises:
        ConfigError: the address is on another host and neither `tls` nor `insecure` is given.
    """
    settings = TransportSettings(token=token, tls=tls, insecure=insecure)
    return Client(address, settings, timeout=timeout, local=local)


class Client(Mapping[str, RemoteFunction]):
    """What a server offers, by name. Safe to use from any thread; one connection carries what all of them ask.

    Requests that failed in passing (the server was not reached, ends, or has a full queue) are sent again after a
    pause, as long as their `timeout` allows.
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
        self.timeout = timeout
        self._local = local
        self._retries = retries or Retries()
        self._metadata = [("authorization", f"Bearer {settings.token}")] if settings.token else []
        self._channel = open_channel(address, settings, KEEPALIVE)
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
        """All the server says of a function: a pb.DescribeFunctionResponse. It is asked once.

        Raises:
            NotServed: there is no such function.
        """
        known = self._descriptions.get(name)
        if known is None:
            request = pb.DescribeFunctionRequest(name=name)
            known = self._unary("DescribeFunction", request, pb.DescribeFunctionResponse, timeout, name)
            self._descriptions[name] = known
        return known

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
        deadline = _Deadline(timeout or self.timeout or PATIENCE)
        attempt = 0
        while True:
            attempt += 1
            try:
                return call(request, timeout=deadline.left, metadata=self._metadata)
            except grpc.RpcError as error:
                failure = exception_for_rpc(error, function, self.address)
                pause = self._retries.pause(failure, attempt, deadline.left)
                if pause is None:
                    raise failure from None
                time.sleep(pause)
            except ValueError:
                raise LinkError(f"the client of {self.address} was closed") from None

    # ---- questions

    def ask(self, question: Question[R]) -> R:
        """Waits for the answer to a question, through any number of attempts."""
        deadline = _Deadline(self._seconds(question))
        attempt = 0
        while True:
            attempt += 1
            try:
                line = self._open_line(deadline.left)
                return question.read(*_answer(line, question, deadline))
            except DistgradError as error:
                pause = self._pause(error, question, attempt, deadline)
                if pause is None:
                    raise
                time.sleep(pause)

    async def ask_async(self, question: Question[R]) -> R:
        """The same, for coroutines; cancelling one cancels the request."""
        deadline = _Deadline(self._seconds(question))
        attempt = 0
        while True:
            attempt += 1
            try:
                line = self._line
                if line is None or line.broken:
                    line = await asyncio.to_thread(self._open_line, deadline.left)
                started = line.start(question, deadline.left)
                line.attend(started)
                try:
                    async with asyncio.timeout(deadline.left):
                        answer = await asyncio.wrap_future(started)
                except TimeoutError:
                    raise deadline.passed(question) from None
                return question.read(*answer)
            except DistgradError as error:
                pause = self._pause(error, question, attempt, deadline)
                if pause is None:
                    raise
                await asyncio.sleep(pause)

    def _seconds(self, question: Question[Any]) -> float | None:
        return self.timeout if question.timeout is None else question.timeout

    def _pause(self, error: DistgradError, question: Question[Any], attempt: int, deadline: _Deadline) -> float | None:
        if isinstance(error, NotServed):
            self._descriptions.pop(question.function, None)
        return None if self._closed else self._retries.pause(error, attempt, deadline.left)

    # ---- the connection

    def _open_line(self, timeout: float | None) -> Line:
        line = self._line
        if line is not None and not line.broken:
            return line
        with self._opening:
            if self._closed:
                raise LinkError(f"the client of {self.address} was closed")
            if self._line is None or self._line.broken:
                if self._line is not None:
                    self._line.close()
                self._line = self._local_line(timeout) or StreamLine(self.address, self._channel, self._metadata)
            return self._line

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
        """Ends the connection; requests under way fail. Harmless when repeated."""
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


class _Deadline:
    """When an answer must be there."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._until = None if seconds is None else time.monotonic() + seconds

    @property
    def left(self) -> float | None:
        """Seconds, at least a few milliseconds; None without a deadline."""
        return None if self._until is None else max(self._until - time.monotonic(), 1e-3)

    def passed(self, question: Question[Any]) -> Timeout:
        return Timeout(f"{question.function} gave no answer to {question.kind} within {self._seconds:g} s")


def _answer(line: Line, question: Question[Any], deadline: _Deadline) -> Answer:
    future = line.start(question, deadline.left)
    try:
        return line.wait(future, deadline.left)
    except TimeoutError as error:
        if isinstance(error, Timeout):  # the server gave it up
            raise
        raise deadline.passed(question) from None
    except CancelledError:
        raise Cancelled(f"{question.kind} of {question.function} was cancelled") from None
    finally:
        future.cancel()
