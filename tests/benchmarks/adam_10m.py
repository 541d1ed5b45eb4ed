"""A step of Adam on ten million parameters, against PyTorch's default and fused steps: `python -m
tests.benchmarks.adam_10m`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from distgrad import nn, optim

from .ratio import Programs, installed, report

LABEL = "Adam, 10 M parameters"
SHAPES = ((2500, 2000), (2000, 2000), (1000, 1000))


def arrays(seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32) for shape in SHAPES]


def ours() -> Callable[[], object]:
    parameters = [nn.Parameter(a) for a in arrays(0)]
    for parameter, gradient in zip(parameters, arrays(1), strict=True):
        parameter.grad = gradient
    return optim.Adam(1e-3).bind(parameters).step


def in_torch(fused: bool) -> Callable[[], object]:
    import torch

    parameters = [torch.tensor(a, requires_grad=True) for a in arrays(0)]
    for parameter, gradient in zip(parameters, arrays(1), strict=True):
        parameter.grad = torch.tensor(gradient)
    step: Callable[[], object] = torch.optim.Adam(parameters, lr=1e-3, fused=fused).step
    return step


def programs() -> Programs:
    return installed({"distgrad": ours, "torch": lambda: in_torch(False), "torch fused": lambda: in_torch(True)})


if __name__ == "__main__":
    report("tests.benchmarks.adam_10m")
