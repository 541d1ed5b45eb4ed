"""gRPC's methods of the service, with bytes as they are: the codec is ours, and arrays are not copied by protobuf."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from distgrad.errors import ResourceExhausted, WireError
from distgrad.transport.blocks import WORTH_A_BLOCK, BlockPool, room_behind
from distgrad.transport.chunks import Assembler
from distgrad.transport.health import Health
from distgrad.wire import pb
from distgrad.wire.exchanges import BODIES, Exchange, body_of, decode_exchange, encode_exchange, with_id
from distgrad.wire.frames import parse, split_message

from .access import Access, audit, require_role
from .desk import Desk
from .failures import Code, Refused, details
from .local_door import LocalDoor
from .payloads import BlockPayload, InlinePayload, elsewhere
from .tasks import Client, Outcome, Task
from .transfers import cut, gathered

SERVICE = "distgrad.v1.GradientService"
_HEALTH = "/grpc.health.v1.Health/Check"
# Methods that run functions -> the names of their bodies on a stream.
_BODIES = {
    "Evaluate": "evaluate",
    "ValueAndGradient": "value_and_gradient",
    "Vjp": "vjp",
    "Jvp": "jvp",
    "Jacobian": "jacobian",
    "Hessian": "hessian",
    "Hvp": "hvp",
    "Linearize": "linearize",
}
# Failures that say no more than that the client gave up, or that the function raised.
_NOT_REFUSED = (Code.CANCELLED, Code.DEADLINE_EXCEEDED, Code.INTERNAL)

logger = logging.getLogger("distgrad.service")

Context = Any  # grpc.aio.ServicerContext, which has no types


class GrpcDoor(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Serves the service and the health checks."""

    def __init__(self, desk: Desk, access: Access, local: LocalDoor, health: Health) -> None:
        self._desk = desk
        self._access = access
        self._local = local
        self._health = health
        self._blocks = BlockPool()
        self._streams: Counter[str] = Counter()
        self._handlers = {
            f"/{SERVICE}/{method}": grpc.unary_unary_rpc_method_handler(self._guarded(method, call))
            for method, call in self._unary().items()
        }
        self._handlers[f"/{SERVICE}/Stream"] = grpc.stream_stream_rpc_method_handler(self._stream)
        self._handlers[_HEALTH] = grpc.unary_unary_rpc_method_handler(self._check_health)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._handlers.get(details.method)

    def close(self) -> None:
        self._blocks.close()

    # ---- unary methods -----------------------------------------------------------------------------------------------

    def _unary(self) -> dict[str, Callable[[Client, bytes, Context], Awaitable[bytes]]]:
        calls: dict[str, Callable[[Client, bytes, Context], Awaitable[bytes]]] = {
            "ListFunctions": self._list_functions,
            "DescribeFunction": self._describe_function,
            "CloseSession": self._close_session,
            "GetLocalSocket": self._get_local_socket,
            "GetStatistics": self._get_statistics,
        }
        for method, body in _BODIES.items():
            calls[method] = self._product(body)
        return calls

    def _guarded(
        self, method: str, call: Callable[[Client, bytes, Context], Awaitable[bytes]]
    ) -> Callable[[bytes, Context], Awaitable[bytes]]:
        """A method that first asks who calls, and tells failures as gRPC does."""

        async def guarded(request: bytes, context: Context) -> bytes:
            name = ""
            try:
                client = self._client(context)
                name = client.name
                require_role(client, admin=method == "GetStatistics")
                return await call(client, request, context)
            except WireError as error:
                refused = Refused(Code.INVALID_ARGUMENT, str(error))
            except Refused as error:
                refused = error
            _audit(f"{SERVICE}/{method}", context, name, refused)
            return await _abort(context, refused.to_pb())

        return guarded

    def _client(self, context: Context) -> Client:
        authorization = dict(context.invocation_metadata() or ()).get("authorization", "")
        names = context.auth_context().get("x509_common_name", [b""])
        return self._access.client(str(authorization), names[0].decode(errors="replace"), context.peer())

    async def _list_functions(self, client: Client, request: bytes, context: Context) -> bytes:
        parse(pb.ListFunctionsRequest, request)
        answer = pb.ListFunctionsResponse()
        for name, function in sorted(self._desk.functions.items()):
            answer.functions.add(name=name, summary=function.documentation.partition("\n")[0])
        return answer.SerializeToString()

    async def _describe_function(self, client: Client, request: bytes, context: Context) -> bytes:
        answer = self._desk.describe(parse(pb.DescribeFunctionRequest, request).name).to_pb()
        answer.max_message_bytes = self._desk.settings.max_message_bytes
        answer.max_request_bytes = self._desk.settings.max_request_bytes
        return answer.SerializeToString()

    async def _close_session(self, client: Client, request: bytes, context: Context) -> bytes:
        self._desk.close_session(client, parse(pb.CloseSessionRequest, request).session)
        return pb.CloseSessionResponse().SerializeToString()

    async def _get_local_socket(self, client: Client, request: bytes, context: Context) -> bytes:
        return self._local.offer(client, parse(pb.GetLocalSocketRequest, request).host).SerializeToString()

    async def _get_statistics(self, client: Client, request: bytes, context: Context) -> bytes:
        parse(pb.GetStatisticsRequest, request)
        return pb.GetStatisticsResponse(counts=pb.Counts(counts=self._desk.counts())).SerializeToString()

    def _product(self, body: str) -> Callable[[Client, bytes, Context], Awaitable[bytes]]:
        kind = BODIES[pb.StreamRequest][body]

        async def product(client: Client, request: bytes, context: Context) -> bytes:
            message, content, _ = split_message(kind, request)
            payload = self._payload(content)
            answered: asyncio.Future[bytes | pb.Failure] = asyncio.get_running_loop().create_future()

            def done(outcome: Outcome) -> None:
                if isinstance(outcome, pb.Failure):
                    found: bytes | pb.Failure = outcome
                else:
                    inner, _ = body_of(outcome.encoded)
                    found = b"".join((inner, elsewhere(outcome, payload)))
                if not answered.done():
                    answered.set_result(found)

            task = self._submitted(client, body, message, payload, context.time_remaining(), done)
            try:
                answer = await answered
            except asyncio.CancelledError:
                self._desk.give_up(task)
                raise
            if isinstance(answer, pb.Failure):
                return await _abort(context, answer)
            return self._small_enough(answer)

        return product

    def _small_enough(self, answer: bytes) -> bytes:
        limit = self._desk.settings.max_message_bytes
        if len(answer) > limit:
            raise Refused(
                Code.RESOURCE_EXHAUSTED, f"the answer has {len(answer)} bytes, a message {limit}: use Stream for it"
            )
        return answer

    def _payload(self, content: memoryview) -> InlinePayload | BlockPayload:
        """What came with a request, where the pool's processes can have it."""
        if len(content) <= WORTH_A_BLOCK:
            return InlinePayload(bytes(content))
        block = self._blocks.take(room_behind(len(content)) + len(content))
        block.put([content])
        return BlockPayload(block, len(content), self._blocks)

    def _submitted(
        self,
        client: Client,
        body: str,
        message: Any,
        payload: InlinePayload | BlockPayload,
        timeout: float | None,
        done: Callable[[Outcome], None],
    ) -> Task:
        try:
            return self._desk.submit(client, body, message, payload, timeout, done)
        except BaseException:
            payload.release()
            raise

    async def _check_health(self, request: bytes, context: Context) -> bytes:
        serving = self._health.of(parse(pb.HealthCheckRequest, request).service or SERVICE)
        if serving is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
        status = pb.HealthCheckResponse.SERVING_STATUS_SERVING
        if not serving:
            status = pb.HealthCheckResponse.SERVING_STATUS_NOT_SERVING
        return pb.HealthCheckResponse(status=status).SerializeToString()

    # ---- Stream ------------------------------------------------------------------------------------------------------

    async def _stream(self, requests: Any, context: Context) -> None:
        try:
            client = self._client(context)
            require_role(client, admin=False)
            self._require_stream(client)
        except Refused as refused:
            _audit(f"{SERVICE}/Stream", context, "", refused)
            await _abort(context, refused.to_pb())
            return
        stream = _Stream(self, client, context)
        self._streams[client.name] += 1
        try:
            await stream.serve()
        except (WireError, ResourceExhausted) as error:
            nonsense = Refused(Code.INVALID_ARGUMENT, str(error))
            _audit(f"{SERVICE}/Stream", context, client.name, nonsense)
            await _abort(context, nonsense.to_pb())
        finally:
            self._streams[client.name] -= 1
            if not self._streams[client.name]:
                del self._streams[client.name]

    def _require_stream(self, client: Client) -> None:
        limit = self._desk.settings.max_streams_per_client
        if self._streams[client.name] >= limit:
            raise Refused(Code.RESOURCE_EXHAUSTED, f"{client.name} has {limit} streams, and no more are let in")


