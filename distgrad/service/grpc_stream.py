"""One stream of gRPC: requests come, responses go as they are ready, large arrays in chunks."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import grpc

from distgrad.errors import WireError
from distgrad.transport.chunks import Assembler
from distgrad.wire import pb
from distgrad.wire.exchanges import Exchange, decode_exchange, encode_exchange, with_id

from .access import audit
from .desk import Desk
from .failures import Refused
from .payloads import BlockPayload, InlinePayload, Payloads, elsewhere
from .requests import Request
from .settings import MiB
from .tasks import Client, Outcome, Task
from .transfers import cut

SERVICE = "distgrad.v1.GradientService"
# A client that does not read is read no more when so many bytes wait for it.
MAX_UNSENT = 64 * MiB

Context = Any  # grpc.aio.ServicerContext, which has no types


class GrpcStream:
    """One stream: requests come, responses go as they are ready. Implements `OpenLine`."""

    def __init__(self, desk: Desk, payloads: Payloads, client: Client, context: Context) -> None:
        self._desk = desk
        self._payloads = payloads
        self.client = client
        self._context = context
        self._tasks: dict[int, Task] = {}
        self._ready: asyncio.Queue[list[bytes] | None] = asyncio.Queue()
        self._unsent = 0  # bytes of responses in there
        self._sent = asyncio.Event()
        self._assembler = Assembler(self._desk.settings.max_request_bytes)
        self._transfers = itertools.count(1)
        self._ending = False
        self._dismissed: Refused | None = None

    @property
    def busy(self) -> bool:
        return bool(self._tasks)

    def dismiss(self, refused: Refused) -> None:
        self._dismissed = refused
        self._serving.cancel()

    async def serve(self) -> None:
        """Until the client has ended its side and has all responses. Raises WireError for nonsense, and Refused when
        the client is no longer let in."""
        writing = asyncio.ensure_future(self._write())
        self._serving: asyncio.Future[None] = asyncio.ensure_future(self._read(writing))
        try:
            await self._serving
        except asyncio.CancelledError:
            if self._dismissed is None:
                raise
            raise self._dismissed from None
        finally:
            self._serving.cancel()
            writing.cancel()
            for task in list(self._tasks.values()):
                self._desk.give_up(task)

    async def _read(self, writing: asyncio.Future[None]) -> None:
        while (encoded := await self._context.read()) is not grpc.aio.EOF:
            self._received(decode_exchange(pb.StreamRequest, encoded))
            await self._client_reads()
        if not self._tasks:
            self._ready.put_nowait(None)
        self._ending = True
        await writing

    async def _client_reads(self) -> None:
        """Waits while much is ready that the client does not take; meanwhile it can send no more than gRPC's window."""
        while self._unsent > MAX_UNSENT:
            self._sent.clear()
            await self._sent.wait()

    def _received(self, exchange: Exchange[pb.StreamRequest]) -> None:
        body, request = exchange.body, exchange.stream.id
        if body == "chunk":
            self._assembler.add(exchange.message.chunk, exchange.payload)
        elif not request:
            raise WireError(f"a request ({body}) without an id")
        elif body == "cancel":
            if request in self._tasks:
                self._desk.give_up(self._tasks[request])
        elif request in self._tasks:
            raise WireError(f"the id {request} belongs to a request under way")
        elif body == "close_session":
            self._close_session(request, exchange.message.session)
        else:
            self._submit(exchange)

    def _close_session(self, request: int, session: str) -> None:
        try:
            self._desk.close_session(self.client, session)
        except Refused as refused:
            self._refuse(request, "CloseSession", refused)
            return
        answer = encode_exchange(pb.StreamResponse(id=request), "close_session", pb.CloseSessionResponse())
        self._put([b"".join(answer)])

    def _submit(self, exchange: Exchange[pb.StreamRequest]) -> None:
        request = exchange.stream.id
        try:
            payload = self._payloads.gathered(exchange.message, exchange.payload, self._assembler.complete)
        except Refused as refused:
            self._refuse(request, exchange.body, refused)
            return

        def done(outcome: Outcome) -> None:
            self._tasks.pop(request, None)
            self._put(self._messages(request, outcome, payload))
            if self._ending and not self._tasks:
                self._ready.put_nowait(None)

        timeout = exchange.stream.timeout_seconds or None
        try:
            asked = Request(exchange.body, exchange.message, payload.size)
            task = self._desk.submit(self.client, asked, payload, timeout, done)
        except Refused as refused:
            self._refuse(request, exchange.body, refused)
            return
        self._tasks[request] = task

    def _refuse(self, request: int, body: str, refused: Refused) -> None:
        audit(f"{SERVICE}/Stream/{body}", self.client.peer, self.client.name, refused)
        self._put([_failure(request, refused.to_pb())])

    def _messages(self, request: int, outcome: Outcome, payload: InlinePayload | BlockPayload) -> list[bytes]:
        """What goes over the stream: one message, or chunks and one message."""
        if isinstance(outcome, pb.Failure):
            return [_failure(request, outcome)]
        beside = elsewhere(outcome, payload)
        whole = with_id(request, b"".join((outcome.encoded, beside)))
        if len(whole) <= self._desk.settings.max_message_bytes:
            return [whole]
        answer = decode_exchange(pb.StreamResponse, whole)
        stream = pb.StreamResponse(id=request)
        pieces = cut(stream, answer.body, answer.message, answer.payload, self._transfers)
        return [b"".join(piece) for piece in pieces]

    def _put(self, messages: list[bytes]) -> None:
        self._unsent += sum(map(len, messages))
        self._ready.put_nowait(messages)

    async def _write(self) -> None:
        while (messages := await self._ready.get()) is not None:
            for message in messages:
                await self._context.write(message)
                self._unsent -= len(message)
            self._sent.set()


def _failure(request: int, failure: pb.Failure) -> bytes:
    return b"".join(encode_exchange(pb.StreamResponse(id=request), "failure", failure))
