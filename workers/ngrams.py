"""The reference text of `topics`, seen through its n-grams: the last character, the last two, three, ..., each a number
by which a row of a table is found. Different n-grams may share a number, as long as the table is large.
"""

from __future__ import annotations

import numpy as np

from .topics import Topics


class Ngrams:
    """The n-grams that end at places of the text, and the character that comes next.

    Arguments:
        batch: places in a batch.
        rows: numbers of n-grams are below this.
        orders: the longest n-gram has this many characters.
        seed: decides which places make up a batch.
    """

    def __init__(self, batch: int, rows: int, orders: int, seed: int = 0) -> None:
        topics = Topics(batch=1, length=1)
        self.text = topics.text
        self.numbers = _numbers(self.text, rows, orders)
        self.places = np.arange(orders, len(topics.train) - 1)
        self.test = np.arange(len(topics.train), len(self.text) - 1)
        self.size = batch
        self.seed = seed

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Numbers (batch, orders) of the n-grams at places drawn from all over the text, and the next characters
        (batch,)."""
        return self._at(np.random.default_rng([self.seed, step]).choice(self.places, self.size))

    def held_out(self) -> tuple[np.ndarray, np.ndarray]:
        """All places of the last tenth of the text, which is never trained on."""
        return self._at(self.test)

    def _at(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.numbers[places], self.text[places + 1]


def _numbers(text: np.ndarray, rows: int, orders: int) -> np.ndarray:
    """The numbers of the n-grams that end at each place, (length, orders): a polynomial of the characters, its high
    bits brought below `rows` (Knuth's multiplicative hashing)."""
    found = []
    mixed = np.zeros(len(text), np.uint64)
    for order in range(orders):
        shifted = np.concatenate([np.zeros(order, np.uint64), text[: len(text) - order].astype(np.uint64)])
        mixed = (mixed + shifted + np.uint64(order + 1)) * np.uint64(0x9E3779B97F4A7C15)
        found.append((mixed >> np.uint64(32)) * np.uint64(rows) >> np.uint64(32))
    return np.stack(found, axis=1).astype(np.int64)
