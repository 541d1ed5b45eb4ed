"""Pooling layers, of images (batch, channels, height, width)."""

from __future__ import annotations

from typing import Any

from distgrad.autograd import ops

from .module import Module

Pair = int | tuple[int, int]


class MaxPool2d(Module):
    """The largest value of each window. `stride` is `size` unless given."""

    def __init__(self, size: Pair, stride: Pair | None = None, padding: Pair = 0) -> None:
        self.size, self.stride, self.padding = size, stride, padding

    def forward(self, x: Any) -> Any:
        return ops.max_pool2d(x, size=self.size, stride=self.stride, padding=self.padding)

    def describe(self) -> str:
        return f"size={self.size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(Module):
    """The average of each window, its padding counted as zeros. `stride` is `size` unless given."""

    def __init__(self, size: Pair, stride: Pair | None = None, padding: Pair = 0) -> None:
        self.size, self.stride, self.padding = size, stride, padding

    def forward(self, x: Any) -> Any:
        return ops.avg_pool2d(x, size=self.size, stride=self.stride, padding=self.padding)

    def describe(self) -> str:
        return f"size={self.size}, stride={self.stride}, padding={self.padding}"


class AdaptiveAvgPool2d(Module):
    """Averages over a grid of `size` bins that cover the image evenly."""

    def __init__(self, size: Pair) -> None:
        self.size = size

    def forward(self, x: Any) -> Any:
        return ops.adaptive_avg_pool2d(x, size=self.size)

    def describe(self) -> str:
        return f"size={self.size}"


class Flatten(Module):
    """(batch, ...) -> (batch, features)."""

    def forward(self, x: Any) -> Any:
        return ops.reshape(x, (x.shape[0], -1))
