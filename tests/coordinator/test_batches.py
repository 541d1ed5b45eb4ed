"""Batches: what a job's data gives is checked where it comes in, and cut evenly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distgrad.coordinator.batches import Batches
from distgrad.coordinator.job import Job, load_job
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
[data]
program = "parts.py:Data"
"""


def job(folder: Path, *changes: str) -> Job:
    file = folder / "tiny.toml"
    file.write_text(JOB.format(programs=str(PROGRAMS)))
    return load_job(file, changes)


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
    pieces = Batches(Fixed(x, list(range(size))), "data", count).microbatches(0)
    assert np.array_equal(np.concatenate([piece.inputs for piece in pieces]), x)
    assert np.concatenate([piece.targets for piece in pieces]).tolist() == list(range(size))
    sizes = [len(piece.inputs) for piece in pieces]
    assert len(sizes) == min(size, count)
    assert max(sizes) - min(sizes) <= 1
    assert [piece.share for piece in pieces] == [n / size for n in sizes]


def test_data_is_given_its_config_and_the_seed_of_the_job(tmp_path: Path) -> None:
    first = Batches.open(job(tmp_path, "data.config.batch=4")).microbatches(3)
    again = Batches.open(job(tmp_path, "data.config.batch=4")).microbatches(3)
    other = Batches.open(job(tmp_path, "data.config.batch=4", "seed=6")).microbatches(3)
    own = Batches.open(job(tmp_path, "data.config.batch=4", "data.config.seed=6")).microbatches(3)
    assert [piece.inputs.shape for piece in first] == [(2, 3), (2, 3)]
    assert np.array_equal(first[0].inputs, again[0].inputs)
    assert not np.array_equal(first[0].inputs, other[0].inputs)
    assert np.array_equal(other[0].inputs, own[0].inputs)


def test_data_without_a_seed_is_made_without(tmp_path: Path) -> None:
    assert len(Batches.open(job(tmp_path, "data.program=parts.py:BatchesOnly")).microbatches(0)) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.program=absent.py:Data"], "there is no program 'absent.py'"),
        (["data.program=parts.py:Dat"], "program parts.py has no 'Dat' .*did you mean 'Data'"),
        (["data.program=parts.py:double"], r"data parts.py:double must be a class with batch\(step\), not <function"),
        (["data.program=parts.py:Layer"], r"data parts.py:Layer must be a class with batch\(step\)"),
        (["data.program=parts.py:BatchesOnly", "evaluation.every=1"], r"has no held_out\(\), which \[evaluation\]"),
        (["data.config.size=3"], "data parts.py:Data cannot be made: TypeError: .*unexpected keyword argument 'size'"),
        (["data.config.spoil=constructor"], "data parts.py:Data cannot be made: ValueError: no data today"),
    ],
)
def test_data_that_cannot_be_made_says_why(tmp_path: Path, changes: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Batches.open(job(tmp_path, *changes))


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
    batches = Batches.open(job(tmp_path, f"data.config.spoil={spoil}", "data.config.at=2"))
    batches.microbatches(1)
    with pytest.raises(ConfigError, match=message):
        batches.microbatches(2)


def test_held_out_examples_are_checked_alike() -> None:
    x, y = Batches(Fixed([[1.0], [2.0]], [0, 1]), "data", 1).held_out()
    assert (x.shape, y.shape) == ((2, 1), (2,))
    with pytest.raises(ConfigError, match=r"data data: held_out\(\) gave inputs of shape \(1,\) and targets of"):
        Batches(Fixed([1.0], []), "data", 1).held_out()