class _Stream:
    """One stream: requests come, responses go as they are ready."""

    def __init__(self, door: GrpcDoor, client: Client, context: Context) -> None:
        self._door = door
        self._desk = door._desk
        self._client = client
        self._context = context
        self._tasks: dict[int, Task] = {}
        self._ready: asyncio.Queue[list[bytes] | None] = asyncio.Queue()
        self._assembler = Assembler(self._desk.settings.max_request_bytes)
        self._transfers = itertools.count(1)
        self._ending = False

    async def serve(self) -> None:
        """Until the client has ended its side and has all responses. Raises WireError for nonsense."""
        writing = asyncio.ensure_future(self._write())
        try:
            while (encoded := await self._context.read()) is not grpc.aio.EOF:
                if writing.done():
                    break
                self._received(decode_exchange(pb.StreamRequest, encoded))
            if not self._tasks:
                self._ready.put_nowait(None)
            self._ending = True
            await writing
        finally:
            writing.cancel()
            for task in list(self._tasks.values()):
                self._desk.give_up(task)

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
            self._desk.close_session(self._client, session)
        except Refused as refused:
            self._refuse(request, "CloseSession", refused)
            return
        self._ready.put_nowait(
            [b"".join(encode_exchange(pb.StreamResponse(id=request), "close_session", pb.CloseSessionResponse()))]
        )

    def _submit(self, exchange: Exchange[pb.StreamRequest]) -> None:
        request = exchange.stream.id
        payload = self._payload(exchange)

        def done(outcome: Outcome) -> None:
            self._tasks.pop(request, None)
            self._ready.put_nowait(self._messages(request, outcome, payload))
            if self._ending and not self._tasks:
                self._ready.put_nowait(None)

        timeout = exchange.stream.timeout_seconds or None
        try:
            task = self._door._submitted(self._client, exchange.body, exchange.message, payload, timeout, done)
        except Refused as refused:
            self._refuse(request, exchange.body, refused)
            return
        self._tasks[request] = task

    def _payload(self, exchange: Exchange[pb.StreamRequest]) -> InlinePayload | BlockPayload:
        message = exchange.message
        if not any(array.transfer for array in message.arrays):
            return self._door._payload(exchange.payload)
        blocks = self._door._blocks
        block, size = gathered(message, exchange.payload, self._assembler.complete, blocks)
        return BlockPayload(block, size, blocks)

    def _refuse(self, request: int, body: str, refused: Refused) -> None:
        audit(f"{SERVICE}/Stream/{body}", self._client.peer, self._client.name, refused)
        self._ready.put_nowait([_failure(request, refused.to_pb())])

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

    async def _write(self) -> None:
        while (messages := await self._ready.get()) is not None:
            for message in messages:
                await self._context.write(message)


def _failure(request: int, failure: pb.Failure) -> bytes:
    return b"".join(encode_exchange(pb.StreamResponse(id=request), "failure", failure))


async def _abort(context: Context, failure: pb.Failure) -> bytes:
    """Ends a call with a failure; raises."""
    code = next(code for code in grpc.StatusCode if code.value[0] == failure.code)
    text = failure.message.encode("utf-8", "replace").decode()
    await context.abort(code, text, trailing_metadata=(("grpc-status-details-bin", details(failure)),))
    return b""


def _audit(method: str, context: Context, name: str, refused: Refused) -> None:
    if refused.code not in _NOT_REFUSED:
        audit(method, context.peer(), name, refused)
