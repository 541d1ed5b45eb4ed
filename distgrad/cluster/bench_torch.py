"""The same measures as `bench_ours`, of torch.distributed.rpc and torch.distributed.autograd.

    python -m distgrad.cluster.bench_torch serve LANE WORKERS           rank 0, which measures
    python -m distgrad.cluster.bench_torch rank RANK WORLD LANE PORT    the others, which it starts

Rank 0 reads names of measures, a line each, and answers with the seconds of a run, the median of a turn.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed.autograd as torch_autograd
from torch.distributed import rpc

from .bench import MEASURES, ROWS, WIDTH, Run, seconds

_WEIGHT = torch.eye(WIDTH, requires_grad=True)


def echo(x: Any) -> Any:
    return x


def multiply(x: Any, y: Any) -> Any:
    return x * y


def sink(x: Any) -> None:
    return None


def layer(x: Any) -> Any:
    return x @ _WEIGHT


class Theirs:
    """Rank 0, calling the others. Every method does what its namesake of `bench_ours.Ours` does."""

    def __init__(self) -> None:
        self.x = torch.ones(4)
        self.batch = torch.ones(ROWS, WIDTH)

    def call(self) -> float:
        return seconds(lambda: rpc.rpc_sync("rank1", echo, (self.x,)))

    def one_way(self, mebibytes: int) -> Callable[[], float]:
        tensor = torch.ones(mebibytes * 2**18)
        return lambda: seconds(lambda: rpc.rpc_sync("rank1", sink, (tensor,)))

    def chain(self, length: int, bring_back: bool) -> float:
        """Torch has no other chain than one whose values are brought back."""
        with torch_autograd.context() as context:
            value = torch.ones(4, requires_grad=True) * self.x
            for _ in range(length):
                value = rpc.rpc_sync("rank1", multiply, (value, self.x))
            return self._backward(context, value)

    def fan_out(self, calls: int) -> float:
        with torch_autograd.context() as context:
            w = torch.ones(4, requires_grad=True)
            return self._backward(context, self._sum(w, ["rank1"] * calls))

    def workers(self, count: int) -> float:
        def run() -> None:
            with torch_autograd.context() as context:
                w = torch.ones(4, requires_grad=True)
                self._backward(context, self._sum(w, [f"rank{1 + k}" for k in range(count)]))

        return seconds(run)

    def contexts(self, count: int) -> float:
        return self._at_once(count, partial(self.fan_out, 1))

    def steps(self, stages: int, microbatches: int) -> float:
        def microbatch() -> None:
            with torch_autograd.context() as context:
                value = self.batch
                for k in range(stages):
                    value = rpc.rpc_sync(f"rank{1 + k}", layer, (value,))
                torch_autograd.backward(context, [value.sum()])

        return self._at_once(microbatches, microbatch)

    def _sum(self, w: Any, ranks: list[str]) -> Any:
        calls = [rpc.rpc_async(rank, multiply, (w, self.x)) for rank in ranks]
        total = calls[0].wait()
        for call in calls[1:]:
            total = total + call.wait()
        return total

    def _backward(self, context: int, root: Any) -> float:
        scalar = root.sum()
        return seconds(lambda: torch_autograd.backward(context, [scalar]))

    def _at_once(self, count: int, run: Callable[[], Any]) -> float:
        with ThreadPoolExecutor(count) as pool:
            return seconds(lambda: [future.result() for future in [pool.submit(run) for _ in range(count)]])


@contextmanager
def torch_side(lane: str, workers: int) -> Iterator[Theirs]:
    """This process as rank 0, and as many others as there are workers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    world = workers + 1
    command = [sys.executable, "-W", "ignore", "-m", "distgrad.cluster.bench_torch", "rank"]
    others = [subprocess.Popen([*command, str(rank), str(world), lane, port]) for rank in range(1, world)]
    join(0, world, lane, port)
    try:
        yield Theirs()
    finally:
        rpc.shutdown()
        for other in others:
            other.wait()


def join(rank: int, world: int, lane: str, port: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    torch.set_num_threads(1)
    held_to_tcp: dict[str, Any] = {} if lane == "unix" else {"_transports": ["uv"], "_channels": ["basic"]}
    options = rpc.TensorPipeRpcBackendOptions(**held_to_tcp)
    rpc.init_rpc(f"rank{rank}", rank=rank, world_size=world, rpc_backend_options=options)


def serve(lane: str, workers: int) -> None:
    """The life of rank 0, until its standard input ends."""
    runs: dict[str, Run] = {}
    with torch_side(lane, workers) as side:
        print("ready", flush=True)
        for line in sys.stdin:
            name = line.strip()
            if name not in runs:
                runs[name] = MEASURES[name].turn(MEASURES[name].run(side))
            print(runs[name](), flush=True)


def main(arguments: list[str]) -> None:
    match arguments:
        case ["serve", lane, workers]:
            serve(lane, int(workers))
        case ["rank", rank, world, lane, port]:
            join(int(rank), int(world), lane, port)
            rpc.shutdown()


if __name__ == "__main__":
    main(sys.argv[1:])
