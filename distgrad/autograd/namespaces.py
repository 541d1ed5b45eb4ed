"""Array namespaces under NumPy's names, so that one text of a rule runs on all of them.

Rules are written in NumPy's vocabulary: `xp.arcsin`, `xp.concatenate`, `xp.var(x, ddof=1)`. CuPy speaks it itself. A
namespace of the array API standard (https://data-apis.org/array-api) has other names for some functions and lacks
others; `Standard` translates.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import array_api_compat
import numpy as np

Adapted = Callable[..., Any]


def namespace_of(array: Any) -> Any:
    """The namespace of an array, by NumPy's names."""
    package = sys.modules[type(array).__module__.partition(".")[0]]
    standard = array_api_compat.array_namespace(array)
    if hasattr(package, "arcsin") and hasattr(package, "ndarray"):
        return _numpy_like(package, standard)
    return _standard(standard)


@cache
def _numpy_like(package: Any, standard: Any) -> NumPyLike:
    return NumPyLike(package, standard)


@cache
def _standard(standard: Any) -> Standard:
    return Standard(standard)


class NumPyLike:
    """A package with NumPy's interface (CuPy); what its version lacks of NumPy 2 is taken from the standard."""

    def __init__(self, package: Any, standard: Any) -> None:
        self._package = package
        self._standard = Standard(standard)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._package, name, None)
        found = getattr(self._standard, name) if found is None else found
        setattr(self, name, found)
        return found

    def __repr__(self) -> str:
        return f"NumPyLike({self._package.__name__})"


class Standard:
    """A namespace of the array API standard."""

    def __init__(self, standard: Any) -> None:
        self._standard = standard

    def __getattr__(self, name: str) -> Any:
        adapted = ADAPTED.get(name)
        found = partial(adapted, self._standard) if adapted else getattr(self._standard, RENAMED.get(name, name))
        setattr(self, name, found)
        return found

    def __repr__(self) -> str:
        return f"Standard({self._standard.__name__})"


# NumPy's name -> the standard's.
RENAMED = {
    "arccos": "acos",
    "arccosh": "acosh",
    "arcsin": "asin",
    "arcsinh": "asinh",
    "arctan": "atan",
    "arctan2": "atan2",
    "arctanh": "atanh",
    "concatenate": "concat",
    "invert": "bitwise_invert",
    "power": "pow",
    "rint": "round",
}

# Functions that the standard lacks, or that take other parameters there; each gets the standard namespace first.
ADAPTED: dict[str, Adapted] = {}


def _adapted(function: Adapted) -> Adapted:
    ADAPTED[function.__name__.strip("_")] = function
    return function


def _is_complex(xp: Any, x: Any) -> bool:
    return bool(xp.isdtype(x.dtype, "complex floating"))


def dtype_in(xp: Any, dtype: Any) -> Any:
    """A dtype of NumPy, or its name, as a dtype of the namespace; its own as they are."""
    if dtype is None:
        return None
    if isinstance(dtype, str | type | np.dtype):
        return getattr(xp, np.dtype(dtype).name)
    return dtype


# ---- dtypes and constructors -----------------------------------------------------------------------------------------


@_adapted
def astype(xp: Any, x: Any, dtype: Any) -> Any:
    return xp.astype(x, dtype_in(xp, dtype))


@_adapted
def copy(xp: Any, x: Any) -> Any:
    return xp.asarray(x, copy=True)


def _constructor(name: str) -> Adapted:
    def construct(xp: Any, *args: Any, dtype: Any = None) -> Any:
        return getattr(xp, name)(*args, dtype=dtype_in(xp, dtype))

    return construct


for _name in ("arange", "asarray", "empty", "full", "full_like", "ones", "ones_like", "zeros", "zeros_like"):
    ADAPTED[_name] = _constructor(_name)


# ---- functions of each element ---------------------------------------------------------------------------------------


@_adapted
def where(xp: Any, condition: Any, x: Any, y: Any) -> Any:
    if not (hasattr(x, "dtype") or hasattr(y, "dtype")):
        x = xp.asarray(x)
    return xp.where(condition, x, y)


@_adapted
def real(xp: Any, x: Any) -> Any:
    return xp.real(x) if _is_complex(xp, x) else x


@_adapted
def imag(xp: Any, x: Any) -> Any:
    return xp.imag(x) if _is_complex(xp, x) else xp.zeros_like(x)


@_adapted
def angle(xp: Any, x: Any) -> Any:
    return xp.atan2(imag(xp, x), real(xp, x))


@_adapted
def cbrt(xp: Any, x: Any) -> Any:
    return xp.sign(x) * xp.pow(xp.abs(x), 1 / 3)


@_adapted
def float_power(xp: Any, x: Any, y: Any) -> Any:
    widest = xp.result_type(x, y, xp.float64)
    return xp.pow(*(xp.astype(a, widest) if hasattr(a, "dtype") else a for a in (x, y)))


