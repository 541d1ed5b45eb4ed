"""Scaled dot-product attention, softmax(q · kᵀ · scale + mask) · v, fused so that its scores are passed over while in
the cache.

The fused path walks over groups of heads: the scores of a group are computed, normalised and used before the next
group's. It keeps the attention weights; the rest is two matrix products each way (Vaswani et al. 2017).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from distgrad.errors import GradientError

from ..operands import ops
from ..primitive import primitive
from .blocks import PART
from .precision import narrow, refuse_complex, widen
from .softmax import softmax_of, softmax_rows

# ---- over any namespace ----------------------------------------------------------------------------------------------


def _scale_of(q: Any, scale: float | None) -> float:
    return 1 / math.sqrt(q.shape[-1]) if scale is None else scale


def _weights(xp: Any, q: Any, k: Any, mask: Any, causal: bool, scale: float | None) -> Any:
    """The attention weights (..., queries, keys)."""
    scores = xp.matmul(q * _scale_of(q, scale), xp.swapaxes(k, -1, -2))
    if causal:
        scores = xp.where(_allowed(xp, *scores.shape[-2:]), scores, -math.inf)
    if mask is not None:
        scores = xp.where(mask, scores, -math.inf) if _is_boolean(mask) else scores + mask
        if scores.shape[-1]:
            # A query that sees no key has no weights: softmax would make nan of them, and of every gradient.
            blind = xp.max(xp.detach(scores) if xp is ops() else scores, axis=-1, keepdims=True) == -math.inf
            return xp.where(blind, 0.0, softmax_of(xp, xp.where(blind, 0.0, scores), -1))
    return softmax_of(xp, scores, -1)


def _allowed(xp: Any, queries: int, keys: int) -> Any:
    """Which keys a query may see under `causal`: those up to its own position."""
    return xp.expand_dims(xp.arange(queries), 1) >= xp.expand_dims(xp.arange(keys), 0)


def _is_boolean(mask: Any) -> bool:
    return "bool" in str(mask.dtype)


def _check(q: Any, k: Any, v: Any) -> None:
    refuse_complex("scaled_dot_product_attention", q, k, v)
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise GradientError(
            f"attention needs q (..., queries, size), k (..., keys, size) and v (..., keys, values), "
            f"got {q.shape}, {k.shape} and {v.shape}"
        )


# ---- fused: NumPy arrays of one batch shape --------------------------------------------------------------------------


def _fused(xp: Any, q: Any, k: Any, v: Any) -> bool:
    return (
        xp is np
        and q.shape[:-2] == k.shape[:-2] == v.shape[:-2]
        and q.dtype == k.dtype == v.dtype
        and q.dtype.char in "fd"
        and min(q.size, k.size, v.size) > 0
    )


def _heads(x: Any) -> Any:
    """All axes before the last two as one, without a copy where strides allow; (batch, heads, n, d) stays as it is."""
    return x if x.ndim in (3, 4) else x.reshape(-1, *x.shape[-2:])


def _empty(like: Any, size: int) -> Any:
    """An array with a last axis of `size`, its memory in the order of `like` (where heads were split off the last
    axis, joining them again is then free), such that `_heads` of it is a view."""
    return np.empty_like(like, order="K" if like.ndim <= 4 else "C", shape=(*like.shape[:-1], size))


def _groups(weights: Any) -> Iterator[Any]:
    """Index of groups of heads whose weights fit the cache together."""
    per_head = weights.shape[-1] * weights.shape[-2]
    heads = weights.shape[-3]
    step = max(1, min(heads, PART // per_head))
    for outer in range(weights.shape[0]) if weights.ndim == 4 else (...,):
        for start in range(0, heads, step):
            yield (outer, slice(start, start + step)) if weights.ndim == 4 else slice(start, start + step)


def attend(q: Any, k: Any, v: Any, mask: Any, causal: bool, scale: float | None, out: Any) -> Any:
    """Writes the attention's value into `out` and returns the weights. All (heads, n, d) or (batch, heads, n, d)."""
    queries, keys = q.shape[-2], k.shape[-2]
    weights = np.empty((*q.shape[:-2], queries, keys), q.dtype)
    factor = q.dtype.type(_scale_of(q, scale))
    addend = _addend(mask, causal, weights)
    for i in _groups(weights):
        w = weights[i]
        np.matmul(q[i], k[i].swapaxes(-1, -2), out=w)
        w *= factor
        if addend is not None:
            w += addend if addend.ndim == 2 else addend[i]
        blind = None if mask is None else np.maximum.reduce(w, axis=-1) == -np.inf
        if blind is not None and blind.any():
            w[blind] = 0
            softmax_rows(w, w)
            w[blind] = 0
        else:
            softmax_rows(w, w)
        np.matmul(w, v[i], out=out[i])
    return weights


