"""Sums of products of two arrays: matmul and what is made of it.

`einsum` has a file of its own; `dot`, `inner` and `tensordot` are cases of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..operands import ops
from ..primitive import composite, conjugate, primitive
from .einsum import contract
from .nested import adjoint, axis_of, nested, shape_of
from .shape import ravel, reshape

# ---- matmul ----------------------------------------------------------------------------------------------------------


def _rows(xp: Any, x: Any) -> Any:
    """All axes but the last made one."""
    return xp.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


def _matmul(xp: Any, x: Any, y: Any) -> Any:
    if xp is np and y.ndim == 2 < x.ndim and x.flags.c_contiguous:
        # One large product instead of a small one for each index of the batch.
        return np.matmul(_rows(np, x), y).reshape(*x.shape[:-1], y.shape[1])
    return xp.matmul(x, y)


def _matmul_x(xp: Any, g: Any, ans: Any, x: Any, y: Any) -> Any:
    if len(y.shape) == 1:
        # One number for each row of x; for a vector x a single number.
        return xp.expand_dims(g, -1) * conjugate(xp, y)
    if len(x.shape) == 1:
        return xp.squeeze(xp.matmul(xp.expand_dims(g, -2), adjoint(xp, y)), -2)
    return nested(xp, matmul, g, adjoint(xp, y))


def _matmul_y(xp: Any, g: Any, ans: Any, x: Any, y: Any) -> Any:
    if len(x.shape) == 1:
        if len(y.shape) == 1:
            return conjugate(xp, x) * g
        # Outer products; the engine sums them over the batch axes that g has and y lacks.
        return xp.expand_dims(conjugate(xp, x), -1) * xp.expand_dims(g, -2)
    if len(y.shape) == 1:
        return xp.matmul(adjoint(xp, _rows(xp, x)), xp.reshape(g, (math.prod(g.shape),)))
    if len(y.shape) == 2 < len(x.shape):
        # The batch axes of x are rows like any other, so that one product does the sum.
        return xp.matmul(adjoint(xp, _rows(xp, x)), _rows(xp, g))
    return xp.matmul(adjoint(xp, x), g)


matmul = primitive(
    "matmul",
    _matmul,
    vjps=[_matmul_x, _matmul_y],
    jvp="linear",
    save="inputs",
    doc="Matrix product over the last two axes, broadcast over those before; one-axis operands are rows or columns.",
)

# ---- cases of matmul and einsum --------------------------------------------------------------------------------------


def _label(k: int) -> str:
    return chr(ord("a") + k)


def _contracted(x: Any, y: Any, axes_x: Sequence[int], axes_y: Sequence[int]) -> Any:
    """The sum of products over pairs of axes; the other axes of x, then those of y, are left."""
    shape_x, shape_y = shape_of(x), shape_of(y)
    of_x = [_label(k) for k in range(len(shape_x))]
    of_y = [_label(len(shape_x) + k) for k in range(len(shape_y))]
    for k, l in zip(axes_x, axes_y, strict=True):
        if shape_x[k] != shape_y[l]:
            raise ValueError(
                f"shapes {shape_x} and {shape_y} cannot be contracted: axis {k} has length {shape_x[k]}, "
                f"axis {l} of the second {shape_y[l]}"
            )
        of_y[l] = of_x[k]
    output = [label for label in of_x + of_y if not (label in of_x and label in of_y)]
    return contract(x, y, inputs=("".join(of_x), "".join(of_y)), output="".join(output))


@composite
def tensordot(x: Any, y: Any, axes: int | Sequence[Any] = 2) -> Any:
    """The sum of products over pairs of axes.

    Arguments:
        axes: the number of axes, last of x and first of y, or a pair of sequences of axes (or of single axes).
    """
    if isinstance(axes, int):
        n = len(shape_of(x))
        return _contracted(x, y, range(n - axes, n), range(axes))
    axes_x, axes_y = ((a,) if isinstance(a, int) else tuple(a) for a in axes)
    ndims = len(shape_of(x)), len(shape_of(y))
    return _contracted(x, y, [axis_of(a, ndims[0]) for a in axes_x], [axis_of(a, ndims[1]) for a in axes_y])


@composite
def dot(x: Any, y: Any) -> Any:
    """The sum of products over the last axis of x and the last but one of y (its only one, if it has one)."""
    n, m = len(shape_of(x)), len(shape_of(y))
    if n == 0 or m == 0:
        return ops().multiply(x, y)
    # numpy.dot itself is a hundred times slower than matmul on three axes.
    return matmul(x, y) if m <= 2 else _contracted(x, y, [n - 1], [m - 2])


@composite
def inner(x: Any, y: Any) -> Any:
    """The sum of products over the last axes of both."""
    n, m = len(shape_of(x)), len(shape_of(y))
    return ops().multiply(x, y) if n == 0 or m == 0 else _contracted(x, y, [n - 1], [m - 1])


@composite
def vdot(x: Any, y: Any) -> Any:
    """The sum of x̄·y over all elements, both flattened."""
    return matmul(conjugate(ops(), ravel(x)), ravel(y))


@composite
def vecdot(x: Any, y: Any, axis: int = -1) -> Any:
    """The sum of x̄·y over one axis, broadcast over the others."""
    rows = [ops().moveaxis(v, axis, -1) for v in (x, y)]
    return contract(conjugate(ops(), rows[0]), rows[1], **_batched_rows(rows))


def _batched_rows(rows: Sequence[Any]) -> dict[str, Any]:
    inputs = ["".join(_label(k) for k in range(v.ndim - 1, -1, -1)) for v in rows]
    return {"inputs": tuple(inputs), "output": max(inputs, key=len)[:-1]}


@composite
def outer(x: Any, y: Any) -> Any:
    """The products of all elements of x, as rows, with all elements of y, as columns."""
    return ops().multiply(reshape(x, shape=(-1, 1)), reshape(y, shape=(1, -1)))


@composite
def kron(x: Any, y: Any) -> Any:
    """The Kronecker product: y, scaled by each element of x in that element's place."""
    shape_x, shape_y = shape_of(x), shape_of(y)
    ndim = max(len(shape_x), len(shape_y))
    shape_x = (1,) * (ndim - len(shape_x)) + shape_x
    shape_y = (1,) * (ndim - len(shape_y)) + shape_y
    spread_x = reshape(x, shape=tuple(k for n in shape_x for k in (n, 1)))
    spread_y = reshape(y, shape=tuple(k for n in shape_y for k in (1, n)))
    product = ops().multiply(spread_x, spread_y)
    return reshape(product, shape=tuple(n * m for n, m in zip(shape_x, shape_y, strict=True)))


