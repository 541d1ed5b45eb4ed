"""Diagonals and triangles of matrices."""

from __future__ import annotations

from typing import Any

from ..operands import ops
from ..primitive import Primitive, composite, primitive
from .nested import nested, shape_of


def _diagonal_scatter(xp: Any, g: Any, *, shape: tuple[int, ...], offset: int, axis1: int, axis2: int) -> Any:
    out = xp.zeros(shape, dtype=g.dtype)
    places = xp.arange(g.shape[-1])
    matrices = xp.moveaxis(out, (axis1, axis2), (-2, -1))
    matrices[..., places + max(-offset, 0), places + max(offset, 0)] = g
    return out


diagonal = primitive(
    "diagonal",
    lambda xp, x, *, offset=0, axis1=0, axis2=1: xp.diagonal(x, offset=offset, axis1=axis1, axis2=axis2),
    vjps=[
        lambda xp, g, ans, x, *, offset=0, axis1=0, axis2=1: nested(
            xp, diagonal_scatter, g, shape=tuple(x.shape), offset=offset, axis1=axis1, axis2=axis2
        )
    ],
    jvp="linear",
    save="nothing",
    doc="The elements x[..., i, ..., i + offset, ...] along a new last axis in place of `axis1` and `axis2`.",
)
diagonal_scatter: Primitive = primitive(
    "diagonal_scatter",
    _diagonal_scatter,
    vjps=[
        lambda xp, g, ans, x, *, shape, offset, axis1, axis2: xp.diagonal(g, offset=offset, axis1=axis1, axis2=axis2)
    ],
    jvp="linear",
    save="nothing",
    doc="Zeros of `shape` with the last axis of x on a diagonal: the transpose of `diagonal`.",
)
tril = primitive(
    "tril",
    lambda xp, x, *, k=0: xp.tril(x, k=k),
    vjps=[lambda xp, g, ans, x, *, k=0: xp.tril(g, k=k)],
    jvp="linear",
    save="nothing",
    doc="x with zeros above the k-th diagonal of its last two axes.",
)
triu = primitive(
    "triu",
    lambda xp, x, *, k=0: xp.triu(x, k=k),
    vjps=[lambda xp, g, ans, x, *, k=0: xp.triu(g, k=k)],
    jvp="linear",
    save="nothing",
    doc="x with zeros below the k-th diagonal of its last two axes.",
)


@composite
def diag(x: Any, k: int = 0) -> Any:
    """The k-th diagonal of a matrix; for x with one axis, a matrix with x on its k-th diagonal and zeros elsewhere."""
    shape = shape_of(x)
    if len(shape) == 1:
        n = shape[0] + abs(k)
        return diagonal_scatter(x, shape=(n, n), offset=k, axis1=0, axis2=1)
    if len(shape) == 2:
        return diagonal(x, offset=k)
    raise ValueError(f"diag takes a vector or a matrix, not an array of shape {shape}; see diagonal")


@composite
def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The sum of a diagonal."""
    return ops().sum(diagonal(x, offset=offset, axis1=axis1, axis2=axis2), axis=-1)


# ---- for rules of matrices -------------------------------------------------------------------------------------------


def on_diagonal(xp: Any, values: Any) -> Any:
    """Diagonal matrices with the last axis of `values` on their diagonals."""
    n = values.shape[-1]
    return nested(xp, diagonal_scatter, values, shape=(*values.shape, n), offset=0, axis1=-2, axis2=-1)


def off_diagonal(xp: Any, x: Any) -> Any:
    """Matrices with zeros on the diagonal."""
    return xp.tril(x, k=-1) + xp.triu(x, k=1)


def diagonal_part(xp: Any, x: Any) -> Any:
    """Matrices with zeros off the diagonal."""
    return xp.tril(xp.triu(x))