@_adapted
def exp2(xp: Any, x: Any) -> Any:
    return xp.pow(xp.asarray(2.0, dtype=x.dtype), x)


@_adapted
def logaddexp2(xp: Any, x: Any, y: Any) -> Any:
    return xp.logaddexp(x * math.log(2), y * math.log(2)) / math.log(2)


@_adapted
def fmod(xp: Any, x: Any, y: Any) -> Any:
    return xp.sign(x) * xp.remainder(xp.abs(x), abs(y))


@_adapted
def sinc(xp: Any, x: Any) -> Any:
    u = math.pi * xp.where(x == 0, 1e-20, x)
    return xp.sin(u) / u


@_adapted
def deg2rad(xp: Any, x: Any) -> Any:
    return x * (math.pi / 180)


@_adapted
def rad2deg(xp: Any, x: Any) -> Any:
    return x * (180 / math.pi)


@_adapted
def fmax(xp: Any, x: Any, y: Any) -> Any:
    return xp.where(_isnan(xp, x), y, xp.where(_isnan(xp, y), x, xp.maximum(x, y)))


@_adapted
def fmin(xp: Any, x: Any, y: Any) -> Any:
    return xp.where(_isnan(xp, x), y, xp.where(_isnan(xp, y), x, xp.minimum(x, y)))


def _isnan(xp: Any, x: Any) -> Any:
    return xp.isnan(x) if hasattr(x, "dtype") else xp.asarray(math.isnan(x))


@_adapted
def heaviside(xp: Any, x: Any, y: Any) -> Any:
    step = xp.where(x < 0, xp.zeros_like(x), xp.where(x > 0, xp.ones_like(x), y))
    return xp.where(xp.isnan(x), x, step)


@_adapted
def nan_to_num(xp: Any, x: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Any:
    limits = xp.finfo(x.dtype)
    x = xp.where(xp.isnan(x), nan, x)
    x = xp.where(x == math.inf, limits.max if posinf is None else posinf, x)
    return xp.where(x == -math.inf, limits.min if neginf is None else neginf, x)


@_adapted
def round_(xp: Any, x: Any, decimals: int = 0) -> Any:
    return xp.round(x) if decimals == 0 else xp.round(x * 10.0**decimals) / 10.0**decimals


@_adapted
def isclose(xp: Any, x: Any, y: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Any:
    finite = xp.isfinite(x) & xp.isfinite(y)
    apart = xp.abs(xp.where(finite, x, 0.0) - xp.where(finite, y, 0.0))
    near = (x == y) | (finite & (apart <= atol + rtol * xp.abs(y)))
    return near | (xp.isnan(x) & xp.isnan(y)) if equal_nan else near


# ---- reductions ------------------------------------------------------------------------------------------------------


@_adapted
def var(xp: Any, x: Any, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Any:
    return xp.var(x, axis=axis, correction=ddof, keepdims=keepdims)


@_adapted
def std(xp: Any, x: Any, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Any:
    return xp.std(x, axis=axis, correction=ddof, keepdims=keepdims)


@_adapted
def mean(xp: Any, x: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
    return xp.mean(x if dtype is None else xp.astype(x, dtype_in(xp, dtype)), axis=axis, keepdims=keepdims)


@_adapted
def sum_(xp: Any, x: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
    return xp.sum(x, axis=axis, dtype=dtype_in(xp, dtype), keepdims=keepdims)


@_adapted
def prod(xp: Any, x: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
    return xp.prod(x, axis=axis, dtype=dtype_in(xp, dtype), keepdims=keepdims)


@_adapted
def cumsum(xp: Any, x: Any, axis: int | None = None, dtype: Any = None) -> Any:
    return xp.cumulative_sum(x, axis=axis, dtype=dtype_in(xp, dtype))


@_adapted
def cumprod(xp: Any, x: Any, axis: int | None = None, dtype: Any = None) -> Any:
    return xp.cumulative_prod(x, axis=axis, dtype=dtype_in(xp, dtype))


# ---- shapes ----------------------------------------------------------------------------------------------------------


@_adapted
def transpose(xp: Any, x: Any, axes: Any = None) -> Any:
    return xp.permute_dims(x, tuple(reversed(range(x.ndim))) if axes is None else tuple(axes))


@_adapted
def swapaxes(xp: Any, x: Any, axis1: int, axis2: int) -> Any:
    order = list(range(x.ndim))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return xp.permute_dims(x, tuple(order))


@_adapted
def squeeze(xp: Any, x: Any, axis: Any = None) -> Any:
    return xp.squeeze(x, axis=tuple(a for a, n in enumerate(x.shape) if n == 1) if axis is None else axis)


@_adapted
def expand_dims(xp: Any, x: Any, axis: Any) -> Any:
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    for a in sorted(a % (x.ndim + len(axes)) for a in axes):
        x = xp.expand_dims(x, axis=a)
    return x


@_adapted
def ravel(xp: Any, x: Any) -> Any:
    return xp.reshape(x, (-1,))
