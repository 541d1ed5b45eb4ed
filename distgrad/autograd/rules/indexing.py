"""Reading and writing at an index, as functions: nothing is ever written in place.

Index arrays are operands, not parameters, so that a transform may see them: an index such as x[:, i, 2] is kept as the
template (:, ARRAY, 2) with the operands x and i. Reading and scattering (adding into zeros) are each other's vjp.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..operands import ops
from ..primitive import Primitive, composite, primitive
from ..rows import Rows
from ..sliced import Sliced
from .nested import axis_of, bare, nested, or_zeros, shape_of
from .scatter import add_rows, scatter_add
from .shape import reshape


class _Place(enum.Enum):
    ARRAY = "array"


ARRAY = _Place.ARRAY
_BASIC = (int, slice, type(None), type(Ellipsis), np.integer)


def _parsed(index: Any) -> tuple[Any, list[Any]]:
    """An index as template and index arrays."""
    kind = type(index)
    if kind is int or kind is slice:
        return index, []
    entries = index if kind is tuple else (index,)
    template: list[Any] = []
    arrays: list[Any] = []
    for entry in entries:
        if isinstance(entry, _BASIC) and not isinstance(entry, bool):
            template.append(entry)
            continue
        if not hasattr(entry, "dtype"):
            entry = np.asarray(entry, dtype=None if np.size(entry) else np.intp)
        template.append(ARRAY)
        arrays.append(entry)
    return tuple(template), arrays


def _filled(template: Any, arrays: Sequence[Any]) -> Any:
    """The index a template and its arrays stand for."""
    if not arrays:
        return template
    left = iter(arrays)
    return tuple(next(left) if entry is ARRAY else entry for entry in template)


def _may_repeat(arrays: Sequence[Any]) -> bool:
    """Whether an index may name an element twice: only arrays of numbers can."""
    return any(a.dtype != bool for a in arrays)


# ---- reading and writing ---------------------------------------------------------------------------------------------


def _get(xp: Any, x: Any, *arrays: Any, index: Any) -> Any:
    if len(arrays) == 1 and arrays[0].dtype != bool and index[-1] is ARRAY and _all_of_each(index[:-1]):
        # The same elements, two to five times faster.
        return xp.take(x, arrays[0], axis=len(index) - 1)
    return x[_filled(index, arrays)]


def _all_of_each(entries: Sequence[Any]) -> bool:
    return all(type(entry) is slice and entry == slice(None) for entry in entries)


def _scatter(xp: Any, g: Any, *arrays: Any, index: Any, shape: tuple[int, ...]) -> Any:
    out = xp.zeros(shape, dtype=g.dtype)
    if _may_repeat(arrays):
        _add_into(xp, out, g, arrays, index)
    else:
        out[_filled(index, arrays)] = g
    return out


def _add(xp: Any, x: Any, value: Any, *arrays: Any, index: Any) -> Any:
    out = xp.array(x, copy=True, order="C")
    if _may_repeat(arrays):
        _add_into(xp, out, value, arrays, index)
    else:
        out[_filled(index, arrays)] += value
    return out


def _add_into(xp: Any, out: Any, value: Any, arrays: Sequence[Any], index: Any) -> None:
    if xp is not np:
        xp.add.at(out, _filled(index, arrays), value)
    elif index == (ARRAY,):
        add_rows(out, arrays[0], value)
    else:
        scatter_add(out, _filled(index, arrays), value)


def _set(xp: Any, x: Any, value: Any, *arrays: Any, index: Any) -> Any:
    out = xp.array(x, copy=True)
    out[_filled(index, arrays)] = value
    return out


def _written(xp: Any, g: Any, x: Any, arrays: Sequence[Any], index: Any) -> Any:
    """The gradient of the values written at an index. Of several written to one place only the last is still there."""
    read = nested(xp, index_get, g, *arrays, index=index)
    if not _may_repeat(arrays):
        return read
    return xp.where(nested(xp, index_last, *arrays, index=index, shape=tuple(x.shape)), read, 0)


def _last(xp: Any, *arrays: Any, index: Any, shape: tuple[int, ...]) -> Any:
    place = _filled(index, arrays)
    last = xp.zeros(shape, dtype=int)
    written = last[place].shape
    numbers = xp.reshape(xp.arange(math.prod(written)), written)
    last[place] = numbers
    return last[place] == numbers


index_last = primitive(
    "index_last",
    _last,
    vjps=None,
    doc="For each element that an index names in an array of `shape`, whether it is the last time it names it.",
)


def _get_vjp(i: int, xp: Any, g: Any, ans: Any, x: Any, *arrays: Any, index: Any) -> Any:
    if xp is np and not arrays:
        return Sliced(index, g, tuple(x.shape))
    return nested(xp, index_scatter, g, *arrays, index=index, shape=tuple(x.shape))


index_get = primitive(
    "index_get",
    _get,
    vjps=_get_vjp,
    jvp="linear",
    save="constants",
    doc="x[index]; see `getitem`.",
)
index_scatter: Primitive = primitive(
    "index_scatter",
    _scatter,
    vjps=lambda i, xp, g, ans, x, *arrays, index, shape: nested(xp, index_get, g, *arrays, index=index),
    jvp="linear",
    save="constants",
    doc="Zeros of `shape` with x added at the index: the transpose of `index_get`.",
)
index_set: Primitive = primitive(
    "index_set",
    _set,
    vjps=[
        lambda xp, g, ans, x, value, *arrays, index: nested(xp, index_set, g, 0, *arrays, index=index),
        lambda xp, g, ans, x, value, *arrays, index: _written(xp, g, x, arrays, index),
    ],
    jvp=lambda xp, tangents, ans, x, value, *arrays, index: index_set(
        *or_zeros(xp, tangents, (x, value)), *arrays, index=index
    ),
    save="constants",
    doc="A copy of x with `value` at the index; see `set_at`.",
)
index_add: Primitive = primitive(
    "index_add",
    _add,
    vjps=[
        lambda xp, g, ans, x, value, *arrays, index: g,
        lambda xp, g, ans, x, value, *arrays, index: nested(xp, index_get, g, *arrays, index=index),
    ],
    jvp=lambda xp, tangents, ans, x, value, *arrays, index: index_add(
        *or_zeros(xp, tangents, (x, value)), *arrays, index=index
    ),
    save="constants",
    doc="A copy of x with `value` added at the index; see `add_at`.",
)


@composite
def getitem(x: Any, index: Any) -> Any:
    """x[index], with NumPy's basic and advanced indices; tensors of integers or booleans count as arrays."""
    template, arrays = _parsed(index)
    return index_get(x, *arrays, index=template)


