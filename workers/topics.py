"""The reference text that Python's `help()` shows, character by character: some 465,000 of them, no download needed.

Which text exactly depends on the version of Python, so the same job gives the same bits on the same version.
"""

from __future__ import annotations

from collections.abc import Callable
from pydoc_data.topics import topics

import numpy as np

# What a sample goes on from.
BEGINNING = "The following "

Scores = Callable[[np.ndarray], np.ndarray]


class Topics:
    """Pieces of the text, and for each character of a piece the one that follows it.

    Arguments:
        batch: pieces in a batch.
        length: characters in a piece.
        symbols: numbers that stand for characters are below this.
        held_out_share: of the text, its end, that is never trained on.
        seed: decides which pieces make up a batch.
    """

    def __init__(self, batch: int, length: int, symbols: int = 128, held_out_share: float = 0.1, seed: int = 0) -> None:
        text = "".join(topics[name] for name in sorted(topics))
        self.alphabet = "".join(sorted(set(text)))
        if len(self.alphabet) > symbols:
            raise ValueError(f"the text has {len(self.alphabet)} different characters, more than symbols={symbols}")
        numbers = {character: number for number, character in enumerate(self.alphabet)}
        self.text = np.array([numbers[character] for character in text], np.int64)
        self.train, self.test = np.split(self.text, [int(len(text) * (1 - held_out_share))])
        self.size = batch
        self.length = length
        self.seed = seed

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Characters (batch, length) from anywhere in the text, and those that follow them, of the same shape."""
        starts = np.random.default_rng([self.seed, step]).integers(len(self.train) - self.length, size=self.size)
        return self._pieces(self.train, starts)

    def held_out(self) -> tuple[np.ndarray, np.ndarray]:
        """The end of the text, cut into pieces of `length`, and the characters that follow."""
        return self._pieces(self.test, np.arange(0, len(self.test) - self.length, self.length))

    def sample(self, scores: Scores) -> str:
        """Text that the model writes: each character is drawn from its probabilities, given those before.

        Arguments:
            scores: from characters (1, n), n at most `length`, to log-probabilities of the next, (1, symbols).
        """
        rng = np.random.default_rng([self.seed, 1])
        written = [self.alphabet.index(character) for character in BEGINNING]
        for _ in range(300):
            log = scores(np.array([written[-self.length :]]))[0, : len(self.alphabet)].astype(np.float64)
            weights = np.exp((log - log.max()) / 0.6)  # bolder than the model is: fewer slips
            written.append(int(rng.choice(len(weights), p=weights / weights.sum())))
        return "".join(self.alphabet[number] for number in written)

    def _pieces(self, text: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        places = starts[:, None] + np.arange(self.length)
        return text[places], text[places + 1]
