"""A training step of a transformer block against PyTorch: `python -m tests.benchmarks.transformer_block`.

Width 256, 4 heads, 128 tokens, batch 8; pre-norm, causal, gelu (tanh), no dropout; forward and backward.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import distgrad as dg
from distgrad import nn, ops

from .ratio import compare, in_processes

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


def torch_block() -> Any:
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

    return TorchBlock()


def main() -> None:
    import torch

    rng = np.random.default_rng(0)
    data = rng.standard_normal((BATCH, TOKENS, WIDTH)).astype(np.float32)
    seed = rng.standard_normal((BATCH, TOKENS, WIDTH)).astype(np.float32)

    block = Block()
    x = dg.tensor(data, requires_grad=True)

    def ours() -> Any:
        block.zero_grad()
        x.grad = None
        block(x).backward(seed)
        return x.grad

    peer = torch_block()
    for own, other in zip(block.parameters(), peer.parameters(), strict=True):
        other.data = torch.tensor(own.numpy())
    tx, tseed = torch.tensor(data, requires_grad=True), torch.tensor(seed)

    def theirs() -> Any:
        peer.zero_grad()
        tx.grad = None
        peer(tx).backward(tseed)
        return tx.grad.numpy()

    assert np.allclose(ours(), theirs(), atol=1e-3), "the two programs do not compute the same"
    compare("transformer block", ours, theirs)


if __name__ == "__main__":
    in_processes(main, "tests.benchmarks.transformer_block")
