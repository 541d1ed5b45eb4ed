"""Losses as modules, for where a module is wanted; `dg.ops` has the same as functions."""

from __future__ import annotations

from typing import Any

from distgrad.autograd import ops

from .module import Module


class Loss(Module):
    """A loss of `dg.ops` with fixed settings. `reduction`: "mean", "sum" or "none"."""

    function: str

    def __init__(self, reduction: str = "mean", **settings: Any) -> None:
        self.settings = {"reduction": reduction, **settings}

    def forward(self, prediction: Any, target: Any) -> Any:
        return getattr(ops, self.function)(prediction, target, **self.settings)

    def describe(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.settings.items())


class CrossEntropyLoss(Loss):
    """−log softmax(logits)[label]: logits (..., classes), integer labels (...,).

    Settings: `weight` of each class, `ignore_index`, `label_smoothing`; see `dg.ops.cross_entropy`.
    """

    function = "cross_entropy"


class NLLLoss(Loss):
    """−scores[label] of log-probabilities (..., classes) and integer labels (...,)."""

    function = "nll"


class MSELoss(Loss):
    """|x − y|²."""

    function = "mse"


class L1Loss(Loss):
    """|x − y|."""

    function = "l1"


class HuberLoss(Loss):
    """(x − y)² / 2 within `delta` (1), linear beyond."""

    function = "huber"


class BCEWithLogitsLoss(Loss):
    """Binary cross-entropy of logits and probabilities."""

    function = "bce_with_logits"


class KLDivLoss(Loss):
    """y (log y − x) of log-probabilities x and probabilities y."""

    function = "kl_div"
