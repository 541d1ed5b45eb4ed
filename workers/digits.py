"""scikit-learn's handwritten digits: 1,797 images of 8 × 8 pixels, and which digit each shows.

Data of a job is a class with `batch(step)` and `held_out()`. A batch depends on the step and the seed alone, so a step
can be taken again, after a crash, with the same examples.
"""

from __future__ import annotations

import numpy as np

try:
    from sklearn.datasets import load_digits
except ImportError as error:
    raise ImportError('the digits come with scikit-learn: pip install "distgrad[examples]"') from error


class Digits:
    """Four fifths of the images to train on, the rest to test with.

    Arguments:
        batch: images in a batch.
        seed: decides which images are held out, and the order of the others.
    """

    def __init__(self, batch: int, seed: int = 0) -> None:
        pixels, digits = load_digits(return_X_y=True)
        shuffled = np.random.default_rng(seed).permutation(len(pixels))
        test, train = np.split(shuffled, [len(pixels) // 5])
        # From 0 (paper) to 16 (ink), brought to about zero: that trains better.
        self.x = ((pixels - 5) / 4).astype(np.float32)
        self.y = digits.astype(np.int64)
        self.train = train
        self.test = test
        self.size = batch
        self.seed = seed

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Images (batch, 64) and digits (batch,) of a step. Every image comes once before any comes again."""
        count = len(self.train)
        places = np.arange(step * self.size, (step + 1) * self.size)
        first, last = places[0] // count, places[-1] // count
        order = np.concatenate([self.epoch(number) for number in range(first, last + 1)])
        chosen = order[places - first * count]
        return self.x[chosen], self.y[chosen]

    def epoch(self, number: int) -> np.ndarray:
        """The training images in the order in which one pass through all of them takes them."""
        return np.random.default_rng([self.seed, number]).permutation(self.train)

    def held_out(self) -> tuple[np.ndarray, np.ndarray]:
        """The images that are never trained on, (359, 64), and their digits, (359,)."""
        return self.x[self.test], self.y[self.test]
