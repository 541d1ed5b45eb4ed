"""Reading and writing at any index NumPy knows: its values, and PyTorch's or `np.add.at`'s gradients."""

from __future__ import annotations

import weakref
from typing import Any

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import distgrad as dg
from distgrad.errors import InPlaceError
from tests.autograd.differences import check_derivatives

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4)


@st.composite
def reads(draw: st.DrawFn) -> tuple[tuple[int, ...], Any]:
    """A shape and an index of it: basic, of arrays, of masks, or all of these mixed."""
    shape = draw(SHAPES)
    kind = draw(st.sampled_from(["basic", "arrays", "mask", "mixed"]))
    if kind == "basic":
        return shape, draw(hnp.basic_indices(shape, allow_newaxis=True))
    if kind == "arrays":
        return shape, draw(hnp.integer_array_indices(shape))
    if kind == "mask":
        return shape, draw(hnp.arrays(bool, shape[: draw(st.integers(1, len(shape)))]))
    together = draw(hnp.array_shapes(max_dims=2, max_side=3))
    entries: list[Any] = []
    for n in shape[: draw(st.integers(1, len(shape)))]:
        what = draw(st.sampled_from(["number", "slice", "array"]))
        if what == "number":
            entries.append(draw(st.integers(-n, n - 1)))
        elif what == "slice":
            entries.append(draw(st.slices(n)))
        else:
            entries.append(draw(hnp.arrays(np.int64, together, elements=st.integers(-n, n - 1))))
    if draw(st.booleans()):
        entries.insert(draw(st.integers(0, len(entries))), None)
    return shape, tuple(entries)


def numbers(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


# ---- reading ---------------------------------------------------------------------------------------------------------


@given(reads())
def test_reading_gives_what_numpy_gives_and_sends_back_what_add_at_adds(read: tuple[tuple[int, ...], Any]) -> None:
    shape, index = read
    x = numbers(shape)
    value, pull = dg.vjp(lambda t: t[index], x)
    np.testing.assert_array_equal(value, x[index])
    assert np.shape(value) == np.shape(x[index])
    cotangent = numbers(np.shape(value), 1)
    expected = np.zeros(shape)
    np.add.at(expected, index, cotangent)
    (found,) = pull(cotangent)
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-13)


