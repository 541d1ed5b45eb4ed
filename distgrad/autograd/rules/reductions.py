"""Sums, products, extrema and moments over axes.

`axis` is an int, a tuple of ints, or None for all; `keepdims` keeps the reduced axes with length one. Names shadow
Python's, as NumPy's do.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..primitive import Primitive, Rule, conjugate, primitive
from .arithmetic import ratio
from .nested import axis_of, is_complex


def spread(xp: Any, g: Any, shape: tuple[int, ...], axis: Any, keepdims: bool) -> Any:
    """A reduced array, broadcast back over the axes it was reduced over."""
    return xp.broadcast_to(kept(xp, g, axis, keepdims), shape) if shape else g


def kept(xp: Any, reduced: Any, axis: Any, keepdims: bool) -> Any:
    """A reduced array with the reduced axes back, of length one. (Reduced over all, it broadcasts as it is.)"""
    return reduced if keepdims or axis is None else xp.expand_dims(reduced, axis)


def axes_of(axis: Any, ndim: int) -> tuple[int, ...]:
    """`axis` as a tuple of non-negative axes."""
    if axis is None or not ndim:  # of arrays without axes NumPy takes 0 for none
        return tuple(range(ndim))
    return tuple(axis_of(a, ndim) for a in (axis if isinstance(axis, tuple | list) else (axis,)))


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


def real_product_sum(xp: Any, tangent: Any, factor: Any, axis: Any, keepdims: bool) -> Any:
    """Σ Re(t·f̄): the jvp of a real-valued reduction whose vjp is g·f."""
    product = tangent * conjugate(xp, factor)
    return xp.sum(xp.real(product) if is_complex(product) else product, axis=axis, keepdims=keepdims)


def weighted(name: str, forward: Rule, weights: Rule, doc: str) -> Primitive:
    """Declares a reduction by the derivative of the result with respect to each element: of a real result the gradient
    (of steepest ascent, if the elements are complex), of a complex result the holomorphic derivative.

    weights(xp, ans, x, *, axis, keepdims, **params)   of the shape of x, `ans` having its reduced axes kept
    """

    def vjp(xp: Any, g: Any, ans: Any, x: Any, *, axis: Any = None, keepdims: bool = False, **params: Any) -> Any:
        factor = weights(xp, kept(xp, ans, axis, keepdims), x, axis=axis, **params)
        return kept(xp, g, axis, keepdims) * (conjugate(xp, factor) if is_complex(ans) else factor)

    def jvp(
        xp: Any, tangents: Sequence[Any], ans: Any, x: Any, *, axis: Any = None, keepdims: bool = False, **params: Any
    ) -> Any:
        factor = weights(xp, kept(xp, ans, axis, keepdims), x, axis=axis, **params)
        if is_complex(ans):
            return xp.sum(tangents[0] * factor, axis=axis, keepdims=keepdims)
        return real_product_sum(xp, tangents[0], factor, axis, keepdims)

    return primitive(name, forward, vjps=[vjp], jvp=jvp, doc=doc)


# ---- extrema ---------------------------------------------------------------------------------------------------------


def first_or_shared(xp: Any, ties: Any, dtype: Any, axis: Any) -> Any:
    """Weights of the elements that tie for an extremum: along one axis the first takes all, over several all share."""
    if isinstance(axis, int | np.integer):
        first = xp.expand_dims(xp.argmax(xp.astype(ties, xp.int8), axis=axis), axis)
        along = [1] * len(ties.shape)
        along[axis] = -1
        return xp.astype((xp.reshape(xp.arange(ties.shape[axis]), tuple(along)) == first) & ties, dtype)
    ties = xp.astype(ties, dtype)
    share = xp.sum(ties, axis=axis, keepdims=True)
    return ties / xp.where(share == 0, 1.0, share)


def _extremum(xp: Any, ans: Any, x: Any, *, axis: Any) -> Any:
    return first_or_shared(xp, (x == ans) | xp.isnan(x) & xp.isnan(ans), x.dtype, axis)


max = weighted(
    "max",
    lambda xp, x, *, axis=None, keepdims=False: xp.max(x, axis=axis, keepdims=keepdims),
    _extremum,
    doc="Maximum. Ties over all elements (or several axes) share the gradient; along one axis the first takes it.",
)
min = weighted(
    "min",
    lambda xp, x, *, axis=None, keepdims=False: xp.min(x, axis=axis, keepdims=keepdims),
    _extremum,
    doc="Minimum. Ties over all elements (or several axes) share the gradient; along one axis the first takes it.",
)

# ---- products and exponentials ---------------------------------------------------------------------------------------


def _others(xp: Any, ans: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    """For each element the product of the others: of what stands before times what stands after, for zeros' sake."""
    if xp is np and _far_from_zero(ans):
        return kept(xp, ans, axis, keepdims) / x
    axes = axes_of(axis, len(x.shape))
    stay = tuple(a for a in range(len(x.shape)) if a not in axes)
    order = (*stay, *axes)
    rows = xp.reshape(xp.transpose(x, order), (*(x.shape[a] for a in stay), count(x.shape, axis)))
    if not rows.shape[-1]:
        return xp.ones_like(x)
    one = xp.ones_like(rows[..., :1])
    before = xp.cumprod(xp.concatenate([one, rows[..., :-1]], axis=-1), axis=-1)
    after = xp.flip(xp.cumprod(xp.concatenate([one, xp.flip(rows[..., 1:], axis=-1)], axis=-1), axis=-1), axis=-1)
    product = xp.reshape(before * after, tuple(x.shape[a] for a in order))
    return xp.transpose(product, tuple(order.index(a) for a in range(len(order))))


