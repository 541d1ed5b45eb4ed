"""Normalisation: subtract a mean, divide by a root mean square, scale and shift.

Layer, group and batch normalisation differ in what they average over. The fused path sees a matrix whose rows are
normalised each by itself (layer and group norm) or its columns' groups (batch norm); it keeps the normalised values
and the reciprocal deviations.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from distgrad.errors import GradientError

from ..primitive import primitive
from .blocks import as_rows, row_parts, row_sums
from .precision import narrow, refuse_complex, widen


def _fused(xp: Any, x: Any) -> bool:
    return xp is np and x.dtype.char in "fd" and x.size > 0


def _last(x: Any, axes: int) -> tuple[int, ...]:
    return tuple(range(x.ndim - axes, x.ndim))


# ---- what the rules compute, over any namespace ----------------------------------------------------------------------


def _centred(xp: Any, x: Any, axes: tuple[int, ...], eps: float) -> tuple[Any, Any]:
    """(x − mean) / deviation over `axes`, and 1 / deviation, where deviation² = variance + eps."""
    centred = x - xp.mean(x, axis=axes, keepdims=True)
    inverse = 1 / xp.sqrt(xp.mean(centred * centred, axis=axes, keepdims=True) + eps)
    if xp is np:
        centred *= inverse
        return centred, inverse
    return centred * inverse, inverse


def _centred_vjp(xp: Any, g: Any, normal: Any, inverse: Any, axes: tuple[int, ...]) -> Any:
    """Gradient by x of `_centred`: what is left of g without its parts along 1 and along the normalised values."""
    product = g * normal
    along, mean = (xp.mean(a, axis=axes, keepdims=True) for a in (product, g))
    if xp is np:
        np.multiply(normal, along, out=product)
        product += mean
        np.subtract(g, product, out=product)
        product *= inverse
        return product
    return inverse * (g - mean - normal * along)


# ---- layer norm ------------------------------------------------------------------------------------------------------


def _layer_norm(xp: Any, x: Any, weight: Any = None, bias: Any = None, *, axes: int = 1, eps: float = 1e-5) -> Any:
    _check_trailing("layer_norm", x, axes, weight, bias)
    if _fused(xp, x):
        return _layer_norm_rows(x, weight, bias, axes, eps)
    normal, _ = _centred(xp, widen(xp, x), _last(x, axes), eps)
    return _affine(xp, normal, weight, bias, x.dtype), None


def _affine(xp: Any, normal: Any, weight: Any, bias: Any, dtype: Any) -> Any:
    out = normal * (1 if weight is None else widen(xp, weight))
    if bias is not None:
        out = out + widen(xp, bias)
    return narrow(xp, out, dtype)


def _layer_norm_rows(x: Any, weight: Any, bias: Any, axes: int, eps: float) -> Any:
    rows = as_rows(x, axes)
    normal, inverse = np.empty(rows.shape, x.dtype), np.empty((len(rows), 1), x.dtype)
    out = np.empty(rows.shape, x.dtype)
    count = rows.shape[1]
    for a, n, inv, o in row_parts(rows, normal, inverse, out):
        mean = row_sums(a)
        mean /= count
        np.subtract(a, mean[:, None], out=n)
        _invert_deviation(np.vecdot(n, n), count, eps, inv)
        n *= inv
        # The value never shares memory with what is kept: a program may write to it.
        np.multiply(n, 1 if weight is None else weight.reshape(-1), out=o)
        if bias is not None:
            o += bias.reshape(-1)
    return out.reshape(x.shape), (normal, inverse)


def _invert_deviation(squares: Any, count: int, eps: float, out: Any) -> None:
    """1 / √(Σ squares / count + eps) of each row, as a column."""
    squares /= count
    squares += eps
    np.sqrt(squares, out=squares)
    np.reciprocal(squares, out=out[:, 0])


def _layer_norm_x(
    xp: Any, g: Any, ans: Any, x: Any, weight: Any = None, bias: Any = None, *, axes: int = 1, eps: float = 1e-5,
    residual: Any = None,
) -> Any:  # fmt: skip
    if residual is None:
        g = widen(xp, g) if weight is None else widen(xp, g) * widen(xp, weight)
        normal, inverse = _centred(xp, widen(xp, x), _last(x, axes), eps)
        return _centred_vjp(xp, g, normal, inverse, _last(x, axes))
    normal, inverse = residual
    g = as_rows(g, axes)
    out = np.empty(g.shape, x.dtype)
    count = g.shape[1]
    for pulled, n, inv, o in row_parts(g, normal, inverse, out):
        np.multiply(pulled, 1 if weight is None else weight.reshape(-1), out=o)
        along = np.vecdot(o, n)
        along /= count
        mean = row_sums(o)
        mean /= count
        o -= n * along[:, None]
        o -= mean[:, None]
        o *= inv
    return out.reshape(x.shape)


def _layer_norm_weight(
    xp: Any, g: Any, ans: Any, x: Any, weight: Any = None, bias: Any = None, *, axes: int = 1, eps: float = 1e-5,
    residual: Any = None,
) -> Any:  # fmt: skip
    if residual is None:
        normal, _ = _centred(xp, widen(xp, x), _last(x, axes), eps)
        return _over_leading(xp, widen(xp, g) * normal, axes)
    return _sum_of_products(as_rows(g, axes), residual[0]).reshape(weight.shape)


def _over_leading(xp: Any, values: Any, axes: int) -> Any:
    """Sum over all but the last `axes` axes."""
    return xp.sum(values, axis=tuple(range(values.ndim - axes)))


def _sum_of_products(a: Any, b: Any) -> Any:
    """Σ over rows of a · b, part by part, so that the products stay in the cache."""
    total = np.zeros(a.shape[1], a.dtype)
    for x, y in row_parts(a, b):
        total += np.add.reduce(x * y, axis=0)
    return total


def _layer_norm_bias(
    xp: Any, g: Any, ans: Any, x: Any, weight: Any = None, bias: Any = None, *, axes: int = 1, eps: float = 1e-5,
    residual: Any = None,
) -> Any:  # fmt: skip
    if xp is np and residual is not None:
        return np.add.reduce(as_rows(g, axes), axis=0).reshape(bias.shape)
    return _over_leading(xp, widen(xp, g), axes)


def _check_trailing(name: str, x: Any, axes: int, *affine: Any) -> None:
    refuse_complex(name, x, *affine)
    if not 1 <= axes <= x.ndim:
        raise GradientError(f"{name}(axes={axes}) of an array of shape {x.shape}: it has {x.ndim} axes")
    for a in affine:
        if a is not None and a.shape != x.shape[-axes:]:
            raise GradientError(
                f"{name}() over the last axes {x.shape[-axes:]} got a weight or bias of shape {a.shape}; it must be "
                "the same"
            )


layer_norm = primitive(
    "layer_norm",
    _layer_norm,
    vjps=[_layer_norm_x, _layer_norm_weight, _layer_norm_bias],
    save="inputs",
    residual=True,
    doc="(x − mean) / √(variance + eps) · weight + bias over the last `axes` axes, whose shape weight and bias have.",
)

# ---- rms norm --------------------------------------------------------------------------------------------------------


def _rms_norm(xp: Any, x: Any, weight: Any = None, *, axes: int = 1, eps: float = 1e-6) -> Any:
    _check_trailing("rms_norm", x, axes, weight)
    if not _fused(xp, x):
        normal, _ = _scaled(xp, widen(xp, x), _last(x, axes), eps)
        return _affine(xp, normal, weight, None, x.dtype), None
    rows = as_rows(x, axes)
    normal, inverse = np.empty(rows.shape, x.dtype), np.empty((len(rows), 1), x.dtype)
    out = np.empty(rows.shape, x.dtype)
    for a, n, inv, o in row_parts(rows, normal, inverse, out):
        _invert_deviation(np.vecdot(a, a), rows.shape[1], eps, inv)
        np.multiply(a, inv, out=n)
        np.multiply(n, 1 if weight is None else weight.reshape(-1), out=o)
    return out.reshape(x.shape), (normal, inverse)


def _scaled(xp: Any, x: Any, axes: tuple[int, ...], eps: float) -> tuple[Any, Any]:
    """x / √(mean x² + eps) over `axes`, and the reciprocal root."""
    inverse = 1 / xp.sqrt(xp.mean(x * x, axis=axes, keepdims=True) + eps)
    return x * inverse, inverse


def _rms_norm_x(
    xp: Any, g: Any, ans: Any, x: Any, weight: Any = None, *, axes: int = 1, eps: float = 1e-6, residual: Any = None
) -> Any:
    g = widen(xp, g) if weight is None else widen(xp, g) * widen(xp, weight)
    if residual is None:
        normal, inverse = _scaled(xp, widen(xp, x), _last(x, axes), eps)
        return inverse * (g - normal * xp.mean(g * normal, axis=_last(x, axes), keepdims=True))
    normal, inverse = residual
    g = as_rows(g, axes)
    along = np.vecdot(g, normal)
    along /= g.shape[1]
    out = normal * -along[:, None]
    out += g
    out *= inverse
    return out.reshape(x.shape)


def _rms_norm_weight(
    xp: Any, g: Any, ans: Any, x: Any, weight: Any = None, *, axes: int = 1, eps: float = 1e-6, residual: Any = None
) -> Any:
    if residual is None:
        normal, _ = _scaled(xp, widen(xp, x), _last(x, axes), eps)
        return _over_leading(xp, widen(xp, g) * normal, axes)
    return _sum_of_products(as_rows(g, axes), residual[0]).reshape(weight.shape)


rms_norm = primitive(
    "rms_norm",
    _rms_norm,
    vjps=[_rms_norm_x, _rms_norm_weight],
    save="inputs",
    residual=True,
    doc="x / √(mean x² + eps) · weight over the last `axes` axes (Zhang & Sennrich 2019).",
)

# ---- group and batch norm: a weight for each channel, the second axis ------------------------------------------------


def _per_channel(xp: Any, a: Any, ndim: int) -> Any:
    """A vector of channels, shaped to act on the second of `ndim` axes."""
    return xp.reshape(a, (-1, *(1,) * (ndim - 2)))


def _channel_sums(xp: Any, values: Any) -> Any:
    return xp.sum(values, axis=(0, *range(2, values.ndim)))


def _check_channels(name: str, x: Any, *affine: Any) -> None:
    refuse_complex(name, x, *affine)
    if x.ndim < 2:
        raise GradientError(f"{name}() needs x of shape (batch, channels, ...), not {x.shape}")
    for a in affine:
        if a is not None and a.shape != x.shape[1:2]:
            raise GradientError(f"{name}() of {x.shape[1]} channels got a weight or bias of shape {a.shape}")


def _split(x: Any, groups: int | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shape in which averages are taken, and over which axes: those of a group of channels, or (None) of the
    batch.
    """
    if groups is None:
        return x.shape, (0, *range(2, x.ndim))
    if groups < 1 or x.shape[1] % groups:
        raise GradientError(f"group_norm(groups={groups}) of {x.shape[1]} channels: the groups must be of equal size")
    return (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]), tuple(range(2, x.ndim + 1))


