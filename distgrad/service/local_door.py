"""Clients on the server's machine: requests come over a Unix socket, and their arrays stay in the clients' memory."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import NamedTuple

from distgrad.errors import WireError
from distgrad.transport.blocks import require_sealed
from distgrad.transport.local_messages import INLINE, LENT, LocalMessage, LocalReader, packed
from distgrad.transport.offers import this_machine
from distgrad.wire import pb
from distgrad.wire.exchanges import BARE, decode_exchange, encode_exchange, split_stream, with_id
from distgrad.wire.frames import Buffer

from .access import audit
from .desk import Desk
from .failures import Code, Refused
from .local import LocalConnection, LocalListener
from .payloads import InlinePayload, LentPayload
from .repeats import Repeats
from .requests import Request
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
        self._repeats: Repeats[Request] = Repeats()

    def offer(self, client: Client, host: str) -> pb.GetLocalSocketResponse:
        """What a client at `host` is told: nothing, unless that is here."""
        if not self._desk.settings.local_socket or host != this_machine():
            return pb.GetLocalSocketResponse()
        ticket = self._listener.ticket(lambda connected: self._let_in(client, connected), PATIENCE)
        return pb.GetLocalSocketResponse(path=f"@{self._listener.name}", ticket=ticket)

    def _let_in(self, client: Client, connected: socket.socket) -> None:
        visit = _Visit(self._desk, client, connected, self._repeats, self._left)
        self._visits.add(visit)
        self._desk.lines.add(visit)

    def _left(self, visit: _Visit) -> None:
        self._visits.discard(visit)
        self._desk.lines.discard(visit)

    def close(self) -> None:
        for visit in list(self._visits):
            visit.connection.close("the server ends")


class _Visit:
    """One connection. Implements `OpenLine`."""

    def __init__(
        self,
        desk: Desk,
        client: Client,
        connected: socket.socket,
        repeats: Repeats[Request],
        ended: Callable[[_Visit], None],
    ) -> None:
        self._desk = desk
        self.client = client
        self._repeats = repeats
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

    @property
    def busy(self) -> bool:
        return bool(self._tasks)

    def dismiss(self, refused: Refused) -> None:
        audit("local socket", self.client.peer, self.client.name, refused)
        self.connection.close(str(refused))

    def _received(self, messages: list[LocalMessage]) -> None:
        for message in messages:
            try:
                self._handle(_taken(message, self._repeats))
            except WireError as error:
                audit("local socket", self.client.peer, self.client.name, Refused(Code.INVALID_ARGUMENT, str(error)))
                self.connection.close(str(error))

    def _handle(self, taken: _Taken) -> None:
        """Raises WireError for nonsense, after which the connection cannot go on."""
        number, _, asked, payload = taken
        body = asked.body
        try:
            if body == "cancel":
                payload.release()
                if number in self._tasks:
                    self._desk.give_up(self._tasks[number])
            elif not number or number in self._tasks or body == "chunk":
                payload.release()
                raise WireError(f"a {body} with the id {number}: ids are not zero and not in use, and chunks not used")
            elif body == "close_session":
                payload.release()
                self._desk.close_session(self.client, asked.message.session)
                self._answer(number, encode_exchange(pb.StreamResponse(), body, pb.CloseSessionResponse())[0])
            else:
                self._submit(taken)
        except Refused as refused:
            audit(f"local socket/{body}", self.client.peer, self.client.name, refused)
            self._fail(number, refused.to_pb())

    def _submit(self, taken: _Taken) -> None:
        number, timeout, asked, payload = taken

        def done(outcome: Outcome) -> None:
            self._tasks.pop(number, None)
            if isinstance(outcome, pb.Failure):
                self._fail(number, outcome)
                return
            self._answer(number, outcome.encoded, outcome.where, outcome.descriptor)
            if outcome.descriptor >= 0:
                os.close(outcome.descriptor)

        self._tasks[number] = self._desk.submit(self.client, asked, payload, timeout or None, done)

    def _answer(self, request: int, encoded: Buffer, where: int = INLINE, descriptor: int = -1) -> None:
        self.connection.send(packed([with_id(request, bytes(encoded))], where), descriptor)

    def _fail(self, request: int, failure: pb.Failure) -> None:
        self._answer(request, encode_exchange(pb.StreamResponse(), "failure", failure)[0])

    def _ended(self, reason: str) -> None:
        """The client is gone, and what it has asked for is nobody's."""
        self._on_end(self)
        for task in list(self._tasks.values()):
            self._desk.give_up(task)


class _Taken(NamedTuple):
    """A message taken apart."""

    number: int
    timeout: float
    asked: Request
    payload: InlinePayload | LentPayload


def _taken(message: LocalMessage, repeats: Repeats[Request]) -> _Taken:
    """Takes a message apart. Raises WireError when it is nonsense; then nothing of it is left open."""
    beside = message.descriptor >= 0
    try:
        number, timeout, rest = split_stream(message.encoded)
        found = repeats.find(rest, beside)
        if found is not None:
            asked, content = found.known, rest[found.start :]
        else:
            exchange = decode_exchange(pb.StreamRequest, message.encoded, beside)
            number, timeout = exchange.stream.id, exchange.stream.timeout_seconds
            asked, content = Request(exchange.body, exchange.message, exchange.size), bytes(exchange.payload)
            if exchange.body not in BARE:
                repeats.keep(rest, beside, exchange, asked)
        if not beside:
            return _Taken(number, timeout, asked, InlinePayload(content))
        if (lent := require_sealed(message.descriptor)) < asked.size:
            raise WireError(f"a payload of {asked.size} bytes was announced, in memory of {lent}")
        return _Taken(number, timeout, asked, LentPayload(message.descriptor, asked.size))
    except WireError:
        if beside:
            os.close(message.descriptor)
        raise
