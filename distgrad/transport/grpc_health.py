"""gRPC's health checking protocol, method Check: answered beside links, or alone at an address of its own.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md. Method Watch is not there, which the protocol allows.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc

from distgrad.errors import LinkError
from distgrad.wire import pb

from .grpc_channel import open_channel
from .health import Health
from .settings import TransportSettings

METHOD = "/grpc.health.v1.Health/Check"

_STATUS = {
    True: pb.HealthCheckResponse.SERVING_STATUS_SERVING,
    False: pb.HealthCheckResponse.SERVING_STATUS_NOT_SERVING,
}


class HealthHandlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Serves the one method."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._handler = grpc.unary_unary_rpc_method_handler(
            self._check,
            request_deserializer=pb.HealthCheckRequest.FromString,
            response_serializer=pb.HealthCheckResponse.SerializeToString,
        )

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._handler if details.method == METHOD else None

    def _check(self, request: pb.HealthCheckRequest, context: grpc.ServicerContext) -> pb.HealthCheckResponse:
        serving = self._health.of(request.service)
        if serving is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service {request.service[:100]!r}")
        return pb.HealthCheckResponse(status=_STATUS[bool(serving)])


@contextmanager
def health_listener(health: Health, address: str) -> Iterator[str]:
    """Within the block health is told at an address of its own, in the clear, and nothing else is: for probes that know
    no TLS, as those of Kubernetes. Gives the address that was bound.

    Raises:
        LinkError: the address is taken.
    """
    server = grpc.server(ThreadPoolExecutor(1), [HealthHandlers(health)], options=[("grpc.so_reuseport", 0)])
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise LinkError(f"cannot tell of health at {address}: {error}") from error
    server.start()
    try:
        yield f"{address.rpartition(':')[0]}:{port}"
    finally:
        server.stop(0).wait()


def is_serving(address: str, settings: TransportSettings, service: str, timeout: float) -> bool:
    """Asks the process at an address for its health.

    Raises:
        ConfigError: the address is on another machine, and the settings do not allow going there in the clear.
        LinkError: nobody answers in time, or there is no such service.
    """
    settings.require_safe(address)
    with open_channel(address, settings) as channel:
        check = channel.unary_unary(
            METHOD,
            request_serializer=pb.HealthCheckRequest.SerializeToString,
            response_deserializer=pb.HealthCheckResponse.FromString,
        )
        try:
            status = check(pb.HealthCheckRequest(service=service), timeout=timeout).status
        except grpc.RpcError as error:
            raise LinkError(f"{address} says nothing of its health: {error.code().name}: {error.details()}") from error
    return bool(status == _STATUS[True])
