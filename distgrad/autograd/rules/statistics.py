"""Averages, order statistics, and sums that leave nan out. All are made of primitives."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..operands import ops
from ..primitive import composite
from .precision import floating
from .reductions import axes_of, count


@composite
def ptp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Maximum minus minimum."""
    xp = ops()
    return xp.max(x, axis=axis, keepdims=keepdims) - xp.min(x, axis=axis, keepdims=keepdims)


@composite
def nansum(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Sum over `axis` of what is not nan."""
    xp = ops()
    return xp.sum(xp.where(xp.isnan(x), 0, x), axis=axis, keepdims=keepdims)


@composite
def nanmean(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Mean over `axis` of what is not nan; nan where everything is."""
    xp = ops()
    x = floating(xp, xp.asarray(x))
    present = xp.sum(xp.astype(xp.logical_not(xp.isnan(x)), x.dtype), axis=axis, keepdims=keepdims)
    none = present == 0
    return xp.where(none, math.nan, nansum(x, axis, keepdims) / xp.where(none, 1.0, present))


@composite
def average(x: Any, axis: Any = None, weights: Any = None, returned: bool = False, keepdims: bool = False) -> Any:
    """Weighted mean over `axis`; with `returned` also the sums of the weights.

    Arguments:
        weights: of x's shape, or, for one axis, of its length. None: the mean.
    """
    xp = ops()
    x = xp.asarray(x)
    if weights is None:
        value = xp.mean(x, axis=axis, keepdims=keepdims)
        total = xp.full_like(value, float(count(x.shape, axis)))
        return (value, total) if returned else value
    x, weights = floating(xp, x), floating(xp, xp.asarray(weights))
    if weights.shape != x.shape:
        axes = axes_of(axis, len(x.shape))
        if axis is None or len(axes) != 1 or weights.shape != (x.shape[axes[0]],):
            raise ValueError(
                f"average() got weights of shape {weights.shape} for x of shape {x.shape} and axis={axis!r}; they must "
                "have the shape of x, or the length of the one axis"
            )
        weights = xp.reshape(weights, tuple(-1 if a == axes[0] else 1 for a in range(len(x.shape))))
        weights = xp.broadcast_to(weights, x.shape)
    total = xp.sum(weights, axis=axis, keepdims=keepdims)
    value = xp.sum(x * weights, axis=axis, keepdims=keepdims) / total
    return (value, total) if returned else value


# ---- order statistics ------------------------------------------------------------------------------------------------


@composite
def median(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The middle element in sorted order, or the mean of the two middle ones; nan where there is a nan, or nothing."""
    return quantile(x, 0.5, axis=axis, keepdims=keepdims)


# How a position between two neighbours is weighted: the share of the upper one, given the position's fraction and whole
# part.
_METHODS: dict[str, Callable[[float, int], float]] = {
    "linear": lambda fraction, whole: fraction,
    "lower": lambda fraction, whole: 0.0,
    "higher": lambda fraction, whole: float(fraction > 0),
    "midpoint": lambda fraction, whole: 0.5 * (fraction > 0),
    "nearest": lambda fraction, whole: float(fraction > 0.5 or (fraction == 0.5 and whole % 2 == 1)),
}


@composite
def quantile(x: Any, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False) -> Any:
    """The element that a share q of the elements lies below, as numpy.quantile; nan where there is a nan, or nothing.

    Arguments:
        q: a number in [0, 1] or a sequence of them, whose axis then comes first in the result; it has no gradient.
        method: what to do between two elements: "linear", "lower", "higher", "midpoint" or "nearest".
    """
    xp = ops()
    if method not in _METHODS:
        raise ValueError(f"quantile(method={method!r}) is not known; it must be one of {', '.join(_METHODS)}")
    x = floating(xp, xp.asarray(x))
    axes = axes_of(axis, len(x.shape))
    stay = tuple(a for a in range(len(x.shape)) if a not in axes)
    rows = xp.reshape(xp.transpose(x, (*stay, *axes)), (*(x.shape[a] for a in stay), count(x.shape, axis)))
    ranked = xp.sort(rows, axis=-1)
    broken = xp.any(xp.isnan(rows), axis=-1)

    def between(share: float) -> Any:
        if not 0 <= share <= 1:
            raise ValueError(f"quantile() takes shares between 0 and 1, and got {share}")
        position = share * (ranked.shape[-1] - 1)
        whole = math.floor(position)
        upper = _METHODS[method](position - whole, whole)
        if upper in (0.0, 1.0):
            return ranked[..., whole + int(upper)]
        # Not by the difference of the two: that of infinities is nan.
        return (1 - upper) * ranked[..., whole] + upper * ranked[..., whole + 1]

    def one(share: float) -> Any:
        if ranked.shape[-1]:
            value = xp.where(broken, math.nan, between(share))
        else:
            value = xp.full_like(broken, math.nan, dtype=ranked.dtype)
        return xp.expand_dims(value, axes) if keepdims else value

    shares = q.tolist() if hasattr(q, "tolist") else q
    return xp.stack([one(s) for s in shares]) if isinstance(shares, list | tuple) else one(shares)
