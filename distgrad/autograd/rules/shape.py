"""Rearranging elements: reshape, transpose, join, split, repeat, pad.

All are linear, and most are undone by their like: the vjp of a transpose is a transpose, of a concatenation a split.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from distgrad.errors import GradientError

from ..operands import ops
from ..primitive import Primitive, composite, primitive
from .nested import axis_of, or_zeros, shape_of

# ---- the same elements in another shape ------------------------------------------------------------------------------


def _reshape(xp: Any, x: Any, *, shape: Any, order: str = "C") -> Any:
    if order == "C":
        return xp.reshape(x, shape)
    if order != "F":
        raise GradientError(
            f"reshape(order={order!r}) depends on how the array lies in memory; say order='C' or order='F'"
        )
    return xp.reshape(x, shape, order=order)


reshape = primitive(
    "reshape",
    _reshape,
    vjps=[lambda xp, g, ans, x, *, shape, order="C": _reshape(xp, g, shape=x.shape, order=order)],
    jvp="linear",
    save="nothing",
    doc="The elements of x, in the order 'C' or 'F', in another shape; one length may be -1.",
)


def _permuted_back(xp: Any, g: Any, axes: Sequence[int] | None) -> Any:
    if axes is None:
        return xp.transpose(g)
    back = [0] * len(axes)
    for k, axis in enumerate(axes):
        back[axis] = k
    return xp.transpose(g, tuple(back))


transpose = primitive(
    "transpose",
    lambda xp, x, *, axes=None: xp.transpose(x, axes),
    vjps=[lambda xp, g, ans, x, *, axes=None: _permuted_back(xp, g, axes)],
    jvp="linear",
    save="nothing",
    doc="x with its axes in the order `axes`; reversed when None.",
)
swapaxes = primitive(
    "swapaxes",
    lambda xp, x, *, axis1, axis2: xp.swapaxes(x, axis1, axis2),
    vjps=[lambda xp, g, ans, x, *, axis1, axis2: xp.swapaxes(g, axis1, axis2)],
    jvp="linear",
    save="nothing",
    doc="x with two axes exchanged.",
)
moveaxis = primitive(
    "moveaxis",
    lambda xp, x, *, source, destination: xp.moveaxis(x, source, destination),
    vjps=[lambda xp, g, ans, x, *, source, destination: xp.moveaxis(g, destination, source)],
    jvp="linear",
    save="nothing",
    doc="x with the axes `source` moved to the places `destination`.",
)


def _expand_dims(xp: Any, x: Any, *, axis: Any) -> Any:
    # What np.expand_dims does, without its two microseconds of checks.
    if axis == 0:
        return x[None, ...]
    if axis == -1:
        return x[..., None]
    return xp.expand_dims(x, axis)


expand_dims = primitive(
    "expand_dims",
    _expand_dims,
    vjps=[lambda xp, g, ans, x, *, axis: xp.reshape(g, x.shape)],
    jvp="linear",
    save="nothing",
    doc="x with new axes of length one at the places `axis` of the result.",
)
squeeze = primitive(
    "squeeze",
    lambda xp, x, *, axis=None: xp.squeeze(x, axis),
    vjps=[lambda xp, g, ans, x, *, axis=None: xp.reshape(g, x.shape)],
    jvp="linear",
    save="nothing",
    doc="x without the axes of length one, or without those in `axis`.",
)
broadcast_to = primitive(
    "broadcast_to",
    lambda xp, x, *, shape: xp.broadcast_to(x, shape),
    # The engine sums what was broadcast.
    vjps=[lambda xp, g, ans, x, *, shape: g],
    jvp="linear",
    save="nothing",
    doc="x, repeated along new or length-one axes to `shape`.",
)


@composite
def ravel(x: Any, order: str = "C") -> Any:
    """The elements of x in one axis, in the order 'C' or 'F'."""
    return reshape(x, shape=(-1,), order=order)


@composite
def broadcast_arrays(*arrays: Any) -> tuple[Any, ...]:
    """The arrays, broadcast against one another to one shape."""
    shape = np.broadcast_shapes(*(shape_of(x) for x in arrays))
    return tuple(broadcast_to(x, shape=shape) for x in arrays)


@composite
def atleast_1d(x: Any) -> Any:
    """x, a number as an array of shape (1,)."""
    return reshape(x, shape=shape_of(x) or (1,))


@composite
def atleast_2d(x: Any) -> Any:
    """x with at least two axes; new ones in front."""
    shape = shape_of(x)
    return reshape(x, shape=(1,) * (2 - len(shape)) + shape)


@composite
def atleast_3d(x: Any) -> Any:
    """x with at least three axes: (n,) becomes (1, n, 1), (m, n) becomes (m, n, 1)."""
    shape = shape_of(x)
    wider = {0: (1, 1, 1), 1: (1, *shape, 1), 2: (*shape, 1)}
    return reshape(x, shape=wider.get(len(shape), shape))


# ---- flips and rolls -------------------------------------------------------------------------------------------------

flip = primitive(
    "flip",
    lambda xp, x, *, axis=None: xp.flip(x, axis=axis),
    vjps=[lambda xp, g, ans, x, *, axis=None: xp.flip(g, axis=axis)],
    jvp="linear",
    save="nothing",
    doc="x in reverse order along `axis` (int, tuple or all).",
)


def _negative(shift: Any) -> Any:
    return tuple(-s for s in shift) if isinstance(shift, Sequence) else -shift


roll = primitive(
    "roll",
    lambda xp, x, *, shift, axis=None: xp.roll(x, shift, axis=axis),
    vjps=[lambda xp, g, ans, x, *, shift, axis=None: xp.roll(g, _negative(shift), axis=axis)],
    jvp="linear",
    save="nothing",
    doc="x moved by `shift` places along `axis`, what leaves at the end entering at the front.",
)


@composite
def fliplr(x: Any) -> Any:
    """x in reverse order along its second axis."""
    return flip(x, axis=1)


@composite
def flipud(x: Any) -> Any:
    """x in reverse order along its first axis."""
    return flip(x, axis=0)


@composite
def rot90(x: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Any:
    """x turned by k quarter turns from the first of `axes` towards the second."""
    k %= 4
    if k == 0:
        return reshape(x, shape=shape_of(x))
    if k == 2:
        return flip(x, axis=tuple(axes))
    turned = swapaxes(x, *axes)
    return flip(turned, axis=axes[0] if k == 1 else axes[1])


# ---- joining and splitting -------------------------------------------------------------------------------------------


def _at(place: int | slice, axis: int, ndim: int) -> tuple[Any, ...]:
    """The index of a place or a slice of one axis."""
    return (*(slice(None),) * (axis % ndim), place, ...)


def _cut(xp: Any, g: Any, ans: Any, *arrays: Any, axis: int) -> list[Any]:
    """The pieces of the gradient of a concatenation."""
    ends = list(accumulate(x.shape[axis] for x in arrays))
    return [g[_at(slice(stop - x.shape[axis], stop), axis, g.ndim)] for x, stop in zip(arrays, ends, strict=True)]


join_arrays: Primitive = primitive(
    "join_arrays",
    lambda xp, *arrays, axis: xp.concatenate(arrays, axis=axis),
    shared=_cut,
    vjps=lambda i, xp, g, pieces, *arrays, axis: pieces[i],
    jvp=lambda xp, tangents, ans, *arrays, axis: join_arrays(*or_zeros(xp, tangents, arrays), axis=axis),
    save="nothing",
    doc="The arrays one after the other along an axis they have: `concatenate`, with the arrays as operands.",
)
stack_arrays: Primitive = primitive(
    "stack_arrays",
    lambda xp, *arrays, axis: xp.stack(arrays, axis=axis),
    vjps=lambda i, xp, g, ans, *arrays, axis: g[_at(i, axis, g.ndim)],
    jvp=lambda xp, tangents, ans, *arrays, axis: stack_arrays(*or_zeros(xp, tangents, arrays), axis=axis),
    save="nothing",
    doc="The arrays side by side along a new axis: `stack`, with the arrays as operands.",
)


split_at = primitive(
    "split_at",
    lambda xp, x, *, places, axis: tuple(
        x[_at(slice(start, stop), axis, x.ndim)]
        for start, stop in zip((0, *places), (*places, x.shape[axis]), strict=True)
    ),
    vjps=[lambda xp, g, ans, x, *, places, axis: xp.concatenate(g, axis=axis)],
    jvp="linear",
    save="nothing",
    outputs="many",
    doc="The pieces of x between the ascending `places` of an axis, as a tuple.",
)


@composite
def concatenate(arrays: Sequence[Any], axis: int | None = 0) -> Any:
    """The arrays one after the other along `axis`; flattened first when it is None."""
    if axis is None:
        arrays, axis = [ravel(x) for x in arrays], 0
    return join_arrays(*arrays, axis=axis)


@composite
def stack(arrays: Sequence[Any], axis: int = 0) -> Any:
    """The arrays, of one shape, side by side along a new axis."""
    return stack_arrays(*arrays, axis=axis)


@composite
def hstack(arrays: Sequence[Any]) -> Any:
    """The arrays one after the other along the second axis; the first when they have one."""
    rows = [atleast_1d(x) for x in arrays]
    return concatenate(rows, axis=0 if len(rows[0].shape) == 1 else 1)


@composite
def vstack(arrays: Sequence[Any]) -> Any:
    """The arrays, (n,) as (1, n), one below the other."""
    return concatenate([atleast_2d(x) for x in arrays], axis=0)


@composite
def dstack(arrays: Sequence[Any]) -> Any:
    """The arrays, widened by `atleast_3d`, one behind the other along the third axis."""
    return concatenate([atleast_3d(x) for x in arrays], axis=2)


@composite
def column_stack(arrays: Sequence[Any]) -> Any:
    """The arrays, (n,) as columns (n, 1), side by side."""
    return concatenate([x if len(shape_of(x)) > 1 else reshape(x, shape=(-1, 1)) for x in arrays], axis=1)


@composite
def array_split(x: Any, indices_or_sections: int | Sequence[int], axis: int = 0) -> Any:
    """The pieces of x, a tuple, cut along `axis` at the given places, or into so many parts as equal as possible."""
    length = shape_of(x)[axis]
    if isinstance(indices_or_sections, int | np.integer):
        shortest, longer = divmod(length, int(indices_or_sections))
        lengths = [shortest + 1] * longer + [shortest] * (int(indices_or_sections) - longer)
        return split_at(x, places=tuple(accumulate(lengths[:-1])), axis=axis)
    places = [slice(int(place)).indices(length)[1] for place in indices_or_sections]
    if places == sorted(places):
        return split_at(x, places=tuple(places), axis=axis)
    # What NumPy does then: a slice from each place to the next, whether they overlap or are empty.
    bounds = [0, *places, length]
    ndim = len(shape_of(x))
    return tuple(ops().getitem(x, _at(slice(*bounds[k : k + 2]), axis, ndim)) for k in range(len(places) + 1))


@composite
def split(x: Any, indices_or_sections: int | Sequence[int], axis: int = 0) -> Any:
    """The pieces of x, a tuple, cut along `axis` at the given places, or into so many equal parts."""
    length = shape_of(x)[axis]
    if isinstance(indices_or_sections, int | np.integer) and length % indices_or_sections:
        raise ValueError(
            f"an axis of length {length} does not split into {indices_or_sections} equal parts; "
            "array_split allows unequal ones"
        )
    return array_split(x, indices_or_sections, axis)


@composite
def hsplit(x: Any, indices_or_sections: int | Sequence[int]) -> Any:
    """The pieces of x, a tuple, cut along its second axis; its first when it has one."""
    return split(x, indices_or_sections, axis=0 if len(shape_of(x)) == 1 else 1)


@composite
def vsplit(x: Any, indices_or_sections: int | Sequence[int]) -> Any:
    """The pieces of x, a tuple, cut along its first axis."""
    return split(x, indices_or_sections, axis=0)


@composite
def unstack(x: Any, axis: int = 0) -> Any:
    """The slices of x along an axis, which they lose."""
    return tuple(squeeze(piece, axis=axis) for piece in split(x, shape_of(x)[axis], axis)) if shape_of(x)[axis] else ()


@composite
def meshgrid(*arrays: Any, indexing: str = "xy", sparse: bool = False) -> tuple[Any, ...]:
    """The coordinates of a grid: for each one-axis array an array over all axes ('xy' exchanges the first two)."""
    n = len(arrays)
    places = [1, 0, *range(2, n)] if indexing == "xy" and n > 1 else list(range(n))
    grids = [reshape(x, shape=(1,) * k + (-1,) + (1,) * (n - 1 - k)) for x, k in zip(arrays, places, strict=True)]
    return tuple(grids) if sparse else broadcast_arrays(*grids)


# ---- repetition ------------------------------------------------------------------------------------------------------


@composite
def tile(x: Any, reps: int | Sequence[int]) -> Any:
    """x, repeated `reps` times along each axis as a whole."""
    counts = tuple(reps) if isinstance(reps, Sequence) else (int(reps),)
    shape = shape_of(x)
    ndim = max(len(counts), len(shape))
    counts = (1,) * (ndim - len(counts)) + counts
    shape = (1,) * (ndim - len(shape)) + shape
    spread = reshape(x, shape=tuple(k for n in shape for k in (1, n)))
    spread = broadcast_to(spread, shape=tuple(k for pair in zip(counts, shape, strict=True) for k in pair))
    return reshape(spread, shape=tuple(c * n for c, n in zip(counts, shape, strict=True)))


@composite
def repeat(x: Any, repeats: Any, axis: int | None = None) -> Any:
    """x with each element (each slice along `axis`) repeated, `repeats` times or a number of times of its own."""
    if axis is None:
        x, axis = ravel(x), 0
    shape = shape_of(x)
    axis = axis_of(axis, len(shape))
    if np.ndim(repeats):
        return ops().take(x, np.repeat(np.arange(shape[axis]), repeats), axis=axis)
    spread = expand_dims(x, axis=axis + 1)
    spread = broadcast_to(spread, shape=(*shape[: axis + 1], int(repeats), *shape[axis + 1 :]))
    return reshape(spread, shape=(*shape[:axis], shape[axis] * int(repeats), *shape[axis + 1 :]))


# ---- padding ---------------------------------------------------------------------------------------------------------


def _inside(x: Any, widths: Sequence[tuple[int, int]]) -> tuple[slice, ...]:
    return tuple(slice(before, before + n) for (before, _), n in zip(widths, x.shape, strict=True))


pad_constant: Primitive = primitive(
    "pad_constant",
    lambda xp, x, *, widths, value: xp.pad(x, widths, mode="constant", constant_values=value),
    vjps=[lambda xp, g, ans, x, *, widths, value: g[_inside(x, widths)]],
    jvp=lambda xp, tangents, ans, x, *, widths, value: pad_constant(tangents[0], widths=widths, value=0),
    save="nothing",
    doc="x between `widths[axis]` = (before, after) places holding `value`.",
)

# np.pad's modes that repeat elements of x; which ones follows from padding their numbers.
_REPEATING = ("edge", "reflect", "symmetric", "wrap")


@composite
def pad(x: Any, pad_width: Any, mode: str = "constant", *, constant_values: Any = 0) -> Any:
    """x with places added before and after along each axis.

    Arguments:
        pad_width: (before, after) for each axis, or one pair, or one number for all.
        mode: what is there: "constant", or elements of x: "edge", "reflect", "symmetric", "wrap".
        constant_values: for "constant", a number.
    """
    shape = shape_of(x)
    widths = tuple((int(b), int(a)) for b, a in np.broadcast_to(pad_width, (len(shape), 2)))
    if mode == "constant":
        return pad_constant(x, widths=widths, value=constant_values)
    if mode not in _REPEATING:
        raise GradientError(f"pad(mode={mode!r}) has no derivative here; modes are 'constant', {str(_REPEATING)[1:-1]}")
    for axis, width in enumerate(widths):
        if width != (0, 0):
            source = np.pad(np.arange(shape[axis]), width, mode=mode)  # type: ignore[call-overload]
            x = ops().take(x, source, axis=axis)
    return x
