"""The gradient service beside its peers: the vjp of sin, asked for by one client and by eight, in turns.

    python -m tests.benchmarks.service --peer umbridge=PYTHON --peer tesseract=PYTHON --peer pytensor_federated=PYTHON

PYTHON is the interpreter of an environment of the peer's own; what is not given is not measured. They are made by

    python -m venv umbridge && umbridge/bin/pip install umbridge==1.2.10
    python -m venv tesseract && tesseract/bin/pip install "tesseract-core[runtime]==1.15"
    python -m venv pytensor && pytensor/bin/pip install pytensor-federated==1.0.2

What each does is in `sin/by_NAME.py`; Tesseract takes part twice, with base64 and with shared
memory. The last is licensed under the AGPL: nothing of ours imports it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent / "sin"
ROOT = Path(__file__).parents[2]
SHARED_MEMORY = Path("/dev/shm")
# Size -> requests of a client in a turn; UM-Bridge's are fewer where one takes seconds.
COUNTS = {10: 200, 10_000: 60, 1_000_000: 4}
FEW = {("umbridge", 10_000): 5, ("umbridge", 1_000_000): 1}
PATIENCE = 60.0


@dataclass
class Contestant:
    """A way to ask for the vjp.

    Attributes:
        server, asks: name of the file of its server, and how its clients are told to ask.
        folder: where both run; Tesseract writes files there for every request.
        times: milliseconds of each request, by size and number of clients.
        rates: requests a second in each turn.
    """

    name: str
    server: str
    python: str
    asks: str = "ask"
    port: int = 0
    folder: str = ""
    times: dict[tuple[int, int], list[float]] = field(default_factory=dict)
    rates: dict[tuple[int, int], list[float]] = field(default_factory=dict)

    def command(self, *what: str) -> list[str]:
        if self.server == "distgrad":
            return [self.python, "-m", "tests.benchmarks.sin.by_distgrad", *what]
        return [self.python, str(FOLDER / f"by_{self.server}.py"), *what]

    def environment(self) -> dict[str, str]:
        path = {"PYTHONPATH": str(ROOT)} if self.server == "distgrad" else {"PYTHONPATH": ""}
        return os.environ | path | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


@contextmanager
def server(contestant: Contestant) -> Iterator[subprocess.Popen[bytes]]:
    """Its server, listening."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        contestant.port = probe.getsockname()[1]
    folder = tempfile.TemporaryDirectory(dir=SHARED_MEMORY if SHARED_MEMORY.exists() else None)
    contestant.folder = folder.name
    process = subprocess.Popen(
        contestant.command("serve", str(contestant.port)),
        cwd=contestant.folder,
        env=contestant.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("localhost", contestant.port), 1.0).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{contestant.name} does not serve") from None
                time.sleep(0.1)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        folder.cleanup()


@contextmanager
def clients(contestant: Contestant, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """So many of its clients, waiting."""
    command = contestant.command(contestant.asks, str(contestant.port))
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                subprocess.Popen(
                    command,
                    cwd=contestant.folder,
                    env=contestant.environment(),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(count)
        ]


def turn(contestant: Contestant, asking: Sequence[subprocess.Popen[str]], n: int, requests: int) -> None:
    """All its clients ask at once."""
    began = time.monotonic()
    for client in asking:
        assert client.stdin is not None
        client.stdin.write(f"{n} {requests}\n")
        client.stdin.flush()
    key = n, len(asking)
    for client in asking:
        assert client.stdout is not None
        contestant.times.setdefault(key, []).extend(json.loads(client.stdout.readline()))
    # Each client asks once more than it counts, to warm up.
    rate = len(asking) * (requests + 1) / (time.monotonic() - began)
    contestant.rates.setdefault(key, []).append(rate)


def peak_mib(process: subprocess.Popen[bytes]) -> float:
    """The largest resident memory of a server's processes, added up."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            pid = int(status.parent.name)
            if os.getpgid(pid) == process.pid or _descends(pid, process.pid):
                text = status.read_text()
                total += int(text.partition("VmHWM:")[2].split()[0])
        except (OSError, IndexError):
            continue
    return total / 1024


def _descends(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False


def percentile(times: list[float], part: float) -> float:
    return sorted(times)[min(int(part * len(times)), len(times) - 1)]


def report(contestants: Sequence[Contestant], n: int, count: int, memory: dict[str, float]) -> None:
    key = n, count
    ours = percentile(contestants[0].times[key], 0.5)
    print(f"\nn = {n}, {count} client{'s' if count > 1 else ''}: p50 ms, p99 ms, requests/s, peak MiB, times ours")
    for contestant in contestants:
        times, rates = contestant.times[key], contestant.rates[key]
        p50 = percentile(times, 0.5)
        print(
            f"  {contestant.name:22} {p50:9.3f} {percentile(times, 0.99):9.3f} {max(rates):9.1f} "
            f"{memory[contestant.name]:8.0f} {p50 / ours:7.2f}×",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--clients", type=int, action="append", default=None)
    options = parser.parse_args()
    # Servers and clients end with this process, also when it is told to.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    contestants = [
        Contestant("distgrad", "distgrad", sys.executable),
        Contestant("distgrad over gRPC", "distgrad", sys.executable, "ask-grpc"),
    ]
    for peer in options.peer:
        name, _, python = peer.partition("=")
        contestants.append(Contestant(name, name, python))
        if name == "tesseract":
            contestants.append(Contestant("tesseract by memory", "tesseract_shared", python))
    with ExitStack() as stack:
        servers = {contestant.name: stack.enter_context(server(contestant)) for contestant in contestants}
        for count in options.clients or [1, 8]:
            for n, requests in COUNTS.items():
                with ExitStack() as asking:
                    ready = {c.name: asking.enter_context(clients(c, count)) for c in contestants}
                    for _ in range(options.turns):
                        for contestant in contestants:
                            few = FEW.get((contestant.name, n), requests)
                            turn(contestant, ready[contestant.name], n, few)
                    for one in ready.values():
                        for client in one:
                            assert client.stdin is not None
                            client.stdin.close()
                memory = {name: peak_mib(process) for name, process in servers.items()}
                report(contestants, n, count, memory)
    print(f"\nload of the machine: {', '.join(f'{load:.1f}' for load in os.getloadavg())}")


if __name__ == "__main__":
    main()
