"""Sums of products: matmul."""

from __future__ import annotations

import math
from typing import Any

from ..primitive import conjugate, primitive
from .nested import adjoint

# ---- matmul ----------------------------------------------------------------------------------------------------------


def _rows(xp: Any, x: Any) -> Any:
    """All axes but the last made one."""
    return xp.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


def _matmul(xp: Any, x: Any, y: Any) -> Any:
    return xp.matmul(x, y)


def _matmul_x(xp: Any, g: Any, ans: Any, x: Any, y: Any) -> Any:
    if y.ndim == 1:
        # One number for each row of x; for a vector x a single number.
        return xp.expand_dims(g, -1) * conjugate(xp, y)
    if x.ndim == 1:
        g = xp.expand_dims(g, -2)
        return xp.squeeze(xp.matmul(g, adjoint(xp, y)), -2)
    return xp.matmul(g, adjoint(xp, y))


def _matmul_y(xp: Any, g: Any, ans: Any, x: Any, y: Any) -> Any:
    if x.ndim == 1:
        # Outer products; the engine sums them over the batch axes of g that y lacks.
        return conjugate(xp, x) * g if y.ndim == 1 else xp.expand_dims(conjugate(xp, x), -1) * xp.expand_dims(g, -2)
    if y.ndim == 1:
        # The batch axes of x are rows like any other, so that one product does the sum.
        return xp.matmul(adjoint(xp, _rows(xp, x)), xp.reshape(g, (-1,)))
    if y.ndim == 2 and x.ndim > 2:
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
