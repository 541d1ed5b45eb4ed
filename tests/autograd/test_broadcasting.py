"""Broadcasting: the gradient of a stretched operand is summed back to its own shape, whatever the shapes."""

from __future__ import annotations

from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import distgrad as dg

SHAPES = hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, min_side=0, max_side=3)
THREE_SHAPES = hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, min_side=0, max_side=3)
BINARY = st.sampled_from(["add", "subtract", "multiply", "divide", "maximum", "power", "arctan2", "hypot", "logaddexp"])
SEEDS = st.integers(0, 2**32 - 1)


def draw(seed: int, *shapes: tuple[int, ...]) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.uniform(0.5, 2.0, shape) for shape in shapes]


def summed_to(gradient: Any, shape: tuple[int, ...]) -> Any:
    """The sum over the axes that were added or stretched, written out one axis at a time."""
    while gradient.ndim > len(shape):
        gradient = gradient.sum(axis=0)
    for axis, n in enumerate(shape):
        if n == 1:
            gradient = gradient.sum(axis=axis, keepdims=True)
    return gradient


@settings(max_examples=60)
@given(SHAPES, BINARY, SEEDS)
def test_the_gradient_of_a_stretched_operand_is_that_of_the_stretched_copy_summed(
    shapes: hnp.BroadcastableShapes, name: str, seed: int
) -> None:
    op = getattr(dg.ops, name)
    xs = draw(seed, *shapes.input_shapes)
    weight = draw(seed + 1, shapes.result_shape)[0]
    value, pull = dg.vjp(op, *xs)
    assert value.shape == shapes.result_shape
    copies = [np.broadcast_to(x, shapes.result_shape).copy() for x in xs]
    whole = dg.vjp(op, *copies)[1](weight)
    for x, found, expected in zip(xs, pull(weight), whole, strict=True):
        assert found.shape == x.shape
        np.testing.assert_allclose(found, summed_to(expected, x.shape), rtol=1e-12, atol=1e-12)


@settings(max_examples=60)
@given(SHAPES, BINARY, SEEDS)
def test_the_jvp_is_the_vjp_transposed_under_broadcasting(
    shapes: hnp.BroadcastableShapes, name: str, seed: int
) -> None:
    op = getattr(dg.ops, name)
    xs = draw(seed, *shapes.input_shapes)
    tangents = draw(seed + 1, *shapes.input_shapes)
    weight = draw(seed + 2, shapes.result_shape)[0]
    _, tangent = dg.jvp(op, tuple(xs), tuple(tangents))
    assert tangent.shape == shapes.result_shape
    gradients = dg.vjp(op, *xs)[1](weight)
    left = sum(float(np.vdot(t, g)) for t, g in zip(tangents, gradients, strict=True))
    np.testing.assert_allclose(left, float(np.vdot(weight, tangent)), rtol=1e-10, atol=1e-12)


@settings(max_examples=60)
@given(THREE_SHAPES, SEEDS)
def test_where_broadcasts_its_condition_and_both_branches(shapes: hnp.BroadcastableShapes, seed: int) -> None:
    one, two, three = shapes.input_shapes
    condition, x, y = draw(seed, one, two, three)
    condition = condition > 1.2
    weight = draw(seed + 1, shapes.result_shape)[0]
    value, pull = dg.vjp(lambda x, y: dg.ops.where(condition, x, y), x, y)
    np.testing.assert_array_equal(value, np.where(condition, x, y))
    by_x, by_y = pull(weight)
    np.testing.assert_allclose(by_x, summed_to(np.where(condition, weight, 0.0), two), rtol=1e-12)
    np.testing.assert_allclose(by_y, summed_to(np.where(condition, 0.0, weight), three), rtol=1e-12)


@settings(max_examples=60)
@given(st.data(), SEEDS)
def test_clip_broadcasts_array_bounds(data: st.DataObject, seed: int) -> None:
    shapes = data.draw(THREE_SHAPES)
    x, low, high = draw(seed, *shapes.input_shapes)
    low, high = low * 0.5, high + 0.5
    weight = draw(seed + 1, shapes.result_shape)[0]
    value, pull = dg.vjp(dg.ops.clip, x, low, high)
    np.testing.assert_array_equal(value, np.clip(x, low, high))
    total = sum(float(np.sum(g)) for g in pull(weight))
    # Each element of the result is one of its three operands.
    np.testing.assert_allclose(total, float(np.sum(weight)), rtol=1e-10, atol=1e-12)
