"""How the rules of one primitive use another that NumPy lacks, and what they ask of operands alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distgrad.errors import GradientError

from ..operands import ops
from ..primitive import Primitive, conjugate
from ..tensor import Boxed, Tensor


def nested(xp: Any, op: Primitive, *args: Any, **params: Any) -> Any:
    """The value of `op` inside a rule: recorded where the rule runs on tensors, the bare forward rule on raw arrays."""
    return op(*args, **params) if xp is ops() else op.forward(xp, *args, **params)


def shape_of(x: Any) -> tuple[int, ...]:
    """The shape of a tensor, an array, a number or nested lists."""
    shape = getattr(x, "shape", None)
    return np.shape(x) if shape is None else tuple(shape)


def axis_of(axis: int, ndim: int) -> int:
    """An axis of an array of `ndim` axes, counted from the front. Raises AxisError as NumPy does."""
    if not -ndim <= axis < ndim:
        raise np.exceptions.AxisError(axis, ndim)
    return axis % ndim


def is_complex(x: Any) -> bool:
    """Whether a tensor or array, of any namespace, holds complex numbers."""
    kind = getattr(x.dtype, "kind", None)
    return "complex" in str(x.dtype) if kind is None else bool(kind == "c")


def transposed(xp: Any, x: Any) -> Any:
    """x with its last two axes exchanged."""
    return x.T if len(x.shape) == 2 else xp.swapaxes(x, -1, -2)


def adjoint(xp: Any, x: Any) -> Any:
    """The conjugate transpose over the last two axes."""
    return conjugate(xp, transposed(xp, x))


def linalg(xp: Any) -> Any:
    """Where the functions of linear algebra are: flat in dg.ops, in `linalg` elsewhere."""
    return xp if xp is ops() else xp.linalg


def bare(x: Any) -> Any:
    """The raw array under a tensor and the boxes of all transforms around it, to compute with.

    Raises GradientError inside vmap, where no single array is the value.
    """
    while isinstance(x, Tensor):
        if isinstance(x, Boxed) and tuple(x.shape) != tuple(x.data.shape):
            raise GradientError("this depends on values, and inside dg.vmap a value stands for a whole batch")
        x = x.data
    return x


def whole(x: Any) -> Any:
    """The raw array under a tensor, to look at: inside vmap that of the whole batch."""
    while isinstance(x, Tensor):
        x = x.data
    return x


def or_zeros(xp: Any, tangents: Sequence[Any], operands: Sequence[Any]) -> list[Any]:
    """The tangents of the first operands, zeros for those that have none."""
    return [xp.zeros_like(x) if t is None else t for t, x in zip(tangents, operands, strict=False)]
