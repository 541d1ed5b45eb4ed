"""The server: listens with gRPC, and puts together what answers there."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import ssl
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any, Self

import grpc

from distgrad.errors import ConfigError, LinkError
from distgrad.transport.addresses import MAX_PORT, free_path, unix_address
from distgrad.transport.credentials import server_credentials, ssl_context
from distgrad.transport.health import Health

from . import um_bridge
from .access import Access, Tokens
from .desk import Desk
from .grpc_door import GrpcDoor
from .grpc_health import GrpcHealth
from .grpc_stream import SERVICE
from .http_door import HttpDoor
from .local import LocalListener
from .local_door import LocalDoor
from .metrics import Metrics, NoMetrics
from .settings import ServiceSettings
from .um_bridge import UmBridge

# Seconds that calls under way have to end when the server does, after draining.
GRACE = 1.0
# Of one request in JSON.
MAX_JSON_BYTES = 2**26

logger = logging.getLogger("distgrad.service")


class Server:
    """Serves functions of programs.

        async with Server(["models.py:rosenbrock"], ServiceSettings(workers=2), "localhost:7500") as server:
            ...
            await server.drain()

    Arguments:
        targets: "[NAME=]FILE.py:FUNCTION" or "[NAME=]FILE.py:CLASS".
        listen: HOST:PORT, port 0 for a free one; or unix:/PATH.
        metrics: port for Prometheus on the loopback interface; None for none, 0 for a free one.
        um_bridge: port for UM-Bridge's protocol, on the host of `listen`, or on localhost when that is a Unix socket;
            None for none, 0 for a free one.

    Attributes:
        address: where it listens.
        metrics_port: where Prometheus is answered; None for nowhere.
        um_bridge_port: where UM-Bridge's clients are; None for nowhere.

    Raises:
        ConfigError: the address is open to others and the settings do not guard it.
        LinkError: it cannot listen there.
        ProgramError: what is to be served cannot be loaded.
    """

    def __init__(
        self,
        targets: Sequence[str],
        settings: ServiceSettings,
        listen: str,
        metrics: int | None = None,
        um_bridge: int | None = None,
    ) -> None:
        if not isinstance(targets, list | tuple) or not targets or not all(isinstance(one, str) for one in targets):
            raise ConfigError(f'targets={targets!r}, expected a list of at least one, like ["models.py:rosenbrock"]')
        if not isinstance(settings, ServiceSettings):
            raise ConfigError(f"settings={settings!r}, expected distgrad.service.settings.ServiceSettings")
        ports: dict[str, Any] = {"metrics": metrics, "um_bridge": um_bridge}
        for name, port in ports.items():
            if port is not None and not (isinstance(port, int) and 0 <= port <= MAX_PORT):
                raise ConfigError(f"{name}={port!r} is no port: expected 0, for a free one, to {MAX_PORT}")
        settings.require_safe(listen)
        self.address = ""
        self.metrics_port: int | None = None
        self.um_bridge_port: int | None = None
        self._targets = targets
        self._settings = settings
        self._listen = listen
        self._path = unix_address(listen)
        self._metrics = metrics
        self._um_bridge = um_bridge
        self._health = Health(SERVICE)
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Returns when it serves."""
        try:
            await self._start()
        except BaseException:
            await self.close()
            raise

    async def _start(self) -> None:
        _raise_descriptor_limit()
        settings = self._settings
        access = Access(Tokens(settings.tokens) if settings.tokens is not None else None)
        listener = LocalListener(asyncio.get_running_loop())
        self._stack.callback(listener.close)
        metrics: Metrics | NoMetrics = NoMetrics()
        if self._metrics is not None:
            metrics = Metrics(self._metrics, lambda: self.desk.counts())
            self.metrics_port = metrics.port
            self._stack.push_async_callback(asyncio.to_thread, metrics.close)
        self.desk = Desk(settings, self._targets, listener, metrics, self._health.serves)
        self._stack.push_async_callback(self.desk.close)
        local = LocalDoor(self.desk, listener)
        self._stack.callback(local.close)
        door = GrpcDoor(self.desk, access, local)
        self._stack.callback(door.close)
        server = grpc.aio.server(options=self._options())
        server.add_generic_rpc_handlers((door, GrpcHealth(self._health)))
        _reflect(server)
        # Health is answered, with "not yet", while the pool's processes start.
        self.address = self._bind(server)
        await server.start()
        self._stack.push_async_callback(server.stop, GRACE)
        self._stack.callback(self._health.close)
        await self.desk.start()
        if self._um_bridge is not None:
            await self._serve_um_bridge(access, self._um_bridge)

    async def _serve_um_bridge(self, access: Access, port: int) -> None:
        bridge = UmBridge(self.desk, access)
        self._stack.callback(bridge.close)
        door = HttpDoor(bridge, MAX_JSON_BYTES, um_bridge.error)
        self._stack.push_async_callback(door.close)
        tls = self._settings.tls
        context = ssl_context(ssl.PROTOCOL_TLS_SERVER, tls) if tls is not None else None
        await door.listen(self._host.strip("[]"), port, context)
        self.um_bridge_port = door.port

    def _options(self) -> list[tuple[str, Any]]:
        limit = self._settings.max_message_bytes
        return [
            ("grpc.max_receive_message_length", limit),
            ("grpc.max_send_message_length", limit),
            ("grpc.max_metadata_size", 16 * 1024),
            ("grpc.max_concurrent_streams", self._settings.max_queued_per_client),
            # Who does not finish TLS's or HTTP/2's handshake by then is cut off.
            ("grpc.server_handshake_timeout_ms", 10_000),
            # Peers that are gone without a word are noticed, and clients may ask as often.
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ("grpc.so_reuseport", 0),
        ]

    def _bind(self, server: Any) -> str:
        # gRPC would take a living listener's path away without a word.
        free_path(self._listen)
        try:
            port = self._add_port(server)
        except RuntimeError:
            port = 0
        if not port:
            raise LinkError(f"cannot listen at {self._listen}: the address is taken or not of this machine")
        if self._path is not None:
            self._stack.callback(_remove, self._path)
            return self._listen
        return f"{self._host}:{port}"

    def _add_port(self, server: Any) -> int:
        tls = self._settings.tls
        if tls is None or self._path is not None:
            return int(server.add_insecure_port(self._listen))
        return int(server.add_secure_port(self._listen, server_credentials(tls)))

    @property
    def functions(self) -> list[str]:
        """Names of what is served."""
        return sorted(self.desk.functions)

    @property
    def um_bridge_url(self) -> str:
        """What UM-Bridge's clients are given."""
        scheme = "https" if self._settings.tls is not None else "http"
        return f"{scheme}://{self._host}:{self.um_bridge_port}"

    @property
    def _host(self) -> str:
        return self._listen.rpartition(":")[0] if self._path is None else "localhost"

    async def drain(self) -> bool:
        """Takes no more requests, and waits for those under way; False when some were not ready in time."""
        return await self.desk.drain()

    async def close(self) -> None:
        """Ends everything. Requests under way end as UNAVAILABLE."""
        await self._stack.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _reflect(server: Any) -> None:
    """Lets clients ask what is served by gRPC's reflection, where the package for it is installed."""
    try:
        from grpc_reflection.v1alpha import reflection
    except ImportError:
        logger.info("no reflection: pip install 'distgrad[service]'")
        return
    reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), server)


def _remove(path: str | bytes) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _raise_descriptor_limit() -> None:
    """Idle connections cost a descriptor each; the usual soft limit of 1024 is soon reached."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
