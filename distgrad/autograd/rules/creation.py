"""Constants: zeros, ones and the like. They have no history; those named `..._like` live where their model lives."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..operands import namespace, ops
from ..primitive import composite
from ..tensor import Tensor


def _like(name: str, x: Any, dtype: Any, *fill: Any) -> Tensor:
    """A constant of the shape of `x`, in the namespace of the array inside it."""
    shape, inner = np.shape(x) if not isinstance(x, Tensor) else x.shape, x
    while isinstance(inner, Tensor):
        inner = inner.data
    if not hasattr(inner, "dtype"):
        inner = np.asarray(inner)
    return Tensor(getattr(namespace(inner), name)(shape, *fill, dtype=inner.dtype if dtype is None else dtype))


@composite
def zeros_like(x: Any, dtype: Any = None) -> Tensor:
    """Zeros of the shape of `x`, in its dtype unless another is given."""
    return _like("zeros", x, dtype)


@composite
def ones_like(x: Any, dtype: Any = None) -> Tensor:
    """Ones of the shape of `x`, in its dtype unless another is given."""
    return _like("ones", x, dtype)


@composite
def full_like(x: Any, fill_value: Any, dtype: Any = None) -> Tensor:
    """`fill_value` (a number) everywhere in the shape of `x`, in its dtype unless another is given."""
    return _like("full", x, dtype, fill_value)


@composite
def zeros(shape: int | tuple[int, ...], dtype: Any = float) -> Tensor:
    """Zeros."""
    return Tensor(np.zeros(shape, dtype))


@composite
def ones(shape: int | tuple[int, ...], dtype: Any = float) -> Tensor:
    """Ones."""
    return Tensor(np.ones(shape, dtype))


@composite
def full(shape: int | tuple[int, ...], fill_value: Any, dtype: Any = None) -> Tensor:
    """`fill_value` (a number) everywhere."""
    return Tensor(np.full(shape, fill_value, dtype))


@composite
def eye(N: int, M: int | None = None, k: int = 0, dtype: Any = float) -> Tensor:
    """Ones on the k-th diagonal of an (N, M) matrix, zeros elsewhere."""
    return Tensor(np.eye(N, M, k, dtype))


@composite
def arange(*bounds: Any, dtype: Any = None) -> Tensor:
    """Numbers from start up to, but not including, stop, `step` apart: arange(stop), arange(start, stop, step)."""
    return Tensor(np.arange(*bounds, dtype=dtype))


@composite
def linspace(start: float, stop: float, num: int = 50, endpoint: bool = True, dtype: Any = None) -> Tensor:
    """`num` numbers from `start` to `stop`, equally far apart."""
    return Tensor(np.linspace(start, stop, num, endpoint, dtype=dtype))


@composite
def asarray(x: Any, dtype: Any = None) -> Tensor:
    """`x` as a tensor. A tensor stays what it is, recorded or not, unless `dtype` changes it."""
    t = x if isinstance(x, Tensor) else Tensor(x if hasattr(x, "__array_namespace__") else np.asarray(x))
    return t if dtype is None or t.dtype == dtype else ops().astype(t, dtype=dtype)
