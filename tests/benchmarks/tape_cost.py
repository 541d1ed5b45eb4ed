"""What the tape costs: `python -m tests.benchmarks.tape_cost`.

A chain of 1,000 operations on one-element arrays, forward and backward, against HIPS autograd, MyGrad and PyTorch in
the same run, repeats interleaved. Almost all of it is bookkeeping: the arithmetic itself takes 0.5 µs an operation.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

OPERATIONS = 1000
REPEATS = 15


def chain(x: object, sin: Callable[[object], object]) -> object:
    """1,000 operations: products, sums and sines, as a program of small steps has them."""
    for _ in range(OPERATIONS // 4):
        y = x * 0.5
        x = sin(x) + y * y
    return x


def distgrad() -> Callable[[], object]:
    import distgrad as dg

    def step() -> object:
        x = dg.tensor(0.7, requires_grad=True)
        chain(x, dg.ops.sin).backward()
        return x.grad

    return step


def hips_autograd() -> Callable[[], object]:
    import autograd
    import autograd.numpy as anp

    return lambda: autograd.grad(lambda x: chain(x, anp.sin))(0.7)


def mygrad() -> Callable[[], object]:
    import mygrad as mg

    def step() -> object:
        x = mg.tensor(0.7)
        chain(x, mg.sin).backward()
        return x.grad

    return step


def pytorch() -> Callable[[], object]:
    import torch

    torch.set_num_threads(1)

    def step() -> object:
        x = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
        chain(x, torch.sin).backward()
        return x.grad

    return step


PEERS = {"distgrad": distgrad, "HIPS autograd": hips_autograd, "MyGrad": mygrad, "PyTorch": pytorch}


def measure(repeats: int = REPEATS) -> dict[str, float]:
    """Median time of one operation, forward and backward, in µs, of each that is installed."""
    steps = dict(_installed())
    expected = float(np.asarray(steps["distgrad"]()))
    for name, step in steps.items():
        assert np.isclose(float(np.asarray(step())), expected), f"{name} computes another gradient"
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    return {name: 1e6 * statistics.median(found) / OPERATIONS for name, found in times.items()}


def _installed() -> Iterator[tuple[str, Callable[[], object]]]:
    for name, make in PEERS.items():
        try:
            yield name, make()
        except ModuleNotFoundError as missing:
            print(f"{name}: not measured, as {missing.name} is not installed")


if __name__ == "__main__":
    found = measure()
    for name, cost in found.items():
        print(f"{name:15} {cost:6.2f} µs an operation   distgrad takes {found['distgrad'] / cost:.2f} of it")
