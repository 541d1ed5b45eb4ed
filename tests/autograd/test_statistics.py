"""Order statistics of what is not ordinary: nothing, infinities, booleans and small integers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import distgrad as dg

ops = dg.ops
inf, nan = math.inf, math.nan


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (np.array([inf, inf]), inf),
        (np.array([-inf, -inf, 1.0, 2.0]), -inf),
        (np.array([-inf, inf]), nan),
        (np.array([-1.7e308, 1.7e308]), 0.0),
        (np.array([True, False]), 0.5),
        (np.array([-100, 100], np.int8), 0.0),
        (np.array([200, 250], np.uint8), 225.0),
        (np.zeros(0), nan),
        (np.zeros((0, 3)), nan),
        (np.array([1.0, nan, 2.0]), nan),
    ],
)
def test_the_median_is_numpys(x: Any, expected: float) -> None:
    with np.errstate(invalid="ignore"):  # -inf + inf
        np.testing.assert_equal(ops.median(x).numpy(), expected)


def test_the_median_along_an_axis_of_no_elements_is_nan_in_the_shape_of_the_others() -> None:
    found = ops.median(np.zeros((3, 0, 2), np.float32), axis=1, keepdims=True)
    np.testing.assert_equal(found.numpy(), np.full((3, 1, 2), nan, np.float32))
    assert found.dtype == np.float32


def test_quantiles_between_infinities_and_numbers_are_infinite() -> None:
    found = ops.quantile(np.array([-inf, 1.0, 2.0, inf]), [0.0, 0.1, 0.5, 0.9, 1.0]).numpy()
    np.testing.assert_equal(found, [-inf, -inf, 1.5, inf, inf])


@pytest.mark.parametrize("axis", [0, 1])
def test_differences_of_booleans_are_numpys(axis: int) -> None:
    x = np.array([[True, False, False], [True, True, False]])
    np.testing.assert_array_equal(ops.diff(x, axis=axis).numpy(), np.diff(x, axis=axis))


def test_means_of_large_integers_do_not_wrap_around() -> None:
    x = np.array([2**62, 2**62 + 2, 2**62 + 4])
    assert ops.nanmean(x).item() == np.nanmean(x.astype(float))
