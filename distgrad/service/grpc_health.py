"""gRPC's health checking protocol, for a server of coroutines; see `distgrad.transport.grpc_health`."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from distgrad.errors import ResourceExhausted, WireError
from distgrad.transport.grpc_health import CHECK, WATCH, encoded_status
from distgrad.transport.health import RUNS, Health, Status
from distgrad.wire import pb
from distgrad.wire.frames import parse

from .grpc_stream import SERVICE, Context


class GrpcHealth(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Serves both methods. Asked about no service in particular, it tells of the one there is: a server that runs but
    does not serve is of no use to anybody."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._handlers = {
            CHECK: grpc.unary_unary_rpc_method_handler(self._check),
            WATCH: grpc.unary_stream_rpc_method_handler(self._watch),
        }

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._handlers.get(details.method)

    async def _check(self, request: bytes, context: Context) -> bytes:
        status = self._health.of(await _asked(request, context))
        if status is Status.UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
        return encoded_status(status)

    async def _watch(self, request: bytes, context: Context) -> None:
        loop = asyncio.get_running_loop()
        told: asyncio.Queue[Status | None] = asyncio.Queue()
        service = await _asked(request, context)
        try:
            forget = self._health.watch(service, lambda status: _put(loop, told, status))
        except ResourceExhausted as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
            return
        try:
            while (status := await told.get()) is not None:
                await context.write(encoded_status(status))
        finally:
            forget()


def _put(loop: asyncio.AbstractEventLoop, told: asyncio.Queue[Any], status: Status | None) -> None:
    """Statuses change in any thread."""
    loop.call_soon_threadsafe(told.put_nowait, status)


async def _asked(request: bytes, context: Context) -> str:
    try:
        asked: str = parse(pb.HealthCheckRequest, request).service
    except WireError as error:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        raise
    return SERVICE if asked == RUNS else asked
