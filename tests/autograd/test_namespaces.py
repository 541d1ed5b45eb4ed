"""Other array packages under NumPy's names."""

from __future__ import annotations

from typing import Any

import array_api_strict as strict
import numpy as np
import pytest

import distgrad as dg
from distgrad.autograd.namespaces import NumPyLike, Standard, namespace_of
from distgrad.autograd.operands import namespace
from distgrad.autograd.tensor import variable

XP = Standard(strict)
X = np.array([[1.5, -2.5, 3.0], [0.5, 4.0, -1.0]])

CALLS: dict[str, tuple[Any, ...]] = {
    # name: (args, parameters); arrays are converted
    "arcsin": (X / 5,),
    "concatenate": ([X, X],),
    "power": (np.abs(X), 2.0),
    "rint": (X,),
    "round": (X * 1.26, 1),
    "where": (X > 0, 1.0, 0.0),
    "fmax": (np.array([1.0, np.nan]), np.array([np.nan, 2.0])),
    "fmin": (np.array([1.0, np.nan]), 0.5),
    "heaviside": (np.array([-1.0, 0.0, 2.0, np.nan]), 0.5),
    "nan_to_num": (np.array([np.nan, np.inf, -np.inf, 1.0]),),
    "isclose": (np.array([1.0, np.inf, np.nan]), np.array([1.0 + 1e-9, np.inf, np.nan])),
    "fmod": (X, -2.0),
    "sinc": (X,),
    "exp2": (X,),
    "cbrt": (X,),
    "logaddexp2": (X, X[0]),
    "angle": (X,),
    "real": (X,),
    "imag": (X,),
    "transpose": (X,),
    "swapaxes": (X, 0, 1),
    "squeeze": (X[:1],),
    "expand_dims": (X, (0, 2)),
    "ravel": (X,),
    "cumsum": (X, 1),
    "cumprod": (X, 0),
    "copy": (X,),
    "float_power": (np.abs(X), 1.5),
}


def converted(value: Any) -> Any:
    if isinstance(value, list):
        return [converted(v) for v in value]
    return strict.asarray(value.copy()) if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("name", CALLS)
def test_a_function_under_numpys_name_computes_what_numpy_computes(name: str) -> None:
    args = CALLS[name]
    found = np.asarray(getattr(XP, name)(*map(converted, args)))
    np.testing.assert_allclose(found, getattr(np, name)(*args), rtol=1e-12)


@pytest.mark.parametrize("name", ["var", "std"])
def test_moments_take_ddof(name: str) -> None:
    found = getattr(XP, name)(strict.asarray(X), axis=1, ddof=1, keepdims=True)
    np.testing.assert_allclose(np.asarray(found), getattr(np, name)(X, axis=1, ddof=1, keepdims=True))


@pytest.mark.parametrize("dtype", [np.float32, "float32", np.dtype("float32"), strict.float32])
def test_dtypes_may_be_numpys_or_names(dtype: Any) -> None:
    assert XP.astype(strict.asarray(X), dtype).dtype == strict.float32
    assert XP.zeros((2,), dtype=dtype).dtype == strict.float32
    assert XP.sum(strict.asarray(X), dtype=dtype).dtype == strict.float32


def test_what_a_namespace_lacks_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError):
        XP.frobnicate  # noqa: B018


def test_a_namespace_is_found_once() -> None:
    x = strict.asarray(X)
    assert namespace(x) is namespace(x)
    assert namespace_of(x) is namespace_of(x)
    assert repr(namespace_of(x)) == "Standard(array_api_strict)"


def test_a_package_with_numpys_names_is_used_as_it_is_and_completed_from_the_standard() -> None:
    class Package:
        """A NumPy-like package of an older version, which lacks `astype`."""

        __name__ = "package"
        arcsin = staticmethod(np.arcsin)
        var = staticmethod(np.var)

    xp = NumPyLike(Package, strict)
    assert xp.var is np.var
    assert xp.arcsin is np.arcsin
    assert xp.astype(strict.asarray(X), "float32").dtype == strict.float32


def test_a_program_of_another_namespace_has_its_gradients_there() -> None:
    x = variable(strict.asarray(X))
    dg.backward([dg.ops.sum(dg.ops.tanh(x * 2.0 + 1) ** 2 / dg.ops.max(x))])
    assert type(x.grad) is type(strict.asarray(X))
    expected = dg.grad(lambda x: dg.ops.sum(dg.ops.tanh(x * 2.0 + 1) ** 2 / dg.ops.max(x)))(X)
    np.testing.assert_allclose(np.asarray(x.grad), expected, rtol=1e-12)
