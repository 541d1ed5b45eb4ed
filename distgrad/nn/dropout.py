"""Dropout."""

from __future__ import annotations

from typing import Any

from distgrad.autograd import ops

from . import random
from .module import Module


class Dropout(Module):
    """In training, sets each element to 0 with probability `rate` and divides the others by 1 − rate.

    Which ones is decided by the next key of the present `nn.random.seeded` scope, or by `forward`'s `key`.
    """

    def __init__(self, rate: float = 0.5) -> None:
        self.rate = rate

    def forward(self, x: Any, key: int | None = None) -> Any:
        if not self.training or not self.rate:
            return x
        return ops.dropout(x, key=random.next_key() if key is None else key, rate=self.rate)

    def describe(self) -> str:
        return f"{self.rate}"
