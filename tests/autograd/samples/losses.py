"""Losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import Sample
from .activation import functional

LABELS = np.array([2, 0, 3])


def _over_last_axis(name: str) -> Any:
    """PyTorch's loss of class scores, which it wants on the second axis."""

    def oracle(torch: Any, scores: Any, labels: Any, reduction: str = "mean") -> Any:
        function = getattr(torch.nn.functional, name)
        values = function(scores.reshape(-1, scores.shape[-1]), labels.reshape(-1), reduction=reduction)
        return values.reshape(labels.shape) if reduction == "none" else values

    return oracle


def _pairs(name: str, domain: Any, **settings: Any) -> list[Sample]:
    reductions = [Sample([(3, 4), (3, 4)], {"reduction": r}, domain, torch=functional(name)) for r in ("mean", "sum")]
    each = Sample([(2, 3), (2, 3)], {"reduction": "none", **settings}, domain, torch=functional(name))
    return [*reductions, each]


def _classes(name: str) -> list[Sample]:
    oracle = _over_last_axis(name)
    return [
        *(Sample([(3, 4), LABELS], {"reduction": r}, torch=oracle) for r in ("mean", "sum", "none")),
        Sample([(1, 3, 5), LABELS[None]], torch=oracle),
    ]


def _kl_div(torch: Any, x: Any, y: Any, reduction: str) -> Any:
    # PyTorch warns that its own "mean" will change its meaning.
    values = torch.nn.functional.kl_div(x, y, reduction="none")
    return {"mean": torch.mean, "sum": torch.sum, "none": lambda v: v}[reduction](values)


APART = [(-2.0, -0.1), (0.1, 2.0)]
PROBABILITIES = [(-2.0, -0.1), (0.05, 0.95)]

SAMPLES = {
    "mse": _pairs("mse_loss", (-2.0, 2.0)),
    "l1": _pairs("l1_loss", APART),
    "huber": _pairs("huber_loss", (-2.0, 2.0), delta=0.7),
    "bce_with_logits": _pairs("binary_cross_entropy_with_logits", [(-3.0, 3.0), (0.05, 0.95)]),
    "kl_div": [
        Sample([(3, 4), (3, 4)], {"reduction": r}, PROBABILITIES, torch=_kl_div) for r in ("mean", "sum", "none")
    ],
    "cross_entropy": _classes("cross_entropy"),
    "nll": _classes("nll_loss"),
}
