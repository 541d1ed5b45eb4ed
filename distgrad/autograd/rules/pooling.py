"""Pooling: the largest value or the average of each window of an image (batch, channels, height, width)."""

from __future__ import annotations

from typing import Any

import numpy as np

from distgrad.errors import GradientError

from ..operands import ops
from ..primitive import primitive
from .convolution import Window, pad_image, pair, scatter, window
from .masking import masked
from .precision import narrow, widen


def _window(size: Any, stride: Any, padding: Any) -> Window:
    return window(size, size if stride is None else stride, padding)


# ---- the largest -----------------------------------------------------------------------------------------------------


def _max_pool2d(xp: Any, x: Any, *, size: Any, stride: Any = None, padding: Any = 0) -> Any:
    w = _window(size, stride, padding)
    rows, columns = w.positions(*x.shape[2:])
    padded = pad_image(xp, x, w.padding, -np.inf)
    out = None
    for _, _, down, across in w.taps(rows, columns):
        tap = padded[:, :, down, across]
        out = tap if out is None else xp.maximum(out, tap)
    return out if w.kernel != (1, 1) else xp.copy(out)


def _winners(xp: Any, ans: Any, x: Any, w: Window) -> Any:
    """Which element of each window is its largest, the first of equals: (batch, channels, kernel, kernel, rows,
    columns).
    """
    rows, columns = ans.shape[2:]
    padded = pad_image(xp, x, w.padding, -np.inf)
    masks = xp.empty((*x.shape[:2], *w.kernel, rows, columns), dtype=xp.bool)
    taken = xp.zeros(ans.shape, dtype=xp.bool)
    for i, j, down, across in w.taps(rows, columns):
        mask = (padded[:, :, down, across] == ans) & ~taken
        masks[:, :, i, j, ...] = mask
        taken |= mask
    return masks


def _to_winners(g: Any, ans: Any, x: Any, w: Window) -> Any:
    """Gives each window's gradient to its largest element, the first of equals."""
    rows, columns = ans.shape[2:]
    (height, width), (top, left) = x.shape[2:], w.padding
    padded = pad_image(np, x, w.padding, -np.inf)
    out = np.zeros(padded.shape, x.dtype)
    taken = np.zeros(ans.shape, bool)
    apart = w.stride[0] >= w.kernel[0] and w.stride[1] >= w.kernel[1]
    for _, _, down, across in w.taps(rows, columns):
        won = padded[:, :, down, across] == ans
        np.greater(won, taken, out=won)  # won and not taken
        taken |= won
        if apart:
            out[:, :, down, across] = masked(np, g, won)
        else:
            out[:, :, down, across] += masked(np, g, won)
    return out[:, :, top : top + height, left : left + width]


def _max_pool2d_vjp(xp: Any, g: Any, ans: Any, x: Any, *, size: Any, stride: Any = None, padding: Any = 0) -> Any:
    w = _window(size, stride, padding)
    if xp is np:
        return _to_winners(g, ans, x, w)
    spread = xp.reshape(g, (*g.shape[:2], 1, 1, *g.shape[2:]))
    if xp is not ops():
        return scatter(xp, spread * xp.astype(_winners(xp, ans, x, w), g.dtype), w, x.shape[2:])
    masks = xp.max_pool2d_winners(x, size=w.kernel, stride=w.stride, padding=w.padding)
    return xp.fold2d(spread * masks, size=tuple(x.shape[2:]), stride=w.stride, padding=w.padding)


def _max_pool2d_jvp(
    xp: Any, tangents: Any, ans: Any, x: Any, *, size: Any, stride: Any = None, padding: Any = 0
) -> Any:
    w = _window(size, stride, padding)
    moves = {"stride": w.stride, "padding": w.padding}
    masks = xp.max_pool2d_winners(x, size=w.kernel, **moves)
    return xp.sum(xp.unfold2d(tangents[0], kernel=w.kernel, **moves) * masks, axis=(2, 3))


