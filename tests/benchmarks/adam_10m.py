"""A step of Adam on ten million parameters against PyTorch's default and fused steps: `python -m
tests.benchmarks.adam_10m`.
"""

from __future__ import annotations

import numpy as np

from distgrad import nn, optim

from .ratio import compare, in_processes

SHAPES = ((2500, 2000), (2000, 2000), (1000, 1000))


def main() -> None:
    import torch

    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in SHAPES]
    gradients = [rng.standard_normal(shape).astype(np.float32) for shape in SHAPES]
    own = [nn.Parameter(a.copy()) for a in arrays]
    for parameter, gradient in zip(own, gradients, strict=True):
        parameter.grad = gradient
    adam = optim.Adam(1e-3).bind(own)
    for fused in (False, True):
        others = [torch.tensor(a, requires_grad=True) for a in arrays]
        for other, gradient in zip(others, gradients, strict=True):
            other.grad = torch.tensor(gradient)
        peer = torch.optim.Adam(others, lr=1e-3, fused=fused)
        compare("Adam, 10 M, torch " + ("fused" if fused else "default"), adam.step, peer.step, rounds=10)


if __name__ == "__main__":
    in_processes(main, "tests.benchmarks.adam_10m")