def _addend(mask: Any, causal: bool, weights: Any) -> Any:
    """What is added to the scores: minus infinity where a key may not be seen, a float mask's own values; None for
    nothing.
    """
    queries, keys = weights.shape[-2:]
    total = None
    if causal:
        total = np.zeros((queries, keys), weights.dtype)
        total[~_allowed(np, queries, keys)] = -np.inf
    if mask is not None:
        own = np.where(mask, weights.dtype.type(0), -np.inf).astype(weights.dtype) if _is_boolean(mask) else mask
        total = own if total is None else total + own
    if total is not None and total.ndim != 2:
        total = np.broadcast_to(total, weights.shape)
    return total


def attend_vjp(
    g: Any, q: Any, k: Any, v: Any, weights: Any, scale: float | None, dq: Any, dk: Any, dv: Any, dmask: Any = None
) -> None:
    """Writes the gradients by q, k, v and, unless None, by the scores' mask into arrays of their shapes."""
    factor = q.dtype.type(_scale_of(q, scale))
    for i in _groups(weights):
        w, pulled = weights[i], g[i]
        np.matmul(w.swapaxes(-1, -2), pulled, out=dv[i])
        ds = np.matmul(pulled, v[i].swapaxes(-1, -2))
        ds -= np.vecdot(ds, w)[..., None]
        ds *= w
        if dmask is not None:
            dmask[i] = ds
        ds *= factor
        np.matmul(ds, k[i], out=dq[i])
        np.matmul(ds.swapaxes(-1, -2), q[i], out=dk[i])


# ---- scaled_dot_product_attention ------------------------------------------------------------------------------------


def _attention(
    xp: Any, q: Any, k: Any, v: Any, mask: Any = None, *, causal: bool = False, scale: float | None = None
) -> Any:
    _check(q, k, v)
    if not _fused(xp, q, k, v):
        weights = _weights(xp, widen(xp, q), widen(xp, k), mask, causal, scale)
        return narrow(xp, xp.matmul(weights, widen(xp, v)), q.dtype), None
    out = _empty(q, v.shape[-1])
    if mask is not None and mask.ndim > 2:
        mask = _heads(np.broadcast_to(mask, (*q.shape[:-1], k.shape[-2])))
    weights = attend(_heads(q), _heads(k), _heads(v), mask, causal, scale, _heads(out))
    return out, weights


def _attention_shared(
    xp: Any, g: Any, ans: Any, q: Any, k: Any, v: Any, mask: Any = None, *, causal: bool = False,
    scale: float | None = None, residual: Any = None,
) -> Any:  # fmt: skip
    """Gradients by q, k, v and the scores."""
    if residual is not None:
        dq, dk, dv = (_empty(a, a.shape[-1]) for a in (q, k, v))
        dmask = None if mask is None or _is_boolean(mask) else np.empty_like(residual)
        outs = _heads(dq), _heads(dk), _heads(dv)
        attend_vjp(_heads(g), _heads(q), _heads(k), _heads(v), residual, scale, *outs, dmask)
        return dq, dk, dv, None if dmask is None else dmask.reshape(*q.shape[:-1], k.shape[-2])
    g, q, k, v = (widen(xp, a) for a in (g, q, k, v))
    weights = _weights(xp, q, k, mask, causal, scale)
    dweights = xp.matmul(g, xp.swapaxes(v, -1, -2))
    dscores = weights * (dweights - xp.sum(dweights * weights, axis=-1, keepdims=True))
    scaled = dscores * _scale_of(q, scale)
    dk = xp.matmul(xp.swapaxes(scaled, -1, -2), q)
    return xp.matmul(scaled, k), dk, xp.matmul(xp.swapaxes(weights, -1, -2), g), dscores


