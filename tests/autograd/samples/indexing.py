"""Reading and writing at an index; diagonals and triangles; sorting."""

from __future__ import annotations

from typing import Any

import numpy as np

from distgrad.autograd.rules.indexing import ARRAY
from tests.autograd.samples import Sample
from tests.autograd.samples.shape import complex_, strided

ALL = slice(None)


def without_ties(*shape: int) -> Any:
    """Distinct numbers, farther apart than any step of a check."""
    return lambda rng: rng.permutation(int(np.prod(shape))).reshape(shape) + rng.uniform(0.1, 0.5, shape)


def _added(x: Any, index: Any, value: Any) -> Any:
    out = np.array(x)
    np.add.at(out, index, value)
    return out


def _set(x: Any, index: Any, value: Any) -> Any:
    out = np.array(x)
    out[index] = value
    return out


def _filled(index: Any, arrays: Any) -> Any:
    left = iter(arrays)
    return tuple(next(left) if entry is ARRAY else entry for entry in index)


def _read(index: Any, *shape: int, arrays: Any = (), torch: bool = True, **more: Any) -> Sample:
    return Sample(
        [shape, *arrays],
        {"index": index},
        expected=lambda x, *a, index: x[_filled(index, a)],
        torch=(lambda t, x, *a, index: x[_filled(index, a)]) if torch else None,
        foreign=False,
        **more,
    )


