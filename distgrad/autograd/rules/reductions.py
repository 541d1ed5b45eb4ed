"""Sums, products, extrema and norms over axes."""

from __future__ import annotations

from typing import Any

from distgrad.autograd.primitive import primitive


def _spread(xp: Any, g: Any, shape: tuple[int, ...], axis: Any, keepdims: bool) -> Any:
    """A reduced array, broadcast back over the axes it was reduced over."""
    if not keepdims and axis is not None:
        g = xp.expand_dims(g, axis)
    return xp.broadcast_to(g, shape)


# `sum` and a few others shadow Python's names, as NumPy's do; they are primitives here.
sum = primitive(
    "sum",
    lambda xp, x, *, axis=None, keepdims=False: xp.sum(x, axis=axis, keepdims=keepdims),
    vjps=[lambda xp, g, ans, x, *, axis=None, keepdims=False: _spread(xp, g, x.shape, axis, keepdims)],
    jvp="linear",
    save="nothing",
    doc="Sum over `axis` (int, tuple or all).",
)
