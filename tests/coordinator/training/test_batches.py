"""Batches: what a job's data gives is checked where it comes in, and cut evenly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distgrad.coordinator.training.batches import DrivenBatches, open_batches
from distgrad.coordinator.training.job import Job
from distgrad.errors import ConfigError
from tests.coordinator.cluster import PROGRAMS

JOB = """
name = "tiny"
steps = 1
microbatches = 2
seed = 5
[cluster]
workers = 1
programs = {programs!r}
[[shard]]
name = "head"
program = "parts.py:Layer"
[pipeline]
forward = ["head.loss"]
[optimizer]
kind = "SGD"
settings = {{ lr = 0.1 }}
[data]
program = "parts.py:Data"
"""


def job(folder: Path, *changes: str) -> Job:
    file = folder / "tiny.toml"
    file.write_text(JOB.format(programs=str(PROGRAMS)))
    return Job.load(file, changes)


def tiny(**tables: Any) -> Job:
    shards = [{"name": name, "program": "parts.py:Layer"} for name in ("a", "b")]
    return Job.of(
        **{
            "name": "tiny",
            "steps": 1,
            "shard": shards,
            "pipeline": {"forward": ["a.loss"]},
            "optimizer": {"kind": "SGD", "settings": {"lr": 0.1}},
        }
        | tables
    )


class Fixed:
    """Data of known batches."""

    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = x, y

    def batch(self, step: int) -> tuple[Any, Any]:
        return self.x, self.y

    def held_out(self) -> tuple[Any, Any]:
        return self.x, self.y


@given(size=st.integers(1, 40), count=st.integers(1, 12))
def test_a_batch_is_cut_into_even_pieces_in_order(size: int, count: int) -> None:
    x = np.arange(2.0 * size).reshape(size, 2)
    pieces = DrivenBatches(tiny(microbatches=count), Fixed(x, list(range(size))), "data").microbatches(0)
    assert np.array_equal(np.concatenate([piece.inputs for piece in pieces]), x)
    assert np.concatenate([piece.targets for piece in pieces]).tolist() == list(range(size))
    sizes = [len(piece.inputs) for piece in pieces]
    assert len(sizes) == min(size, count)
    assert max(sizes) - min(sizes) <= 1
    assert [piece.share for piece in pieces] == [n / size for n in sizes]


def test_data_is_given_its_config_and_the_seed_of_the_job(tmp_path: Path) -> None:
    first = open_batches(job(tmp_path, "data.config.batch=4")).microbatches(3)
    again = open_batches(job(tmp_path, "data.config.batch=4")).microbatches(3)
    other = open_batches(job(tmp_path, "data.config.batch=4", "seed=6")).microbatches(3)
    own = open_batches(job(tmp_path, "data.config.batch=4", "data.config.seed=6")).microbatches(3)
    assert [piece.inputs.shape for piece in first] == [(2, 3), (2, 3)]
    assert np.array_equal(first[0].inputs, again[0].inputs)
    assert not np.array_equal(first[0].inputs, other[0].inputs)
    assert np.array_equal(other[0].inputs, own[0].inputs)


def test_data_without_a_seed_is_made_without(tmp_path: Path) -> None:
    assert len(open_batches(job(tmp_path, "data.program=parts.py:BatchesOnly")).microbatches(0)) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.program=absent.py:Data"], "there is no program 'absent.py'"),
        (["data.program=parts.py:Dat"], "program parts.py has no 'Dat' .*did you mean 'Data'"),
        (["data.program=parts.py:double"], "data parts.py:double must be a class, .* not <function"),
        (["data.program=parts.py:Sum"], r"data parts.py:Sum has neither batch\(step\), nor can it be iterated"),
        (["data.program=parts.py:BatchesOnly", "evaluation.every=1"], r"has no held_out\(\), which \[evaluation\]"),
        (["data.config.size=3"], "data parts.py:Data cannot be made: TypeError: .*unexpected keyword argument 'size'"),
        (["data.config.spoil=constructor"], "data parts.py:Data cannot be made: ValueError: no data today"),
    ],
)
def test_data_that_cannot_be_made_says_why(tmp_path: Path, changes: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_batches(job(tmp_path, *changes))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("raise", r"data parts.py:Data: batch\(2\) raised RuntimeError: the file has ended"),
        ("single", r"batch\(2\) gave a ndarray, expected \(inputs, targets\)"),
        (
            "lengths",
            r"batch\(2\) gave inputs of shape \(6, 3\) and targets of shape \(5, 3\), expected the same",
        ),
        ("scalar", r"gave inputs of shape \(6, 3\) and targets of shape \(\), expected"),
        ("empty", r"gave inputs of shape \(0, 3\) and targets of shape \(0, 3\), expected the same .* at least one"),
    ],
)
def test_a_batch_that_is_none_says_what_was_expected(tmp_path: Path, spoil: str, message: str) -> None:
    batches = open_batches(job(tmp_path, f"data.config.spoil={spoil}", "data.config.at=2"))
    batches.microbatches(1)
    with pytest.raises(ConfigError, match=message):
        batches.microbatches(2)


def test_held_out_examples_are_checked_alike() -> None:
    (piece,) = DrivenBatches(tiny(), Fixed([[1.0], [2.0]], [0, 1]), "data").held_out()
    assert (piece.inputs.shape, piece.targets.shape, piece.share) == ((2, 1), (2,), 1.0)
    with pytest.raises(ConfigError, match=r"data data: held_out\(\) gave inputs of shape \(1,\) and targets of"):
        DrivenBatches(tiny(), Fixed([1.0], []), "data").held_out()


@pytest.mark.parametrize(("batch", "sizes"), [(0, [7]), (3, [3, 2, 2]), (7, [7]), (9, [7])])
def test_held_out_examples_come_in_pieces_of_at_most_the_size_asked_for(batch: int, sizes: list[int]) -> None:
    job = tiny(evaluation={"every": 1, "batch": batch})
    pieces = DrivenBatches(job, Fixed(np.zeros((7, 1)), np.zeros(7)), "data").held_out()
    assert [len(piece.inputs) for piece in pieces] == sizes
    assert sum(piece.share for piece in pieces) == pytest.approx(1)


def test_shards_that_hold_the_data_are_given_numbers_alone() -> None:
    calls: list[tuple[int, ...]] = []

    class Holder:
        def part(self, *numbers: int) -> str:
            calls.append(numbers)
            return f"part {numbers}"

    batches = open_batches(tiny(microbatches=2, data={"inputs": "a.part", "targets": "b.part"}))
    shards = {"a": Holder(), "b": Holder()}
    pieces = batches.microbatches(5)
    assert [piece.share for piece in pieces] == [0.5, 0.5]
    assert [piece.values(shards) for piece in pieces] == [("part (5, 0, 2)",) * 2, ("part (5, 1, 2)",) * 2]
    assert calls == [(5, 0, 2), (5, 0, 2), (5, 1, 2), (5, 1, 2)]


def test_a_job_without_data_asks_for_some() -> None:
    with pytest.raises(ConfigError, match=r"job 'tiny' has no \[data\], and none was given"):
        open_batches(tiny())


def test_a_job_that_samples_needs_data_that_can() -> None:
    with pytest.raises(ConfigError, match=r"data Fixed has no sample\(\), which pipeline.sample"):
        open_batches(tiny(pipeline={"forward": ["a.loss"], "sample": ["a.forward"]}), Fixed([0.0], [0]))
