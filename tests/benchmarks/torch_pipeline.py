"""What `tests.benchmarks.pipeline` compares with: the same step in torch, in one process, by
torch.distributed.pipelining over gloo, and over torch.distributed.rpc.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.autograd as dist_autograd
from torch.distributed import rpc
from torch.distributed.optim import DistributedOptimizer
from torch.distributed.pipelining import PipelineStage, schedules
from torch.nn import functional

from .programs.pipeline import HEADS, TOKENS, WIDTH

SCHEDULES = {
    "gpipe": schedules.ScheduleGPipe,
    "1f1b": schedules.Schedule1F1B,
    "interleaved": schedules.ScheduleInterleaved1F1B,
    "zero-bubble": schedules.ScheduleInterleavedZeroBubble,
}
STAGES = 4
RATE = 1e-3

Step = Callable[[], float]


class Block(torch.nn.Module):
    """What `programs.pipeline.Block` is."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = torch.nn.LayerNorm(WIDTH)
        self.projection = torch.nn.Linear(WIDTH, 3 * WIDTH)
        self.output = torch.nn.Linear(WIDTH, WIDTH)
        self.norm2 = torch.nn.LayerNorm(WIDTH)
        self.enter = torch.nn.Linear(WIDTH, 4 * WIDTH)
        self.leave = torch.nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Any) -> Any:
        packed = self.projection(self.norm1(x)).view(*x.shape[:-1], 3, HEADS, WIDTH // HEADS)
        q, k, v = packed.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.output(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.leave(functional.gelu(self.enter(self.norm2(x)), approximate="tanh"))


def blocks(count: int) -> torch.nn.Sequential:
    return torch.nn.Sequential(*(Block() for _ in range(count)))


def batch(microbatches: int, size: int) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, microbatches * size, TOKENS, WIDTH, generator=generator)
    return x[0], x[1]


# ---- one process -----------------------------------------------------------------------------------------------------


def alone(microbatches: int, size: int) -> Step:
    model = blocks(STAGES)
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    pieces = list(zip(*(part.split(size) for part in batch(microbatches, size)), strict=True))

    def step() -> float:
        start = time.perf_counter()
        optimizer.zero_grad()
        for x, y in pieces:
            (functional.mse_loss(model(x), y) / microbatches).backward()
        optimizer.step()
        return time.perf_counter() - start

    return step


# ---- torch.distributed.pipelining ------------------------------------------------------------------------------------


def pipelined(rank: int, port: str, name: str, microbatches: int, size: int) -> Step:
    """Two ranks; each has two stages of a block, or one stage of two blocks where the schedule wants one."""
    torch.manual_seed(0)
    dist.init_process_group("gloo", rank=rank, world_size=2, init_method=f"tcp://127.0.0.1:{port}")
    kind = SCHEDULES[name]
    several = issubclass(kind, schedules.PipelineScheduleMulti)
    places = [rank, rank + 2] if several else [rank]
    parts = [blocks(1 if several else 2) for _ in places]
    device = torch.device("cpu")
    total = STAGES if several else 2
    stages: list[Any] = [PipelineStage(part, place, total, device) for part, place in zip(parts, places, strict=True)]
    schedule: Any = kind(stages if several else stages[0], microbatches, loss_fn=functional.mse_loss)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD([p for part in parts for p in part.parameters()], RATE)
    x, y = batch(microbatches, size)

    def step() -> float:
        dist.barrier()
        start = time.perf_counter()
        optimizer.zero_grad()
        if rank == 0:
            schedule.step(x)
        else:
            schedule.step(target=y, losses=[])
        optimizer.step()
        dist.barrier()
        return time.perf_counter() - start

    return step


# ---- torch.distributed.rpc -------------------------------------------------------------------------------------------


class RemoteBlocks:
    """Two blocks on a worker; a lock keeps its calls from computing side by side on the one core."""

    def __init__(self) -> None:
        self.model = blocks(2)
        self.lock = threading.Lock()

    def forward(self, x: Any) -> Any:
        x = x.to_here()
        with self.lock:
            return self.model(x)

    def loss(self, x: Any, y: Any) -> Any:
        return functional.mse_loss(self.forward(x), y)

    def parameters(self) -> list[Any]:
        return [rpc.RRef(parameter) for parameter in self.model.parameters()]


def join_rpc(rank: int, port: str) -> None:
    """Rank 0 drives, ranks 1 and 2 work; `rpc.shutdown()` waits for the others."""
    options = rpc.TensorPipeRpcBackendOptions(init_method=f"tcp://127.0.0.1:{port}", num_worker_threads=128)
    rpc.init_rpc(f"rank{rank}", rank=rank, world_size=3, rpc_backend_options=options)


def over_rpc(microbatches: int, size: int) -> Step:
    """Of rank 0."""
    first, last = (rpc.remote(f"rank{worker}", RemoteBlocks) for worker in (1, 2))
    parameters = first.rpc_sync().parameters() + last.rpc_sync().parameters()
    optimizer = DistributedOptimizer(torch.optim.SGD, parameters, lr=RATE)
    pieces = list(zip(*(part.split(size) for part in batch(microbatches, size)), strict=True))

    def step() -> float:
        start = time.perf_counter()
        with dist_autograd.context() as context:
            calls = [last.rpc_async().loss(first.remote().forward(rpc.RRef(x)), y) for x, y in pieces]
            losses = torch.futures.wait_all(calls)
            dist_autograd.backward(context, [torch.stack(losses).mean()])
            optimizer.step(context)
        return time.perf_counter() - start

    return step
