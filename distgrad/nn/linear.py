"""The affine layer."""

from __future__ import annotations

from typing import Any

from distgrad.autograd import ops

from . import random
from .initialise import fan_in_uniform
from .module import Module
from .parameter import Parameter


class Linear(Module):
    """x · weightᵀ + bias over the last axis.

    Arguments:
        inputs, outputs: sizes of the last axis before and after.
        bias: whether a bias is added.

    Attributes:
        weight: (outputs, inputs).
        bias: (outputs,), or None.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True, dtype: Any = "float32") -> None:
        self.weight = Parameter(fan_in_uniform((outputs, inputs), random.next_generator(), inputs, dtype))
        self.bias = Parameter(fan_in_uniform((outputs,), random.next_generator(), inputs, dtype)) if bias else None

    def forward(self, x: Any) -> Any:
        """x (..., inputs) -> (..., outputs)."""
        return ops.linear(x, self.weight) if self.bias is None else ops.linear(x, self.weight, self.bias)

    def describe(self) -> str:
        outputs, inputs = self.weight.shape
        return f"{inputs}, {outputs}" + ("" if self.bias is not None else ", bias=False")
