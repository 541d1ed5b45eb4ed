"""Gradients of slices: kept as slices until they are added up, and then as if they had been dense all along."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.autograd.sliced import Sliced

ops = dg.ops
ALL = slice(None)
INDICES: list[Any] = [
    1,
    -1,
    (ALL, 2),
    (Ellipsis, 0),
    (slice(None, None, -2), None, slice(1, 3)),
    (2, 3),
    slice(0, 0),
    (None, ALL),
]


@pytest.mark.parametrize("index", INDICES)
def test_a_slice_is_dense_where_it_is_needed(index: Any, rng: np.random.Generator) -> None:
    values = rng.standard_normal(np.zeros((3, 4))[index].shape)
    lazy = Sliced(index, values, (3, 4))
    dense = np.zeros((3, 4))
    dense[index] = values
    np.testing.assert_array_equal(lazy.dense(), dense)
    other = rng.standard_normal((3, 4))
    before = other.copy()
    for total in (lazy + other, other + lazy):
        np.testing.assert_array_equal(total, dense + other)
    np.testing.assert_array_equal(other, before)
    np.testing.assert_array_equal(lazy + lazy, 2 * dense)
    assert lazy.astype(np.float32).dense().dtype == np.float32


@pytest.mark.parametrize("index", [None, (), Ellipsis, (None, Ellipsis)])
def test_a_slice_of_an_array_without_axes_is_added_to_its_other_uses(index: Any) -> None:
    grad = dg.grad(lambda x: ops.sum(ops.sin(x[index])) + 2 * x + ops.exp(x[index].sum()) + x[index].sum())
    np.testing.assert_allclose(grad(0.3), np.cos(0.3) + 3 + np.exp(0.3))


def uses(x: Any) -> dict[str, Any]:
    """Scalars in which x is read in different ways."""
    return {
        "one slice": ops.sum(ops.sin(x[1])),
        "two slices": ops.sum(x[:, 0] * x[:, 1]),
        "many slices": sum(ops.sum(ops.sin(x[:, t]) * t) for t in range(4)),
        "slices that overlap": ops.sum(x[:2] * x[1:]) + ops.sum(x[0] ** 2),
        "slices, then all of it": ops.sum(x[0] * x[1]) + ops.sum(ops.exp(x)),
        "all of it, then slices": ops.sum(ops.exp(x)) + ops.sum(x[0] * x[1]),
        "all of it between slices": ops.sum(x[0] ** 2) + ops.sum(ops.exp(x)) + ops.sum(x[2, 1] ** 2),
        "rows and slices": ops.sum(ops.embedding(x, np.array([0, 0, 2])) ** 2) + ops.sum(x[0] * x[1]),
        "slices of a slice": ops.sum(x[1:][0] * x[1:][1]),
        "elements": ops.sum(ops.stack([a for row in x for a in row]) ** 3),
    }


@pytest.mark.parametrize("name", uses(np.ones((3, 4))))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_gradient_is_that_of_the_recorded_pass(name: str, dtype: type, rng: np.random.Generator) -> None:
    data = rng.standard_normal((3, 4)).astype(dtype)
    # In a recorded pass nothing is lazy; in the third the slices meet inside the graph.
    x = dg.tensor(data, requires_grad=True)
    uses(x)[name].backward()
    recorded = dg.tensor(data, requires_grad=True)
    uses(recorded)[name].backward(create_graph=True)
    inner = dg.tensor(data, requires_grad=True)
    uses(inner * 1.0)[name].backward()
    assert type(x.grad) is np.ndarray
    assert x.grad.dtype == dtype
    np.testing.assert_allclose(x.grad, recorded.grad.data, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(x.grad, inner.grad)


def test_a_hook_sees_a_dense_gradient() -> None:
    x = dg.tensor(np.ones((2, 3)), requires_grad=True)
    seen: list[Any] = []
    x.register_hook(lambda g: seen.append(g.numpy().copy()))
    ops.sum(x[:, 1]).backward()
    np.testing.assert_array_equal(seen, [[[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]])


def test_reading_an_array_in_slices_makes_one_dense_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Sliced] = []
    dense = Sliced.dense
    monkeypatch.setattr(Sliced, "dense", lambda self: made.append(self) or dense(self))
    x = dg.tensor(np.ones((2, 100)), requires_grad=True)
    state: Any = 0.0
    for t in range(100):
        state = ops.tanh(state + x[:, t])
    ops.sum(state).backward()
    assert len(made) == 1
    assert np.all(x.grad != 0)
