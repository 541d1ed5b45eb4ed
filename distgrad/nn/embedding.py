"""Look-up tables with learned rows."""

from __future__ import annotations

from typing import Any

from distgrad.autograd import ops

from . import random
from .initialise import normal
from .module import Module
from .parameter import Parameter


class Embedding(Module):
    """A row of `width` numbers for each of `count` symbols. Its gradient is row-sparse (`Rows`).

    Attributes:
        weight: (count, width).
    """

    def __init__(self, count: int, width: int, *, dtype: Any = "float32") -> None:
        self.weight = Parameter(normal((count, width), random.next_generator(), dtype=dtype))

    def forward(self, indices: Any) -> Any:
        """indices, integers (...) -> (..., width)."""
        return ops.embedding(self.weight, indices)

    def describe(self) -> str:
        count, width = self.weight.shape
        return f"{count}, {width}"
