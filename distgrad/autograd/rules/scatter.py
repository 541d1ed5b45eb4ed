"""Adding at index arrays in which elements may repeat: what reading by index arrays sends back."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..rows import not_negative, summed_rows

# Rows shorter than this are faster added element by element.
_SHORT = 16


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
    """out[index] += values in place, where the index may name an element several times; `out` is C-contiguous."""
    places = np.arange(out.size).reshape(out.shape)[index]
    flat = out.reshape(-1)
    np.add.at(flat, places.reshape(-1), np.broadcast_to(values, places.shape).reshape(-1))
