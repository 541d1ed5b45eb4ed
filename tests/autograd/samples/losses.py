"""Losses."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.special

from . import Sample
from .activation import functional
from .shape import complex_

LABELS = np.array([2, 0, 3])


def _over_last_axis(name: str) -> Any:
    """PyTorch's loss of class scores, which it wants on the second axis."""

    def oracle(torch: Any, scores: Any, labels: Any, reduction: str = "mean", **settings: Any) -> Any:
        function = getattr(torch.nn.functional, name)
        if "weight" in settings:
            settings["weight"] = torch.as_tensor(settings["weight"], dtype=scores.dtype)
        values = function(scores.reshape(-1, scores.shape[-1]), labels.reshape(-1), reduction=reduction, **settings)
        return values.reshape(labels.shape) if reduction == "none" else values

    return oracle


def _pairs(name: str, domain: Any, **settings: Any) -> list[Sample]:
    reductions = [Sample([(3, 4), (3, 4)], {"reduction": r}, domain, torch=functional(name)) for r in ("mean", "sum")]
    each = Sample([(2, 3), (2, 3)], {"reduction": "none", **settings}, domain, torch=functional(name))
    return [*reductions, each]


def _distances(of: Any) -> list[Sample]:
    """Samples of a loss that is a function of the distance of complex numbers."""
    operands = complex_(2, 3), complex_(2, 3)
    return [
        Sample(operands, torch=lambda torch, x, y: of(x - y).mean(), note="complex"),
        Sample([(2, 3), operands[1]], torch=lambda torch, x, y: of(x - y).mean(), note="real and complex"),
        Sample(operands, {"reduction": "none"}, torch=lambda torch, x, y, reduction: of(x - y), note="complex each"),
    ]


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


# What may be left out, and what each class counts for.
PADDED = np.array([2, -100, 0, 3, -100])
WEIGHT = np.array([0.5, 1.0, 2.0, 0.25])


def _settings() -> list[Sample]:
    """Cross-entropy with each of its settings, and with all of them, in each reduction."""
    some: list[dict[str, Any]] = [{"weight": WEIGHT}, {"ignore_index": -100}, {"label_smoothing": 0.2}]
    some.append(some[0] | some[1] | some[2])
    return [
        Sample(
            [(5, 4), PADDED if "ignore_index" in settings else np.abs(PADDED) % 4],
            {"reduction": reduction, **settings},
            torch=_over_last_axis("cross_entropy"),
            foreign="weight" not in settings,
            note=f"{' '.join(settings)} {reduction}",
        )
        for settings in some
        for reduction in ("mean", "sum", "none")
    ]


def _weighted_mean(logits: Any, labels: Any, weight: Any) -> Any:
    log_probabilities = scipy.special.log_softmax(logits, axis=-1)
    own = np.take_along_axis(log_probabilities, labels[:, None], axis=-1)[:, 0]
    return -np.average(own, weights=weight[labels])


def _cosine_similarity(torch: Any, x: Any, y: Any, axis: int = -1) -> Any:
    return torch.nn.functional.cosine_similarity(x, y, dim=axis)


APART = [(-2.0, -0.1), (0.1, 2.0)]
PROBABILITIES = [(-2.0, -0.1), (0.05, 0.95)]

SAMPLES = {
    "mse": [*_pairs("mse_loss", (-2.0, 2.0)), *_distances(lambda d: d.abs() ** 2)],
    "l1": [*_pairs("l1_loss", APART), *_distances(lambda d: d.abs())],
    "huber": _pairs("huber_loss", (-2.0, 2.0), delta=0.7),
    "bce_with_logits": _pairs("binary_cross_entropy_with_logits", [(-3.0, 3.0), (0.05, 0.95)]),
    "kl_div": [
        Sample([(3, 4), (3, 4)], {"reduction": r}, PROBABILITIES, torch=_kl_div) for r in ("mean", "sum", "none")
    ],
    "cosine_similarity": [
        Sample([(2, 3), (2, 3)], torch=_cosine_similarity),
        Sample([(2, 3, 2), (2, 3, 2)], {"axis": 1}, torch=_cosine_similarity),
    ],
    "softmax_cross_entropy": _classes("cross_entropy"),
    "cross_entropy": [
        *_classes("cross_entropy"),
        *_settings(),
        Sample(
            [(3, 4), LABELS, (4,)], domain=(0.5, 1.5), expected=_weighted_mean, foreign=False, note="by its weights"
        ),
    ],
    "nll": _classes("nll_loss"),
}
