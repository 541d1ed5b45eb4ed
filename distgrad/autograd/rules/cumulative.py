"""Running sums and products, differences of neighbours, and the trapezoidal rule."""

from __future__ import annotations

from typing import Any

from ..operands import ops
from ..primitive import composite, conjugate, primitive
from .nested import axis_of


def _flattened(xp: Any, x: Any, axis: int | None) -> tuple[Any, int]:
    """x and the axis to run along: x in one axis when `axis` is None."""
    return (xp.reshape(x, (-1,)), 0) if axis is None else (x, axis)


def _cumsum(xp: Any, x: Any, *, axis: int | None = None, dtype: Any = None) -> Any:
    x, axis = _flattened(xp, x, axis)
    return xp.cumsum(x, axis=axis, dtype=dtype)


def _from_the_end(xp: Any, g: Any, axis: int) -> Any:
    return xp.flip(xp.cumsum(xp.flip(g, axis=axis), axis=axis), axis=axis)


cumsum = primitive(
    "cumsum",
    _cumsum,
    vjps=[
        lambda xp, g, ans, x, *, axis=None, dtype=None: xp.reshape(
            _from_the_end(xp, g, 0 if axis is None else axis), x.shape
        )
    ],
    jvp="linear",
    save="nothing",
    doc="Running sum along `axis`, of all the elements when it is None; the vjp is the running sum from the end.",
)


# ---- running product -------------------------------------------------------------------------------------------------


def _shifted(xp: Any, x: Any, by: int, axis: int, fill: float) -> Any:
    """Each element replaced by the one `by` places before it (for negative `by`, after it), else by `fill`."""
    n = x.shape[axis]
    kept = [slice(None)] * len(x.shape)
    kept[axis] = slice(0, max(n - by, 0)) if by > 0 else slice(min(-by, n), None)
    part = x[tuple(kept)]
    lengths = [*x.shape]
    lengths[axis] = n - part.shape[axis]
    edge = xp.broadcast_to(xp.asarray(fill, dtype=x.dtype), tuple(lengths))
    return xp.concatenate([edge, part] if by > 0 else [part, edge], axis=axis)


def _recurrence(xp: Any, a: Any, b: Any, axis: int, step: int) -> Any:
    """The solution of s[i] = b[i] + a[i]·s[i - step] along `axis`, for step 1 or -1.

    Pairs (a, b) stand for affine maps; composing each with the one 1, 2, 4, ... places further gives all prefixes in
    log n rounds (D. Hillis and G. Steele, "Data parallel algorithms", 1986). There is no division, so zeros among the a
    are harmless.
    """
    by = step
    while abs(by) < b.shape[axis]:
        b = b + a * _shifted(xp, b, by, axis, 0.0)
        a = a * _shifted(xp, a, by, axis, 1.0)
        by *= 2
    return b


def _cumprod(xp: Any, x: Any, *, axis: int | None = None, dtype: Any = None) -> Any:
    x, axis = _flattened(xp, x, axis)
    return xp.cumprod(x, axis=axis, dtype=dtype)


def _cumprod_vjp(xp: Any, g: Any, ans: Any, x: Any, *, axis: int | None = None, dtype: Any = None) -> Any:
    """Σ_{k ≥ i} g[k]·Π_{j ≤ k, j ≠ i} x[j]: the product before i times s[i] = g[i] + x[i + 1]·s[i + 1]."""
    rows, along = _flattened(xp, conjugate(xp, x), axis)
    before = _shifted(xp, conjugate(xp, ans), 1, along, 1.0)
    return xp.reshape(before * _recurrence(xp, _shifted(xp, rows, -1, along, 1.0), g, along, -1), x.shape)


def _cumprod_jvp(xp: Any, tangents: Any, ans: Any, x: Any, *, axis: int | None = None, dtype: Any = None) -> Any:
    """The product rule, s[i] = t[i]·(product before i) + x[i]·s[i - 1]."""
    rows, along = _flattened(xp, x, axis)
    t, _ = _flattened(xp, tangents[0], axis)
    return _recurrence(xp, rows, t * _shifted(xp, ans, 1, along, 1.0), along, 1)


cumprod = primitive(
    "cumprod",
    _cumprod,
    vjps=[_cumprod_vjp],
    jvp=_cumprod_jvp,
    doc="Running product along `axis`, of all the elements when it is None; derivatives are right with zeros too.",
)


# ---- neighbours ------------------------------------------------------------------------------------------------------


def _along(axis: int, part: slice) -> tuple[Any, ...]:
    """The index of a part of one axis, counted from the end so that the number of axes does not matter."""
    return (slice(None),) * axis + (part,) if axis >= 0 else (..., part, *(slice(None),) * (-axis - 1))


@composite
def diff(x: Any, n: int = 1, axis: int = -1) -> Any:
    """x[1:] - x[:-1] along `axis`, n times over; of booleans, whether neighbours differ."""
    xp = ops()
    x = xp.asarray(x)
    difference = xp.not_equal if "bool" in str(x.dtype) else xp.subtract
    for _ in range(n):
        x = difference(x[_along(axis, slice(1, None))], x[_along(axis, slice(None, -1))])
    return x


@composite
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    """The integral of samples y along `axis`, `dx` apart or at the places x (of y's shape, or of its one axis)."""
    xp = ops()
    y = xp.asarray(y)
    if x is not None:
        x = xp.asarray(x)
        if len(x.shape) == 1:
            along = axis_of(axis, len(y.shape))
            x = xp.reshape(x, tuple(-1 if a == along else 1 for a in range(len(y.shape))))
        dx = diff(x, axis=axis)
    means = 0.5 * (y[_along(axis, slice(1, None))] + y[_along(axis, slice(None, -1))])
    return xp.sum(means * dx, axis=axis)