@composite
def cross(x: Any, y: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Any:
    """The vector product of vectors of length 3 along an axis of each (`axis`: of both and of the result)."""
    if axis is not None:
        axisa = axisb = axisc = axis
    x, y = ops().moveaxis(x, axisa, -1), ops().moveaxis(y, axisb, -1)
    if x.shape[-1] != 3 or y.shape[-1] != 3:
        raise ValueError(f"cross takes vectors of length 3, not {x.shape[-1]} and {y.shape[-1]}")
    roll = ops().roll
    product = roll(x, -1, -1) * roll(y, -2, -1) - roll(x, -2, -1) * roll(y, -1, -1)
    return ops().moveaxis(product, -1, axisc)


@composite
def matrix_transpose(x: Any) -> Any:
    """x with its last two axes exchanged."""
    return ops().swapaxes(x, -1, -2)


@composite
def multi_dot(arrays: Sequence[Any]) -> Any:
    """The product of two or more matrices (the first may be a row, the last a column), in the cheapest order.

    The order is found by dynamic programming (Cormen, Leiserson, Rivest & Stein, "Introduction to Algorithms", 15.2).
    """
    first, last = shape_of(arrays[0]), shape_of(arrays[-1])
    matrices = [reshape(arrays[0], shape=(1, -1)) if len(first) == 1 else arrays[0], *arrays[1:]]
    if len(last) == 1:
        matrices[-1] = reshape(matrices[-1], shape=(-1, 1))
    product = _multiplied(matrices, _best_order([shape_of(m) for m in matrices]), 0, len(matrices) - 1)
    shape = ((first[0],) if len(first) == 2 else ()) + ((last[1],) if len(last) == 2 else ())
    return product if len(shape) == 2 else reshape(product, shape=shape)


def _best_order(shapes: Sequence[tuple[int, ...]]) -> dict[tuple[int, int], int]:
    """For each run of matrices i..j where to divide it in two."""
    n = len(shapes)
    cost = {(i, i): 0 for i in range(n)}
    division = {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            costs = [cost[i, k] + cost[k + 1, j] + shapes[i][0] * shapes[k][1] * shapes[j][1] for k in range(i, j)]
            cost[i, j] = min(costs)
            division[i, j] = i + costs.index(cost[i, j])
    return division


def _multiplied(matrices: Sequence[Any], division: dict[tuple[int, int], int], i: int, j: int) -> Any:
    if i == j:
        return matrices[i]
    k = division[i, j]
    return matmul(_multiplied(matrices, division, i, k), _multiplied(matrices, division, k + 1, j))
