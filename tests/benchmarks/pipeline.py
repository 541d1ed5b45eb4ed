"""A pipeline of four transformer blocks on two processes, beside torch in the same run:

    python -m tests.benchmarks.pipeline [ROUNDS [SCHEDULE ...]]

Each schedule of distgrad, each of torch.distributed.pipelining (over gloo), the same over torch.distributed.rpc, and
one process of each library take steps in turns, one BLAS thread a process. A step is forward and backward of 32
microbatches and an SGD update. The ideal is half of what one process takes while another one does the same beside it:
both cores busy and nobody waiting. What counts is the share of its own library's ideal that each comes to, in those
rounds in which others left the machine alone most. What is missing is lost to the schedule (the share that its
simulation comes to when messages, updates and the driver take no time tells how much) or to us: then processor time
tells what to.
"""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import distgrad as dg
from distgrad.coordinator.training.batches import Microbatch
from distgrad.coordinator.training.job import Job
from distgrad.coordinator.training.predict import costs_of, work_between
from distgrad.coordinator.training.schedule import SCHEDULES
from distgrad.coordinator.training.simulate import simulate
from distgrad.coordinator.training.step import Steps
from distgrad.coordinator.training.trainer import place_shards
from distgrad.graph.timesheet import Work

from .machine import spent, spent_by_all
from .programs.pipeline import TOKENS, WIDTH, Block
from .ratio import VARIABLES

MODULE = "tests.benchmarks.pipeline"
PROGRAMS = Path(__file__).parent / "programs"
# So many examples that a call takes about 10 ms.
MICROBATCHES, SIZE, STAGES = 32, 4, 4
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


