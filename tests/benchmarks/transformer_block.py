"""Forward and backward of a transformer block: `python -m tests.benchmarks.transformer_block`.

Width 256, 4 heads, 128 tokens, batch 8; pre-norm, causal, gelu (tanh), no dropout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import distgrad as dg
from distgrad import nn, ops

from .ratio import Programs, installed, report

LABEL = "transformer block"
WIDTH, HEADS, TOKENS, BATCH = 256, 4, 128, 8


class Block(nn.Module):
    """Attention and a perceptron, each behind a layer norm and added to its input."""

    def __init__(self) -> None:
        self.norm1 = nn.LayerNorm(WIDTH)
        self.attention = nn.MultiHeadAttention(WIDTH, HEADS, causal=True)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.enter = nn.Linear(WIDTH, 4 * WIDTH)
        self.leave = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Any) -> Any:
        x = x + self.attention(self.norm1(x))
        return x + self.leave(ops.gelu(self.enter(self.norm2(x)), approximate="tanh"))


def data() -> tuple[Any, Any]:
    """The input and the gradient of the result."""
    rng = np.random.default_rng(0)
    x, seed = rng.standard_normal((2, BATCH, TOKENS, WIDTH)).astype(np.float32)
    return x, seed


def start() -> Block:
    """What every program takes its weights from."""
    return Block()


def ours(block: Block) -> Callable[[], Any]:
    array, seed = data()
    x = dg.tensor(array, requires_grad=True)

    def step() -> Any:
        block.zero_grad()
        x.grad = None
        block(x).backward(seed)
        return x.grad

    return step


def in_torch(block: Block) -> Callable[[], Any]:
    import torch
    from torch.nn import functional

    class TorchBlock(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1 = torch.nn.LayerNorm(WIDTH)
            self.projection = torch.nn.Linear(WIDTH, 3 * WIDTH)
            self.output = torch.nn.Linear(WIDTH, WIDTH)
            self.norm2 = torch.nn.LayerNorm(WIDTH)
            self.enter = torch.nn.Linear(WIDTH, 4 * WIDTH)
            self.leave = torch.nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x: Any) -> Any:
            packed = self.projection(self.norm1(x)).view(BATCH, TOKENS, 3, HEADS, WIDTH // HEADS)
            q, k, v = packed.permute(2, 0, 3, 1, 4)
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.output(mixed.transpose(1, 2).reshape(BATCH, TOKENS, WIDTH))
            return x + self.leave(functional.gelu(self.enter(self.norm2(x)), approximate="tanh"))

    peer = TorchBlock()
    for parameter, own in zip(peer.parameters(), block.parameters(), strict=True):
        parameter.data = torch.tensor(own.numpy())
    array, seed = data()
    x, gradient = torch.tensor(array, requires_grad=True), torch.tensor(seed)

    def step() -> Any:
        peer.zero_grad()
        x.grad = None
        peer(x).backward(gradient)
        return x.grad.numpy()

    return step


def in_jax(block: Block) -> Callable[[], Any]:
    import jax

    jnp = jax.numpy
    weights = [jnp.asarray(own.numpy()) for own in block.parameters()]
    x, seed = map(jnp.asarray, data())
    causal = jnp.tril(jnp.ones((TOKENS, TOKENS), bool))

    def norm(x: Any, weight: Any, bias: Any) -> Any:
        centred = x - jnp.mean(x, -1, keepdims=True)
        return centred / jnp.sqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-5) * weight + bias

    def forward(weights: Any, x: Any) -> Any:
        n1w, n1b, pw, pb, ow, ob, n2w, n2b, ew, eb, lw, lb = weights
        packed = norm(x, n1w, n1b) @ pw.T + pb
        q, k, v = packed.reshape(BATCH, TOKENS, 3, HEADS, WIDTH // HEADS).transpose(2, 0, 3, 1, 4)
        scores = q @ k.swapaxes(-1, -2) * (WIDTH // HEADS) ** -0.5
        mixed = jax.nn.softmax(jnp.where(causal, scores, -jnp.inf), -1) @ v
        x = x + mixed.transpose(0, 2, 1, 3).reshape(BATCH, TOKENS, WIDTH) @ ow.T + ob
        return x + jax.nn.gelu(norm(x, n2w, n2b) @ ew.T + eb, approximate=True) @ lw.T + lb

    @jax.jit
    def backward(weights: Any, x: Any, seed: Any) -> Any:
        return jax.vjp(forward, weights, x)[1](seed)

    return lambda: np.asarray(jax.block_until_ready(backward(weights, x, seed))[1])


def programs() -> Programs:
    block = start()
    makers = {"distgrad": ours, "torch": in_torch, "jax.jit": in_jax}
    made = installed({name: lambda make=make: make(block) for name, make in makers.items()})
    first = [step() for step in made.values()]
    assert all(np.allclose(g, first[0], atol=1e-3) for g in first), "the programs do not compute the same"
    return made


if __name__ == "__main__":
    report("tests.benchmarks.transformer_block")