@given(reads())
def test_a_gradient_that_is_differentiated_again_is_the_same(read: tuple[tuple[int, ...], Any]) -> None:
    shape, index = read
    x, y = numbers(shape), numbers(shape, 1)

    def energy(t: Any) -> Any:
        return (t[index] ** 3).sum()

    # The Hessian of a sum of cubes of elements, each counted as often as the index names it.
    counts = np.zeros(shape)
    np.add.at(counts, index, 1.0)
    _, pull = dg.vjp(dg.grad(energy), x)
    np.testing.assert_allclose(pull(y)[0], 6 * counts * x * y, rtol=1e-12, atol=1e-12)
    _, tangent = dg.jvp(dg.grad(energy), (x,), (y,))
    np.testing.assert_allclose(
        np.asarray(getattr(tangent, "data", tangent)), 6 * counts * x * y, rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("dtype", [np.float32, np.complex64, np.float16])
def test_the_dtype_is_kept(dtype: Any) -> None:
    x = numbers((3, 20)).astype(dtype)
    for index in ((1,), ([0, 0, 2],), (slice(None), [1, 1])):
        value, pull = dg.vjp(lambda t, index=index: t[index], x)
        assert pull(value)[0].dtype == dtype


def test_tensors_of_integers_and_booleans_are_indices() -> None:
    x = dg.tensor(numbers((4, 2)), requires_grad=True)
    np.testing.assert_array_equal(x[dg.tensor([3, 0])].numpy(), x.numpy()[[3, 0]])
    np.testing.assert_array_equal(x[x > 0].numpy(), x.numpy()[x.numpy() > 0])
    np.testing.assert_array_equal(x[dg.tensor(1)].numpy(), x.numpy()[1])


def test_reading_does_not_copy_what_a_slice_can_show() -> None:
    x = dg.tensor(numbers((4, 2)), requires_grad=True)
    assert np.shares_memory(x[1:3].data, x.data)


@pytest.mark.parametrize("index", [1, [0, 2]])
def test_reading_keeps_the_index_for_the_backward_pass_but_not_the_array(index: Any) -> None:
    x = dg.tensor(numbers((4, 2)), requires_grad=True)
    squares = x * x
    elements = squares[index].sum()
    array = weakref.ref(squares.data)
    del squares
    assert array() is None
    elements.backward()
    expected = np.zeros((4, 2))
    expected[index] = 2 * x.numpy()[index]
    np.testing.assert_array_equal(x.grad, expected)


@pytest.mark.parametrize("index", [5, [0, 5], (0, 0, 0)])
def test_an_index_out_of_range_is_refused(index: Any) -> None:
    x = dg.tensor(numbers((4, 2)), requires_grad=True)
    with pytest.raises(IndexError):
        x[index]


# ---- writing ---------------------------------------------------------------------------------------------------------


@given(reads(), st.booleans())
def test_writing_gives_what_numpy_gives(read: tuple[tuple[int, ...], Any], adding: bool) -> None:
    shape, index = read
    x = numbers(shape)
    value = numbers(np.shape(x[index]), 1)
    expected = x.copy()
    if adding:
        np.add.at(expected, index, value)
    else:
        expected[index] = value
    write = dg.ops.add_at if adding else dg.ops.set_at
    np.testing.assert_allclose(write(x, index, value).numpy(), expected, rtol=1e-13, atol=1e-13)
    np.testing.assert_array_equal(x, numbers(shape))


@given(reads(), st.booleans())
def test_gradients_of_writing_go_to_what_is_still_there(read: tuple[tuple[int, ...], Any], adding: bool) -> None:
    shape, index = read
    x = numbers(shape)
    value = numbers(np.shape(x[index]), 1)
    write = dg.ops.add_at if adding else dg.ops.set_at
    _, pull = dg.vjp(lambda x, v: write(x, index, v), x, value)
    cotangent = numbers(shape, 2)
    of_x, of_value = pull(cotangent)
    # Writing is linear, so what the gradients must give with x and value is known from writing each alone.
    written = write(np.zeros(shape), index, value).numpy()
    kept = write(x, index, np.zeros_like(value)).numpy()
    np.testing.assert_allclose(np.sum(of_value * value), np.sum(cotangent * written), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(np.sum(of_x * x), np.sum(cotangent * kept), rtol=1e-10, atol=1e-12)


def test_of_two_values_written_to_one_place_the_last_gets_the_gradient() -> None:
    gradient = dg.grad(lambda v: dg.ops.set_at(np.zeros(3), [1, 1, 2], v).sum())(np.ones(3))
    np.testing.assert_array_equal(gradient, [0.0, 1.0, 1.0])


def test_derivatives_of_writing_agree_with_differences() -> None:
    x, v = numbers((3, 4)), numbers((2, 1), 1)
    check_derivatives(lambda x, v: dg.ops.set_at(x * x, (slice(0, 2), [0, 3]), v * v), x, v)
    check_derivatives(lambda x, v: dg.ops.add_at(x * x, ([0, 0], slice(1, 2)), v * v), x, v)
    check_derivatives(lambda v: dg.ops.set_at(x, 0, v * v), np.array(3.0))


def test_writing_into_a_recorded_tensor_names_the_functions_that_do_it() -> None:
    x = dg.tensor(numbers((3,)), requires_grad=True)
    with pytest.raises(InPlaceError, match="set_at"):
        x[0] = 1.0


# ---- along an axis ---------------------------------------------------------------------------------------------------


@given(SHAPES, st.data())
def test_sort_moves_gradients_with_their_elements(shape: tuple[int, ...], data: st.DataObject) -> None:
    axis = data.draw(st.sampled_from([None, *range(-len(shape), len(shape))]))
    x = np.random.default_rng(0).permutation(int(np.prod(shape))).reshape(shape).astype(float)
    value, pull = dg.vjp(lambda t: dg.ops.sort(t, axis=axis), x)
    np.testing.assert_array_equal(value, np.sort(x, axis=axis))
    # With the sorted values themselves as cotangent each element must get back its own value.
    np.testing.assert_array_equal(pull(value)[0], x)


@given(SHAPES, st.data())
def test_take_along_axis_and_take_are_numpys(shape: tuple[int, ...], data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    n = shape[axis]
    x = numbers(shape)
    order = np.argsort(numbers(shape, 1), axis=axis)
    np.testing.assert_array_equal(
        dg.ops.take_along_axis(x, order, axis=axis).numpy(), np.take_along_axis(x, order, axis)
    )
    picks = data.draw(hnp.arrays(np.int64, hnp.array_shapes(max_dims=2), elements=st.integers(-n, n - 1)))
    np.testing.assert_array_equal(dg.ops.take(x, picks, axis=axis).numpy(), np.take(x, picks, axis))
    check_derivatives(lambda t: dg.ops.take_along_axis(t * t, order, axis=axis), x)


def test_an_unknown_mode_of_take_is_refused() -> None:
    with pytest.raises(ValueError, match="'raise', 'wrap' and 'clip'"):
        dg.ops.take(np.ones(3), [1], mode="around")