def _pick(i: int) -> Any:
    return lambda xp, g, shared, *args, **params: shared[i]


scaled_dot_product_attention = primitive(
    "scaled_dot_product_attention",
    _attention,
    vjps=[_pick(0), _pick(1), _pick(2), _pick(3)],
    shared=_attention_shared,
    save="inputs",
    residual=True,
    doc="softmax(q · kᵀ · scale + mask) · v: q (..., queries, size), k (..., keys, size), v (..., keys, values). "
    "mask, broadcast to (..., queries, keys): boolean, True where a key is seen, or added to the scores; a query that "
    "sees no key gets zeros. "
    "causal: a query sees the keys up to its own position. scale: 1/√size unless given.",
)

# ---- self_attention --------------------------------------------------------------------------------------------------


def _split_heads(xp: Any, packed: Any, heads: int) -> list[Any]:
    """q, k and v, each (batch, heads, tokens, size), of an array (batch, tokens, 3 · heads · size)."""
    batch, tokens, width = packed.shape
    split = xp.reshape(packed, (batch, tokens, 3, heads, width // (3 * heads)))
    return [xp.swapaxes(split[:, :, i, ...], 1, 2) for i in range(3)]


def _check_packed(packed: Any, heads: int) -> None:
    refuse_complex("self_attention", packed)
    if packed.ndim != 3 or packed.shape[-1] % (3 * heads):
        raise GradientError(
            f"self_attention(heads={heads}) needs an array (batch, tokens, 3 · heads · size), got {packed.shape}"
        )


def _self_attention(xp: Any, packed: Any, *, heads: int, causal: bool = False, scale: float | None = None) -> Any:
    _check_packed(packed, heads)
    q, k, v = _split_heads(xp, packed, heads)
    joined = (*packed.shape[:2], packed.shape[2] // 3)
    if not _fused(xp, q, k, v):
        out, _ = _attention(xp, q, k, v, causal=causal, scale=scale)
        return xp.reshape(xp.swapaxes(out, 1, 2), joined), None
    out = np.empty((*packed.shape[:2], heads, q.shape[-1]), packed.dtype)
    weights = attend(q, k, v, None, causal, scale, out.swapaxes(1, 2))
    return out.reshape(joined), weights


def _self_attention_vjp(
    xp: Any, g: Any, ans: Any, packed: Any, *, heads: int, causal: bool = False, scale: float | None = None,
    residual: Any = None,
) -> Any:  # fmt: skip
    batch, tokens, width = packed.shape
    g = xp.swapaxes(xp.reshape(g, (batch, tokens, heads, width // (3 * heads))), 1, 2)
    q, k, v = _split_heads(xp, packed, heads)
    if residual is None:
        pulled = _attention_shared(xp, g, None, q, k, v, causal=causal, scale=scale)[:3]
        return xp.reshape(xp.transpose(xp.stack(pulled), (1, 3, 0, 2, 4)), packed.shape)
    out = np.empty(packed.shape, packed.dtype)
    attend_vjp(g, q, k, v, residual, scale, *_split_heads(np, out, heads))
    return out


self_attention = primitive(
    "self_attention",
    _self_attention,
    vjps=[_self_attention_vjp],
    save="inputs",
    residual=True,
    doc="scaled_dot_product_attention of a sequence with itself: queries, keys and values of all heads side by side in "
    "one array (batch, tokens, 3 · heads · size), as one projection yields them. Value: (batch, tokens, heads · size).",
)
