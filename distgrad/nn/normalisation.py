"""Normalisation layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from distgrad.autograd import ops
from distgrad.autograd.operands import differentiable
from distgrad.autograd.tensor import Boxed, Tensor

from .module import Module
from .parameter import Buffer, Parameter

Shape = int | tuple[int, ...]


def _shape(shape: Shape) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)


class LayerNorm(Module):
    """Normalises over the last axes, of the given shape.

    Attributes:
        weight, bias: of that shape.
    """

    def __init__(self, shape: Shape, *, eps: float = 1e-5, dtype: Any = "float32") -> None:
        self.weight = Parameter(np.ones(_shape(shape), dtype))
        self.bias = Parameter(np.zeros(_shape(shape), dtype))
        self.eps = eps

    def forward(self, x: Any) -> Any:
        return ops.layer_norm(x, self.weight, self.bias, axes=self.weight.ndim, eps=self.eps)

    def describe(self) -> str:
        return f"{tuple(self.weight.shape)}"


class RMSNorm(Module):
    """Divides by the root mean square over the last axes, of the given shape.

    Attributes:
        weight: of that shape.
    """

    def __init__(self, shape: Shape, *, eps: float = 1e-6, dtype: Any = "float32") -> None:
        self.weight = Parameter(np.ones(_shape(shape), dtype))
        self.eps = eps

    def forward(self, x: Any) -> Any:
        return ops.rms_norm(x, self.weight, axes=self.weight.ndim, eps=self.eps)

    def describe(self) -> str:
        return f"{tuple(self.weight.shape)}"


class GroupNorm(Module):
    """Normalises each example's channels in groups: x (batch, channels, ...).

    Attributes:
        weight, bias: (channels,).
    """

    def __init__(self, groups: int, channels: int, *, eps: float = 1e-5, dtype: Any = "float32") -> None:
        self.weight = Parameter(np.ones(channels, dtype))
        self.bias = Parameter(np.zeros(channels, dtype))
        self.groups, self.eps = groups, eps

    def forward(self, x: Any) -> Any:
        return ops.group_norm(x, self.weight, self.bias, groups=self.groups, eps=self.eps)

    def describe(self) -> str:
        return f"{self.groups}, {self.weight.shape[0]}"


class BatchNorm(Module):
    """Normalises each channel: x (batch, channels, ...), by the batch's statistics in training, by the running ones
    else.

    A forward pass in training changes the running statistics, through `Buffer.blend`; within a transform (jvp, vmap)
    they rest. The running variance is the unbiased one.

    Attributes:
        weight, bias: (channels,).
        running_mean, running_var: (channels,) buffers, float32 at least.
        momentum: what a new batch counts for in them.
    """

    def __init__(self, channels: int, *, momentum: float = 0.1, eps: float = 1e-5, dtype: Any = "float32") -> None:
        self.weight = Parameter(np.ones(channels, dtype))
        self.bias = Parameter(np.zeros(channels, dtype))
        wide = np.promote_types(np.float32, dtype)
        self.running_mean = Buffer(np.zeros(channels, wide))
        self.running_var = Buffer(np.ones(channels, wide))
        self.momentum, self.eps = momentum, eps

    def forward(self, x: Any) -> Any:
        if not self.training:
            return self._by_running_statistics(x)
        y = ops.batch_norm(x, self.weight, self.bias, eps=self.eps)
        if not isinstance(x, Boxed) and x.size:  # no examples say nothing of the others
            self._follow(x.data if isinstance(x, Tensor) else x)
        return y

    def _by_running_statistics(self, x: Any) -> Any:
        scale = self.weight / ops.sqrt(self.running_var + self.eps)
        shift = self.bias - self.running_mean * scale
        per_channel = (-1, *(1,) * (x.ndim - 2))
        y = x * ops.reshape(scale, per_channel) + ops.reshape(shift, per_channel)
        return y if y.dtype == x.dtype or not differentiable(x.dtype) else ops.astype(y, x.dtype)

    def _follow(self, x: Any) -> None:
        """Blends the statistics of the array `x` into the running ones."""
        axes = (0, *range(2, x.ndim))
        count = x.size // x.shape[1]
        dtype = self.running_mean.dtype
        mean, variance = x.mean(axes, dtype=dtype), x.var(axes, dtype=dtype) * (count / max(count - 1, 1))
        self.running_mean.blend(1 - self.momentum, self.momentum * mean)
        self.running_var.blend(1 - self.momentum, self.momentum * variance)

    def describe(self) -> str:
        return f"{math.prod(self.weight.shape)}"
