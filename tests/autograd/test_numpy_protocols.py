"""NumPy's own functions on tensors."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special

import distgrad as dg
from distgrad.autograd import numpy_protocols
from distgrad.autograd.numpy_protocols import FUNCTIONS, WITHOUT_SIGNATURE
from distgrad.autograd.tensor import Tensor
from distgrad.errors import GradientError, InPlaceError

X = np.array([[1.5, -2.0, 3.0], [0.5, 4.0, -1.0]])
UNIT = np.array([[0.5, 0.2, 0.9], [0.3, 0.7, 0.1]])


def variable(x: Any = X) -> Tensor:
    return dg.tensor(x, requires_grad=True)


CALLS: dict[str, Callable[[Any], Any]] = {
    "ufunc": lambda x: np.exp(x),
    "ufunc with an array first": lambda x: np.add(np.ones(3), x),
    "array times tensor": lambda x: np.ones(3) * x,
    "scalar times tensor": lambda x: np.float64(2.0) * x,
    "array @ tensor": lambda x: np.ones((2, 2)) @ x,
    "array < tensor": lambda x: np.ones(3) < x,
    "alias of a ufunc": lambda x: np.true_divide(np.absolute(x), 2),
    "new name of a ufunc": lambda x: np.atan2(x, 2.0),
    "add.reduce": lambda x: np.add.reduce(x),
    "add.reduce over an axis": lambda x: np.add.reduce(x, axis=1, keepdims=True),
    "multiply.reduce": lambda x: np.multiply.reduce(x, axis=None),
    "maximum.reduce": lambda x: np.maximum.reduce(x, axis=1),
    "minimum.reduce": lambda x: np.minimum.reduce(x),
    "logical_and.reduce": lambda x: np.logical_and.reduce(x > 0),
    "logical_or.reduce": lambda x: np.logical_or.reduce(x > 0),
    "add.accumulate": lambda x: np.add.accumulate(x),
    "multiply.accumulate": lambda x: np.multiply.accumulate(x, axis=1),
    "subtract.outer": lambda x: np.subtract.outer(x, np.array([1.0, 2.0])),
    "multiply.outer of an array and a tensor": lambda x: np.multiply.outer(np.array([1.0, 2.0]), x),
    "scipy's ufunc": lambda x: scipy.special.expit(x),
    "scipy's ufunc under another name": lambda x: scipy.special.psi(abs(x)),
    "sum": lambda x: np.sum(x),
    "sum over an axis by position": lambda x: np.sum(x, 0),
    "sum with all by position": lambda x: np.sum(x, 0, None, None, True),
    "max with all by position": lambda x: np.max(x, 1, None, True),
    "sum with its operand by name": lambda x: np.sum(a=x, axis=0),
    "median with all by position": lambda x: np.median(x, 1, None, False, True),
    "ptp with all by position": lambda x: np.ptp(x, 1, None, True),
    "concatenate along an axis by position": lambda x: np.concatenate([x, x], 1),
    "linalg.norm with all by position": lambda x: np.linalg.norm(x, 1, 1, True),
    "dot of two": lambda x: np.dot(x, x.T),
    "cross": lambda x: np.cross(x, x[::-1]),
    "where by position": lambda x: np.where(x > 0, 1.0, x),
    "einsum": lambda x: np.einsum("ij,kj->ik", x, x),
    "mean": lambda x: np.mean(x, axis=(0, 1)),
    "amax": lambda x: np.amax(x, axis=0),
    "std": lambda x: np.std(x, axis=1, ddof=1),
    "where": lambda x: np.where(x > 0, x, 0.0),
    "clip by names": lambda x: np.clip(x, a_min=-1.0, a_max=None),
    "clip by new names": lambda x: np.clip(x, min=-1.0),
    "transpose": lambda x: np.transpose(x, (1, 0)),
    "reshape": lambda x: np.reshape(x, (3, 2)),
    "concatenate": lambda x: np.concatenate([x, np.ones((1, 3))]),
    "stack": lambda x: np.stack([x, x], axis=1),
    "expand_dims": lambda x: np.expand_dims(x, 0),
    "cumsum": lambda x: np.cumsum(x, axis=1),
    "linalg.norm": lambda x: np.linalg.norm(x),
    "sinc": lambda x: np.sinc(x),
    "median": lambda x: np.median(x, axis=1),
    "zeros_like": lambda x: np.zeros_like(x),
    "argmax": lambda x: np.argmax(x, axis=1),
    "round": lambda x: np.round(x * 1.26, 1),
    "i0": lambda x: np.i0(x),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_function_of_numpy_works_on_tensors_as_on_arrays(call: str) -> None:
    found, expected = CALLS[call](variable()), CALLS[call](X)
    assert isinstance(found, Tensor)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-14)


def test_code_written_for_numpy_is_differentiable() -> None:
    def energy(x: Any) -> Any:
        y = np.tanh(np.ones((2, 2)) @ x) - np.float64(0.5) * x
        return np.sum(np.where(y > 0, y**2, np.abs(y))) / np.linalg.norm(x)

    dg.check.gradcheck(energy, X)


def test_the_indices_of_true_elements() -> None:
    for found, expected in zip(np.where(variable() > 1), np.where(X > 1), strict=True):
        np.testing.assert_array_equal(found.numpy(), expected)


def test_divmod_gives_both_results() -> None:
    for found, expected in zip(np.divmod(variable(), 2.0), np.divmod(X, 2.0), strict=True):
        np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize(
    "ask",
    [np.shape, np.ndim, np.size, np.iscomplexobj, np.isrealobj, np.result_type, lambda x: np.size(x, 1)],
)
def test_questions_about_a_tensor_get_plain_answers(ask: Callable[[Any], Any]) -> None:
    found = ask(variable())
    assert found == ask(X)
    assert not isinstance(found, Tensor)


def test_whether_all_is_close_is_a_plain_truth() -> None:
    assert np.allclose(variable(), X) is True
    assert np.array_equal(variable(), X + 1) is False


def test_the_table_holds_numpys_functions_of_our_names() -> None:
    table = numpy_protocols.FUNCTIONS
    assert table[np.sum] is dg.ops.sum
    assert table[np.linalg.norm] is dg.ops.norm
    assert np.unique not in table


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda t: np.unique(t), "np.unique"),
        (lambda t: np.histogram(t), "np.histogram"),
        (lambda t: np.modf(t), "np.modf"),
        (lambda t: np.add.at(t, [0], 1.0), "np.add.at"),
        (lambda t: np.subtract.reduce(t), "np.subtract.reduce"),
        (lambda t: np.linalg.cond(t), "np.linalg.cond"),
        (lambda t: np.frompyfunc(abs, 1, 1)(t), "np.abs (vectorized)"),
    ],
)
def test_what_the_table_lacks_is_refused_by_name(call: Callable[[Any], Any], name: str) -> None:
    with pytest.raises(TypeError) as caught:
        call(variable())
    assert str(caught.value).startswith(f"{name} is not differentiable here")
    assert "dg.custom_vjp" in str(caught.value)


def test_a_parameter_that_ours_lacks_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"np.sum\(where=\) is not supported on tensors; dg.ops.sum takes \(x, axis"):
        np.sum(variable(), where=X > 0)


@pytest.mark.parametrize(
    "call",
    [
        lambda t: np.exp(t, out=np.empty_like(X)),
        lambda t: np.sum(t, axis=0, out=np.empty(3)),
        lambda t: np.sum(t, 0, None, np.empty(3)),
        lambda t: np.add(X, X, out=t),
        lambda t: np.add.reduce(t, out=np.empty(3)),
    ],
)
def test_writing_into_an_array_is_refused(call: Callable[[Any], Any]) -> None:
    with pytest.raises(InPlaceError, match=r"leave out= away"):
        call(variable())


def test_a_recorded_tensor_does_not_turn_into_an_array_by_itself() -> None:
    for convert in (np.asarray, np.array, lambda t: np.array([t, t]), lambda t: np.ones(6).reshape(2, 3).__iadd__(t)):
        with pytest.raises(GradientError):
            convert(variable())
    with pytest.raises(GradientError, match=r"\.numpy\(\).*\.detach\(\)"):
        np.asarray(variable())


def test_a_tensor_without_history_turns_into_an_array() -> None:
    t = variable().detach()
    np.testing.assert_array_equal(np.asarray(t), X)
    assert np.asarray(t, dtype=np.float32).dtype == np.float32
    assert not np.shares_memory(np.array(t), t.data)


def test_a_value_inside_a_transform_does_not_turn_into_an_array() -> None:
    with pytest.raises(GradientError, match="inside a transform"):
        dg.jvp(lambda x: np.asarray(x), (X,), (X,))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32, np.float16])
def test_sums_without_nan_have_numpys_dtype(dtype: Any) -> None:
    x = np.ones((2, 3), dtype)
    assert np.nansum(dg.tensor(x)).dtype == np.nansum(x).dtype


@pytest.mark.parametrize("function", WITHOUT_SIGNATURE, ids=lambda function: function.__name__)
def test_parameters_that_older_numpys_do_not_tell_are_those_of_newer_ones(function: Any) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:
        pytest.skip("this NumPy does not tell them")
    assert WITHOUT_SIGNATURE[function] == tuple(signature.parameters)


def test_functions_of_numpy_that_have_no_signature_work_on_tensors() -> None:
    """All that are differentiable, and that the NumPy at hand tells no signature of, are in the table."""
    silent = []
    for function in FUNCTIONS:
        try:
            inspect.signature(function)
        except ValueError:
            silent.append(function)
    assert set(silent) <= WITHOUT_SIGNATURE.keys() | {np.arange, np.asarray, np.zeros}
