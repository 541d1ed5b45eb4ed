"""vmap: every operation on a batch is the operation on each example; nested with the other transforms in any order."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.autograd.primitive import PRIMITIVES
from distgrad.autograd.vmap import RULES
from tests.autograd.case import Case, cases
from tests.autograd.samples import all_samples

ops = dg.ops
BATCH = 3

# The rank of a matrix, which decides what lstsq computes, differs between examples.
REFUSED = {"lstsq"}


def batches(name: str) -> list[tuple[Case, list[list[Any]]]]:
    """For each sample a case and the operands of a few examples."""
    found = []
    for case in cases(name):
        examples = [Case(name, case.sample, case.seed + k).xs for k in range(BATCH)]
        if case.xs and all(a.shape == b.shape for xs in examples for a, b in zip(xs, examples[0], strict=True)):
            found.append((case, examples))
    return found


def stacked(rows: list[list[Any]]) -> list[Any]:
    return [np.stack(column) for column in zip(*rows, strict=True)]


def test_every_rule_belongs_to_a_primitive() -> None:
    assert sorted(RULES.keys() - PRIMITIVES.keys()) == []


@pytest.mark.parametrize("name", sorted(all_samples().keys() - REFUSED))
def test_an_operation_on_a_batch_is_the_operation_on_each_example(name: str) -> None:
    for case, examples in batches(name):
        with case.blamed():
            found = dg.vmap(case.f)(*stacked(examples))
            expected = [[y.numpy() for y in case.f(*xs)] for xs in examples]
            for y, e in zip(found, stacked(expected), strict=True):
                assert y.shape == e.shape
                assert y.dtype == e.dtype
                np.testing.assert_allclose(y, e, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "name", sorted(n for n in all_samples().keys() - REFUSED if n not in PRIMITIVES or PRIMITIVES[n].vjps)
)
def test_the_gradient_of_a_batch_is_that_of_each_example(name: str) -> None:
    for case, examples in batches(name):

        def loss(*xs: Any, case: Case = case) -> Any:
            terms = [ops.sum(ops.real(y * ops.conj(y))) for y in case.smooth(*xs)]
            return sum(terms[1:], terms[0])

        with case.blamed():
            every = tuple(range(len(case.xs)))
            expected = stacked([list(dg.grad(loss, every)(*xs)) for xs in examples])
            inside = dg.vmap(dg.grad(loss, every))(*stacked(examples))
            outside = dg.grad(lambda *xs: ops.sum(dg.vmap(loss)(*xs)), every)(*stacked(examples))
            for g, h, e in zip(inside, outside, expected, strict=True):
                scale = 1 + np.max(np.abs(e), initial=0.0)
                np.testing.assert_allclose(g, e, rtol=1e-9, atol=1e-10 * scale)
                np.testing.assert_allclose(h, e, rtol=1e-9, atol=1e-10 * scale)


# ---- axes and trees --------------------------------------------------------------------------------------------------

X = np.arange(12.0).reshape(4, 3)
Y = np.linspace(-1.0, 1.0, 4)


def test_axes_may_be_given_for_each_argument_and_result() -> None:
    f = dg.vmap(lambda x, y, z: (x * y + z, x), in_axes=(1, None, 0), out_axes=(1, 0))
    first, second = f(X, Y, np.arange(3.0))
    np.testing.assert_array_equal(first, X * Y[:, None] + np.arange(3.0))
    np.testing.assert_array_equal(second, X.T)


def test_a_negative_axis_counts_from_the_end() -> None:
    np.testing.assert_array_equal(dg.vmap(lambda x: x * 2, in_axes=-1, out_axes=-1)(X), X * 2)


def test_one_axis_serves_a_whole_tree_of_arguments() -> None:
    f = dg.vmap(lambda p, x: {"y": p["w"] * x + p["b"]}, in_axes=({"b": None, "w": 0}, 0))
    np.testing.assert_array_equal(f({"w": Y, "b": 1.0}, Y)["y"], Y * Y + 1)


def test_a_result_that_is_the_same_for_all_is_repeated_or_returned_once() -> None:
    assert dg.vmap(lambda x: 7.0)(Y).tolist() == [7.0] * 4
    assert dg.vmap(lambda x: 7.0, out_axes=None)(Y).tolist() == 7.0


def test_tensors_in_tensors_out_and_gradients_flow_through() -> None:
    x = dg.tensor(X, requires_grad=True)
    y = dg.vmap(lambda row: ops.sum(row * row))(x)
    assert isinstance(y, dg.Tensor)
    y.backward(Y)
    np.testing.assert_allclose(x.grad, 2 * X * Y[:, None])


def test_each_example_may_use_an_index_of_its_own() -> None:
    columns = np.array([2, 0, 1, 2])
    expected = X[np.arange(4), columns]
    np.testing.assert_array_equal(dg.vmap(lambda row, k: row[k])(X, columns), expected)
    np.testing.assert_array_equal(dg.vmap(lambda k: dg.tensor(X)[k])(columns), X[columns])


def test_an_empty_batch_gives_empty_results() -> None:
    assert dg.vmap(lambda x: ops.sum(x) * 2)(np.zeros((0, 3))).shape == (0,)
    assert dg.vmap(lambda x: ops.take_along_axis(x, np.array([0]), axis=0))(np.zeros((0, 3))).shape == (0, 1)


# ---- nesting ---------------------------------------------------------------------------------------------------------


def f(x: Any) -> Any:
    return ops.sin(x) * ops.exp(-x * x)


def test_vmaps_nest() -> None:
    outer = dg.vmap(lambda x: dg.vmap(lambda y: x * y + ops.sum(X))(Y))(Y)
    np.testing.assert_allclose(outer, np.outer(Y, Y) + X.sum())


def test_vmap_of_jvp_and_jvp_of_vmap_agree() -> None:
    tangents = np.ones(4)
    inside = dg.vmap(lambda y, t: dg.jvp(f, (y,), (t,))[1])(Y, tangents)
    outside = dg.jvp(dg.vmap(f), (Y,), (tangents,))[1]
    np.testing.assert_allclose(inside, outside, rtol=1e-13)
    np.testing.assert_allclose(inside, [dg.grad(f)(y) for y in Y], rtol=1e-13)


def test_vmap_goes_into_every_order_of_derivative() -> None:
    third = dg.grad(dg.grad(dg.grad(f)))
    expected = [float(third(y)) for y in Y]
    np.testing.assert_allclose(dg.vmap(third)(Y), expected, rtol=1e-11)
    mixed = dg.grad(lambda y: dg.jvp(dg.grad(f), (y,), (1.0,))[1])
    np.testing.assert_allclose(dg.vmap(mixed)(Y), expected, rtol=1e-11)


def test_a_closed_over_batch_of_an_outer_vmap_is_told_apart_from_the_inner_one() -> None:
    found = dg.vmap(lambda x: dg.vmap(lambda y: x - y)(X[0]))(Y)
    np.testing.assert_array_equal(found, Y[:, None] - X[0])


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dg.vmap(3.0), "takes a function"),
        (lambda: dg.vmap(f)(2.0), r"args\[0\] has shape \(\)"),
        (lambda: dg.vmap(f, in_axes=None)(Y), "at least one argument with a batch"),
        (lambda: dg.vmap(lambda x, y: x)(X, Y[:2]), r"disagree.*args\[0\] has 4, args\[1\] has 2"),
        (lambda: dg.vmap(lambda x, y: x, in_axes=(0,))(Y, Y), "1 entries, but .* 2 arguments"),
        (lambda: dg.vmap(f, out_axes=None)(Y), "out_axes is None"),
        (lambda: dg.vmap(lambda p: p["a"], in_axes=({"b": 0},))({"a": Y}), "must begin like"),
        (lambda: dg.vmap(lambda x: x if x > 0 else -x)(Y), "dg.ops.where instead of if"),
        (lambda: dg.vmap(lambda x: float(x))(Y), "whole batch"),
        (lambda: dg.vmap(lambda x: ops.compress(x > 0, x))(X), "whole batch"),
        (lambda: dg.vmap(lambda x: ops.lstsq(x, np.ones(2)))(np.ones((3, 2, 2))), "whole batch"),
    ],
)
def test_what_vmap_cannot_do_is_said(call: Any, message: str) -> None:
    with pytest.raises(dg.DistgradError, match=message):
        call()


@pytest.mark.parametrize("write", [ops.set_at, ops.add_at])
def test_an_index_and_the_array_that_is_written_to_may_be_batches_of_different_levels(
    write: Any, rng: np.random.Generator
) -> None:
    x, values, rows = rng.normal(size=(3, 4, 5)), rng.normal(size=(2, 5)), np.array([[0, 3], [2, 1]])
    inner = dg.vmap(lambda x, v, i: write(x, i, v), in_axes=(0, None, None))
    found = dg.vmap(inner, in_axes=(None, 0, 0))(x, values, rows)
    np.testing.assert_array_equal(
        found, [[write(a, i, v).numpy() for a in x] for v, i in zip(values, rows, strict=True)]
    )


BEYOND: dict[str, Callable[[Any], Any]] = {
    "sum": lambda x: ops.sum(x, axis=-2),
    "var": lambda x: ops.var(x, axis=(0, -2)),
    "argmax": lambda x: ops.argmax(x, axis=1),
    "cumsum": lambda x: ops.cumsum(x, axis=-2),
    "roll": lambda x: ops.roll(x, 1, axis=-2),
    "swapaxes": lambda x: ops.swapaxes(x, -1, -2),
    "transpose": lambda x: ops.transpose(x, (1,)),
    "concatenate": lambda x: ops.concatenate([x, x], axis=-2),
    "stack": lambda x: ops.stack([x, x], axis=-3),
    "expand_dims": lambda x: ops.expand_dims(x, -3),
    "squeeze": lambda x: ops.squeeze(x, axis=-2),
}


@pytest.mark.parametrize("name", BEYOND)
def test_the_batch_is_never_one_of_the_axes_of_an_example(name: str) -> None:
    for f in (BEYOND[name], dg.vmap(BEYOND[name])):
        with pytest.raises(np.exceptions.AxisError):
            f(np.ones((3, 4))[0] if f is BEYOND[name] else np.ones((3, 4)))


@pytest.mark.parametrize("f", [ops.det, ops.svdvals, lambda x: ops.layer_norm(x, axes=2), ops.fft2])
def test_a_batch_of_vectors_is_no_matrix(f: Callable[[Any], Any]) -> None:
    with pytest.raises((ValueError, IndexError, dg.DistgradError)):
        dg.vmap(f)(np.ones((3, 3)))


@pytest.mark.parametrize("f", [ops.tril, lambda x: ops.triu(x, k=1)])
def test_triangles_of_vectors_are_numpys(f: Callable[[Any], Any]) -> None:
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(dg.vmap(f)(x), np.stack([f(row).numpy() for row in x]))


@pytest.mark.parametrize(
    "f", [lambda x: ops.add(x, [1, 2, 3]), lambda x: ops.power(x, [1, 2, 3]), lambda x: ops.dot([1, 2, 3], x)]
)
def test_lists_are_operands_within_any_transform(f: Callable[[Any], Any]) -> None:
    def total(x: Any) -> Any:
        return ops.sum(ops.square(f(x)))

    x, v = np.array([1.0, 2.0, 0.5]), np.array([0.1, 0.2, -0.3])
    np.testing.assert_allclose(dg.hvp(total)(x, v), dg.hessian(total)(x) @ v)
    assert dg.vmap(dg.grad(total))(x[None]).shape == (1, 3)


@pytest.mark.parametrize("name", sorted(name for name, op in PRIMITIVES.items() if op.vjps is not None))
def test_a_batch_of_cotangents_is_pulled_back_through_what_is_no_batch(name: str) -> None:
    for case in islice(cases(name), 2):
        with case.blamed():
            values, pullback = dg.vjp(case.smooth, *case.xs)
            seeds = case.directions(values)

            def of_scaled(scale: Any, case: Case = case, seeds: Any = seeds) -> Any:
                return dg.vjp(case.smooth, *case.xs)[1](tuple(scale * seed for seed in seeds))

            for gradient, expected in zip(
                dg.vmap(of_scaled)(np.array([1.0, -2.0])), pullback(tuple(seeds)), strict=True
            ):
                np.testing.assert_allclose(gradient[0], expected, rtol=1e-9, atol=1e-12)
                np.testing.assert_allclose(gradient[1], -2 * expected, rtol=1e-9, atol=1e-12)
