from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distgrad.transport import Endpoint, Identity, MemoryNetwork, TransportSettings
from distgrad.transport.socket_lane import SocketLanes

from .recorder import Recorder

# Lanes a link may use beside gRPC, for kinds of lanes that are found by themselves.
FAST_LANES = {"beside-grpc": ("unix", "tcp"), "moved-unix": ("unix",), "moved-tcp": ("tcp",)}
KINDS = ("memory", "grpc-tcp", "grpc-unix", "socket-tcp", "socket-unix", *FAST_LANES)


class World:
    """Endpoints of one test, all in this process, over one kind of lane. What is made here is closed after the test."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.network = MemoryNetwork(seed=1, duplicates=0.1) if kind == "memory" else None
        self._folder = folder
        self._endpoints: list[Endpoint] = []
        self._names = itertools.count()

    def endpoint(self, name: str, listen: bool = True, receiver: Any = None, **changes: Any) -> Endpoint:
        identity = Identity.new(name, changes.pop("role", "worker"))
        settings = TransportSettings.for_tests(**{"fast_lanes": FAST_LANES.get(self.kind, ())} | changes)
        lanes = self.network.lanes() if self.network else SocketLanes(settings) if "socket" in self.kind else None
        endpoint = Endpoint(identity, settings, receiver or Recorder(), lanes)
        self._endpoints.append(endpoint)
        if listen:
            endpoint.listen(self.free_address())
        return endpoint

    def pair(self, **changes: Any) -> tuple[Endpoint, Endpoint]:
        """Two endpoints, a and b; a has opened the link."""
        a, b = self.endpoint("a", **changes), self.endpoint("b", **changes)
        a.connect("b", b.identity.address)
        b.receiver.wait_for(lambda: b.link("a"))
        return a, b

    def free_address(self) -> str:
        path = self._folder / str(next(self._names))
        return {
            "memory": f"memory:{path.name}",
            "grpc-tcp": "127.0.0.1:0",
            "grpc-unix": f"unix:{path}",
            "socket-tcp": "socket:127.0.0.1:0",
            "socket-unix": f"socket:{path}",
            "beside-grpc": f"unix:{path}",
            "moved-unix": "127.0.0.1:0",
            "moved-tcp": "127.0.0.1:0",
        }[self.kind]

    def break_lanes(self, endpoint: Endpoint) -> None:
        """Breaks every connection of an endpoint, with what is under way."""
        for plug in list(endpoint._plugs):
            plug.close()

    def close(self) -> None:
        for endpoint in self._endpoints:
            endpoint.close()
        if self.network:
            self.network.close()


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with tempfile.TemporaryDirectory() as folder:
        world = World(request.param, Path(folder))
        yield world
        world.close()
