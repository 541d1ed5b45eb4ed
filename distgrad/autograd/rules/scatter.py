"""Adding at index arrays in which elements may repeat: what reading by index arrays sends back.

`np.add.at` does it one element after the other, which is slow for rows. Those are sorted instead; then the first row of each number,
the second of each, the third ... are added in one vectorised step, and what is left of numbers that occur very often in one sum each.
The order depends on the indices alone, so equal inputs give equal bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# Vectorised steps before the few rows that occur oftener are summed one by one.
_STEPS = 16
# Rows shorter than this are faster added element by element.
_SHORT = 16


def summed_rows(indices: Any, values: Any) -> tuple[Any, Any]:
    """Distinct row numbers, ascending (int64), and for each the sum of its rows.

    Arguments:
        indices: integer array of shape (n,), not negative.
        values: array of shape (n, *rest).
    """
    order = np.argsort(indices, kind="stable")
    ranked = indices[order]
    starts = np.flatnonzero(np.concatenate([ranked[:1] == ranked[:1], ranked[1:] != ranked[:-1]]))
    counts = np.diff(starts, append=len(ranked))
    unique = ranked[starts].astype(np.int64)
    if len(unique) == len(ranked):
        return unique, values[order]
    total = values[order[starts]]
    for k in range(1, min(_STEPS, int(counts.max()))):
        again = np.flatnonzero(counts > k)
        total[again] += values[order[starts[again] + k]]
    for u in np.flatnonzero(counts > _STEPS):
        rest = order[starts[u] + _STEPS : starts[u] + counts[u]]
        total[u] += values[rest].sum(axis=0)
    return unique, total


def add_rows(out: Any, indices: Any, values: Any) -> None:
    """out[i] += row for each row number i of `indices` and the row of `values` beside it, in place.

    Arguments:
        out: array of shape (m, *rest).
        indices: integer array of any shape; negative ones count from the end.
        values: array that broadcasts to (*indices.shape, *rest).
    """
    rest = out.shape[1:]
    rows = np.broadcast_to(values, (*indices.shape, *rest)).reshape(indices.size, *rest)
    numbers = not_negative(indices, len(out))
    if rows[:1].size < _SHORT:
        np.add.at(out, numbers, rows)
        return
    unique, total = summed_rows(numbers, rows)
    out[unique] += total


def scatter_add(out: Any, index: Any, values: Any) -> None:
    """out[index] += values in place, where the index may name an element several times."""
    places = np.arange(out.size).reshape(out.shape)[index]
    flat = out.reshape(-1)
    np.add.at(flat, places.reshape(-1), np.broadcast_to(values, places.shape).reshape(-1))


def not_negative(indices: Any, length: int) -> Any:
    """Indices as one axis, negative ones counted from the end made positive."""
    flat = np.asarray(indices).reshape(-1)
    return np.where(flat < 0, flat + length, flat) if flat.size and flat.dtype.kind != "u" else flat
