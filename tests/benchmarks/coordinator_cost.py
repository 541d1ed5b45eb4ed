"""What a step costs the coordinator with 10, 100 and 1,000 workers:

    python -m tests.benchmarks.coordinator_cost [WORKERS ...]

The workers are simulated: they live in other processes, hundreds in each, join as workers do, and answer what they are
asked without computing anything. So what is measured is the coordinator alone: the prepare and commit of an update on
every owner, the record between them, which is synced to disk, and the threads and memory that so many links take.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import distgrad as dg
from distgrad.coordinator.client import Client
from distgrad.coordinator.server import Coordinator
from distgrad.graph.process import Process
from distgrad.transport.interfaces import Identity
from distgrad.transport.settings import TransportSettings
from distgrad.wire import pb
from distgrad.worker.member import Membership

MODULE = "tests.benchmarks.coordinator_cost"
COUNTS = (10, 100, 1000)
PROCESSES = 4
STEPS = 20
SETTINGS = TransportSettings(cluster="benchmark", token="benchmark", heartbeat=30.0, silence=120.0, max_links=20_000)

ANSWERS: dict[type, Any] = {
    pb.LoadShard: pb.ShardLoaded(),
    pb.Adopt: pb.Empty(),
    pb.Prepare: pb.Prepared(norms=[pb.Norm(parameter=f"layer/{k}", norm=1.0, finite=True) for k in range(4)]),
    pb.Commit: pb.Empty(),
    pb.UnloadShards: pb.Empty(),
    pb.Statistics: pb.Counts(),
}


def simulated(name: str, coordinator: str) -> Process:
    """A worker that has joined and says yes to everything."""
    process = Process(Identity.new(name, "worker"), SETTINGS)
    for request, answer in ANSWERS.items():
        process.requests[request] = lambda link, body, arrays, reply, answer=answer: reply(answer)
    Membership(process).join(coordinator, ["layer.py"], timeout=60.0)
    return process


def serve(coordinator: str, names: list[str]) -> None:
    """The life of a process with many workers."""
    threading.stack_size(256 * 1024)
    workers = [simulated(name, coordinator) for name in names]
    print("joined", flush=True)
    sys.stdin.read()
    for worker in workers:
        worker.close()


def measure(count: int) -> None:
    """Prints what a step costs with that many workers."""
    names = [f"w{number}" for number in range(count)]
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        coordinator = Coordinator(SETTINGS, f"unix:{folder}/coordinator", Path(folder, "journal"))
        stack.callback(coordinator.close)
        address = coordinator.start()
        began, began_cpu = time.perf_counter(), time.process_time()
        children = []
        for number in range(min(PROCESSES, count)):
            command = [sys.executable, "-m", MODULE, "--serve", address, *names[number::PROCESSES]]
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.callback(child.communicate)
            children.append(child)
        for child in children:
            assert child.stdout is not None
            child.stdout.readline()
        joined, joining = time.perf_counter() - began, time.process_time() - began_cpu
        client = stack.enter_context(Client(address, SETTINGS, timeout=60.0))
        shards = [client.place(f"s{number}", "layer.py:Layer", name) for number, name in enumerate(names)]
        optimizer = client.optimizer(dg.optim.SGD(0.1), shards)
        cpu, wall = [], []
        for _ in range(STEPS):
            with client.context() as context:
                start, spent = time.perf_counter(), time.process_time()
                optimizer.step(context)
                wall.append(time.perf_counter() - start)
                cpu.append(time.process_time() - spent)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        processor = statistics.median(cpu)
        print(
            f"{count:6} workers: a step {1e3 * processor:8.2f} ms of processor time, {1e6 * processor / count:.0f} µs "
            f"a worker, and {1e3 * statistics.median(wall):8.2f} ms in all; {threading.active_count()} threads, "
            f"{memory:.0f} MiB; joined in {joined:.1f} s, {joining:.1f} s of processor time",
            flush=True,
        )


def main(arguments: list[str]) -> None:
    match arguments:
        case ["--serve", coordinator, *names]:
            serve(coordinator, names)
        case ["--measure", count]:
            measure(int(count))
        case counts:
            print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
            for count in counts or COUNTS:
                subprocess.run([sys.executable, "-m", MODULE, "--measure", str(count)], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
