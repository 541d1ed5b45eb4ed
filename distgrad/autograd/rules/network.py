"""Layers without a file of their own: the affine map, dropout, one-hot vectors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from distgrad.errors import GradientError

from ..operands import ops
from ..primitive import conjugate, primitive
from .losses import one_hot_of
from .precision import floating, is_half, narrow, widen


def _rows(xp: Any, x: Any) -> Any:
    """`x` as a matrix: all axes but the last made one, so that a batch is one matrix product instead of many."""
    return x if x.ndim == 2 else xp.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


def _linear(xp: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    if is_half(x.dtype):
        wide = [widen(xp, a) for a in (x, weight, bias) if a is not None]
        return narrow(xp, _linear(xp, *wide), x.dtype)
    out = xp.matmul(_rows(xp, x), xp.swapaxes(weight, 0, 1))
    if bias is not None:
        if xp is np and out.dtype == bias.dtype:
            out += bias
        else:
            out = out + bias
    return out if x.ndim == 2 else xp.reshape(out, (*x.shape[:-1], weight.shape[0]))


def _linear_x(xp: Any, g: Any, ans: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    pulled = xp.matmul(_rows(xp, widen(xp, g)), conjugate(xp, widen(xp, weight)))
    return pulled if x.ndim == 2 else xp.reshape(pulled, x.shape)


def _linear_weight(xp: Any, g: Any, ans: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    return xp.matmul(xp.swapaxes(_rows(xp, widen(xp, g)), 0, 1), _rows(xp, conjugate(xp, widen(xp, x))))


def _linear_bias(xp: Any, g: Any, ans: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    return xp.sum(_rows(xp, widen(xp, g)), axis=0)


def _linear_jvp(xp: Any, tangents: Any, ans: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    tx, tweight, tbias = (*tangents, None)[:3]
    terms = [xp.linear(tx, weight)] if tx is not None else []
    if tweight is not None:
        terms.append(xp.linear(x, tweight))
    if tbias is not None:
        terms.append(tbias)
    return sum(terms[1:], terms[0])


linear = primitive(
    "linear",
    _linear,
    vjps=[_linear_x, _linear_weight, _linear_bias],
    jvp=_linear_jvp,
    save="inputs",
    doc="x · weightᵀ + bias over the last axis: x (..., inputs), weight (outputs, inputs), bias (outputs,) or absent.",
)

# ---- dropout ---------------------------------------------------------------------------------------------------------


def _kept(xp: Any, x: Any, key: int, rate: float) -> Any:
    """0 where an element is dropped, 1 / (1 − rate) elsewhere. A function of the key, so it can be drawn again."""
    drawn = np.random.Generator(np.random.Philox(key=key)).random(x.shape, dtype=np.float32)
    mask = (drawn >= rate) * np.float32(1 / (1 - rate))
    return mask.astype(x.dtype) if xp in (np, ops()) else xp.astype(xp.asarray(mask), x.dtype)


def _dropout(xp: Any, x: Any, *, key: int, rate: float = 0.5) -> Any:
    if not 0 <= rate < 1:
        raise GradientError(f"dropout(rate={rate}) must be at least 0 and less than 1")
    x = floating(xp, x)
    kept = _kept(xp, x, key, rate)
    return x * kept, kept


def _dropout_vjp(xp: Any, g: Any, ans: Any, x: Any, *, key: int, rate: float = 0.5, residual: Any = None) -> Any:
    return g * (_kept(xp, x, key, rate) if residual is None else residual)


dropout = primitive(
    "dropout",
    _dropout,
    vjps=[_dropout_vjp],
    jvp="linear",
    save="nothing",
    residual=True,
    doc="Sets each element to 0 with probability `rate` and divides the others by 1 − rate. `key`, a 128-bit integer, "
    "decides which (see `nn.random`).",
)

# ---- one_hot ---------------------------------------------------------------------------------------------------------


def _one_hot(xp: Any, labels: Any, *, classes: int, dtype: Any = np.float32) -> Any:
    return one_hot_of(xp, labels, classes, dtype)


one_hot = primitive(
    "one_hot",
    _one_hot,
    vjps=None,
    doc="Integer labels (...,) as vectors (..., classes): 1 at the label, 0 elsewhere. Labels out of range give zeros.",
)