SAMPLES = {
    "index_get": [
        _read((1,), 3, 2),
        _read((ALL, 1), 3, 2),
        _read((slice(None, None, 2), None, -1), 4, 3),
        _read((slice(None, None, -1),), 4, torch=False, note="backwards"),
        _read((Ellipsis, 0), 2, 3, 2),
        _read((2,), 3),
        _read((slice(2, 2),), 3, note="nothing"),
        _read((ARRAY,), 4, 2, arrays=[np.array([0, 2, 0, -1])], note="rows"),
        _read((ARRAY,), 4, 20, arrays=[np.array([[0, 2], [0, -1]])], note="long rows"),
        _read((ALL, ARRAY), 2, 4, arrays=[np.array([[1, 1], [3, 0]])], note="columns"),
        _read((ARRAY, ALL, ARRAY), 3, 2, 3, arrays=[np.array([0, 2, 0]), np.array([1, 1, 1])], note="parted"),
        _read((ARRAY, 1), 3, 2, arrays=[np.array([0, 2])], note="array and number"),
        _read((ARRAY,), 2, 3, arrays=[np.array([[True, False, True], [False, False, True]])], note="mask"),
        _read((ALL, ARRAY), 2, 3, arrays=[np.array([True, False, True])], note="mask of columns"),
        _read((ARRAY,), 3, arrays=[np.zeros(0, np.int64)], note="no rows"),
        _read((ARRAY,), 3, arrays=[np.array(1)], torch=False, note="number as array"),
    ],
    "index_scatter": [
        Sample(
            [(3,), np.array([0, 2, 0])],
            {"index": (ARRAY,), "shape": (4,)},
            foreign=False,
            expected=lambda g, i, index, shape: _added(np.zeros(shape, g.dtype), i, g),
        ),
        Sample(
            [(3, 20), np.array([1, -1, 1])],
            {"index": (ARRAY,), "shape": (4, 20)},
            foreign=False,
            expected=lambda g, i, index, shape: _added(np.zeros(shape, g.dtype), i, g),
        ),
        Sample(
            [(2, 3)],
            {"index": (ALL, slice(1, 4)), "shape": (2, 5)},
            foreign=False,
            expected=lambda g, index, shape: _added(np.zeros(shape, g.dtype), index, g),
        ),
    ],
    "index_last": [
        Sample(
            [np.array([1, 0, 1])],
            {"index": (ARRAY,), "shape": (3, 2)},
            foreign=False,
            expected=lambda i, index, shape: np.array([[False] * 2, [True] * 2, [True] * 2]),
        )
    ],
    "index_set": [
        Sample([(3, 2), (2,)], {"index": (1,)}, expected=lambda x, v, index: _set(x, index, v), foreign=False),
        Sample([(3, 2), ()], {"index": (ALL, 0)}, expected=lambda x, v, index: _set(x, index, v), foreign=False),
        Sample(
            [(3, 2), (3, 2), np.array([1, 0, 1])],
            {"index": (ARRAY,)},
            foreign=False,
            note="twice at one place",
            expected=lambda x, v, i, index: _set(x, i, v),
        ),
        Sample(
            [(3,), (2,), np.array([True, False, True])],
            {"index": (ARRAY,)},
            foreign=False,
            note="mask",
            expected=lambda x, v, i, index: _set(x, i, v),
        ),
    ],
    "index_add": [
        Sample([(3, 2), (2,)], {"index": (1,)}, expected=lambda x, v, index: _added(x, index, v), foreign=False),
        Sample(
            [(3, 2), (3, 2), np.array([1, 0, 1])],
            {"index": (ARRAY,)},
            foreign=False,
            note="twice at one place",
            expected=lambda x, v, i, index: _added(x, i, v),
        ),
        Sample(
            [(2, 3), (2, 1), np.array([1, 0, 1])],
            {"index": (ALL, ARRAY)},
            foreign=False,
            note="value broadcast",
            expected=lambda x, v, i, index: _added(x, (ALL, i), v),
        ),
    ],
    "set_at": [
        Sample(
            [(3, 2), np.array([0, 2]), (2,)],
            expected=_set,
            foreign=False,
            torch=lambda t, x, i, v: x.index_put((i,), v),
        ),
    ],
    "add_at": [
        Sample(
            [(3, 2), np.array([0, 0]), (2,)],
            expected=_added,
            foreign=False,
            torch=lambda t, x, i, v: x.index_put((i,), v, accumulate=True),
        ),
    ],
    "getitem": [Sample([(3, 2), 1], expected=lambda x, i: x[i], torch=lambda t, x, i: x[i], foreign=False)],
    "embedding": [
        Sample(
            [(4, 2), np.array([[0, 3], [3, 1]])],
            expected=lambda w, i: w[i],
            foreign=False,
            torch=lambda t, w, i: t.nn.functional.embedding(i, w),
        ),
        Sample([(4, 2), np.array([-1])], expected=lambda w, i: w[i], foreign=False),
        Sample([(4, 2), np.zeros((0, 2), np.int64)], expected=lambda w, i: w[i], foreign=False, note="nothing"),
    ],
    "take": [
        Sample([(2, 3), np.array([[0, 5], [2, 2]])], torch="take", foreign=False),
        Sample(
            [(2, 3), np.array([0, 2, 2])],
            {"axis": 1},
            torch=lambda t, x, i, axis: t.index_select(x, axis, i),
            foreign=False,
        ),
        Sample([(2, 3), 1], {"axis": -1}),
        Sample([(4,), np.array([-5, 6])], {"mode": "wrap"}, foreign=False),
        Sample([(4,), np.array([-5, 6])], {"mode": "clip"}, foreign=False),
    ],
    "take_along_axis": [
        Sample(
            [(2, 3), np.array([[2, 0, 2], [1, 1, 0]])],
            {"axis": 1},
            torch=lambda t, x, i, axis: t.gather(x, axis, i),
            foreign=False,
        ),
        Sample([(2, 3), np.array([[1, 0, 1]])], {"axis": 0}, foreign=False),
        Sample([(2, 3), np.array([5, 0])], {"axis": None}, foreign=False),
    ],
    "add_along_axis": [
        Sample(
            [(2, 2), np.array([[2, 0], [1, 1]])],
            {"shape": (2, 3), "axis": 1},
            foreign=False,
            expected=lambda g, i, shape, axis: _added(np.zeros(shape, g.dtype), (np.arange(2)[:, None], i), g),
        ),
    ],
    "compress": [Sample([np.array([True, False, True]), (2, 3)], {"axis": 1}, foreign=False)],
    "extract": [Sample([np.array([[True, False], [True, True]]), (2, 2)], foreign=False)],
    "sort": [
        Sample([without_ties(3, 4)], torch=lambda t, x: t.sort(x)[0], foreign=False),
        Sample([without_ties(3, 2, 2)], {"axis": 0}, torch=lambda t, x, axis: t.sort(x, axis)[0], foreign=False),
        Sample([without_ties(2, 3)], {"axis": None}, foreign=False),
        Sample([(0,)], foreign=False),
    ],
    "diagonal": [
        Sample([(3, 3)], torch="diagonal", foreign=False),
        Sample(
            [(2, 3, 4)],
            {"offset": 1, "axis1": 1, "axis2": 2},
            foreign=False,
            torch=lambda t, x, offset, axis1, axis2: t.diagonal(x, offset, axis1, axis2),
        ),
        Sample([(4, 2, 3)], {"offset": -2, "axis1": -3, "axis2": 2}, foreign=False),
        Sample([complex_(2, 3)], foreign=False, note="complex"),
        Sample([strided(3, 3)], foreign=False, note="strided"),
    ],
    "diagonal_scatter": [
        Sample(
            [(2, 3)],
            {"shape": (4, 2, 3), "offset": -1, "axis1": 0, "axis2": 2},
            foreign=False,
            torch=lambda t, x, shape, offset, axis1, axis2: t.diagonal_scatter(
                t.zeros(shape, dtype=x.dtype), x, offset, axis1, axis2
            ),
        ),
    ],
    "diag": [
        Sample([(3,)], torch="diag", foreign=False),
        Sample([(3,), -2], torch="diag", foreign=False),
        Sample([(3, 4), 1], torch="diag", foreign=False),
    ],
    "trace": [Sample([(3, 3)], torch="trace", foreign=False), Sample([(2, 3, 4), 1, 1, 2], foreign=False)],
    "tril": [Sample([(3, 4)], torch="tril"), Sample([(2, 3, 3)], {"k": -1}, torch=lambda t, x, k: t.tril(x, k))],
    "triu": [Sample([(3, 4)], torch="triu"), Sample([(2, 3, 3)], {"k": 1}, torch=lambda t, x, k: t.triu(x, k))],
}
