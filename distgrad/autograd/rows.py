"""Row-sparse gradients: what an embedding look-up sends back to its table."""

from __future__ import annotations

from typing import Any

import numpy as np

# Vectorised steps before the few rows that occur oftener are summed one by one.
_STEPS = 16


class Rows:
    """A gradient that is zero except in some rows of its first axis.

    It is what a variable's `.grad` holds, and what a backward pass hands to other processes, when rows are all that a
    table of embeddings received. Inside the graph, to hooks and to `dg.grad`, gradients are dense.

    Arguments:
        indices: int64 array of shape (n,), row numbers in ascending order without repeats.
        values: array of shape (n, *rest), the rows.
        length: number of rows of the dense gradient, whose shape is (length, *rest).
    """

    __slots__ = ("indices", "length", "values")

    # An array on the left leaves the sum to us.
    __array_ufunc__ = None

    def __init__(self, indices: Any, values: Any, length: int) -> None:
        self.indices = indices
        self.values = values
        self.length = length

    @classmethod
    def from_unsorted(cls, indices: Any, values: Any, length: int) -> Rows:
        """Sums rows that occur more than once.

        Arguments:
            indices: integer array of n elements, in any order; negative ones count from the end.
            values: array of shape (n, *rest).
        """
        return cls(*summed_rows(not_negative(indices, length), values), length)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length, *self.values.shape[1:])

    @property
    def ndim(self) -> int:
        return int(self.values.ndim)

    @property
    def dtype(self) -> Any:
        return self.values.dtype

    def __add__(self, other: Any) -> Any:
        """Adds rows to rows (rows) or to something dense (dense)."""
        if isinstance(other, Rows):
            indices = np.concatenate([self.indices, other.indices])
            return Rows(*summed_rows(indices, np.concatenate([self.values, other.values])), self.length)
        if not isinstance(other, np.ndarray):
            return other + self.dense()
        total = other.astype(np.result_type(other, self.values))
        total[self.indices] += self.values
        return total

    __radd__ = __add__

    def __mul__(self, factor: float) -> Rows:
        return Rows(self.indices, self.values * factor, self.length)

    __rmul__ = __mul__

    def astype(self, dtype: Any) -> Rows:
        """The same rows in another dtype."""
        return Rows(self.indices, self.values.astype(dtype), self.length)

    def dense(self) -> Any:
        """The same gradient as an ordinary array of shape `self.shape`."""
        out = np.zeros(self.shape, self.dtype)
        out[self.indices] = self.values
        return out

    def __repr__(self) -> str:
        return f"Rows({len(self.indices)} of {self.length} rows, dtype={self.dtype})"


# ---- adding rows up --------------------------------------------------------------------------------------------------
# `np.add.at` adds row after row, each slowly. Here rows are sorted instead; then the first row of each number, the
# second of each, the third ... are added in one vectorised step, and what is left of numbers that occur very often in
# one sum each. The order depends on the indices alone, so equal inputs give equal bits.


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


def not_negative(indices: Any, length: int) -> Any:
    """Indices as one axis, negative ones counted from the end made positive."""
    flat = np.asarray(indices).reshape(-1)
    return np.where(flat < 0, flat + length, flat) if flat.size and flat.dtype.kind != "u" else flat
