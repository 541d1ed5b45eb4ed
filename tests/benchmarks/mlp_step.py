"""A training step of a perceptron (batch 256, 784-512-512-10, SGD) against PyTorch: `python -m
tests.benchmarks.mlp_step`.
"""

from __future__ import annotations

import numpy as np

from distgrad import nn, ops, optim

from .ratio import compare, in_processes

SIZES = (784, 512, 512, 10)
BATCH = 256


def main() -> None:
    import torch

    rng = np.random.default_rng(0)
    x = rng.standard_normal((BATCH, SIZES[0])).astype(np.float32)
    y = rng.integers(0, SIZES[-1], BATCH)

    model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    sgd = optim.SGD(0.01).bind(model)

    def ours() -> float:
        sgd.zero_grad()
        loss = ops.cross_entropy(model(x), y)
        loss.backward()
        sgd.step()
        return float(loss.item())

    layers = [torch.nn.Linear(784, 512), torch.nn.ReLU(), torch.nn.Linear(512, 512), torch.nn.ReLU()]
    peer = torch.nn.Sequential(*layers, torch.nn.Linear(512, 10))
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
    compare("MLP step", ours, theirs)


if __name__ == "__main__":
    in_processes(main, "tests.benchmarks.mlp_step")
