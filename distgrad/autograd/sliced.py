"""Gradients of slices: what reading x[:, t] sends back to x."""

from __future__ import annotations

from typing import Any

import numpy as np


class Sliced:
    """A gradient that is zero except at a basic index, kept as that index and the values there until it is added up.

    So reading an array slice by slice costs one array for its gradient, not one for each slice. It does not leave the
    pass: whoever receives a complete gradient gets a dense one.

    Arguments:
        index: numbers, slices, None and Ellipsis, as NumPy takes them: no element occurs twice.
        values: array of the shape of x[index].
        shape: of x.
    """

    __slots__ = ("index", "shape", "values")

    # An array on the left leaves the sum to us.
    __array_ufunc__ = None

    def __init__(self, index: Any, values: Any, shape: tuple[int, ...]) -> None:
        self.index = index
        self.values = values
        self.shape = shape

    @property
    def dtype(self) -> Any:
        return self.values.dtype

    def __add__(self, other: Any) -> Any:
        """A new dense array."""
        # What NumPy computes of arrays without axes is a number.
        total = np.array(other) if isinstance(other, np.ndarray | np.generic) else other.dense()
        self.add_into(total)
        return total

    __radd__ = __add__

    def add_into(self, total: Any) -> None:
        """Adds this gradient to a dense one, in place."""
        total[self.index] += self.values

    def astype(self, dtype: Any) -> Sliced:
        """The same in another dtype."""
        return Sliced(self.index, self.values.astype(dtype), self.shape)

    def dense(self) -> Any:
        """The same gradient as an ordinary array."""
        out = np.zeros(self.shape, self.dtype)
        out[self.index] = self.values
        return out
