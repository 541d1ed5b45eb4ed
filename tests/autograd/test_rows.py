"""Row-sparse gradients: sums of rows, and their way through the backward pass."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import distgrad as dg
from distgrad.autograd.backward import gradients
from distgrad.autograd.rows import Rows
from distgrad.autograd.rules.scatter import add_rows

TABLE = np.arange(10.0).reshape(5, 2)


def looked_up(table: dg.Tensor, *indices: int) -> dg.Tensor:
    return dg.ops.embedding(table, np.array(indices)).sum()  # type: ignore[no-any-return]


def variable() -> dg.Tensor:
    return dg.tensor(TABLE, requires_grad=True)


# ---- sums ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(-6, 5), max_size=80), st.sampled_from([(), (3,), (20,), (4, 5)]))
def test_rows_are_summed_as_add_at_sums_them(indices: list[int], rest: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).standard_normal((len(indices), *rest))
    expected = np.zeros((6, *rest))
    np.add.at(expected, np.array(indices, np.int64), values)
    rows = Rows.from_unsorted(np.array(indices, np.int64), values, 6)
    assert list(rows.indices) == sorted({i % 6 for i in indices})
    np.testing.assert_allclose(rows.dense(), expected, rtol=1e-12, atol=1e-12)
    out = np.zeros((6, *rest))
    add_rows(out, np.array(indices, np.int64), values)
    np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-12)


def test_a_row_that_occurs_very_often_is_summed_too() -> None:
    indices = np.array([0, *[3] * 1000, 1, *[3] * 500])
    rows = Rows.from_unsorted(indices, np.ones((len(indices), 20), np.float32), 5)
    np.testing.assert_array_equal(rows.values[:, 0], [1, 1, 1500])
    assert rows.dtype == np.float32


def test_rows_add_up_with_rows_and_with_arrays_on_either_side() -> None:
    first = Rows.from_unsorted(np.array([3, 1]), np.ones((2, 2)), 5)
    second = Rows.from_unsorted(np.array([1, 4]), np.ones((2, 2)), 5)
    both = first + second
    assert isinstance(both, Rows)
    assert list(both.indices) == [1, 3, 4]
    np.testing.assert_array_equal(both.dense(), first.dense() + second.dense())
    np.testing.assert_array_equal(first + TABLE, first.dense() + TABLE)
    np.testing.assert_array_equal(TABLE + first, first.dense() + TABLE)
    np.testing.assert_array_equal((2 * first).dense(), 2 * first.dense())


def test_adding_rows_to_an_array_leaves_the_array_alone() -> None:
    dense = np.zeros((5, 2))
    Rows.from_unsorted(np.array([3]), np.ones((1, 2)), 5) + dense
    assert not dense.any()


# ---- through a pass --------------------------------------------------------------------------------------------------


def test_a_table_that_is_a_variable_receives_rows() -> None:
    table = variable()
    looked_up(table, 3, 1, 3).backward()
    assert isinstance(table.grad, Rows)
    assert repr(table.grad) == "Rows(2 of 5 rows, dtype=float64)"
    np.testing.assert_array_equal(table.grad.values, [[1, 1], [2, 2]])


def test_gradients_of_several_passes_and_look_ups_add_up() -> None:
    table = variable()
    (looked_up(table, 1) + looked_up(table, 3, 1)).backward()
    looked_up(table, 4).backward()
    assert isinstance(table.grad, Rows)
    np.testing.assert_array_equal(table.grad.dense()[:, 0], [0, 2, 0, 1, 1])


@pytest.mark.parametrize("dense_first", [False, True])
def test_rows_and_dense_gradients_of_one_table_add_up(dense_first: bool) -> None:
    table = variable()
    terms = [looked_up(table, 1, 1), table.sum(), looked_up(table, 2)]
    if dense_first:
        terms.reverse()
    (terms[0] + terms[1] + terms[2]).backward()
    np.testing.assert_array_equal(table.grad[:, 0], [1, 3, 2, 1, 1])
    looked_up(table, 0).backward()
    np.testing.assert_array_equal(table.grad[:, 0], [2, 3, 2, 1, 1])


def test_a_computed_table_passes_on_a_dense_gradient() -> None:
    table = variable()
    looked_up(table * TABLE, 1).backward()
    np.testing.assert_array_equal(table.grad, np.where(np.arange(5)[:, None] == 1, TABLE, 0))


def test_hooks_see_a_dense_gradient() -> None:
    table = variable()
    seen = []
    table.register_hook(lambda gradient: seen.append(gradient.numpy()))
    looked_up(table, 2).backward()
    np.testing.assert_array_equal(seen[0][:, 0], [0, 0, 1, 0, 0])


def test_grad_gives_arrays() -> None:
    assert type(dg.grad(lambda table: looked_up(table, 1))(TABLE)) is np.ndarray


def test_a_recorded_pass_gives_tensors_that_can_be_differentiated() -> None:
    table = variable()
    rows = dg.ops.embedding(table, np.array([1, 1]))
    (rows**3).sum().backward(create_graph=True)
    assert isinstance(table.grad, dg.Tensor)
    second = gradients([table.grad.sum()], None, [table])[0]
    np.testing.assert_array_equal(second, np.where(np.arange(5)[:, None] == 1, 12 * TABLE, 0))


@pytest.mark.parametrize("recorded_first", [False, True])
def test_passes_that_are_recorded_and_that_are_not_add_up(recorded_first: bool) -> None:
    table = variable()
    looked_up(table, 1, 1).backward(create_graph=recorded_first)
    looked_up(table, 2).backward(create_graph=not recorded_first)
    np.testing.assert_array_equal(table.grad.numpy()[:, 0], [0, 2, 1, 0, 0])