def _normal_channels(xp: Any, x: Any, groups: int | None, eps: float) -> tuple[Any, Any]:
    shape, axes = _split(x, groups)
    return _centred(xp, xp.reshape(widen(xp, x), shape), axes, eps)


def _channel_norm(
    xp: Any, x: Any, weight: Any = None, bias: Any = None, *, groups: int | None = None, eps: float = 1e-5
) -> Any:
    _check_channels("batch_norm" if groups is None else "group_norm", x, weight, bias)
    normal, inverse = _normal_channels(xp, x, groups, eps)
    scale, shift = (None if a is None else _per_channel(xp, a, x.ndim) for a in (weight, bias))
    return _affine(xp, xp.reshape(normal, x.shape), scale, shift, x.dtype), (normal, inverse)


def _channel_norm_x(
    xp: Any, g: Any, ans: Any, x: Any, weight: Any = None, bias: Any = None, *, groups: int | None = None,
    eps: float = 1e-5, residual: Any = None,
) -> Any:  # fmt: skip
    normal, inverse = residual or _normal_channels(xp, x, groups, eps)
    g = widen(xp, g) if weight is None else widen(xp, g) * _per_channel(xp, widen(xp, weight), x.ndim)
    shape, axes = _split(x, groups)
    return xp.reshape(_centred_vjp(xp, xp.reshape(g, shape), normal, inverse, axes), x.shape)


