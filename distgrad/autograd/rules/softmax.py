"""Softmax and its logarithm."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..operands import ops
from ..primitive import primitive
from .blocks import as_rows, row_parts, row_sums
from .precision import narrow, refuse_complex, widen


def shifted(xp: Any, x: Any, axis: int) -> Any:
    """`x` less its largest value along `axis`, so that exponentials cannot overflow; an infinite one is left in place.

    The shift cancels in every function built on it, so no gradient needs to flow through the maximum.
    """
    if x.shape[axis] == 0:
        return x
    top = xp.max(xp.detach(x) if xp is ops() else x, axis=axis, keepdims=True)
    return x - xp.where(xp.isfinite(top), top, xp.zeros_like(top))


def softmax_of(xp: Any, x: Any, axis: int) -> Any:
    """Softmax in the dtype of `x`."""
    if _along_rows(xp, x, axis):
        return _softmax_rows(x)
    e = xp.exp(shifted(xp, x, axis))
    return e / xp.sum(e, axis=axis, keepdims=True)


def _along_rows(xp: Any, x: Any, axis: int) -> bool:
    """Whether the fused path applies: a NumPy array, along its last axis."""
    return xp is np and x.ndim > 0 and axis in (-1, x.ndim - 1) and x.dtype.char in "fd" and x.size > 0


def _softmax_rows(x: Any) -> Any:
    out = np.empty(x.shape, x.dtype)
    for a, o in row_parts(as_rows(x), as_rows(out)):
        softmax_rows(a, o)
    return out


def row_tops(scores: Any) -> Any:
    """The largest value along the last axis, kept as an axis; 0 in place of infinity."""
    top = np.maximum.reduce(scores, axis=-1, keepdims=True)
    if np.isinf(top).any():
        top[np.isinf(top)] = 0
    return top


def softmax_rows(scores: Any, out: Any) -> None:
    """Softmax over the last axis into `out`, which may be `scores` itself; small enough for the cache, NumPy only."""
    np.subtract(scores, row_tops(scores), out=out)
    np.exp(out, out=out)
    total = row_sums(out)
    np.reciprocal(total, out=total)
    out *= total[..., None]


def log_softmax_of(xp: Any, x: Any, axis: int) -> Any:
    """Logarithm of the softmax in the dtype of `x`."""
    if _along_rows(xp, x, axis):
        return _log_softmax_rows(x)
    s = shifted(xp, x, axis)
    return s - xp.log(xp.sum(xp.exp(s), axis=axis, keepdims=True))


def _log_softmax_rows(x: Any) -> Any:
    out = np.empty(x.shape, x.dtype)
    for a, o in row_parts(as_rows(x), as_rows(out)):
        np.subtract(a, row_tops(a), out=o)
        total = row_sums(np.exp(o))
        o -= np.log(total, out=total)[:, None]
    return out


def _softmax(xp: Any, x: Any, *, axis: int = -1) -> Any:
    refuse_complex("softmax", x)
    return narrow(xp, softmax_of(xp, widen(xp, x), axis), x.dtype)


def softmax_vjp(xp: Any, g: Any, ans: Any, x: Any, *, axis: int = -1) -> Any:
    """Gradient of softmax, from its value `ans`: ans · (g − Σ ans · g)."""
    g, ans = widen(xp, g), widen(xp, ans)
    if _along_rows(xp, g, axis) and ans.dtype == g.dtype:
        out = np.empty(g.shape, g.dtype)
        for pulled, s, o in row_parts(as_rows(g), as_rows(ans), as_rows(out)):
            np.subtract(pulled, np.vecdot(pulled, s)[:, None], out=o)
            o *= s
        return out
    return ans * (g - xp.sum(ans * g, axis=axis, keepdims=True))


softmax = primitive(
    "softmax",
    _softmax,
    vjps=[softmax_vjp],
    jvp="same",
    save="output",
    doc="exp(x) / Σ exp(x) along `axis`. float16 and bfloat16 are computed in float32.",
)


def _log_softmax(xp: Any, x: Any, *, axis: int = -1) -> Any:
    refuse_complex("log_softmax", x)
    return narrow(xp, log_softmax_of(xp, widen(xp, x), axis), x.dtype)


def _log_softmax_vjp(xp: Any, g: Any, ans: Any, x: Any, *, axis: int = -1) -> Any:
    g, ans = widen(xp, g), widen(xp, ans)
    if _along_rows(xp, g, axis) and ans.dtype == g.dtype:
        out = np.empty(g.shape, g.dtype)
        for pulled, s, o in row_parts(as_rows(g), as_rows(ans), as_rows(out)):
            np.exp(s, out=o)
            o *= row_sums(pulled)[:, None]
            np.subtract(pulled, o, out=o)
        return out
    return g - xp.exp(ans) * xp.sum(g, axis=axis, keepdims=True)


def _log_softmax_jvp(xp: Any, tangents: Any, ans: Any, x: Any, *, axis: int = -1) -> Any:
    (t,) = tangents
    return t - xp.sum(xp.exp(ans) * t, axis=axis, keepdims=True)


log_softmax = primitive(
    "log_softmax",
    _log_softmax,
    vjps=[_log_softmax_vjp],
    jvp=_log_softmax_jvp,
    save="output",
    doc="x − log Σ exp(x) along `axis`, without overflow. float16 and bfloat16 are computed in float32.",
)
