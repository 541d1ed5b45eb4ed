"""Layers without a file of their own: the affine map."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..primitive import primitive
from .precision import is_half, narrow, widen


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
    pulled = xp.matmul(_rows(xp, widen(xp, g)), widen(xp, weight))
    return pulled if x.ndim == 2 else xp.reshape(pulled, x.shape)


def _linear_weight(xp: Any, g: Any, ans: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    return xp.matmul(xp.swapaxes(_rows(xp, widen(xp, g)), 0, 1), _rows(xp, widen(xp, x)))


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
