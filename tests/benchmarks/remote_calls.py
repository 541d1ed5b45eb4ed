"""What a remote call and its backward cost, beside torch.distributed.rpc in the same run:

    python -m tests.benchmarks.remote_calls [unix|tcp|grpc ...]

A driver and two workers on this machine, one BLAS thread each; for torch, rank 0 and rank 1. Both are measured in
turns. `unix` is what a local cluster uses, and torch may use shared memory as well; over `tcp` and `grpc` torch is held
to its TCP transport.

A chain comes in two forms. In `chain` each call is given the reference of the one before, and values travel from worker
to worker; torch, which has no such thing for a chain of rpc_sync, brings each value back to the caller, and so does
`chain, values brought back`.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed.autograd as torch_autograd
from torch.distributed import rpc

import distgrad as dg
from distgrad.coordinator.client import Client
from distgrad.coordinator.server import Coordinator
from distgrad.transport.settings import TransportSettings
from distgrad.worker.worker import Worker

from .ratio import VARIABLES

LANES = {"unix": ("unix",), "tcp": ("tcp",), "grpc": ()}
PROGRAMS = Path(__file__).parent / "programs"
MODULE = "tests.benchmarks.remote_calls"

CHAINS = (1, 4, 16, 64)
FAN_OUT = 64
SIZES = (1, 16, 64, 256)  # MiB


# ---- measuring -------------------------------------------------------------------------------------------------------


def compare(
    label: str, ours: Callable[[], float], theirs: Callable[[], float], rounds: int, mebibytes: int = 0
) -> None:
    """Prints the medians of `rounds` runs of each, in turns. Both return seconds; above 1, the ratio says we are
    faster."""
    times: dict[Callable[[], float], list[float]] = {ours: [], theirs: []}
    for run in (ours, theirs, ours, theirs):
        run()
    for _ in range(rounds):
        for run, found in times.items():
            found.append(run())
    mine, peer = (statistics.median(found) for found in times.values())
    shown = (
        [f"{1e3 * seconds:8.3f} ms" for seconds in (mine, peer)]
        if not mebibytes
        else [f"{mebibytes * 2**20 / seconds / 1e9:7.2f} GB/s" for seconds in (mine, peer)]
    )
    print(f"  {label:34} distgrad {shown[0]}   torch {shown[1]}   ratio {peer / mine:5.2f}", flush=True)


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


# ---- distgrad --------------------------------------------------------------------------------------------------------


class Ours:
    """A cluster of two workers, a shard on each."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.near = client.place("near", "remote_calls.py:Scale", worker="w0")
        self.far = client.place("far", "remote_calls.py:Scale", worker="w1")
        self.x = np.ones(4, np.float32)

    def round_trip(self) -> float:
        return seconds(lambda: self.near.echo(self.x).get())

    def one_way(self, array: np.ndarray) -> float:
        return seconds(lambda: self.near.sink(array).wait())

    def chain(self, length: int, bring_back: bool) -> float:
        with self.client.context() as context:
            value: Any = dg.tensor(self.x, requires_grad=True) * self.x
            for number in range(length):
                value = (self.near, self.far)[0 if bring_back else number % 2].multiply(value, self.x)
                if bring_back:
                    value = value.get()
            if not bring_back:
                value.wait()
            return self._backward(context, value)

    def fan_out(self) -> float:
        with self.client.context() as context:
            w = dg.tensor(self.x, requires_grad=True)
            calls = [self.near.multiply(w, self.x) for _ in range(FAN_OUT)]
            total = calls[0].get()
            for call in calls[1:]:
                total = total + call.get()
            return self._backward(context, total)

    def _backward(self, context: Any, root: Any) -> float:
        def run() -> None:
            context.backward(root, gradient=self.x)
            context.settle()

        return seconds(run)


