"""Losses: a prediction and a target in, one number (or one for each example) out.

Every loss takes `reduction`: "mean" over all elements, "sum", or "none".
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from distgrad.errors import GradientError

from ..primitive import primitive
from .precision import widen
from .softmax import log_softmax_of, shifted, softmax_of


def reduced(xp: Any, values: Any, reduction: str) -> Any:
    """`values`, each by itself, summed, or averaged."""
    if reduction == "none":
        return values
    if reduction == "sum":
        return xp.sum(values)
    if reduction == "mean":
        return xp.mean(values)
    raise GradientError(f"reduction={reduction!r} is unknown; it is 'mean', 'sum' or 'none'")


def _share(shape: tuple[int, ...], reduction: str) -> float:
    """What each element counts for in the reduced value."""
    return 1.0 / max(math.prod(shape), 1) if reduction == "mean" else 1.0


# ---- mean squared error ----------------------------------------------------------------------------------------------


def _mse(xp: Any, x: Any, y: Any, *, reduction: str = "mean") -> Any:
    difference = widen(xp, x) - widen(xp, y)
    if xp is np and reduction != "none" and difference.dtype.kind == "f":
        flat = difference.reshape(-1)
        return np.asarray(np.dot(flat, flat) * _share(difference.shape, reduction), x.dtype)[()]
    return reduced(xp, xp.square(difference), reduction)


def _mse_vjp(sign: float) -> Any:
    def vjp(xp: Any, g: Any, ans: Any, x: Any, y: Any, *, reduction: str = "mean") -> Any:
        difference = widen(xp, x) - widen(xp, y)
        return difference * (g * (2 * sign * _share(difference.shape, reduction)))

    return vjp


def _mse_jvp(xp: Any, tangents: Any, ans: Any, x: Any, y: Any, *, reduction: str = "mean") -> Any:
    tx, ty = tangents
    change = tx if ty is None else -ty if tx is None else tx - ty
    return reduced(xp, 2.0 * (x - y) * change, reduction)


mse = primitive(
    "mse",
    _mse,
    vjps=[_mse_vjp(1.0), _mse_vjp(-1.0)],
    jvp=_mse_jvp,
    save="inputs",
    doc="(x − y)², averaged, summed, or each.",
)

# ---- cross-entropy ---------------------------------------------------------------------------------------------------


def _check_labels(logits: Any, labels: Any, name: str) -> None:
    if labels.shape != logits.shape[:-1]:
        raise GradientError(
            f"{name}() got scores of shape {logits.shape} and labels of shape {labels.shape}; the labels' shape must "
            f"be {logits.shape[:-1]}, the scores' without the last axis, which counts the classes"
        )
    if "int" not in str(labels.dtype):
        raise GradientError(f"{name}() needs integer labels, the numbers of the classes, not {labels.dtype}")
    if type(labels) is np.ndarray and labels.size and (labels.min() < 0 or labels.max() >= logits.shape[-1]):
        raise GradientError(
            f"{name}() got labels from {labels.min()} to {labels.max()}, but there are {logits.shape[-1]} classes: "
            f"0 to {logits.shape[-1] - 1}"
        )


def _of_label(xp: Any, scores: Any, labels: Any) -> Any:
    """The score of each example's own class: shape of `labels`."""
    return xp.squeeze(xp.take_along_axis(scores, xp.expand_dims(labels, -1), axis=-1), -1)


def _one_hot(xp: Any, labels: Any, classes: int, dtype: Any) -> Any:
    return xp.astype(xp.expand_dims(labels, -1) == xp.arange(classes), dtype)


def _cross_entropy(xp: Any, logits: Any, labels: Any, *, reduction: str = "mean") -> Any:
    _check_labels(logits, labels, "cross_entropy")
    wide = widen(xp, logits)
    if xp is not np:
        return reduced(xp, -_of_label(xp, log_softmax_of(xp, wide, -1), labels), reduction), None
    scores = shifted(np, wide, -1)
    own = _of_label(np, scores, labels)
    np.exp(scores, out=scores)
    total = np.add.reduce(scores, axis=-1, keepdims=True)
    values = np.log(total[..., 0])
    values -= own
    scores /= total
    return np.asarray(reduced(np, values, reduction), logits.dtype)[()], scores


def _cross_entropy_vjp(
    xp: Any, g: Any, ans: Any, logits: Any, labels: Any, *, reduction: str = "mean", residual: Any = None
) -> Any:
    g = g * _share(labels.shape, reduction)
    if reduction == "none":
        g = xp.expand_dims(g, -1)
    if residual is None:
        wide = widen(xp, logits)
        return (softmax_of(xp, wide, -1) - _one_hot(xp, labels, logits.shape[-1], wide.dtype)) * g
    pulled = np.multiply(residual, g)
    rows = pulled.reshape(labels.size, -1)
    rows[np.arange(labels.size), labels.reshape(-1)] -= np.broadcast_to(g, (*labels.shape, 1)).reshape(-1)
    return pulled


def _cross_entropy_jvp(xp: Any, tangents: Any, ans: Any, logits: Any, labels: Any, *, reduction: str = "mean") -> Any:
    t = tangents[0]
    values = xp.sum(xp.softmax(logits) * t, axis=-1) - _of_label(xp, t, labels)
    return reduced(xp, values, reduction)


cross_entropy = primitive(
    "cross_entropy",
    _cross_entropy,
    vjps=[_cross_entropy_vjp, None],
    jvp=_cross_entropy_jvp,
    save="inputs",
    residual=True,
    doc="−log softmax(logits)[label]: logits (..., classes), integer labels (...,). Fused with softmax.",
)
