"""Stages of a pipeline of transformer blocks, for `tests.benchmarks.pipeline`."""

from __future__ import annotations

from typing import Any

import distgrad as dg
from distgrad import nn, ops

WIDTH, HEADS, TOKENS = 256, 4, 128


class Block(dg.Shard):
    """Attention and a perceptron, each behind a layer norm and added to its input."""

    def __init__(self) -> None:
        self.norm1 = nn.LayerNorm(WIDTH)
        self.attention = nn.MultiHeadAttention(WIDTH, HEADS, causal=True)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.enter = nn.Linear(WIDTH, 4 * WIDTH)
        self.leave = nn.Linear(4 * WIDTH, WIDTH)

    @dg.remote
    def forward(self, x: Any) -> Any:
        """x (batch, TOKENS, WIDTH) -> the same shape."""
        x = x + self.attention(self.norm1(x))
        return x + self.leave(ops.gelu(self.enter(self.norm2(x)), approximate="tanh"))

    @dg.remote
    def loss(self, x: Any, y: Any) -> Any:
        """The mean squared error against y, of the shape of x."""
        return ((self.forward(x) - y) ** 2).mean()
