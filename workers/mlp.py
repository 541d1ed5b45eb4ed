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
        smoothing: how much the loss asks for doubt, from 0 to 1: the label gets that much less than all, and all
            classes share it (label smoothing: Szegedy et al. 2016). Networks generalise better for it.
    """

    def __init__(self, inputs: int, outputs: int, smoothing: float = 0.0) -> None:
        self.linear = dg.nn.Linear(inputs, outputs)
        self.smoothing = smoothing

    @dg.remote
    def loss(self, x: Any, labels: Any) -> Any:
        """Mean cross-entropy of x (batch, inputs) and labels (batch,), integers below `outputs`."""
        scores = self.linear(x)
        surprise = dg.ops.cross_entropy(scores, labels)
        if not self.smoothing:
            return surprise
        doubt = -dg.ops.mean(dg.ops.log_softmax(scores, axis=-1))
        return (1 - self.smoothing) * surprise + self.smoothing * doubt

    @dg.remote
    def predict(self, x: Any) -> Any:
        """x (batch, inputs) -> the most likely class of each, (batch,)."""
        return dg.ops.argmax(self.linear(x), axis=-1)
