from __future__ import annotations

import itertools
import shutil
import subprocess
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


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """authority.pem, and for "server", "client" and "stranger" (of another authority) a .pem and a .key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("pki")

    def run(command: str) -> None:
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)

    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    for authority in ("authority", "other"):
        run(f"req -x509 {key} -keyout {authority}.key -out {authority}.pem -days 2 -subj /CN={authority}")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for name, authority in (("server", "authority"), ("client", "authority"), ("stranger", "other")):
        run(f"req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}")
        issue = f"x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -CAcreateserial"
        run(f"{issue} -out {name}.pem -days 2 -extfile names")
    return folder
