"""The language model of the gpt job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.worker.programs import Programs
from tests.coordinator.cluster import cluster

WORKERS = Path(__file__).parents[2] / "workers"
PROGRAMS = Programs(WORKERS)
SYMBOLS, LENGTH, WIDTH = 11, 6, 8


@pytest.fixture
def model() -> dict[str, Any]:
    made = {
        "embedding": PROGRAMS.shard_class("transformer.py:Embedding")(SYMBOLS, LENGTH, WIDTH),
        "blocks": PROGRAMS.shard_class("transformer.py:Blocks")(2, WIDTH, 2),
        "head": PROGRAMS.shard_class("transformer.py:Head")(WIDTH),
    }
    return made


def hidden(model: dict[str, Any], text: np.ndarray) -> Any:
    return model["blocks"].forward(model["embedding"].forward(text))


def test_a_position_sees_itself_and_those_before(model: dict[str, Any], rng: np.random.Generator) -> None:
    text = rng.integers(SYMBOLS, size=(2, LENGTH))
    changed = text.copy()
    changed[:, 3] = (text[:, 3] + 1) % SYMBOLS
    before, after = hidden(model, text).numpy(), hidden(model, changed).numpy()
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert (np.abs(before - after)[:, 3:].max(axis=-1) > 0).all()


def test_scores_predictions_and_loss_agree(model: dict[str, Any], rng: np.random.Generator) -> None:
    text, following = rng.integers(SYMBOLS, size=(2, 3, LENGTH))
    head, table = model["head"], model["embedding"].table()
    x = hidden(model, text)
    scores = head.norm(x).numpy() @ table.numpy().T
    log = scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(head.next(x, table).numpy(), log[:, -1], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(head.predict(x, table)), scores.argmax(axis=-1))
    expected = -np.take_along_axis(log, following[..., None], axis=-1).mean()
    assert head.loss(x, table, following).item() == pytest.approx(expected, rel=1e-5)


def test_the_table_receives_the_gradients_of_reading_and_of_writing(
    model: dict[str, Any], rng: np.random.Generator
) -> None:
    text, following = rng.integers(SYMBOLS, size=(2, 3, LENGTH))
    embedding, head = model["embedding"], model["head"]

    def gradient(read: bool, write: bool) -> np.ndarray:
        x = hidden(model, text)
        table = embedding.table() if write else dg.stop_gradient(embedding.table())
        loss = head.loss(x if read else dg.stop_gradient(x), table, following)
        embedding.zero_grad()
        loss.backward()
        found = embedding.vectors.grad
        return np.asarray(found.dense() if hasattr(found, "dense") else found)

    both = gradient(read=True, write=True)
    np.testing.assert_allclose(both, gradient(True, False) + gradient(False, True), rtol=1e-4, atol=1e-6)
    assert np.abs(gradient(True, False)).max() > 0
    assert np.abs(gradient(False, True)).max() > 0


def test_the_table_receives_both_gradients_across_workers(model: dict[str, Any], rng: np.random.Generator) -> None:
    text, following = rng.integers(SYMBOLS, size=(2, 3, LENGTH))
    embedding, head = model["embedding"], model["head"]
    head.loss(embedding.forward(text), embedding.table(), following).backward()
    with cluster(WORKERS, "w0", "w1") as (_, client):
        sizes = {"symbols": SYMBOLS, "length": LENGTH, "width": WIDTH}
        far = client.place("embedding", "transformer.py:Embedding", "w0", sizes)
        far.load_state_dict(embedding.state_dict())
        other = client.place("head", "transformer.py:Head", "w1", {"width": WIDTH})
        with client.context() as ctx:
            ctx.backward(other.loss(far.forward(text), far.table(), following))
            found = ctx.gradients(far)["vectors"]
    np.testing.assert_array_equal(found, embedding.vectors.grad)
