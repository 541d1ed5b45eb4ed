"""Joining, splitting and padding as NumPy does, where samples cannot say it: lists of arrays, odd arguments."""

from __future__ import annotations

from typing import Any

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import distgrad as dg
from distgrad.errors import GradientError
from tests.autograd.differences import check_derivatives

ops = dg.ops


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("name", ["concatenate", "stack", "hstack", "vstack", "dstack", "column_stack"])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 2)])
def test_lists_of_arrays_are_joined_as_numpy_joins_them(name: str, shape: tuple[int, ...]) -> None:
    xs = [numbers(*shape, seed=k) for k in range(3)]
    np.testing.assert_array_equal(getattr(ops, name)(xs).numpy(), getattr(np, name)(xs))
    check_derivatives(lambda *ts: getattr(ops, name)([t * t for t in ts]), *xs)


def test_concatenate_flattens_without_an_axis_and_takes_tensors_and_arrays_together() -> None:
    x, y = numbers(2, 3), numbers(2)
    np.testing.assert_array_equal(
        ops.concatenate([dg.tensor(x), y], axis=None).numpy(), np.concatenate([x, y], axis=None)
    )


def test_a_list_of_one_dtype_and_another_is_promoted_and_gradients_keep_theirs() -> None:
    x, y = numbers(2).astype(np.float32), numbers(2)
    value, pull = dg.vjp(lambda x, y: ops.concatenate([x, y]), x, y)
    assert value.dtype == np.float64
    assert [g.dtype for g in pull(value)] == [np.float32, np.float64]


@given(st.integers(0, 9), st.one_of(st.integers(1, 5), st.lists(st.integers(-3, 12), max_size=4)))
def test_array_split_cuts_where_numpy_cuts(length: int, cuts: Any) -> None:
    x = numbers(length, 2)
    expected = np.array_split(x, cuts)
    value, pull = dg.vjp(lambda t: ops.array_split(t, cuts), x)
    assert [v.shape for v in value] == [e.shape for e in expected]
    for v, e in zip(value, expected, strict=True):
        np.testing.assert_array_equal(v, e)
    counts = sum((np.isin(np.arange(length), p) for p in np.array_split(np.arange(length), cuts)), np.zeros(length))
    np.testing.assert_array_equal(pull(tuple(np.ones_like(v) for v in value))[0][:, 0], counts)


def test_pieces_that_nobody_uses_send_back_zeros() -> None:
    gradient = dg.grad(lambda x: ops.split(x, 4)[2].sum())(np.ones((4, 2)))
    np.testing.assert_array_equal(gradient, [[0, 0], [0, 0], [1, 1], [0, 0]])


def test_an_uneven_split_is_refused() -> None:
    with pytest.raises(ValueError, match="array_split allows"):
        ops.split(np.ones(5), 2)


@given(
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4),
    st.sampled_from(["constant", "edge", "reflect", "symmetric", "wrap"]),
    st.data(),
)
def test_padding_is_numpys(shape: tuple[int, ...], mode: str, data: st.DataObject) -> None:
    widths = data.draw(
        st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=len(shape), max_size=len(shape))
    )
    x = numbers(*shape)
    value, pull = dg.vjp(lambda t: ops.pad(t, widths, mode=mode), x)
    np.testing.assert_array_equal(value, np.pad(x, widths, mode=mode))  # type: ignore[call-overload]
    # Padding is linear: its transpose is known by inner products with all unit vectors at once.
    cotangent = numbers(*value.shape, seed=1)
    np.testing.assert_allclose(np.sum(pull(cotangent)[0] * x), np.sum(cotangent * value), rtol=1e-9, atol=1e-9)


def test_a_way_of_padding_without_derivative_is_named() -> None:
    with pytest.raises(GradientError, match=r"'linear_ramp'.*'edge'"):
        ops.pad(np.ones(3), 1, mode="linear_ramp")


def test_an_order_that_depends_on_memory_is_refused() -> None:
    with pytest.raises(GradientError, match="order='C'"):
        ops.reshape(np.ones((2, 3)), (6,), order="A")


def test_a_tensor_can_be_rearranged_by_position_as_with_numpy() -> None:
    x = dg.tensor(numbers(2, 3, 4), requires_grad=True)
    assert ops.transpose(x, (2, 0, 1)).shape == (4, 2, 3)
    assert ops.moveaxis(x, 0, -1).shape == (3, 4, 2)
    assert ops.roll(x, 1, 0).shape == (2, 3, 4)
    assert ops.tile(x, (2, 1, 1)).shape == (4, 3, 4)


def test_a_wide_split_and_join_is_not_quadratic_in_the_number_of_pieces() -> None:
    x = np.ones(2000)
    seen = []

    def joined(t: Any) -> Any:
        pieces = ops.split(t, 2000)
        seen.append(len(pieces))
        return ops.concatenate(pieces[::-1])

    _, pull = dg.vjp(joined, x)
    np.testing.assert_array_equal(pull(np.arange(2000.0))[0], np.arange(2000.0)[::-1])
    assert seen == [2000]
