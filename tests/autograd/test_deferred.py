"""A value that nobody looks at is not computed, and whoever looks sees what it would have been."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.autograd import tape, tree
from distgrad.autograd.deferred import Deferred
from distgrad.autograd.primitive import PRIMITIVES
from distgrad.autograd.reverse import pullback_of
from distgrad.errors import InPlaceError

X = np.linspace(1.1, 1.4, 6)
DEFERRING = sorted(name for name, primitive in PRIMITIVES.items() if primitive.defers)

PROGRAMS: dict[str, Callable[[Any], Any]] = {
    "the last of several": lambda x: np.sin(np.exp(x) * x),
    "one whose value others need": lambda x: np.log(x) * np.cos(x),
    "sums": lambda x: np.sum(np.sin(x)) + np.mean(np.log(x)),
    "products of matrices": lambda x: np.sin(np.outer(x, x)) @ np.cos(x),
    "indexing": lambda x: np.sin(x)[1:4],
    "a tree": lambda x: {"a": np.sin(x), "b": [np.cos(x), 2.0 * x]},
    "what control flow looks at": lambda x: np.sin(x) * 2 if np.sin(x)[0] > 0 else x,
    "a gradient inside": lambda x: np.sin(x) * dg.grad(lambda y: np.sum(np.sin(y) ** 2))(x),
    "a gradient by it": lambda x: dg.grad(lambda y: np.sum(y**3))(np.sin(x)),
    "a pushforward inside": lambda x: dg.jvp(np.sin, (np.cos(x),), (x,))[1],
    "a batch inside": lambda x: dg.vmap(np.sin)(np.log(x)),
    "a checkpoint": lambda x: dg.checkpoint(lambda y: np.sin(np.log(y)))(x),
    "no dependence": lambda x: np.sin(X),
    "without recording": lambda x: x * dg.stop_gradient(np.sin(x)),
    "single precision": lambda x: np.sin(x.astype(np.float32)),
    "complex numbers": lambda x: np.sin(x + 1j),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_pullbacks_are_the_same_to_the_bit(program: str, rng: np.random.Generator) -> None:
    f = PROGRAMS[program]
    value, pull = dg.vjp(f, X)
    cotangent = tree.map(lambda y: np.asarray(rng.normal(size=np.shape(y)), y.dtype), value)
    like, pull_alone = pullback_of(f, X)
    for (found,), (expected,) in ((pull_alone(cotangent), pull(cotangent)) for _ in range(2)):
        np.testing.assert_array_equal(found, expected)
    for found, expected in zip(tree.flatten(like)[0], tree.flatten(value)[0], strict=True):
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_array_equal(getattr(found, "data", found), expected)


@pytest.mark.parametrize("name", DEFERRING)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@np.errstate(invalid="ignore")
def test_the_value_of_an_operation_is_not_computed_for_its_gradient(
    name: str, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = PRIMITIVES[name]
    x = (X - 1).astype(dtype)
    value, pull = dg.vjp(operation, x)
    calls = []

    def counted(*args: Any, forward: Any = operation.forward) -> Any:
        calls.append(name)
        return forward(*args)

    monkeypatch.setattr(operation, "forward", counted)
    like, pull_alone = pullback_of(operation, x)
    assert type(like) is Deferred
    assert (like.shape, like.ndim, like.dtype) == (value.shape, value.ndim, value.dtype)
    np.testing.assert_array_equal(pull_alone(np.ones_like(x))[0], pull(np.ones_like(x))[0])
    assert calls == []
    for _ in range(2):
        np.testing.assert_array_equal(like.data, value)
    assert calls == [name]


def test_elsewhere_nothing_is_deferred() -> None:
    x = dg.tensor(X, requires_grad=True)
    assert type(np.sin(x)) is dg.Tensor
    with tape.entered(deferring=True):
        assert type(np.sin(x)) is Deferred
        assert type(np.sin(dg.tensor(X))) is dg.Tensor
        with dg.no_grad():
            assert type(np.sin(x)) is dg.Tensor


def test_writing_to_the_operand_of_a_value_that_was_not_computed_yet_is_noticed() -> None:
    def f(x: Any) -> Any:
        y = x * 2
        z = np.sin(y)
        y.detach()[...] = 0.0
        return dg.stop_gradient(z) * x

    with pytest.raises(InPlaceError, match="<sin"):
        pullback_of(f, X)
