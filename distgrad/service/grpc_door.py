"""gRPC's methods of the service, with bytes as they are: the codec is ours, and arrays are not copied by protobuf."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from distgrad.errors import ResourceExhausted, WireError
from distgrad.wire import pb
from distgrad.wire.exchanges import BODIES
from distgrad.wire.frames import parse, split_message

from .access import Access, audit, require_role
from .answers import answer
from .desk import Desk
from .failures import Code, Refused, details
from .grpc_stream import SERVICE, Context, GrpcStream
from .local_door import LocalDoor
from .payloads import Payloads
from .requests import Request
from .tasks import Client

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

# What a method is when it is known who calls.
Call = Callable[[Client, bytes, Context], Awaitable[bytes]]


class GrpcDoor(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Serves the service."""

    def __init__(self, desk: Desk, access: Access, local: LocalDoor) -> None:
        self._desk = desk
        self._access = access
        self._local = local
        self._payloads = Payloads()
        self._streams: Counter[str] = Counter()
        self._handlers = {
            f"/{SERVICE}/{method}": grpc.unary_unary_rpc_method_handler(self._guarded(method, call))
            for method, call in self._unary().items()
        }
        self._handlers[f"/{SERVICE}/Stream"] = grpc.stream_stream_rpc_method_handler(self._stream)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._handlers.get(details.method)

    def close(self) -> None:
        self._payloads.close()

    # ---- unary methods -----------------------------------------------------------------------------------------------

    def _unary(self) -> dict[str, Call]:
        calls: dict[str, Call] = {
            "ListFunctions": self._list_functions,
            "DescribeFunction": self._describe_function,
            "CloseSession": self._close_session,
            "GetLocalSocket": self._get_local_socket,
            "GetStatistics": self._get_statistics,
        }
        for method, body in _BODIES.items():
            calls[method] = self._product(body)
        return calls

    def _guarded(self, method: str, call: Call) -> Callable[[bytes, Context], Awaitable[bytes]]:
        """A method that first asks who calls, and tells failures as gRPC does."""

        async def guarded(request: bytes, context: Context) -> bytes:
            name = ""
            try:
                client = self._client(context)
                name = client.name
                require_role(client, admin=method == "GetStatistics")
                self._desk.require_ready()
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
        listed = pb.ListFunctionsResponse()
        for name, function in sorted(self._desk.functions.items()):
            listed.functions.add(name=name, summary=function.documentation.partition("\n")[0])
        return listed.SerializeToString()

    async def _describe_function(self, client: Client, request: bytes, context: Context) -> bytes:
        described = self._desk.describe(parse(pb.DescribeFunctionRequest, request).name).to_pb()
        described.max_message_bytes = self._desk.settings.max_message_bytes
        described.max_request_bytes = self._desk.settings.max_request_bytes
        return described.SerializeToString()

    async def _close_session(self, client: Client, request: bytes, context: Context) -> bytes:
        self._desk.close_session(client, parse(pb.CloseSessionRequest, request).session)
        return pb.CloseSessionResponse().SerializeToString()

    async def _get_local_socket(self, client: Client, request: bytes, context: Context) -> bytes:
        return self._local.offer(client, parse(pb.GetLocalSocketRequest, request).host).SerializeToString()

    async def _get_statistics(self, client: Client, request: bytes, context: Context) -> bytes:
        parse(pb.GetStatisticsRequest, request)
        return pb.GetStatisticsResponse(counts=pb.Counts(counts=self._desk.counts())).SerializeToString()

    def _product(self, body: str) -> Call:
        kind = BODIES[pb.StreamRequest][body]

        async def product(client: Client, request: bytes, context: Context) -> bytes:
            message, content, _ = split_message(kind, request)
            payload = self._payloads.taken(content)
            found = await answer(
                self._desk, client, Request(body, message, payload.size), payload, context.time_remaining()
            )
            if isinstance(found, pb.Failure):
                return await _abort(context, found)
            return self._small_enough(found)

        return product

    def _small_enough(self, found: bytes) -> bytes:
        limit = self._desk.settings.max_message_bytes
        if len(found) > limit:
            raise Refused(
                Code.RESOURCE_EXHAUSTED, f"the answer has {len(found)} bytes, a message {limit}: use Stream for it"
            )
        return found

    # ---- Stream ------------------------------------------------------------------------------------------------------

    async def _stream(self, requests: Any, context: Context) -> None:
        name = ""
        try:
            client = self._client(context)
            name = client.name
            require_role(client, admin=False)
            self._desk.require_ready()
            self._require_stream(client)
        except Refused as refused:
            _audit(f"{SERVICE}/Stream", context, name, refused)
            await _abort(context, refused.to_pb())
            return
        stream = GrpcStream(self._desk, self._payloads, client, context)
        self._streams[client.name] += 1
        self._desk.lines.add(stream)
        try:
            await stream.serve()
        except (WireError, ResourceExhausted, Refused) as error:
            end = error if isinstance(error, Refused) else Refused(Code.INVALID_ARGUMENT, str(error))
            _audit(f"{SERVICE}/Stream", context, client.name, end)
            await _abort(context, end.to_pb())
        finally:
            self._desk.lines.discard(stream)
            self._streams[client.name] -= 1
            if not self._streams[client.name]:
                del self._streams[client.name]

    def _require_stream(self, client: Client) -> None:
        limit = self._desk.settings.max_streams_per_client
        if self._streams[client.name] >= limit:
            raise Refused(Code.RESOURCE_EXHAUSTED, f"{client.name} has {limit} streams, and no more are let in")


async def _abort(context: Context, failure: pb.Failure) -> bytes:
    """Ends a call with a failure; raises."""
    code = next(code for code in grpc.StatusCode if code.value[0] == failure.code)
    text = failure.message.encode("utf-8", "replace").decode()
    await context.abort(code, text, trailing_metadata=(("grpc-status-details-bin", details(failure)),))
    return b""


def _audit(method: str, context: Context, name: str, refused: Refused) -> None:
    if refused.code not in _NOT_REFUSED:
        audit(method, context.peer(), name, refused)