def _far_from_zero(product: Any) -> bool:
    """Whether a NumPy product can be divided by any of its factors without loss: no zeros, underflow or overflow."""
    size = np.abs(product)
    return bool(np.all(np.isfinite(size) & (size > np.finfo(size.dtype).tiny)))


prod = primitive(
    "prod",
    lambda xp, x, *, axis=None, dtype=None, keepdims=False: xp.prod(x, axis=axis, dtype=dtype, keepdims=keepdims),
    vjps=[
        lambda xp, g, ans, x, *, axis=None, dtype=None, keepdims=False: (
            kept(xp, g, axis, keepdims) * conjugate(xp, _others(xp, ans, x, axis, keepdims))
        )
    ],
    jvp=lambda xp, tangents, ans, x, *, axis=None, dtype=None, keepdims=False: xp.sum(
        tangents[0] * _others(xp, ans, x, axis, keepdims), axis=axis, keepdims=keepdims
    ),
    doc="Product over `axis`; the derivative by an element is the product of the others, also where there are zeros.",
)


def _logsumexp(xp: Any, x: Any, *, axis: Any = None, keepdims: bool = False) -> Any:
    x = xp.asarray(x)
    if count(x.shape, axis) == 0:
        return xp.sum(x, axis=axis, keepdims=keepdims) - xp.inf
    top = xp.max(x, axis=axis, keepdims=True)
    top = xp.where(xp.isfinite(top), top, 0.0)
    total = xp.sum(xp.exp(x - top), axis=axis, keepdims=True)
    # The logarithm of 0 is the right value, -inf, and NumPy warns of it.
    empty = total == 0
    value = xp.where(empty, -xp.inf, xp.log(xp.where(empty, 1.0, total)) + top)
    return value if keepdims else xp.squeeze(value, axis=axes_of(axis, len(x.shape)))


logsumexp = weighted(
    "logsumexp",
    _logsumexp,
    lambda xp, ans, x, *, axis: xp.exp(x - xp.where(ans == -xp.inf, 0.0, ans)),
    doc="log Σ eˣ, without overflow; the derivative is softmax(x), and 0 where the result is -inf.",
)

# ---- moments ---------------------------------------------------------------------------------------------------------


def _freedom(shape: tuple[int, ...], axis: Any, ddof: float, correction: float | None) -> float:
    """The divisor of a variance; nan rather than a division by zero when nothing is left."""
    n = count(shape, axis) - (ddof if correction is None else correction)
    return n if n > 0 else math.nan


def _deviation(xp: Any, x: Any, axis: Any) -> Any:
    return x - xp.mean(x, axis=axis, keepdims=True)


var = weighted(
    "var",
    lambda xp, x, *, axis=None, ddof=0, keepdims=False, correction=None: xp.var(
        x, axis=axis, ddof=ddof if correction is None else correction, keepdims=keepdims
    ),
    lambda xp, ans, x, *, axis, ddof=0, correction=None: (
        _deviation(xp, x, axis) * (2 / _freedom(x.shape, axis, ddof, correction))
    ),
    doc="Variance, divided by n - ddof (or n - correction); derivative 2(x - mean)/(n - ddof).",
)
std = weighted(
    "std",
    lambda xp, x, *, axis=None, ddof=0, keepdims=False, correction=None: xp.std(
        x, axis=axis, ddof=ddof if correction is None else correction, keepdims=keepdims
    ),
    lambda xp, ans, x, *, axis, ddof=0, correction=None: ratio(
        xp, _deviation(xp, x, axis), ans * _freedom(x.shape, axis, ddof, correction)
    ),
    doc="Standard deviation; derivative (x - mean)/((n - ddof)·std), 0 where all elements are equal.",
)
