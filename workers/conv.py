"""A small convolutional network cut into shards: `deploy/jobs/conv.toml` puts them on two workers."""

from __future__ import annotations

from typing import Any

import distgrad as dg


class Features(dg.Shard):
    """Two rounds of convolution, the first at full size and the second at half of it, each normalised over the batch.

    Arguments:
        side: pixels along an edge of the square images.
        channels: of the first round; the second has twice as many.
    """

    def __init__(self, side: int, channels: int) -> None:
        self.side = side
        self.first = dg.nn.Sequential(
            dg.nn.Conv2d(1, channels, 3, padding=1), dg.nn.BatchNorm(channels), dg.nn.ReLU(), dg.nn.MaxPool2d(2)
        )
        self.second = dg.nn.Sequential(
            dg.nn.Conv2d(channels, 2 * channels, 3, padding=1), dg.nn.BatchNorm(2 * channels), dg.nn.ReLU()
        )

    @dg.remote
    def forward(self, x: Any) -> Any:
        """x (batch, side²), rows of pixels -> (batch, 2 · channels, side / 2, side / 2)."""
        images = dg.ops.reshape(x, (-1, 1, self.side, self.side))
        return self.second(self.first(images))


class Classifier(dg.Shard):
    """A score for each class from the features of all places together.

    Arguments:
        inputs: features of an image, all places together.
        outputs: classes.
        dropout: share of the features that are left out at random while training.
    """

    def __init__(self, inputs: int, outputs: int, dropout: float = 0.0) -> None:
        self.dropout = dg.nn.Dropout(dropout)
        self.linear = dg.nn.Linear(inputs, outputs)

    @dg.remote
    def loss(self, features: Any, labels: Any) -> Any:
        """Mean cross-entropy of features (batch, ...) and labels (batch,), integers below `outputs`."""
        return dg.ops.cross_entropy(self._scores(features), labels)

    @dg.remote
    def predict(self, features: Any) -> Any:
        """features (batch, ...) -> the most likely class of each, (batch,)."""
        return dg.ops.argmax(self._scores(features), axis=-1)

    def _scores(self, features: Any) -> Any:
        return self.linear(self.dropout(dg.ops.reshape(features, (features.shape[0], -1))))
