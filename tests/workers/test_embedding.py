"""The table and its reader of the embedding job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.autograd.rows import Rows
from distgrad.coordinator.training.job import Job
from distgrad.coordinator.training.trainer import Trainer
from distgrad.worker.programs import Programs
from tests.coordinator.cluster import cluster

WORKERS = Path(__file__).parents[2] / "workers"
JOBS = WORKERS.parent / "deploy" / "jobs"
PROGRAMS = Programs(WORKERS)
ROWS, WIDTH, COUNT = 13, 3, 4


def tables(parts: int) -> list[Any]:
    """The shards of one table whose row r is (r, r, r), cut into parts."""
    kind = PROGRAMS.shard_class("embedding.py:Table")
    made = [kind(ROWS, WIDTH, part, parts) for part in range(parts)]
    for table in made:
        numbers = np.arange(table.part, ROWS, parts, dtype=np.float32)
        table.rows.weight.set_data(np.repeat(numbers[:, None], WIDTH, axis=1))
    return made


@pytest.fixture
def reader() -> Any:
    return PROGRAMS.shard_class("embedding.py:Reader")(COUNT, WIDTH, 5, 2)


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_the_reader_sees_the_rows_in_the_order_of_their_numbers_however_the_table_is_cut(
    reader: Any, parts: int, rng: np.random.Generator
) -> None:
    numbers = rng.integers(ROWS, size=(6, COUNT))
    reader.network = lambda rows: rows
    found = reader._scores(dg.tensor(numbers), tuple(t.look_up(dg.tensor(numbers)) for t in tables(parts)))
    np.testing.assert_array_equal(found.numpy(), np.repeat(numbers, WIDTH, axis=1))


def test_rows_that_nobody_looked_up_have_no_gradient(reader: Any) -> None:
    numbers = dg.tensor(np.array([[0, 2, 4, 4], [2, 5, 12, 0]]))
    shards = tables(2)
    reader.loss(numbers, np.array([0, 1]), *(table.look_up(numbers) for table in shards)).backward()
    even, odd = (table.rows.weight.grad for table in shards)
    assert isinstance(even, Rows)
    assert isinstance(odd, Rows)
    assert even.indices.tolist() == [0, 1, 2, 6]
    assert odd.indices.tolist() == [2]


def test_loss_and_prediction_are_of_the_same_scores(reader: Any, rng: np.random.Generator) -> None:
    numbers, classes = dg.tensor(rng.integers(ROWS, size=(9, COUNT))), rng.integers(2, size=9)
    parts = [table.look_up(numbers) for table in tables(2)]
    scores = reader._scores(numbers, parts).numpy()
    log = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    assert reader.loss(numbers, classes, *parts).item() == pytest.approx(-log[np.arange(9), classes].mean(), rel=1e-5)
    np.testing.assert_array_equal(np.asarray(reader.predict(numbers, *parts)), scores.argmax(axis=1))


def test_of_a_table_only_rows_that_were_looked_up_cross_and_change(tmp_path: Path) -> None:
    changes = ["steps=3", "trainers=1", "data.config.batch=20", f"metrics.directory={str(tmp_path)!r}"]
    job = replace(Job.load(JOBS / "embedding.toml", changes), evaluation=None, checkpoint=None)
    with cluster(WORKERS, "w0", "w1", "w2") as (_, client):
        client.place("even", "embedding.py:Table", "w0", job.shards[0].config, job.seed)
        before = client.read_state("even")["parameters"]["rows.weight"]
        result = Trainer(client, job).run()
        state = client.read_state("even")
    data = PROGRAMS.find("ngrams.py:Ngrams")(batch=20, rows=65536, orders=5, seed=job.seed)
    looked_up = np.concatenate([data.batch(step)[0].reshape(-1) for step in range(3)])
    expected = np.unique(looked_up[looked_up % 2 == 0] // 2)
    weight, squares = state["parameters"]["rows.weight"], state["optimizer"]["rows.weight/sum"]
    assert set(np.flatnonzero((weight != before).any(axis=1))) <= set(expected)
    assert set(np.flatnonzero((squares != squares[-1]).any(axis=1))) <= set(expected)
    assert 0 < len(expected) < 200
    assert result.bytes_sent < weight.nbytes / 10
