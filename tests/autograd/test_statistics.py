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


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "nansum"])
def test_reductions_of_arrays_without_axes_along_the_axis_that_numpy_allows(name: str, axis: int) -> None:
    def f(x: Any) -> Any:
        return getattr(ops, name)(x, axis=axis) ** 2

    x = np.array(1.5)
    assert dg.grad(f)(x) == 3.0
    assert dg.jvp(f, (x,), (np.array(1.0),)) == (2.25, 3.0)
    assert dg.hessian(f)(x) == 2.0


@pytest.mark.parametrize(
    "f",
    [
        lambda x: ops.median(x, axis=2),
        lambda x: ops.quantile(x, 0.3, axis=-3),
        lambda x: ops.average(x, axis=2, weights=[1.0, 2.0]),
        lambda x: ops.take(x, [0], axis=2),
        lambda x: ops.repeat(x, 2, axis=-3),
        lambda x: ops.tensordot(x, x, axes=([2], [0])),
    ],
)
def test_an_axis_that_is_not_there_is_refused_as_by_numpy(f: Any) -> None:
    with pytest.raises(np.exceptions.AxisError):
        f(np.ones((2, 2)))
