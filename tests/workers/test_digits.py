"""The data of the digits job."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from distgrad.errors import ProgramError
from distgrad.worker.programs import Programs

WORKERS = Path(__file__).parents[2] / "workers"


@pytest.fixture(scope="module")
def digits() -> type:
    return Programs(WORKERS).find("digits.py:Digits")


def test_a_batch_depends_on_step_and_seed_alone(digits: type) -> None:
    first, again, other = digits(batch=8, seed=1), digits(batch=8, seed=1), digits(batch=8, seed=2)
    first.batch(0)
    for one, two in zip(first.batch(5), again.batch(5), strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first.batch(5)[0], other.batch(5)[0])


@pytest.mark.parametrize("batch", [7, 64, 1438, 2000])
def test_every_image_comes_once_before_any_comes_again(digits: type, batch: int) -> None:
    data = digits(batch=batch)
    data.x = np.arange(len(data.x))  # images are told apart by their number
    count = len(data.train)
    taken = np.concatenate([data.batch(step)[0] for step in range(2 * count // batch + 1)])
    assert sorted(taken[:count]) == sorted(taken[count : 2 * count]) == sorted(data.train)
    assert not np.array_equal(taken[:count], taken[count : 2 * count])


def test_held_out_images_are_a_fifth_and_never_trained_on(digits: type) -> None:
    data = digits(batch=8)
    assert set(data.test).isdisjoint(data.train)
    assert len(data.test) == 359
    assert len(data.test) + len(data.train) == 1797


def test_arrays_are_what_the_network_takes(digits: type) -> None:
    x, y = digits(batch=8).batch(0)
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((8, 64), np.float32, (8,), np.int64)
    assert set(y) <= set(range(10))


def test_without_scikit_learn_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ProgramError, match=r'pip install "distgrad\[examples\]"'):
        Programs(WORKERS).find("digits.py:Digits")
