"""Clients on the server's machine: requests come over a Unix socket, and their arrays stay in the clients' memory."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

from distgrad.errors import WireError
from distgrad.transport.blocks import require_sealed
from distgrad.transport.local_messages import INLINE, LENT, LocalMessage, LocalReader, packed
from distgrad.transport.offers import this_machine
from distgrad.wire import pb
from distgrad.wire.exchanges import Exchange, decode_exchange, encode_exchange, with_id
from distgrad.wire.frames import Buffer

from .access import audit
from .desk import Desk
from .failures import Code, Refused
from .local import LocalConnection, LocalListener
from .payloads import InlinePayload, LentPayload
from .settings import MiB
from .tasks import Client, Outcome, Task

# A ticket is good for so many seconds.
PATIENCE = 10.0
# A client that does not read its answers is cut off when so much waits for it.
MAX_PENDING = 64 * MiB


class LocalDoor:
    """Gives out tickets, and serves those who come with them."""

    def __init__(self, desk: Desk, listener: LocalListener) -> None:
        self._desk = desk
        self._listener = listener
        self._visits: set[_Visit] = set()

    def offer(self, client: Client, host: str) -> pb.GetLocalSocketResponse:
        """What a client at `host` is told: nothing, unless that is here."""
        if not self._desk.settings.local_socket or host != this_machine():
            return pb.GetLocalSocketResponse()
        ticket = self._listener.ticket(lambda connected: self._let_in(client, connected), PATIENCE)
        return pb.GetLocalSocketResponse(path=f"@{self._listener.name}", ticket=ticket)

    def _let_in(self, client: Client, connected: socket.socket) -> None:
        self._visits.add(_Visit(self._desk, client, connected, self._visits.discard))

    def close(self) -> None:
        for visit in list(self._visits):
            visit.connection.close("the server ends")


class _Visit:
    """One connection."""

    def __init__(self, desk: Desk, client: Client, connected: socket.socket, ended: Callable[[_Visit], None]) -> None:
        self._desk = desk
        self._client = client
        self._on_end = ended
        self._tasks: dict[int, Task] = {}
        self.connection = LocalConnection(
            asyncio.get_running_loop(),
            connected,
            LocalReader(frozenset({LENT}), desk.settings.max_message_bytes),
            self._received,
            self._ended,
            MAX_PENDING,
        )

    def _received(self, messages: list[LocalMessage]) -> None:
        for message in messages:
            try:
                self._handle(*_taken(message))
            except WireError as error:
                audit("local socket", self._client.peer, self._client.name, Refused(Code.INVALID_ARGUMENT, str(error)))
                self.connection.close(str(error))

    def _handle(self, exchange: Exchange[pb.StreamRequest], payload: InlinePayload | LentPayload) -> None:
        """Raises WireError for nonsense, after which the connection cannot go on."""
        request, body = exchange.stream.id, exchange.body
        try:
            if body == "cancel":
                payload.release()
                if request in self._tasks:
                    self._desk.give_up(self._tasks[request])
            elif not request or request in self._tasks or body == "chunk":
                payload.release()
                raise WireError(f"a {body} with the id {request}: ids are not zero and not in use, and chunks not used")
            elif body == "close_session":
                payload.release()
                self._desk.close_session(self._client, exchange.message.session)
                self._answer(request, encode_exchange(pb.StreamResponse(), body, pb.CloseSessionResponse())[0])
            else:
                self._submit(exchange, payload)
        except Refused as refused:
            audit(f"local socket/{body}", self._client.peer, self._client.name, refused)
            self._fail(request, refused.to_pb())

    def _submit(self, exchange: Exchange[pb.StreamRequest], payload: InlinePayload | LentPayload) -> None:
        request = exchange.stream.id

        def done(outcome: Outcome) -> None:
            self._tasks.pop(request, None)
            if isinstance(outcome, pb.Failure):
                self._fail(request, outcome)
                return
            self._answer(request, outcome.encoded, outcome.where, outcome.descriptor)
            if outcome.descriptor >= 0:
                os.close(outcome.descriptor)

        timeout = exchange.stream.timeout_seconds or None
        self._tasks[request] = self._desk.submit(self._client, exchange.body, exchange.message, payload, timeout, done)

    def _answer(self, request: int, encoded: Buffer, where: int = INLINE, descriptor: int = -1) -> None:
        self.connection.send(packed([with_id(request, bytes(encoded))], where), descriptor)

    def _fail(self, request: int, failure: pb.Failure) -> None:
        self._answer(request, encode_exchange(pb.StreamResponse(), "failure", failure)[0])

    def _ended(self, reason: str) -> None:
        """The client is gone, and what it has asked for is nobody's."""
        self._on_end(self)
        for task in list(self._tasks.values()):
            self._desk.give_up(task)


def _taken(message: LocalMessage) -> tuple[Exchange[pb.StreamRequest], InlinePayload | LentPayload]:
    """A message taken apart. Raises WireError when it is nonsense; then nothing of it is left open."""
    if message.descriptor < 0:
        exchange = decode_exchange(pb.StreamRequest, message.encoded)
        return exchange, InlinePayload(bytes(exchange.payload))
    try:
        exchange = decode_exchange(pb.StreamRequest, message.encoded, beside=True)
        found = require_sealed(message.descriptor)
        if found < exchange.size:
            raise WireError(f"a payload of {exchange.size} bytes was announced, in memory of {found}")
        return exchange, LentPayload(message.descriptor, exchange.size)
    except WireError:
        os.close(message.descriptor)
        raise