@composite
def set_at(x: Any, index: Any, value: Any) -> Any:
    """A copy of x with x[index] = value, cast to x's dtype.

    Where an index names a place several times, the last value stays, and gets the gradient.
    """
    template, arrays = _parsed(index)
    return index_set(x, value, *arrays, index=template)


@composite
def add_at(x: Any, index: Any, value: Any) -> Any:
    """A copy of x with `value` added at the index, once for each time the index names an element."""
    template, arrays = _parsed(index)
    return index_add(x, value, *arrays, index=template)


@composite
def take(x: Any, indices: Any, axis: int | None = None, mode: str = "raise") -> Any:
    """The slices of x with the numbers `indices` along `axis`; elements of x flattened when it is None.

    Arguments:
        indices: integers, an array of any shape; its axes replace `axis`.
        mode: for numbers out of range: "raise", "wrap" around, or "clip" to the last one (negative ones to the first).
    """
    if axis is None:
        x, axis = reshape(x, shape=(-1,)), 0
    shape = shape_of(x)
    axis = axis_of(axis, len(shape))
    if mode == "wrap":
        indices = ops().remainder(indices, shape[axis])
    elif mode == "clip":
        indices = ops().clip(indices, 0, shape[axis] - 1)
    elif mode != "raise":
        raise ValueError(f"take(mode={mode!r}): modes are 'raise', 'wrap' and 'clip'")
    return getitem(x, (*(slice(None),) * axis, indices))


@composite
def compress(condition: Any, a: Any, axis: int | None = None) -> Any:
    """The slices of `a` along `axis` at which `condition` is true; elements of `a` flattened when it is None."""
    return take(a, np.flatnonzero(np.asarray(bare(condition))), axis=axis)


@composite
def extract(condition: Any, x: Any) -> Any:
    """The elements of x at which `condition`, of the same shape, is true."""
    return compress(np.ravel(np.asarray(bare(condition))), x)


# ---- along one axis --------------------------------------------------------------------------------------------------


def _add_along_axis(xp: Any, g: Any, indices: Any, *, shape: tuple[int, ...], axis: int | None) -> Any:
    out = xp.zeros(shape, dtype=g.dtype)
    if axis is None:
        place, into = (indices,), out.reshape(-1)
    else:
        # As in NumPy's own take_along_axis: on the other axes, place by place.
        places = [xp.arange(n).reshape((-1,) + (1,) * (len(shape) - 1 - k)) for k, n in enumerate(shape)]
        places[axis] = indices
        place, into = tuple(places), out
    if xp is np:
        scatter_add(into, place, g)
    else:
        xp.add.at(into, place, g)
    return out


take_along_axis = primitive(
    "take_along_axis",
    lambda xp, x, indices, *, axis=-1: xp.take_along_axis(x, indices, axis=axis),
    vjps=[
        lambda xp, g, ans, x, indices, *, axis=-1: nested(
            xp, add_along_axis, g, indices, shape=tuple(x.shape), axis=axis
        )
    ],
    jvp="linear",
    save="constants",
    doc="x[..., indices[..., j, ...], ...]: along `axis` the elements that `indices` names, place by place on others.",
)
add_along_axis: Primitive = primitive(
    "add_along_axis",
    _add_along_axis,
    vjps=[lambda xp, g, ans, x, indices, *, shape, axis: xp.take_along_axis(g, indices, axis=axis)],
    jvp="linear",
    save="constants",
    doc="Zeros of `shape` with x added at `indices` along an axis: the transpose of `take_along_axis`.",
)


@composite
def sort(x: Any, axis: int | None = -1) -> Any:
    """x in ascending order along `axis`; flattened when it is None. Each element takes its gradient with it."""
    if axis is None:
        x, axis = reshape(x, shape=(-1,)), 0
    return take_along_axis(x, ops().argsort(x, axis=axis, stable=True), axis)


# ---- embedding -------------------------------------------------------------------------------------------------------


def _embedding_table(xp: Any, g: Any, ans: Any, table: Any, indices: Any) -> Any:
    if xp is not np:
        return nested(xp, index_scatter, g, indices, index=(ARRAY,), shape=tuple(table.shape))
    length, *rest = table.shape
    return Rows.from_unsorted(indices, g.reshape(indices.size, *rest), length)


embedding = primitive(
    "embedding",
    lambda xp, table, indices: xp.take(table, indices, axis=0),
    vjps=[_embedding_table],
    jvp="linear",
    save="constants",
    doc="The rows of `table` with the numbers `indices`, an integer array of any shape. The gradient of a table "
    "that is a variable is row-sparse (`Rows`) unless the pass is recorded.",
)