def job(name: str, places: Sequence[str], schedule: str) -> Job:
    """A block after the other, each on its place."""
    names = [f"{name}-{k}" for k in range(len(places))]
    methods = ["forward"] * (len(places) - 1) + ["loss"]
    return Job.of(
        name=name,
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
    """A cluster that takes the steps of a job.

    Attributes:
        processes: their ids.
    """

    def __init__(self, stack: ExitStack, cluster: dg.LocalCluster, made: Job) -> None:
        shards = place_shards(cluster, made)
        optimizer = cluster.optimizer(made.optimizer.rule(), list(shards.values()), made.name)
        self.processes = [os.getpid(), *(worker.pid for worker in cluster.workers)]
        self._cluster = cluster
        self._job = made
        self._steps = stack.enter_context(Steps(cluster, made, shards, optimizer))
        self._pieces = batch()
        self._taken = 0
        self._seconds = 0.0
        # Of each step, by worker.
        self._work: list[dict[str, dict[str, Work]]] = []

    def __call__(self) -> float:
        before = self._look()
        start = time.perf_counter()
        self._steps.take(self._taken, self._pieces)
        seconds = time.perf_counter() - start
        self._taken += 1
        self._seconds += seconds
        after = self._look()
        self._work.append({worker: work_between(before[worker], after[worker]) for worker in before})
        return seconds

    def _look(self) -> dict[str, dict[str, Work]]:
        return {worker: self._cluster.work(worker) for worker in self._job.cluster.workers}

    def __str__(self) -> str:
        """What the schedule itself allows, and the share of the time in which each worker had nothing to compute."""
        busy = [sum(work.seconds for step in self._work for work in step[worker].values()) for worker in self._work[0]]
        shape = self._steps.shape
        costs = costs_of(self._job, shape, self._work[-1], MICROBATCHES)
        simulated = simulate(SCHEDULES[self._job.pipeline.schedule], shape, costs)
        allowed = 1 - statistics.mean(simulated.idle(worker) for worker in self._work[0])
        idle = " ".join(f"{1 - seconds / self._seconds:.0%}" for seconds in busy)
        return f"the schedule allows {allowed:.2f}; workers idle {idle}"


# ---- processes that take steps on demand -----------------------------------------------------------------------------


class Children:
    """Processes that take the same step, together or beside one another; those of `helping` are told nothing."""

    def __init__(self, stack: ExitStack, *commands: str, helping: tuple[str, ...] = ()) -> None:
        self.asked = [start(command) for command in commands]
        self.helping = [start(command) for command in helping]
        self.processes = [child.pid for child in (*self.asked, *self.helping)]
        stack.callback(self.close)

    def __call__(self) -> float:
        self._signal(signal.SIGCONT)
        for child in self.asked:
            assert child.stdin is not None
            child.stdin.write("step\n")
            child.stdin.flush()
        seconds = statistics.mean(float(child.stdout.readline()) for child in self.asked if child.stdout is not None)
        # Those of torch's RPC poll while they have nothing to do, and would take the others' time.
        self._signal(signal.SIGSTOP)
        return seconds

    def _signal(self, number: signal.Signals) -> None:
        for child in [*self.asked, *self.helping]:
            child.send_signal(number)

    def close(self) -> None:
        """They end when there is nothing more to read."""
        self._signal(signal.SIGCONT)
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


@dataclass(frozen=True)
class Sample:
    """A step: what it took, in seconds and in seconds of its processes' processor time, and the share of the machine's
    processor time that others used meanwhile."""

    seconds: float
    processor: float
    others: float


def sample(take: Ours | Children) -> Sample:
    before = spent(take.processes), spent_by_all()
    start = time.perf_counter()
    seconds = take()
    passed = time.perf_counter() - start
    own, everybody = spent(take.processes) - before[0], spent_by_all() - before[1]
    return Sample(seconds, own, max(0.0, everybody - own) / (passed * (os.cpu_count() or 1)))


def quietest(samples: list[Sample]) -> list[Sample]:
    """The third of the samples in which others used least."""
    return sorted(samples, key=lambda one: one.others)[: -(-len(samples) // 3)]


def takers(stack: ExitStack, only: list[str]) -> dict[str, Ours | Children]:
    """By name, all that take steps, or those that are named and the ideals."""
    cluster = stack.enter_context(dg.LocalCluster(workers=2, programs=PROGRAMS))
    found: dict[str, Ours | Children] = {}
    for name in SCHEDULES:
        if not only or name in only:
            made = job(f"of-{name}", IN_ROUNDS if name == "interleaved" else IN_A_ROW, name)
            found[f"distgrad {name}"] = Ours(stack, cluster, made)
            port = free_port()
            found[f"torch {name}"] = Children(stack, *(f"pipelining {name} {rank} {port}" for rank in range(2)))
    if not only or "rpc" in only:
        port = free_port()
        found["torch rpc"] = Children(stack, f"rpc 0 {port}", helping=tuple(f"rpc {k} {port}" for k in (1, 2)))
    for library in ("distgrad", "torch"):
        found[f"{library} {IDEAL}"] = Children(stack, library, library)
    return found


def measure(rounds: int, only: list[str]) -> None:
    """Has everything take steps in turns, and prints what it came to while others left the machine alone most."""
    dg.keep_freed_memory()
    with ExitStack() as stack:
        chosen = takers(stack, only)
        samples: dict[str, list[Sample]] = {name: [] for name in chosen}
        for number in range(rounds + 1):
            for name, take in chosen.items():
                one = sample(take)
                if number:  # the first of each warms up
                    samples[name].append(one)
            print(f"round {number}: load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
        for name, take in chosen.items():
            print(line(name, samples, str(take) if isinstance(take, Ours) else ""), flush=True)


def line(name: str, samples: dict[str, list[Sample]], more: str) -> str:
    """What one came to, beside half of what one process of its library takes while another does the same."""
    alone = quietest(samples[f"{name.split()[0]} {IDEAL}"])
    quiet = quietest(samples[name])
    ideal = statistics.median(one.seconds for one in alone) / 2
    # Two steps are taken by two processes.
    processor = statistics.median(one.processor for one in alone) / 2
    seconds = statistics.median(one.seconds for one in quiet)
    own = statistics.median(one.processor for one in quiet) / (2 if name.endswith(IDEAL) else 1)
    others = statistics.mean(one.others for one in quiet)
    return (
        f"{name:22} {1e3 * seconds:6.0f} ms a step, {ideal / seconds:.2f} of the ideal; {own:.2f} s of processor time, "
        f"{processor / own:.2f} of one process's; others used {others:.0%}  {more}"
    )


def main(arguments: list[str]) -> None:
    match arguments:
        case ["--measure", rounds, *only]:
            measure(int(rounds), only)
        case [word, *_] if word in ("distgrad", "torch", "rpc", "pipelining"):
            child(arguments)
        case _:
            rounds, *only = arguments or ["9"]
            command = [sys.executable, "-m", MODULE, "--measure", rounds, *only]
            subprocess.run(command, env=os.environ | dict.fromkeys(VARIABLES, "1"), check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