@contextmanager
def cluster(lane: str) -> Iterator[Client]:
    """Two workers and a coordinator that use one kind of lane. The workers end when the coordinator does."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        workers: list[subprocess.Popen[bytes]] = []
        stack.callback(lambda: [worker.wait() for worker in workers])
        coordinator = Coordinator(settings_for(lane), address_in(folder, "coordinator", lane))
        stack.callback(coordinator.close)
        address = coordinator.start()
        for name in ("w0", "w1"):
            command = [sys.executable, "-m", MODULE, "--worker", lane, name, address, address_in(folder, name, lane)]
            workers.append(subprocess.Popen(command))
        client = stack.enter_context(Client(address, settings_for(lane)))
        client.wait_for_workers(["w0", "w1"], timeout=30)
        yield client


def settings_for(lane: str) -> TransportSettings:
    return TransportSettings(cluster="benchmark", token="benchmark", fast_lanes=LANES[lane])


def address_in(folder: str, name: str, lane: str) -> str:
    return f"unix:{folder}/{name}" if lane == "unix" else "127.0.0.1:0"


def work(lane: str, name: str, coordinator: str, listen: str) -> None:
    """The life of a worker process."""
    dg.keep_freed_memory()
    worker = Worker(name, coordinator, PROGRAMS, settings_for(lane), listen)
    worker.start()
    worker.wait()
    worker.close()


# ---- torch -----------------------------------------------------------------------------------------------------------


def torch_echo(x: Any) -> Any:
    return x


def torch_multiply(x: Any, y: Any) -> Any:
    return x * y


def torch_sink(x: Any) -> None:
    return None


class Theirs:
    """Rank 0 of two."""

    def __init__(self) -> None:
        self.x = torch.ones(4)

    def round_trip(self) -> float:
        return seconds(lambda: rpc.rpc_sync("rank1", torch_echo, (self.x,)))

    def one_way(self, tensor: torch.Tensor) -> float:
        return seconds(lambda: rpc.rpc_sync("rank1", torch_sink, (tensor,)))

    def chain(self, length: int) -> float:
        with torch_autograd.context() as context:
            value = torch.ones(4, requires_grad=True) * self.x
            for _ in range(length):
                value = rpc.rpc_sync("rank1", torch_multiply, (value, self.x))
            return self._backward(context, value)

    def fan_out(self) -> float:
        with torch_autograd.context() as context:
            w = torch.ones(4, requires_grad=True)
            calls = [rpc.rpc_async("rank1", torch_multiply, (w, self.x)) for _ in range(FAN_OUT)]
            total = calls[0].wait()
            for call in calls[1:]:
                total = total + call.wait()
            return self._backward(context, total)

    def _backward(self, context: int, root: torch.Tensor) -> float:
        scalar = root.sum()
        return seconds(lambda: torch_autograd.backward(context, [scalar]))


@contextmanager
def torch_pair(lane: str) -> Iterator[None]:
    """This process as rank 0, and another as rank 1."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    peer = subprocess.Popen([sys.executable, "-W", "ignore", "-m", MODULE, "--torch", lane, port])
    join_torch(0, lane, port)
    yield
    rpc.shutdown()
    peer.wait()


def join_torch(rank: int, lane: str, port: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    torch.set_num_threads(1)
    held_to_tcp: dict[str, Any] = {} if lane == "unix" else {"_transports": ["uv"], "_channels": ["basic"]}
    options = rpc.TensorPipeRpcBackendOptions(**held_to_tcp)
    rpc.init_rpc(f"rank{rank}", rank=rank, world_size=2, rpc_backend_options=options)


# ---- the program -----------------------------------------------------------------------------------------------------


def measure(lane: str) -> None:
    dg.keep_freed_memory()
    print(f"{lane}:  (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)", flush=True)
    with torch_pair(lane), cluster(lane) as client:
        ours, theirs = Ours(client), Theirs()
        compare("round trip of a small tensor", ours.round_trip, theirs.round_trip, rounds=600)
        for length in CHAINS:
            rounds, peer = 200 // length + 12, partial(theirs.chain, length)
            compare(f"backward, chain of {length}", partial(ours.chain, length, False), peer, rounds)
            compare("  the same, values brought back", partial(ours.chain, length, True), peer, rounds)
        compare(f"backward, fan-out of {FAN_OUT}", ours.fan_out, theirs.fan_out, rounds=15)
        for size in SIZES:
            array = np.ones(size * 2**18, np.float32)
            tensor = torch.from_numpy(array.copy())
            compare(f"{size} MiB one way", partial(ours.one_way, array), partial(theirs.one_way, tensor), 12, size)


def main(arguments: list[str]) -> None:
    match arguments:
        case ["--worker", lane, name, coordinator, listen]:
            work(lane, name, coordinator, listen)
        case ["--torch", lane, port]:
            join_torch(1, lane, port)
            rpc.shutdown()
        case ["--measure", lane]:
            measure(lane)
        case lanes:
            # A process each: torch can be initialised once, and BLAS reads its number of threads at import.
            for lane in lanes or LANES:
                command = [sys.executable, "-W", "ignore", "-m", MODULE, "--measure", lane]
                subprocess.run(command, env=os.environ | dict.fromkeys(VARIABLES, "1"), check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
