"""All kinds of lanes, told apart by their addresses."""

from __future__ import annotations

import threading
from collections.abc import Callable

from .addresses import nobody_listens
from .health import Health
from .interfaces import Lanes, Port
from .settings import TransportSettings
from .socket_lane import SocketLanes


class LanesByAddress:
    """Implements `Lanes` for "socket:..." and, by gRPC, for all other addresses. gRPC is imported when first needed.

    Arguments:
        health: what probes are told where gRPC listens.
    """

    def __init__(self, settings: TransportSettings, health: Health) -> None:
        self._settings = settings
        self._health = health
        self._sockets = SocketLanes(settings)
        self._grpc: Lanes | None = None
        self._lock = threading.Lock()

    def _lanes(self, address: str) -> Lanes:
        if address.startswith("socket:"):
            return self._sockets
        with self._lock:
            if self._grpc is None:
                from .grpc_lane import GrpcLanes

                self._grpc = GrpcLanes(self._settings, self._health)
            return self._grpc

    def listen(self, address: str, accept: Callable[[], Port]) -> str:
        return self._lanes(address).listen(address, accept)

    def open(self, address: str, port: Port) -> None:
        self._lanes(address).open(address, port)

    def vacant(self, address: str) -> bool:
        return nobody_listens(address)

    def close(self) -> None:
        self._sockets.close()
        if self._grpc is not None:
            self._grpc.close()
