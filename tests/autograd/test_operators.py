"""Python's operators and NumPy's methods on tensors."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.autograd import operators
from distgrad.autograd.tensor import Tensor
from distgrad.errors import InPlaceError

X = np.array([[1.5, -2.0, 3.0], [0.5, 4.0, -1.0]])
Y = np.array([[2.0, 1.0, -3.0], [1.5, -4.0, 2.0]])
POSITIVE = np.array([[1.5, 2.0, 3.0], [0.5, 4.0, 1.0]])

BINARY = [
    operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow,
    operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge,
]  # fmt: skip
DIFFERENTIABLE = [operator.add, operator.sub, operator.mul, operator.truediv, operator.mod, operator.pow]
UNARY = [operator.neg, operator.pos, abs]


def named(function: Callable[..., Any]) -> str:
    return function.__name__


def variable(x: Any) -> Tensor:
    return dg.tensor(x, requires_grad=True)


def same(found: Any, expected: Any) -> None:
    assert isinstance(found, Tensor)
    assert found.dtype == np.asarray(expected).dtype
    np.testing.assert_array_equal(found.numpy(), expected)


# ---- operators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", BINARY, ids=named)
@pytest.mark.parametrize("right", [Y, Y[0], 2.0, 3, np.float64(2.0), np.float32(2.0)], ids=lambda r: type(r).__name__)
def test_an_operator_is_that_of_numpy(op: Callable[..., Any], right: Any) -> None:
    same(op(variable(POSITIVE), right), op(POSITIVE, right))
    same(op(variable(POSITIVE), dg.tensor(right)), op(POSITIVE, np.asarray(right)))


@pytest.mark.parametrize("op", BINARY, ids=named)
@pytest.mark.parametrize("left", [POSITIVE, 2.0, 3, np.float64(2.0), np.float32(2.0)], ids=lambda r: type(r).__name__)
def test_a_reflected_operator_is_that_of_numpy(op: Callable[..., Any], left: Any) -> None:
    same(op(left, variable(Y)), op(left, Y))


@pytest.mark.parametrize("op", UNARY, ids=named)
def test_a_unary_operator_is_that_of_numpy(op: Callable[..., Any]) -> None:
    same(op(variable(X)), op(X))


@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=named)
def test_an_operator_and_its_reflection_are_differentiable(op: Callable[..., Any]) -> None:
    dg.check.gradcheck(lambda x, y: op(x, y), POSITIVE[0], POSITIVE[1] + 0.3)
    dg.check.gradcheck(lambda y: op(2.5, y), POSITIVE[1] + 0.3)


@pytest.mark.parametrize("op", [operator.and_, operator.or_, operator.xor], ids=named)
def test_masks_are_joined_by_logical_operators(op: Callable[..., Any]) -> None:
    t = variable(X)
    same(op(t > 0, t < 2), op(X > 0, X < 2))
    same(op(X > 0, t < 2), op(X > 0, X < 2))
    same(~(t > 0), ~(X > 0))


def test_matmul_and_its_reflection() -> None:
    same(variable(X) @ Y.T, X @ Y.T)
    same(X @ variable(Y.T), X @ Y.T)


def test_divmod_and_its_reflection() -> None:
    for found, expected in [(divmod(variable(X), 2.0), divmod(X, 2.0)), (divmod(7.0, variable(X)), divmod(7.0, X))]:
        for f, e in zip(found, expected, strict=True):
            same(f, e)


def test_round_takes_digits() -> None:
    same(round(variable(X * 1.26), 1), np.round(X * 1.26, 1))
    same(round(variable(X)), np.round(X))


def test_equality_is_elementwise_and_hashing_by_identity() -> None:
    t = variable(X)
    assert len({t, t, variable(X)}) == 2
    same(t == None, np.zeros(X.shape, bool))  # noqa: E711


@pytest.mark.parametrize("op", [operator.iadd, operator.isub, operator.imul, operator.itruediv], ids=named)
def test_an_in_place_operator_binds_the_name_anew(op: Callable[..., Any]) -> None:
    t = variable(X)
    before = t
    t = op(t, 2.0)
    assert t is not before
    np.testing.assert_array_equal(before.numpy(), X)


def test_an_array_refuses_to_take_in_a_tensor_in_place() -> None:
    array = X.copy()
    with pytest.raises(InPlaceError, match="leave out= away"):
        array += variable(Y)


def test_python_numbers_alone_give_tensors() -> None:
    same(dg.ops.add(1, 2), np.add(1, 2))
    same(dg.ops.multiply(1.5, 2.0), np.multiply(1.5, 2.0))


# ---- containers ------------------------------------------------------------------------------------------------------


def test_indexing_is_that_of_numpy() -> None:
    t = variable(X)
    for index in [0, -1, slice(None, None, -1), (0, 1), (..., 2), (slice(None), [0, 2]), X > 0, None]:
        same(t[index], X[index])


def test_iteration_gives_slices_that_carry_gradients() -> None:
    t = variable(X)
    first, second = t
    dg.backward([dg.ops.sum(first * second)])
    np.testing.assert_array_equal(t.grad, X[::-1])


def test_a_zero_dimensional_tensor_is_not_iterable() -> None:
    with pytest.raises(TypeError, match="zero-dimensional"):
        iter(dg.tensor(1.0))


def test_length_and_membership() -> None:
    t = variable(X)
    assert len(t) == 2
    assert 4.0 in t
    assert 5.0 not in t


# ---- methods ---------------------------------------------------------------------------------------------------------

CALLS: dict[str, Callable[[Any], Any]] = {
    "sum": lambda x: x.sum(),
    "sum over an axis by position": lambda x: x.sum(0),
    "sum keeping axes": lambda x: x.sum(axis=1, keepdims=True),
    "mean": lambda x: x.mean(axis=0),
    "max": lambda x: x.max(axis=1),
    "min": lambda x: x.min(),
    "prod": lambda x: x.prod(axis=1),
    "var": lambda x: x.var(ddof=1),
    "std": lambda x: x.std(axis=0),
    "cumsum": lambda x: x.cumsum(axis=1),
    "cumprod": lambda x: x.cumprod(axis=1),
    "clip": lambda x: x.clip(-1, 1),
    "clip by name": lambda x: x.clip(max=1),
    "round": lambda x: x.round(decimals=1),
    "argmax": lambda x: x.argmax(axis=1),
    "argmin": lambda x: x.argmin(),
    "argsort": lambda x: x.argsort(axis=1),
    "any": lambda x: (x > 0).any(axis=0),
    "all": lambda x: (x > 0).all(),
    "reshape": lambda x: x.reshape(3, 2),
    "reshape by a tuple": lambda x: x.reshape((3, -1)),
    "ravel": lambda x: x.ravel(),
    "flatten": lambda x: x.flatten(),
    "transpose": lambda x: x.transpose(),
    "transpose by axes": lambda x: x.transpose(1, 0),
    "transpose by a tuple": lambda x: x.transpose((1, 0)),
    "T": lambda x: x.T,
    "mT": lambda x: x.mT,
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "squeeze": lambda x: x[:1].squeeze(),
    "repeat": lambda x: x.repeat(2, axis=1),
    "take": lambda x: x.take(np.array([0, 2]), axis=1),
    "trace": lambda x: x.trace(),
    "diagonal": lambda x: x.diagonal(),
    "dot": lambda x: x.dot(np.ones(3)),
    "astype": lambda x: x.astype(np.float32),
    "astype by name": lambda x: x.astype("float32"),
    "conj": lambda x: x.conj(),
    "real": lambda x: x.real,
    "imag": lambda x: x.imag,
    "searchsorted": lambda x: x.ravel()[:2].searchsorted(np.array([0.5])),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_method_is_that_of_numpy(call: str) -> None:
    found, expected = CALLS[call](variable(X)), CALLS[call](X)
    assert isinstance(found, Tensor)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-15)


def test_every_method_has_a_name_and_a_description() -> None:
    for name in operators.METHODS:
        method = getattr(Tensor, name)
        assert method.__name__ == name
        assert method.__doc__


def test_an_unknown_parameter_is_named() -> None:
    with pytest.raises(TypeError, match=r"sum\(\) has no parameter 'axes'; it takes \(x, axis, dtype, keepdims\)"):
        variable(X).sum(axes=0)


def test_operands_may_be_given_by_name() -> None:
    t = variable(X)
    same(dg.ops.clip(t, max=1.0), np.clip(X, None, 1.0))
    limit = variable(np.array(0.0))
    dg.backward([dg.ops.sum(dg.ops.clip(t, min=limit))])
    assert limit.grad == np.sum(X < 0)


def test_float32_goes_with_python_numbers_and_float64_wins_over_it() -> None:
    t = variable(X.astype(np.float32))
    assert (t * 2.5 + 1).dtype == np.float32
    assert (t * X).dtype == np.float64
    dg.backward([dg.ops.sum(t * X)])
    assert t.grad.dtype == np.float32


def test_a_cast_carries_the_gradient_back_in_the_dtype_it_came_from() -> None:
    t = variable(X)
    dg.backward([dg.ops.sum(t.astype(np.float32) * np.float32(2))])
    assert t.grad.dtype == np.float64
    np.testing.assert_array_equal(t.grad, np.full(X.shape, 2.0))


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: dg.ops.mse(1, 3), 4.0),
        (lambda: dg.ops.huber(0.5, 0.0), 0.125),
        (lambda: dg.ops.gelu(0.0), 0.0),
        (lambda: dg.ops.logsumexp(0.5), 0.5),
        (lambda: dg.ops.vector_norm(-3.0), 3.0),
        (lambda: dg.ops.norm([3.0, 4.0]), 5.0),
        (lambda: dg.ops.matrix_power([[2.0]], 3), [[8.0]]),
    ],
)
def test_numbers_and_lists_are_taken_for_arrays(call: Any, expected: Any) -> None:
    assert call().tolist() == expected
