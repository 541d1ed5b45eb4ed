"""The network of the conv job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distgrad import nn
from distgrad.worker.programs import Programs

PROGRAMS = Programs(Path(__file__).parents[2] / "workers")


@pytest.fixture
def model() -> tuple[Any, Any]:
    return (
        PROGRAMS.shard_class("conv.py:Features")(side=8, channels=4),
        PROGRAMS.shard_class("conv.py:Classifier")(inputs=8 * 16, outputs=10, dropout=0.5),
    )


def test_features_are_those_of_the_job(model: tuple[Any, Any], rng: np.random.Generator) -> None:
    features, head = model
    x = rng.standard_normal((5, 64)).astype(np.float32)
    found = features.forward(x)
    assert found.shape == (5, 8, 4, 4)
    with nn.evaluating():
        assert np.asarray(head.predict(found)).shape == (5,)


def test_features_move_with_the_image(model: tuple[Any, Any], rng: np.random.Generator) -> None:
    """By two pixels, which is one place after pooling, away from the edges."""
    features, _ = model
    image = np.zeros((1, 8, 8), np.float32)
    image[:, 2:4, 2:4] = rng.standard_normal((2, 2))
    moved = np.roll(image, 2, axis=2)
    with nn.evaluating():
        one, two = (features.forward(x.reshape(1, 64)).numpy() for x in (image, moved))
    np.testing.assert_allclose(two[..., 2], one[..., 1], atol=1e-6)


def test_dropout_acts_in_training_alone(model: tuple[Any, Any], rng: np.random.Generator) -> None:
    _, head = model
    x, labels = rng.standard_normal((4, 8, 4, 4)).astype(np.float32), np.arange(4)
    with nn.evaluating():
        assert head.loss(x, labels).item() == head.loss(x, labels).item()
    assert head.loss(x, labels).item() != head.loss(x, labels).item()
