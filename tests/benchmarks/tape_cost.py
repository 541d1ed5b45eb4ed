"""What the tape costs: `python -m tests.benchmarks.tape_cost`.

A chain of 1,000 operations on one-element arrays, forward and backward; so milliseconds are also microseconds an
operation. Almost all of it is bookkeeping: the arithmetic itself takes 0.5 µs an operation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .ratio import Programs, installed, report

LABEL = "tape, 1,000 operations"
OPERATIONS = 1000


def chain(x: Any, sin: Callable[[Any], Any]) -> Any:
    """1,000 operations: products, sums and sines, as a program of small steps has them."""
    for _ in range(OPERATIONS // 4):
        y = x * 0.5
        x = sin(x) + y * y
    return x


def ours() -> Callable[[], object]:
    import distgrad as dg

    def step() -> object:
        x = dg.tensor(0.7, requires_grad=True)
        chain(x, dg.ops.sin).backward()
        return x.grad

    return step


def in_torch() -> Callable[[], object]:
    import torch

    def step() -> object:
        x = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
        chain(x, torch.sin).backward()
        return x.grad

    return step


def in_hips_autograd() -> Callable[[], object]:
    import autograd
    import autograd.numpy as anp

    return lambda: autograd.grad(lambda x: chain(x, anp.sin))(0.7)


def in_mygrad() -> Callable[[], object]:
    import mygrad as mg

    def step() -> object:
        x = mg.tensor(0.7)
        chain(x, mg.sin).backward()
        return x.grad

    return step


def programs() -> Programs:
    makers = {"distgrad": ours, "torch": in_torch, "HIPS autograd": in_hips_autograd, "MyGrad": in_mygrad}
    made = installed(makers)
    first = [float(np.asarray(step())) for step in made.values()]
    assert np.allclose(first, first[0]), "the programs compute different gradients"
    return made


if __name__ == "__main__":
    report("tests.benchmarks.tape_cost", threads=(1,))
