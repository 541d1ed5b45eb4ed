"""Convolution layers. `stride`, `padding`, `dilation` and `kernel` are a number or a pair (vertical, horizontal)."""

from __future__ import annotations

import math
from typing import Any

from distgrad.autograd import ops

from . import random
from .initialise import fan_in_uniform
from .module import Module
from .parameter import Parameter

Pair = int | tuple[int, int]


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


class _Convolution(Module):
    """What convolutions have in common: a kernel for each pair of channels, a bias, and how the kernel moves."""

    def __init__(
        self, shape: tuple[int, ...], fan_in: int, outputs: int, bias: bool, dtype: Any, moves: dict[str, Any]
    ) -> None:
        self.weight = Parameter(fan_in_uniform(shape, random.next_generator(), fan_in, dtype))
        self.bias = Parameter(fan_in_uniform((outputs,), random.next_generator(), fan_in, dtype)) if bias else None
        self._moves = moves

    def _operands(self, x: Any) -> tuple[Any, ...]:
        return (x, self.weight) if self.bias is None else (x, self.weight, self.bias)

    def describe(self) -> str:
        moved = "".join(f", {name}={value}" for name, value in self._moves.items() if value not in (0, 1))
        return f"weight {tuple(self.weight.shape)}{moved}" + ("" if self.bias is not None else ", bias=False")


class Conv2d(_Convolution):
    """Cross-correlation of images (batch, inputs, height, width).

    Attributes:
        weight: (outputs, inputs / groups, kernel height, kernel width).
        bias: (outputs,), or None.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Pair,
        *,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        dtype: Any = "float32",
    ) -> None:
        shape = (outputs, inputs // groups, *_pair(kernel))
        moves = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        super().__init__(shape, math.prod(shape[1:]), outputs, bias, dtype, moves)

    def forward(self, x: Any) -> Any:
        """x (batch, inputs, height, width) -> (batch, outputs, rows, columns)."""
        return ops.conv2d(*self._operands(x), **self._moves)


class Conv1d(_Convolution):
    """Cross-correlation of sequences (batch, inputs, length).

    Attributes:
        weight: (outputs, inputs / groups, kernel).
        bias: (outputs,), or None.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        dtype: Any = "float32",
    ) -> None:
        shape = (outputs, inputs // groups, kernel)
        moves = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        super().__init__(shape, math.prod(shape[1:]), outputs, bias, dtype, moves)

    def forward(self, x: Any) -> Any:
        """x (batch, inputs, length) -> (batch, outputs, positions)."""
        return ops.conv1d(*self._operands(x), **self._moves)


class ConvTranspose2d(_Convolution):
    """The transpose of a convolution: from few places to an image.

    Attributes:
        weight: (inputs, outputs / groups, kernel height, kernel width).
        bias: (outputs,), or None.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Pair,
        *,
        stride: Pair = 1,
        padding: Pair = 0,
        output_padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        dtype: Any = "float32",
    ) -> None:
        shape = (inputs, outputs // groups, *_pair(kernel))
        moves = {"stride": stride, "padding": padding, "output_padding": output_padding, "dilation": dilation}
        super().__init__(shape, math.prod(shape[1:]), outputs, bias, dtype, {**moves, "groups": groups})

    def forward(self, x: Any) -> Any:
        """x (batch, inputs, rows, columns) -> (batch, outputs, height, width)."""
        return ops.conv_transpose2d(*self._operands(x), **self._moves)
