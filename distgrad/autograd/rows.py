"""Row-sparse gradients: what an embedding look-up sends back to its table."""

from __future__ import annotations

from typing import Any

import numpy as np


class Rows:
    """A gradient that is zero except in some rows of its first axis.

    Arguments:
        indices: int64 array of shape (n,), row numbers in ascending order without repeats.
        values: array of shape (n, *rest), the rows.
        length: number of rows of the dense gradient, whose shape is (length, *rest).
    """

    __slots__ = ("indices", "length", "values")

    def __init__(self, indices: Any, values: Any, length: int) -> None:
        self.indices = indices
        self.values = values
        self.length = length

    @classmethod
    def from_unsorted(cls, indices: Any, values: Any, length: int) -> Rows:
        """Sums rows that occur more than once, in the order they occur. `indices` (n,), `values` (n, *rest)."""
        unique, inverse = np.unique(indices, return_inverse=True)
        order = np.argsort(inverse, kind="stable")
        starts = np.searchsorted(inverse[order], np.arange(len(unique)))
        summed = np.add.reduceat(values[order], starts, axis=0) if len(unique) else values[:0]
        return cls(unique.astype(np.int64), summed, length)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length, *self.values.shape[1:])

    @property
    def dtype(self) -> Any:
        return self.values.dtype

    def __add__(self, other: Any) -> Any:
        """Adds rows to rows (rows) or to a dense array (dense)."""
        if isinstance(other, Rows):
            return Rows.from_unsorted(
                np.concatenate([self.indices, other.indices]),
                np.concatenate([self.values, other.values]),
                self.length,
            )
        dense = other.copy()
        dense[self.indices] += self.values
        return dense

    __radd__ = __add__

    def __mul__(self, factor: float) -> Rows:
        return Rows(self.indices, self.values * factor, self.length)

    def dense(self) -> Any:
        """The same gradient as an ordinary array of shape `self.shape`."""
        out = np.zeros(self.shape, self.dtype)
        out[self.indices] = self.values
        return out

    def __repr__(self) -> str:
        return f"Rows({len(self.indices)} of {self.length} rows, dtype={self.dtype})"
