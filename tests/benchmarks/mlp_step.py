"""A training step of a perceptron (batch 256, 784-512-512-10, SGD): `python -m tests.benchmarks.mlp_step`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from distgrad import nn, ops, optim

from .ratio import Programs, installed, report

LABEL = "MLP step"
SIZES = (784, 512, 512, 10)
BATCH = 256
RATE = 0.01


def data() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((BATCH, SIZES[0])).astype(np.float32), rng.integers(0, SIZES[-1], BATCH)


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


def start() -> list[Any]:
    """What every program starts from."""
    return [parameter.numpy().copy() for parameter in model().parameters()]


def ours(weights: list[Any]) -> Callable[[], float]:
    x, y = data()
    own = model()
    for parameter, value in zip(own.parameters(), weights, strict=True):
        parameter.data[...] = value
    sgd = optim.SGD(RATE).bind(own)

    def step() -> float:
        sgd.zero_grad()
        loss = ops.cross_entropy(own(x), y)
        loss.backward()
        sgd.step()
        return float(loss.item())

    return step


def in_torch(weights: list[Any]) -> Callable[[], float]:
    import torch

    x, y = map(torch.tensor, data())
    layers = [torch.nn.Linear(784, 512), torch.nn.ReLU(), torch.nn.Linear(512, 512), torch.nn.ReLU()]
    peer = torch.nn.Sequential(*layers, torch.nn.Linear(512, 10))
    for parameter, value in zip(peer.parameters(), weights, strict=True):
        parameter.data = torch.tensor(value)
    sgd = torch.optim.SGD(peer.parameters(), lr=RATE)

    def step() -> float:
        sgd.zero_grad()
        loss = torch.nn.functional.cross_entropy(peer(x), y)
        loss.backward()
        sgd.step()
        return float(loss.item())

    return step


def in_jax(weights: list[Any]) -> Callable[[], float]:
    import jax

    jnp = jax.numpy
    x, y = map(jnp.asarray, data())
    state = list(map(jnp.asarray, weights))

    def loss(weights: Any, x: Any, y: Any) -> Any:
        w1, b1, w2, b2, w3, b3 = weights
        h = jax.nn.relu(jax.nn.relu(x @ w1.T + b1) @ w2.T + b2) @ w3.T + b3
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(h), y[:, None], -1))

    @jax.jit
    def update(weights: Any, x: Any, y: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(weights, x, y)
        return value, [w - RATE * g for w, g in zip(weights, gradients, strict=True)]

    def step() -> float:
        nonlocal state
        value, state = update(state, x, y)
        return float(value)

    return step


def programs() -> Programs:
    weights = start()
    makers = {"distgrad": ours, "torch": in_torch, "jax.jit": in_jax}
    made = installed({name: lambda make=make: make(weights) for name, make in makers.items()})
    first = [step() for step in made.values()]
    assert np.allclose(first, first[0], atol=1e-4), "the programs do not compute the same"
    return made


if __name__ == "__main__":
    report("tests.benchmarks.mlp_step")
