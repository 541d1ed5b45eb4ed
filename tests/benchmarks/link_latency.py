"""What a link costs: `python -m tests.benchmarks.link_latency [grpc-tcp|grpc-unix|socket-tcp|socket-unix]`.

Two processes on this machine. Round trips: a request with one small array, answered in the reader thread. One way: an
array in a reply, from the request until it is whole.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from distgrad.autograd.allocator import keep_freed_memory
from distgrad.transport import Endpoint, Identity, TransportSettings
from distgrad.transport.socket_lane import SocketLanes
from distgrad.wire import pb

ROUNDS = 2000
SIZES = {f"{size} MiB": size * 2**20 for size in (1, 16, 64, 256)}


class Echo:
    """Answers a fetch with the array of its length, or with what it got."""

    def __init__(self) -> None:
        self.arrays = {label: np.ones(size, np.uint8) for label, size in SIZES.items()}

    def answer(self, link: Any, body: Any, arrays: list[Any], reply: Any) -> None:
        reply(pb.Fetched(), [self.arrays[body.ref.owner]] if body.ref.owner else arrays)

    def receive(self, link: Any, body: Any, arrays: list[Any]) -> None: ...
    def linked(self, link: Any) -> None: ...
    def lost(self, peer: Identity, reason: str) -> None: ...
    def progress(self) -> tuple[int, int]:
        return 0, 0


def endpoint_for(name: str, address: str, receiver: Any) -> Endpoint:
    settings = TransportSettings()
    lanes = SocketLanes(settings) if address.startswith("socket:") else None
    return Endpoint(Identity.new(name, "worker"), settings, receiver, lanes)


def serve(address: str) -> None:
    with endpoint_for("server", address, Echo()) as endpoint:
        print(endpoint.listen(address), flush=True)
        sys.stdin.read()


def measure(address: str) -> dict[str, float]:
    """Median round trip in ms, and the median rate in GB/s of each size."""
    with endpoint_for("client", address, Echo()) as endpoint:
        link = endpoint.connect("server", address)
        small = [np.zeros(16, np.float32)]
        times = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            link.request(pb.Fetch(), small).result()
            times.append(time.perf_counter() - start)
        figures = {"round trip, ms": 1e3 * statistics.median(times)}
        for label, size in SIZES.items():
            rates = []
            for _ in range(8):
                start = time.perf_counter()
                link.request(pb.Fetch(ref=pb.RefId(owner=label))).result()
                rates.append(size / (time.perf_counter() - start) / 1e9)
            figures[f"{label}, GB/s"] = statistics.median(rates)
        return figures


def main() -> None:
    keep_freed_memory()
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2])
        return
    with tempfile.TemporaryDirectory() as folder:
        addresses = {
            "grpc-tcp": "127.0.0.1:0",
            "grpc-unix": f"unix:{folder}/grpc",
            "socket-tcp": "socket:127.0.0.1:0",
            "socket-unix": f"socket:{folder}/socket",
        }
        for lane in sys.argv[1:] or addresses:
            command = [sys.executable, "-m", "tests.benchmarks.link_latency", "--serve", addresses[lane]]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
                assert server.stdin
                assert server.stdout
                for label, value in measure(server.stdout.readline().strip()).items():
                    print(f"{lane:10} {label:20} {value:.3f}")
                server.stdin.close()


if __name__ == "__main__":
    main()
