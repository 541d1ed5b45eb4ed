"""A pipeline of four transformer blocks on two processes, beside torch in the same run:

    python -m tests.benchmarks.pipeline [ROUNDS]

Each schedule of distgrad, each of torch.distributed.pipelining (over gloo), the same over torch.distributed.rpc, and
one process of each library take steps in turns, one BLAS thread a process. A step is forward and backward of 32
microbatches and an SGD update. The ideal is half of what one process takes while another one does the same beside it:
both cores busy and nobody waiting. What counts is the share of its own library's ideal that each comes to.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

import distgrad as dg
from distgrad.coordinator.batches import Microbatch
from distgrad.coordinator.job import Job
from distgrad.coordinator.schedule import SCHEDULES
from distgrad.coordinator.step import Steps
from distgrad.coordinator.trainer import place_shards

from .programs.pipeline import TOKENS, WIDTH, Block
from .ratio import VARIABLES

MODULE = "tests.benchmarks.pipeline"
PROGRAMS = Path(__file__).parent / "programs"
MICROBATCHES, SIZE, STAGES = 32, 2, 4
RATE = 1e-3
IDEAL = "alone, twice"
IN_A_ROW, IN_ROUNDS = ("w0", "w0", "w1", "w1"), ("w0", "w1", "w0", "w1")

# Takes a step; returns the seconds that it took.
Step = Callable[[], float]


def batch() -> list[Microbatch]:
    generator = np.random.default_rng(0)
    parts = generator.standard_normal((2, MICROBATCHES, SIZE, TOKENS, WIDTH)).astype(np.float32)
    return [Microbatch(x, y, 1 / MICROBATCHES) for x, y in zip(*parts, strict=True)]


# ---- distgrad --------------------------------------------------------------------------------------------------------


def alone() -> Step:
    """The same step in this process."""
    blocks = [Block() for _ in range(STAGES)]
    optimizers = [dg.optim.SGD(RATE).bind(block) for block in blocks]
    pieces = batch()

    def step() -> float:
        start = time.perf_counter()
        for piece in pieces:
            value = piece.inputs
            for block in blocks[:-1]:
                value = block.forward(value)
            blocks[-1].loss(value, piece.targets).backward(np.asarray(piece.share))
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return time.perf_counter() - start

    return step


def job(schedule: str) -> Job:
    """A job of four blocks, in a row or, interleaved, in rounds"""
    places = IN_ROUNDS if schedule == "interleaved" else IN_A_ROW
    names = [f"of-{schedule}-{k}" for k in range(STAGES)]
    methods = ["forward"] * (STAGES - 1) + ["loss"]
    return Job.of(
        name=f"of-{schedule}",
        steps=1,
        microbatches=MICROBATCHES,
        shard=[
            {"name": name, "program": "pipeline.py:Block", "worker": worker}
            for name, worker in zip(names, places, strict=True)
        ],
        pipeline={
            "forward": [f"{name}.{method}" for name, method in zip(names, methods, strict=True)],
            "schedule": schedule,
        },
        optimizer={"kind": "SGD", "settings": {"lr": RATE}},
    )


class Ours:
    """A cluster that takes steps by one schedule."""

    def __init__(self, stack: ExitStack, cluster: dg.LocalCluster, made: Job) -> None:
        self.cluster = cluster
        self.workers = made.cluster.workers
        shards = place_shards(cluster, made)
        optimizer = cluster.optimizer(made.optimizer.rule(), list(shards.values()), made.name)
        self.steps = stack.enter_context(Steps(cluster, made, shards, optimizer))
        self.pieces = batch()
        self.taken = 0
        self.busy = dict.fromkeys(self.workers, 0.0)
        self.seconds = 0.0

    def __call__(self) -> float:
        before = {worker: self.computed(worker) for worker in self.workers}
        start = time.perf_counter()
        self.steps.take(self.taken, self.pieces)
        seconds = time.perf_counter() - start
        self.taken += 1
        self.seconds += seconds
        for worker in self.workers:
            self.busy[worker] += self.computed(worker) - before[worker]
        return seconds

    def computed(self, worker: str) -> float:
        return sum(work.seconds for work in self.cluster.work(worker).values())

    @property
    def idle(self) -> str:
        """The share of the time in which a worker had nothing to compute."""
        return " ".join(f"{1 - busy / self.seconds:.0%}" for busy in self.busy.values())


# ---- processes that take steps on demand -----------------------------------------------------------------------------


class Children:
    """Processes that take the same step, together or beside one another; those of `helping` are told nothing."""

    def __init__(self, stack: ExitStack, *commands: str, helping: tuple[str, ...] = ()) -> None:
        self.asked = [start(command) for command in commands]
        self.helping = [start(command) for command in helping]
        stack.callback(self.close)

    def __call__(self) -> float:
        for child in self.asked:
            assert child.stdin is not None
            child.stdin.write("step\n")
            child.stdin.flush()
        return statistics.mean(float(child.stdout.readline()) for child in self.asked if child.stdout is not None)

    def close(self) -> None:
        """They end when there is nothing more to read."""
        for child in [*self.asked, *self.helping]:
            assert child.stdin is not None
            child.stdin.close()
        for child in [*self.asked, *self.helping]:
            child.wait()


def start(command: str) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-W", "ignore", "-m", MODULE, *command.split()]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def serve(step: Step) -> None:
    """Takes a step for every line that is read."""
    for _ in sys.stdin:
        print(step(), flush=True)


def child(arguments: list[str]) -> None:
    """The life of such a process."""
    if arguments == ["distgrad"]:
        dg.keep_freed_memory()
        serve(alone())
        return
    import torch
    import torch.distributed as dist
    from torch.distributed import rpc

    from . import torch_pipeline as peer

    torch.set_num_threads(1)
    match arguments:
        case ["torch"]:
            serve(peer.alone(MICROBATCHES, SIZE))
        case ["rpc", rank, port]:
            peer.join_rpc(int(rank), port)
            if rank == "0":
                serve(peer.over_rpc(MICROBATCHES, SIZE))
            rpc.shutdown()
        case ["pipelining", schedule, rank, port]:
            serve(peer.pipelined(int(rank), port, schedule, MICROBATCHES, SIZE))
            dist.destroy_process_group()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


# ---- the program -----------------------------------------------------------------------------------------------------


def measure(rounds: int, only: list[str]) -> None:
    """Has everything take steps in turns, and prints what it came to. `only`: names to measure; empty: all."""
    dg.keep_freed_memory()
    with ExitStack() as stack:
        cluster = stack.enter_context(dg.LocalCluster(workers=2, programs=PROGRAMS))
        takers: dict[str, dict[str, Step]] = {"distgrad": {}, "torch": {}}
        for name in SCHEDULES:
            takers["distgrad"][name] = Ours(stack, cluster, job(name))
        for name in SCHEDULES:
            port = free_port()
            takers["torch"][name] = Children(stack, *(f"pipelining {name} {rank} {port}" for rank in range(2)))
        port = free_port()
        takers["torch"]["rpc"] = Children(stack, f"rpc 0 {port}", helping=tuple(f"rpc {k} {port}" for k in (1, 2)))
        for library, found in takers.items():
            found[IDEAL] = Children(stack, library, library)
        times = taken_in_turns(takers, rounds, only)
        for library, found in times.items():
            ideal = statistics.median(found[IDEAL]) / 2
            for name, seconds in found.items():
                taker = takers[library][name]
                idle = f"   workers idle {taker.idle}" if isinstance(taker, Ours) else ""
                shown = f"{1e3 * statistics.median(seconds):7.0f} ms a step"
                print(f"  {library:9} {name:12} {shown}   {ideal / statistics.median(seconds):.2f} of the ideal{idle}")


def taken_in_turns(
    takers: dict[str, dict[str, Step]], rounds: int, only: list[str]
) -> dict[str, dict[str, list[float]]]:
    """The seconds of each step, by library and name. The first round is not counted."""
    chosen = {
        lib: {name: t for name, t in found.items() if not only or name in (*only, IDEAL)}
        for lib, found in takers.items()
    }
    times: dict[str, dict[str, list[float]]] = {lib: {name: [] for name in found} for lib, found in chosen.items()}
    for number in range(rounds + 1):
        for library, found in chosen.items():
            for name, take in found.items():
                seconds = take()
                if number:
                    times[library][name].append(seconds)
        print(f"round {number}: load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    return times


def main(arguments: list[str]) -> None:
    match arguments:
        case ["--measure", rounds, *only]:
            measure(int(rounds), only)
        case [word, *_] if word in ("distgrad", "torch", "rpc", "pipelining"):
            child(arguments)
        case _:
            rounds, *only = arguments or ["5"]
            command = [sys.executable, "-m", MODULE, "--measure", rounds, *only]
            subprocess.run(command, env=os.environ | dict.fromkeys(VARIABLES, "1"), check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
