"""Forward and backward of a recurrent network over 500 steps that reads x[:, t] one by one: `python -m
tests.benchmarks.rnn`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import distgrad as dg

from .ratio import Programs, installed, report

LABEL = "RNN, 500 steps"
BATCH, STEPS, WIDTH = 32, 500, 64


def data() -> list[Any]:
    """Inputs, and the weights of input and state."""
    rng = np.random.default_rng(0)
    shapes = ((BATCH, STEPS, WIDTH), (WIDTH, WIDTH), (WIDTH, WIDTH))
    scales = (1.0, WIDTH**-0.5, WIDTH**-0.5)
    return [
        (scale * rng.standard_normal(shape)).astype(np.float32) for scale, shape in zip(scales, shapes, strict=True)
    ]


def run(tanh: Callable[[Any], Any], state: Any, x: Any, w: Any, u: Any) -> Any:
    for t in range(STEPS):
        state = tanh(x[:, t] @ w + state @ u)
    return (state * state).sum()


def ours() -> Callable[[], Any]:
    arrays = data()

    def step() -> Any:
        x, w, u = (dg.tensor(a, requires_grad=True) for a in arrays)
        run(dg.ops.tanh, np.zeros((BATCH, WIDTH), np.float32), x, w, u).backward()
        return x.grad

    return step


def in_torch() -> Callable[[], Any]:
    import torch

    arrays = list(map(torch.tensor, data()))

    def step() -> Any:
        x, w, u = (a.detach().requires_grad_() for a in arrays)
        run(torch.tanh, torch.zeros((BATCH, WIDTH)), x, w, u).backward()
        return x.grad.numpy()

    return step


def programs() -> Programs:
    made = installed({"distgrad": ours, "torch": in_torch})
    first = [step() for step in made.values()]
    assert all(np.allclose(g, first[0], atol=1e-4) for g in first), "the programs compute different gradients"
    return made


if __name__ == "__main__":
    report("tests.benchmarks.rnn")
