"""A training step of a small convolutional network against PyTorch: `python -m tests.benchmarks.conv_net`.

Batch 64 of 1 × 28 × 28: two convolutions 3 × 3 (16 and 32 channels) with relu and pooling, one affine layer.
"""

from __future__ import annotations

import numpy as np

from distgrad import nn, ops, optim

from .ratio import compare, in_processes

BATCH = 64


def main() -> None:
    import torch

    rng = np.random.default_rng(0)
    x = rng.standard_normal((BATCH, 1, 28, 28)).astype(np.float32)
    y = rng.integers(0, 10, BATCH)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 49, 10),
    )
    sgd = optim.SGD(0.01).bind(model)

    def ours() -> float:
        sgd.zero_grad()
        loss = ops.cross_entropy(model(x), y)
        loss.backward()
        sgd.step()
        return float(loss.item())

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
    for own, other in zip(model.parameters(), peer.parameters(), strict=True):
        other.data = torch.tensor(own.numpy())
    their_sgd = torch.optim.SGD(peer.parameters(), lr=0.01)
    tx, ty = torch.tensor(x), torch.tensor(y)

    def theirs() -> float:
        their_sgd.zero_grad()
        loss = torch.nn.functional.cross_entropy(peer(tx), ty)
        loss.backward()
        their_sgd.step()
        return float(loss.item())

    assert abs(ours() - theirs()) < 1e-4, "the two programs do not compute the same"
    compare("convolutional network", ours, theirs)


if __name__ == "__main__":
    in_processes(main, "tests.benchmarks.conv_net")
