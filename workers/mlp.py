"""A multilayer perceptron cut into shards, one layer each: `deploy/jobs/digits.toml` puts them on three workers.

A shard is a `dg.Shard`: a module whose methods marked `@dg.remote` can be called from other processes. Everything else
is ordinary code; what it is differentiated with is nowhere to be seen.
"""

from __future__ import annotations

from typing import Any

import distgrad as dg

ACTIVATIONS = {"relu": dg.ops.relu, "tanh": dg.ops.tanh, "none": lambda x: x}


class Stage(dg.Shard):
    """One layer: activation(x · weightᵀ + bias).

    Arguments:
        inputs, outputs: sizes of the last axis before and after.
        activation: "relu", "tanh" or "none".
    """

    def __init__(self, inputs: int, outputs: int, activation: str = "relu") -> None:
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation {activation!r}, expected one of {', '.join(ACTIVATIONS)}")
        self.linear = dg.nn.Linear(inputs, outputs)
        self.activation = activation

    @dg.remote
    def forward(self, x: Any) -> Any:
        """x (batch, inputs) -> (batch, outputs)."""
        return ACTIVATIONS[self.activation](self.linear(x))


class Classifier(dg.Shard):
    """The last layer: a score for each class.

    Arguments:
        inputs, outputs: sizes of the last axis before and after.
        smoothing: how far the loss spreads each label over all classes, from 0 to 1. A network that is not asked to be
            certain generalises better.
    """

    def __init__(self, inputs: int, outputs: int, smoothing: float = 0.0) -> None:
        self.linear = dg.nn.Linear(inputs, outputs)
        self.smoothing = smoothing

    @dg.remote
    def loss(self, x: Any, labels: Any) -> Any:
        """Mean cross-entropy of x (batch, inputs) and labels (batch,), integers below `outputs`."""
        return dg.ops.cross_entropy(self.linear(x), labels, label_smoothing=self.smoothing)

    @dg.remote
    def predict(self, x: Any) -> Any:
        """x (batch, inputs) -> the most likely class of each, (batch,)."""
        return dg.ops.argmax(self.linear(x), axis=-1)
