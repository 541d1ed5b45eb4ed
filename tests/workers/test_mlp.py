"""The layers of the digits job."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from distgrad.worker.programs import Programs

PROGRAMS = Programs(Path(__file__).parents[2] / "workers")


@pytest.mark.parametrize(
    ("activation", "function"),
    [("relu", lambda x: np.maximum(x, 0)), ("tanh", np.tanh), ("none", lambda x: x)],
)
def test_a_stage_is_an_affine_map_and_its_activation(
    activation: str, function: object, rng: np.random.Generator
) -> None:
    stage = PROGRAMS.shard_class("mlp.py:Stage")(inputs=3, outputs=2, activation=activation)
    x = rng.standard_normal((4, 3)).astype(np.float32)
    weight, bias = stage.linear.weight.numpy(), stage.linear.bias.numpy()
    np.testing.assert_allclose(stage.forward(x).numpy(), function(x @ weight.T + bias), rtol=1e-5, atol=1e-6)


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(ValueError, match="activation 'rely', expected one of relu, tanh, none"):
        PROGRAMS.shard_class("mlp.py:Stage")(inputs=3, outputs=2, activation="rely")


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_cross_entropy_with_spread_labels(smoothing: float, rng: np.random.Generator) -> None:
    head = PROGRAMS.shard_class("mlp.py:Classifier")(inputs=3, outputs=5, smoothing=smoothing)
    x, labels = rng.standard_normal((4, 3)).astype(np.float32), np.array([0, 4, 2, 2])
    scores = x @ head.linear.weight.numpy().T + head.linear.bias.numpy()
    log = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    target = (1 - smoothing) * np.eye(5)[labels] + smoothing / 5
    np.testing.assert_allclose(head.loss(x, labels).numpy(), -(target * log).sum(axis=1).mean(), rtol=1e-5)


def test_a_prediction_is_the_class_of_the_highest_score(rng: np.random.Generator) -> None:
    head = PROGRAMS.shard_class("mlp.py:Classifier")(inputs=3, outputs=5)
    x = rng.standard_normal((4, 3)).astype(np.float32)
    scores = x @ head.linear.weight.numpy().T + head.linear.bias.numpy()
    np.testing.assert_array_equal(np.asarray(head.predict(x)), scores.argmax(axis=1))


def test_the_remote_methods_are_those_of_the_job() -> None:
    from distgrad.worker.shard import remote_methods

    assert remote_methods(PROGRAMS.shard_class("mlp.py:Stage")) == {"forward": 1}
    assert remote_methods(PROGRAMS.shard_class("mlp.py:Classifier")) == {"loss": 1, "predict": 1}
