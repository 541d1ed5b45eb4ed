"""A language model cut into shards: `deploy/jobs/gpt.toml` spreads them over two workers.

The table that turns symbols into vectors also turns vectors back into scores of symbols (Press & Wolf 2017, "Using the
output embedding to improve language models"). Here it lives with the `Embedding`, on one worker; the `Head`, on
another, is handed it with every call, and its gradient comes back over the same edge. Nothing else is needed to tie
weights across workers.
"""

from __future__ import annotations

from typing import Any

import distgrad as dg

# Standard deviation of initial vectors: small, as scores are products of two of them.
SPREAD = 0.05


class Embedding(dg.Shard):
    """A vector for each symbol and for each position, added up.

    Arguments:
        symbols: how many there are.
        length: of the longest text.
        width: numbers in a vector.
    """

    def __init__(self, symbols: int, length: int, width: int) -> None:
        self.vectors = _table(symbols, width)
        self.positions = _table(length, width)

    @dg.remote
    def forward(self, text: Any) -> Any:
        """text, integers (batch, positions) -> (batch, positions, width)."""
        return dg.ops.embedding(self.vectors, text) + self.positions[: text.shape[1]]

    @dg.remote
    def table(self) -> Any:
        """The symbols' vectors, (symbols, width), for the head."""
        return self.vectors


class Blocks(dg.Shard):
    """Transformer blocks, one after the other (Vaswani et al. 2017; normalised first, as in GPT-2).

    Arguments:
        count: of blocks.
        width: numbers in a vector.
        heads: of attention, in each block.
    """

    def __init__(self, count: int, width: int, heads: int) -> None:
        self.blocks = [Block(width, heads) for _ in range(count)]

    @dg.remote
    def forward(self, x: Any) -> Any:
        """x (batch, positions, width) -> the same shape; a position sees itself and those before."""
        for block in self.blocks:
            x = block(x)
        return x


class Block(dg.nn.Module):
    """Attention, then a network of two layers at each position; each is added to what it was given."""

    def __init__(self, width: int, heads: int) -> None:
        self.before_attention = dg.nn.LayerNorm(width)
        self.attention = dg.nn.MultiHeadAttention(width, heads, causal=True)
        self.before_network = dg.nn.LayerNorm(width)
        self.network = dg.nn.Sequential(dg.nn.Linear(width, 4 * width), dg.nn.GELU(), dg.nn.Linear(4 * width, width))

    def forward(self, x: Any) -> Any:
        x = x + self.attention(self.before_attention(x))
        return x + self.network(self.before_network(x))


class Head(dg.Shard):
    """Scores of the symbol that comes next. `table` is always `Embedding.table`'s."""

    def __init__(self, width: int) -> None:
        self.norm = dg.nn.LayerNorm(width)

    @dg.remote
    def loss(self, x: Any, table: Any, following: Any) -> Any:
        """Mean cross-entropy, in nats a symbol, of x (batch, positions, width) and the symbols that do follow, integers
        (batch, positions)."""
        scores = dg.ops.linear(self.norm(x), table)
        return dg.ops.cross_entropy(scores.reshape(-1, table.shape[0]), following.reshape(-1))

    @dg.remote
    def predict(self, x: Any, table: Any) -> Any:
        """x (batch, positions, width) -> the likeliest next symbol at each position, (batch, positions)."""
        return dg.ops.argmax(dg.ops.linear(self.norm(x), table), axis=-1)

    @dg.remote
    def next(self, x: Any, table: Any) -> Any:
        """x (batch, positions, width) -> log-probabilities of the symbol after the last position, (batch, symbols)."""
        return dg.ops.log_softmax(dg.ops.linear(self.norm(x[:, -1]), table), axis=-1)


def _table(rows: int, width: int) -> dg.nn.Parameter:
    return dg.nn.Parameter(dg.nn.initialise.normal((rows, width), dg.nn.random.next_generator(), std=SPREAD))