max_pool2d = primitive(
    "max_pool2d",
    _max_pool2d,
    vjps=[_max_pool2d_vjp],
    jvp=_max_pool2d_jvp,
    doc="The largest value of each window; of equals the first takes the gradient. `stride` is `size` unless given.",
)


def _max_pool2d_winners(xp: Any, x: Any, *, size: Any, stride: Any = None, padding: Any = 0) -> Any:
    out = _max_pool2d(xp, x, size=size, stride=stride, padding=padding)
    return xp.astype(_winners(xp, out, x, _window(size, stride, padding)), x.dtype)


max_pool2d_winners = primitive(
    "max_pool2d_winners",
    _max_pool2d_winners,
    vjps=None,
    doc="1 where an element is the one its window of max_pool2d takes, else 0, in the shape of unfold2d. No gradient.",
)

# ---- the average -----------------------------------------------------------------------------------------------------


def _avg_pool2d(xp: Any, x: Any, *, size: Any, stride: Any = None, padding: Any = 0) -> Any:
    w = _window(size, stride, padding)
    rows, columns = w.positions(*x.shape[2:])
    padded = pad_image(xp, widen(xp, x), w.padding)
    total: Any = 0
    for _, _, down, across in w.taps(rows, columns):
        total = total + padded[:, :, down, across]
    return narrow(xp, total * (1 / (w.kernel[0] * w.kernel[1])), x.dtype)


def _avg_pool2d_vjp(xp: Any, g: Any, ans: Any, x: Any, *, size: Any, stride: Any = None, padding: Any = 0) -> Any:
    w = _window(size, stride, padding)
    share = xp.reshape(g * (1 / (w.kernel[0] * w.kernel[1])), (*g.shape[:2], 1, 1, *g.shape[2:]))
    patches = xp.broadcast_to(share, (*g.shape[:2], *w.kernel, *g.shape[2:]))
    if xp is ops():
        return xp.fold2d(patches, size=tuple(x.shape[2:]), stride=w.stride, padding=w.padding)
    return scatter(xp, patches, w, x.shape[2:])


avg_pool2d = primitive(
    "avg_pool2d",
    _avg_pool2d,
    vjps=[_avg_pool2d_vjp],
    jvp="linear",
    save="nothing",
    doc="The average of each window, its padding counted as zeros. `stride` is `size` unless given.",
)


def _averages(xp: Any, length: int, bins: int, dtype: Any) -> Any:
    """The matrix (bins, length) that averages bin i over [⌊i · length / bins⌋, ⌈(i + 1) · length / bins⌉)."""
    if bins < 1:
        raise GradientError(f"adaptive_avg_pool2d(size=...) must be positive, not {bins}")
    matrix = np.zeros((bins, length))
    for i in range(bins):
        start, stop = i * length // bins, -(-(i + 1) * length // bins)
        matrix[i, start:stop] = 1 / (stop - start)
    return xp.astype(matrix if xp is ops() else xp.asarray(matrix), dtype)


def _adaptive_avg_pool2d(xp: Any, x: Any, *, size: Any) -> Any:
    down, across = (_averages(xp, n, bins, widen(xp, x).dtype) for n, bins in zip(x.shape[2:], pair(size), strict=True))
    return narrow(xp, xp.matmul(xp.matmul(down, widen(xp, x)), xp.swapaxes(across, 0, 1)), x.dtype)


def _adaptive_avg_pool2d_vjp(xp: Any, g: Any, ans: Any, x: Any, *, size: Any) -> Any:
    g = widen(xp, g)
    down, across = (_averages(xp, n, bins, g.dtype) for n, bins in zip(x.shape[2:], pair(size), strict=True))
    return xp.matmul(xp.matmul(xp.swapaxes(down, 0, 1), g), across)


adaptive_avg_pool2d = primitive(
    "adaptive_avg_pool2d",
    _adaptive_avg_pool2d,
    vjps=[_adaptive_avg_pool2d_vjp],
    jvp="linear",
    save="nothing",
    doc="Averages over a grid of `size` bins that cover the image evenly.",
)
