"""A model most of which is a table: `deploy/jobs/embedding.toml` spreads the table over workers that serve its rows.

A step looks up few of many rows. Only those cross between workers, and only their gradients come back; what an update
changes are the same rows, in the table and in the optimizer's state.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import distgrad as dg


class Table(dg.Shard):
    """Every `parts`-th row of a table, from row `part` on.

    Arguments:
        rows: of the whole table.
        width: numbers in a row.
        part: which rows, from 0.
        parts: how many shards there are.
    """

    def __init__(self, rows: int, width: int, part: int, parts: int) -> None:
        self.part, self.parts = part, parts
        mine = len(range(part, rows, parts))
        self.rows = dg.nn.Embedding(mine, width)

    @dg.remote
    def look_up(self, numbers: Any) -> Any:
        """numbers, integers of any shape -> those rows among them that are here, (n, width), in their order."""
        flat = np.asarray(numbers.data).reshape(-1)
        return self.rows(flat[flat % self.parts == self.part] // self.parts)


class Reader(dg.Shard):
    """Scores of classes from a few rows: a network of two layers over the rows side by side.

    Arguments:
        count: rows for an example.
        width: numbers in a row.
        hidden: units between the layers.
        outputs: classes.
    """

    def __init__(self, count: int, width: int, hidden: int, outputs: int) -> None:
        self.network = dg.nn.Sequential(
            dg.nn.Linear(count * width, hidden), dg.nn.ReLU(), dg.nn.Linear(hidden, outputs)
        )

    @dg.remote
    def loss(self, numbers: Any, classes: Any, *parts: Any) -> Any:
        """Mean cross-entropy, in nats, for the numbers (batch, count) of rows, the true classes (batch,), and what each
        `Table` in turn found of the rows."""
        return dg.ops.cross_entropy(self._scores(numbers, parts), classes)

    @dg.remote
    def predict(self, numbers: Any, *parts: Any) -> Any:
        """The most likely class of each example, (batch,)."""
        return dg.ops.argmax(self._scores(numbers, parts), axis=-1)

    def _scores(self, numbers: Any, parts: tuple[Any, ...]) -> Any:
        """Puts the rows back in the order of their numbers."""
        flat = np.asarray(numbers.data).reshape(-1)
        came = np.argsort(flat % len(parts), kind="stable")  # part after part, each in order
        place = np.empty_like(came)
        place[came] = np.arange(len(came))
        rows = dg.ops.concatenate(parts)[place]
        return self.network(dg.ops.reshape(rows, (numbers.shape[0], -1)))
