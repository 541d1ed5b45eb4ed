"""Losses as modules, for where a module is wanted; `dg.ops` has the same as functions."""

from __future__ import annotations

from typing import Any

from distgrad.autograd import ops
from .module import Module


class CrossEntropyLoss(Module):
    """`dg.ops.cross_entropy` of scores (..., classes) and integer labels (...,)."""

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = reduction

    def forward(self, logits: Any, labels: Any) -> Any:
        return ops.cross_entropy(logits, labels, reduction=self.reduction)


class MSELoss(Module):
    """`dg.ops.mse` of a prediction and a target of one shape."""

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = reduction

    def forward(self, x: Any, y: Any) -> Any:
        return ops.mse(x, y, reduction=self.reduction)
