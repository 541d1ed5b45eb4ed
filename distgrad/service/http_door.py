"""As much of HTTP/1.1 as a service of small JSON messages needs, with bounds on everything a peer can send or hold."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol

from distgrad.errors import LinkError

MAX_HEAD_BYTES = 16 * 1024
MAX_CONNECTIONS = 64
# Of a length.
MAX_DIGITS = 20
# Seconds for a handshake; for a request to arrive, from its first byte; and that a connection may be idle.
TLS_HANDSHAKE, ARRIVAL, IDLE = 10.0, 30.0, 60.0
# Seconds that a connection which was given up is still read from.
LINGER = 1.0
# While an answer is made, it is looked after so many seconds whether the peer is still there.
LOOK = 0.2

logger = logging.getLogger("distgrad.service")


@dataclass(frozen=True)
class Head:
    """What is known of a request before its body is read.

    Attributes:
        authorization: its header in gRPC's way, "Bearer TOKEN"; a password of Basic authentication counts as a token.
        peer: where it comes from.
        certificate_name: common name of the client's certificate, which was verified; empty for none.
        goes_on: whether the connection is to be kept.
    """

    method: str
    path: str
    authorization: str
    peer: str
    certificate_name: str
    goes_on: bool


@dataclass(frozen=True)
class Answer:
    """What a request gets: JSON."""

    status: HTTPStatus
    content: Any
    retry_after: float = 0.0


class Service(Protocol):
    """Who answers."""

    def admit(self, head: Head) -> Answer | None:
        """None to let a request in; otherwise it gets this answer, and its body is not read."""

    async def serve(self, head: Head, content: Any) -> Answer:
        """Answers a request that was let in.

        Arguments:
            content: the JSON of its body; None without one.
        """


class _Malformed(Exception):
    """A peer does not speak HTTP as it should; the connection ends after this answer."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class HttpDoor:
    """Listens for HTTP, and lets a service answer.

    Arguments:
        service: what it raises is logged, and answered with 500.
        max_body_bytes: of one request.
        error: the JSON that tells an error of HTTP itself, made from its message.

    Attributes:
        port: where it listens.
    """

    def __init__(self, service: Service, max_body_bytes: int, error: Callable[[str], Any]) -> None:
        self.port = 0
        self._service = service
        self._max_body_bytes = max_body_bytes
        self._error = error
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def listen(self, host: str, port: int, context: ssl.SSLContext | None) -> None:
        """Raises LinkError when the address is taken."""
        try:
            handshake = TLS_HANDSHAKE if context is not None else None
            self._server = await asyncio.start_server(
                self._accept, host, port, limit=MAX_HEAD_BYTES, ssl=context, ssl_handshake_timeout=handshake
            )
        except OSError as error:
            raise LinkError(f"cannot listen at {host}:{port}: {error.strerror or error}") from error
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Ends every connection."""
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    # ---- a connection

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= MAX_CONNECTIONS:
            writer.close()
            return
        self._connections.add(task)
        try:
            while await self._answer_one(reader, writer):
                pass
            await _linger(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError, ssl.SSLError):
            logger.debug("a connection over HTTP has ended")
        except asyncio.CancelledError:  # by `close`; asyncio would log it as an error
            logger.debug("a connection over HTTP was ended")
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on."""
        first = await asyncio.wait_for(reader.readexactly(1), IDLE)
        goes_on = False
        try:
            head, content, answer = await self._arrival(first, reader, writer)
            if answer is None:
                answer = await self._served(head, content, reader)
                goes_on = head.goes_on
        except _Malformed as error:
            answer = Answer(error.status, self._error(str(error)))
        except (ConnectionError, asyncio.IncompleteReadError):  # the peer is gone
            raise
        except Exception:
            logger.exception("a request over HTTP could not be served")
            answer = Answer(HTTPStatus.INTERNAL_SERVER_ERROR, self._error("the server has a bug: see its log"))
        writer.write(_encoded(answer, goes_on))
        await asyncio.wait_for(writer.drain(), ARRIVAL)
        return goes_on

    async def _arrival(
        self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[Head, Any, Answer | None]:
        """A request, and the answer of a service that does not let it in."""
        try:
            async with asyncio.timeout(ARRIVAL):
                head, headers = await self._read_head(first, reader, writer)
                answer = self._service.admit(head)
                content = _content(await self._read_body(headers, reader, writer)) if answer is None else None
        except TimeoutError:
            message = f"the request did not arrive within {ARRIVAL:g} s"
            raise _Malformed(HTTPStatus.REQUEST_TIMEOUT, message) from None
        return head, content, answer

    async def _served(self, head: Head, content: Any, reader: asyncio.StreamReader) -> Answer:
        """The service's answer. Raises ConnectionResetError when the peer goes before: nobody wants it any more."""
        serving = asyncio.ensure_future(self._service.serve(head, content))
        try:
            while not (await asyncio.wait({serving}, timeout=LOOK))[0]:
                if reader.at_eof():
                    raise ConnectionResetError("the peer has not waited for its answer")
            return serving.result()
        finally:
            serving.cancel()

    async def _read_head(
        self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[Head, dict[str, str]]:
        try:
            text = first + await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            raise _Malformed(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the header is too large") from None
        line, *fields = text.decode("latin-1").split("\r\n")
        try:
            method, path, version = line.split(" ")
        except ValueError:
            raise _Malformed(HTTPStatus.BAD_REQUEST, "that is not HTTP") from None
        headers = {name.strip().lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        peer = writer.get_extra_info("peername")
        head = Head(
            method,
            path.partition("?")[0],
            _authorization(headers.get("authorization", "")),
            f"{peer[0]}:{peer[1]}",
            _certificate_name(writer.get_extra_info("peercert")),
            version == "HTTP/1.1" and headers.get("connection", "").lower() != "close",
        )
        return head, headers

    async def _read_body(
        self, headers: dict[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes:
        if "transfer-encoding" in headers:
            raise _Malformed(HTTPStatus.NOT_IMPLEMENTED, "a body needs a Content-Length here, not a Transfer-Encoding")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > MAX_DIGITS:
            raise _Malformed(HTTPStatus.BAD_REQUEST, f"Content-Length is {length[:MAX_DIGITS]!r}")
        if int(length) > self._max_body_bytes:
            message = f"the body has {length} bytes, at most {self._max_body_bytes} are taken"
            raise _Malformed(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
        if headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return await reader.readexactly(int(length))


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes in what the peer is still sending: closing at once would reset the connection, and lose it the answer."""
    if writer.can_write_eof():
        writer.write_eof()
    async with asyncio.timeout(LINGER):
        while await reader.read(MAX_HEAD_BYTES):
            pass


def _content(body: bytes) -> Any:
    if not body:
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _Malformed(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {error}") from None


def _authorization(header: str) -> str:
    """A token sent as the password of Basic authentication, which every client can: http://me:TOKEN@host:4242."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return header
    try:
        token = base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return header
    return f"Bearer {token}"


def _certificate_name(certificate: Any) -> str:
    for attribute in (certificate or {}).get("subject", ()):
        for name, value in attribute:
            if name == "commonName":
                return str(value)
    return ""


def _encoded(answer: Answer, goes_on: bool) -> bytes:
    content = json.dumps(answer.content).encode()
    head = [
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        f"Connection: {'keep-alive' if goes_on else 'close'}",
    ]
    if answer.retry_after:
        head.append(f"Retry-After: {max(1, round(answer.retry_after))}")
    return "\r\n".join([*head, "", ""]).encode() + content
