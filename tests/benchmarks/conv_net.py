"""A training step of a small convolutional network: `python -m tests.benchmarks.conv_net`.

Batch 64 of 1 × 28 × 28: two convolutions 3 × 3 (16 and 32 channels) with relu and pooling, one affine layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from distgrad import nn, ops, optim

from .ratio import Programs, installed, report

LABEL = "convolutional network"
BATCH = 64
RATE = 0.01


def data() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((BATCH, 1, 28, 28)).astype(np.float32), rng.integers(0, 10, BATCH)


def start() -> nn.Module:
    """The network, from which the other program takes its weights."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 49, 10),
    )


def ours(own: nn.Module) -> Callable[[], float]:
    x, y = data()
    sgd = optim.SGD(RATE).bind(own)

    def step() -> float:
        sgd.zero_grad()
        loss = ops.cross_entropy(own(x), y)
        loss.backward()
        sgd.step()
        return float(loss.item())

    return step


def in_torch(own: nn.Module) -> Callable[[], float]:
    import torch

    peer = torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(16, 32, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(32 * 49, 10),
    )
    for parameter, value in zip(peer.parameters(), own.parameters(), strict=True):
        parameter.data = torch.tensor(value.numpy())
    sgd = torch.optim.SGD(peer.parameters(), lr=RATE)
    x, y = map(torch.tensor, data())

    def step() -> float:
        sgd.zero_grad()
        loss = torch.nn.functional.cross_entropy(peer(x), y)
        loss.backward()
        sgd.step()
        return float(loss.item())

    return step


def programs() -> Programs:
    own = start()
    made = installed({"distgrad": lambda: ours(own), "torch": lambda: in_torch(own)})
    first = [step() for step in made.values()]
    assert np.allclose(first, first[0], atol=1e-4), "the programs do not compute the same"
    return made


if __name__ == "__main__":
    report("tests.benchmarks.conv_net")
