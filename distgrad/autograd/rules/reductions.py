"""Sums, products, extrema and moments over axes.

`axis` is an int, a tuple of ints, or None for all; `keepdims` keeps the reduced axes with length one. Names shadow Python's, as NumPy's do.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

from ..primitive import primitive
from .elementwise import is_complex


def spread(xp: Any, g: Any, shape: tuple[int, ...], axis: Any, keepdims: bool) -> Any:
    """A reduced array, broadcast back over the axes it was reduced over."""
    return xp.broadcast_to(kept(xp, g, axis, keepdims), shape)


def kept(xp: Any, reduced: Any, axis: Any, keepdims: bool) -> Any:
    """A reduced array with the reduced axes back, of length one. (Reduced over all, it broadcasts as it is.)"""
    return reduced if keepdims or axis is None else xp.expand_dims(reduced, axis)


def axes_of(axis: Any, ndim: int) -> tuple[int, ...]:
    """`axis` as a tuple of non-negative axes."""
    if axis is None:
        return tuple(range(ndim))
    return tuple(a % ndim for a in (axis if isinstance(axis, tuple | list) else (axis,)))


def count(shape: tuple[int, ...], axis: Any) -> int:
    """How many elements go into one element of the result."""
    return math.prod(shape[a] for a in axes_of(axis, len(shape)))


sum = primitive(
    "sum",
    lambda xp, x, *, axis=None, dtype=None, keepdims=False: xp.sum(x, axis=axis, dtype=dtype, keepdims=keepdims),
    vjps=[lambda xp, g, ans, x, *, axis=None, dtype=None, keepdims=False: spread(xp, g, x.shape, axis, keepdims)],
    jvp="linear",
    save="nothing",
    doc="Sum over `axis`.",
)
mean = primitive(
    "mean",
    lambda xp, x, *, axis=None, dtype=None, keepdims=False: xp.mean(x, axis=axis, dtype=dtype, keepdims=keepdims),
    vjps=[
        lambda xp, g, ans, x, *, axis=None, dtype=None, keepdims=False: spread(
            xp, g / builtins.max(count(x.shape, axis), 1), x.shape, axis, keepdims
        )
    ],
    jvp="linear",
    save="nothing",
    doc="Arithmetic mean over `axis`.",
)


def _extremum_vjp(arg: str) -> Any:
    """The gradient of max or min: over all, shared equally by ties; along an axis, to the first of them."""

    def vjp(xp: Any, g: Any, ans: Any, x: Any, *, axis: Any = None, keepdims: bool = False) -> Any:
        return spread(xp, g, x.shape, axis, keepdims) * _chosen(xp, ans, x, axis, keepdims, arg)

    return vjp


def _extremum_jvp(arg: str) -> Any:
    def jvp(
        xp: Any, tangents: Sequence[Any], ans: Any, x: Any, *, axis: Any = None, keepdims: bool = False
    ) -> Any:
        return xp.sum(tangents[0] * _chosen(xp, ans, x, axis, keepdims, arg), axis=axis, keepdims=keepdims)

    return jvp


def _chosen(xp: Any, ans: Any, x: Any, axis: Any, keepdims: bool, arg: str) -> Any:
    """Weights of the elements in the extremum, in the dtype of x. They are constants to any further derivative."""
    ties = xp.astype(x == kept(xp, ans, axis, keepdims), x.dtype)
    if not isinstance(axis, int):
        share = xp.sum(ties, axis=axis, keepdims=True)
        return ties / xp.where(share == 0, 1.0, share)  # 0 where the extremum is nan
    first = xp.expand_dims(getattr(xp, arg)(x, axis=axis), axis)
    positions = xp.reshape(xp.arange(x.shape[axis]), tuple(-1 if a == axis % x.ndim else 1 for a in range(x.ndim)))
    return xp.astype(positions == first, x.dtype)


max = primitive(
    "max",
    lambda xp, x, *, axis=None, keepdims=False: xp.max(x, axis=axis, keepdims=keepdims),
    vjps=[_extremum_vjp("argmax")],
    jvp=_extremum_jvp("argmax"),
    doc="Maximum. Ties over all elements (or several axes) share the gradient; along one axis the first takes it.",
)
min = primitive(
    "min",
    lambda xp, x, *, axis=None, keepdims=False: xp.min(x, axis=axis, keepdims=keepdims),
    vjps=[_extremum_vjp("argmin")],
    jvp=_extremum_jvp("argmin"),
    doc="Minimum. Ties over all elements (or several axes) share the gradient; along one axis the first takes it.",
)
