"""Norms of vectors, and `norm`, which tells vectors from matrices as NumPy does."""

from __future__ import annotations

import math
from typing import Any

from ..operands import differentiable, ops
from ..primitive import composite
from .arithmetic import ratio
from .nested import is_complex
from .reductions import axes_of, first_or_shared, weighted


def _vector_norm(xp: Any, x: Any, *, axis: Any = None, keepdims: bool = False, ord: float = 2) -> Any:
    x = xp.asarray(x)
    if not differentiable(x.dtype):
        x = xp.astype(x, xp.float64)
    if ord == 2 and not is_complex(x):
        return xp.sqrt(xp.sum(x * x, axis=axis, keepdims=keepdims))
    size = xp.abs(x)
    if ord == math.inf:
        return xp.max(size, axis=axis, keepdims=keepdims)
    if ord == -math.inf:
        return xp.min(size, axis=axis, keepdims=keepdims)
    if ord == 0:
        return xp.sum(xp.astype(size != 0, size.dtype), axis=axis, keepdims=keepdims)
    if ord == 1:
        return xp.sum(size, axis=axis, keepdims=keepdims)
    if ord == 2:
        return xp.sqrt(xp.sum(size * size, axis=axis, keepdims=keepdims))
    return xp.sum(size**ord, axis=axis, keepdims=keepdims) ** (1 / ord)


def _norm_weights(xp: Any, ans: Any, x: Any, *, axis: Any, ord: float = 2) -> Any:
    if ord == 2:
        return ratio(xp, x, ans)
    if ord == 0:
        return xp.zeros_like(x)
    direction = xp.sign(x)
    if ord == 1:
        return direction
    size = xp.abs(x)
    if math.isinf(ord):
        return direction * first_or_shared(xp, size == ans, ans.dtype, axes_of(axis, len(x.shape)))
    zero = (size == 0) | (ans == 0)
    relative = xp.where(zero, 1.0, size) / xp.where(ans == 0, 1.0, ans)
    return direction * xp.where(zero, 0.0, relative ** (ord - 1))


vector_norm = weighted(
    "vector_norm",
    _vector_norm,
    _norm_weights,
    doc="(Σ |x|^ord)^(1/ord) over `axis` or of all elements; ord may be ±inf or 0. Derivative 0 at the zero vector.",
)


@composite
def norm(x: Any, ord: float | str | None = None, axis: Any = None, keepdims: bool = False) -> Any:
    """The norm of vectors or matrices, as numpy.linalg.norm.

    Arguments:
        ord: None for the 2-norm of all elements; a number or "fro", "nuc" otherwise.
        axis: one axis: of vectors; two: of matrices; None with an `ord`: x is itself a vector or a matrix.
    """
    xp = ops()
    x = xp.asarray(x)
    ndim = len(x.shape)
    if axis is None and ord is None:
        return xp.vector_norm(x, axis=None, keepdims=keepdims)
    axes = axes_of(axis, ndim)
    if (axis is None and ndim not in (1, 2)) or len(axes) not in (1, 2):
        raise ValueError(
            f"norm(ord={ord!r}, axis={axis!r}) of an array of {ndim} axes: pass one axis for vectors, two for "
            "matrices, or use dg.ops.vector_norm for the norm of all elements"
        )
    if len(axes) == 1:
        return xp.vector_norm(x, axis=axes[0], keepdims=keepdims, ord=2 if ord is None else ord)
    if ord in (None, "fro"):
        return xp.vector_norm(x, axis=axes, keepdims=keepdims)
    value = xp.matrix_norm(xp.moveaxis(x, axes, (-2, -1)), ord=ord)
    return xp.expand_dims(value, axes) if keepdims else value