def _channel_norm_weight(
    xp: Any, g: Any, ans: Any, x: Any, weight: Any, bias: Any = None, *, groups: int | None = None,
    eps: float = 1e-5, residual: Any = None,
) -> Any:  # fmt: skip
    normal, _ = residual or _normal_channels(xp, x, groups, eps)
    return _channel_sums(xp, widen(xp, g) * xp.reshape(normal, x.shape))


def _channel_norm_bias(xp: Any, g: Any, ans: Any, *args: Any, **params: Any) -> Any:
    return _channel_sums(xp, widen(xp, g))


group_norm = primitive(
    "group_norm",
    lambda xp, x, weight=None, bias=None, *, groups, eps=1e-5: _channel_norm(
        xp, x, weight, bias, groups=groups, eps=eps
    ),
    vjps=[_channel_norm_x, _channel_norm_weight, _channel_norm_bias],
    save="inputs",
    residual=True,
    doc="Normalises each example's channels in `groups` groups: x (batch, channels, ...), weight and bias (channels,).",
)

batch_norm = primitive(
    "batch_norm",
    lambda xp, x, weight=None, bias=None, *, eps=1e-5: _channel_norm(xp, x, weight, bias, eps=eps),
    vjps=[_channel_norm_x, _channel_norm_weight, _channel_norm_bias],
    save="inputs",
    residual=True,
    doc="Normalises each channel over the batch: x (batch, channels, ...), weight and bias (channels,).",
)
