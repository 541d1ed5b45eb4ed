"""gRPC's health checking protocol: answered beside links, or alone at an address of its own.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md. The package `grpcio-health-checking` is not used: each
of its releases allows one major version of protobuf only, and its Watch waits for every watcher when a status changes.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from distgrad.errors import LinkError, ResourceExhausted
from distgrad.wire import pb

from .addresses import require_address
from .grpc_channel import open_channel
from .health import Health, Status
from .settings import TransportSettings
from .threads import ThreadForEach, Threads

SERVICE = "grpc.health.v1.Health"
CHECK, WATCH = f"/{SERVICE}/Check", f"/{SERVICE}/Watch"

_STATUS = {
    Status.SERVING: pb.HealthCheckResponse.SERVING_STATUS_SERVING,
    Status.NOT_SERVING: pb.HealthCheckResponse.SERVING_STATUS_NOT_SERVING,
    Status.UNKNOWN: pb.HealthCheckResponse.SERVING_STATUS_SERVICE_UNKNOWN,
}


def encoded_status(status: Status) -> bytes:
    """The answer to a probe."""
    return pb.HealthCheckResponse(status=_STATUS[status]).SerializeToString()


class HealthHandlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Serves both methods. A watcher holds a thread of the server's while it watches."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._handlers = {
            CHECK: grpc.unary_unary_rpc_method_handler(self._check, pb.HealthCheckRequest.FromString),
            WATCH: grpc.unary_stream_rpc_method_handler(self._watch, pb.HealthCheckRequest.FromString),
        }

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._handlers.get(details.method)

    def _check(self, request: pb.HealthCheckRequest, context: grpc.ServicerContext) -> bytes:
        status = self._health.of(request.service)
        if status is Status.UNKNOWN:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service {request.service[:100]!r}")
        return encoded_status(status)

    def _watch(self, request: pb.HealthCheckRequest, context: grpc.ServicerContext) -> Iterator[bytes]:
        told: queue.SimpleQueue[Status | None] = queue.SimpleQueue()
        try:
            forget = self._health.watch(request.service, told.put)
        except ResourceExhausted as error:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
            return
        if not context.add_callback(lambda: told.put(None)):
            told.put(None)  # the watcher is gone already
        try:
            while (status := told.get()) is not None:
                yield encoded_status(status)
        finally:
            forget()


@contextmanager
def health_listener(health: Health, address: str) -> Iterator[str]:
    """Within the block health is told at an address of its own, in the clear, and nothing else is: for probes that know
    no TLS, as those of Kubernetes. Gives the address that was bound.

    Raises:
        ConfigError: it is no address.
        LinkError: it is taken.
    """
    require_address(address)
    threads = Threads()
    server = grpc.server(ThreadForEach(threads), [HealthHandlers(health)], options=[("grpc.so_reuseport", 0)])
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise LinkError(f"cannot tell of health at {address}: the address is taken or not of this machine") from error
    server.start()
    try:
        yield f"{address.rpartition(':')[0]}:{port}"
    finally:
        server.stop(0).wait()
        threads.join()


def is_serving(address: str, settings: TransportSettings, service: str, timeout: float) -> bool:
    """Asks the process at an address for its health.

    Raises:
        ConfigError: the address is on another machine, and the settings do not allow going there in the clear.
        LinkError: nobody answers in time, or there is no such service.
    """
    settings.require_safe(address)
    with open_channel(address, settings) as channel:
        check = channel.unary_unary(
            CHECK,
            request_serializer=pb.HealthCheckRequest.SerializeToString,
            response_deserializer=pb.HealthCheckResponse.FromString,
        )
        try:
            status = check(pb.HealthCheckRequest(service=service), timeout=timeout).status
        except grpc.RpcError as error:
            raise LinkError(f"{address} says nothing of its health: {error.code().name}: {error.details()}") from error
    return bool(status == _STATUS[Status.SERVING])
