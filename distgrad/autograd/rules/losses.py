"""Losses: a prediction and a target in, one number (or one for each example) out.

Every loss takes `reduction`: "mean" over all elements, "sum", or "none".
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from distgrad.errors import GradientError

from ..operands import ops
from ..primitive import Rule, composite, primitive
from .activation import sigmoid_of, softplus_of
from .blocks import as_rows, row_parts, row_sums
from .nested import is_complex, shape_of
from .precision import floating, is_half, narrow, refuse_complex, widen
from .softmax import log_softmax_of, row_tops, softmax_of


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


# ---- between a prediction and a target of one shape ------------------------------------------------------------------
# Each is given by its value for one pair of elements and the derivatives of that by x and by y.


def _shape(name: str, x: Any, y: Any) -> tuple[int, ...]:
    """The operands' shape. One may be a number; other shapes that broadcast are usually a mistake."""
    shapes = tuple(getattr(x, "shape", ())), tuple(getattr(y, "shape", ()))
    if shapes[0] != shapes[1] and () not in shapes:
        raise GradientError(f"{name}() got a prediction of shape {shapes[0]} and a target of shape {shapes[1]}")
    return max(shapes, key=len)


def _wide(xp: Any, x: Any) -> Any:
    return widen(xp, x) if hasattr(x, "dtype") else x


def _value(name: str, of_pair: Rule, xp: Any, x: Any, y: Any, reduction: str, **settings: Any) -> Any:
    _shape(name, x, y)
    if name not in ("mse", "l1"):
        refuse_complex(name, x, y)
    loss = reduced(xp, of_pair(xp, _wide(xp, x), _wide(xp, y), **settings), reduction)
    halves = [a.dtype for a in (x, y) if hasattr(a, "dtype")]
    return narrow(xp, loss, halves[0]) if halves and all(map(is_half, halves)) else loss


def _vjps(name: str, derivatives: tuple[Rule, Rule]) -> list[Rule]:
    def vjp_by(derivative: Rule) -> Rule:
        def vjp(xp: Any, g: Any, ans: Any, x: Any, y: Any, *, reduction: str = "mean", **settings: Any) -> Any:
            pulled = derivative(xp, _wide(xp, x), _wide(xp, y), **settings)
            return pulled * (_wide(xp, g) * _share(_shape(name, x, y), reduction))

        return vjp

    return [vjp_by(d) for d in derivatives]


def _along(xp: Any, tangent: Any, derivative: Any) -> Any:
    """The change of a real value along a tangent, of which the derivative points in the direction of ascent."""
    if is_complex(derivative):
        return xp.real(xp.conj(derivative) * tangent)
    return tangent * derivative


def _jvp(derivatives: tuple[Rule, Rule]) -> Rule:
    def jvp(xp: Any, tangents: Any, ans: Any, x: Any, y: Any, *, reduction: str = "mean", **settings: Any) -> Any:
        pairs = zip(tangents, derivatives, strict=True)
        terms = [_along(xp, t, d(xp, x, y, **settings)) for t, d in pairs if t is not None]
        return reduced(xp, sum(terms[1:], terms[0]), reduction)

    return jvp


def _mse(xp: Any, x: Any, y: Any, *, reduction: str = "mean") -> Any:
    if (
        type(x) is type(y) is np.ndarray
        and reduction in ("mean", "sum")
        and x.dtype == y.dtype
        and x.dtype.char in "fd"
        and min(x.size, y.size) > 0
    ):
        share = _share(_shape("mse", x, y), reduction)
        difference = np.subtract(x, y).reshape(-1)
        return x.dtype.type(np.dot(difference, difference) * share)
    return _value("mse", lambda xp, x, y: xp.square(xp.abs(x - y)), xp, x, y, reduction)


_MSE = (lambda xp, x, y: 2 * (x - y), lambda xp, x, y: 2 * (y - x))

mse = primitive("mse", _mse, vjps=_vjps("mse", _MSE), jvp=_jvp(_MSE), save="inputs", doc="|x − y|².")

_L1 = (lambda xp, x, y: xp.sign(x - y), lambda xp, x, y: xp.sign(y - x))

l1 = primitive(
    "l1",
    lambda xp, x, y, *, reduction="mean": _value("l1", lambda xp, x, y: xp.abs(x - y), xp, x, y, reduction),
    vjps=_vjps("l1", _L1),
    jvp=_jvp(_L1),
    save="inputs",
    doc="|x − y|; its derivative where x = y is 0.",
)


def _huber(xp: Any, x: Any, y: Any, *, delta: float) -> Any:
    # The part of |x − y| within delta counts as a square, the rest linearly.
    distance = xp.abs(x - y)
    near = xp.minimum(distance, delta)
    return near * (distance - 0.5 * near)


_HUBER = (
    lambda xp, x, y, *, delta=1.0: xp.clip(x - y, -delta, delta),
    lambda xp, x, y, *, delta=1.0: xp.clip(y - x, -delta, delta),
)

huber = primitive(
    "huber",
    lambda xp, x, y, *, reduction="mean", delta=1.0: _value("huber", _huber, xp, x, y, reduction, delta=delta),
    vjps=_vjps("huber", _HUBER),
    jvp=_jvp(_HUBER),
    save="inputs",
    doc="(x − y)² / 2 where |x − y| ≤ delta, delta · (|x − y| − delta / 2) elsewhere (Huber 1964).",
)

_BCE = (lambda xp, x, y: sigmoid_of(xp, x) - y, lambda xp, x, y: -x)

bce_with_logits = primitive(
    "bce_with_logits",
    lambda xp, x, y, *, reduction="mean": _value(
        "bce_with_logits", lambda xp, x, y: softplus_of(xp, x) - x * y, xp, x, y, reduction
    ),
    vjps=_vjps("bce_with_logits", _BCE),
    jvp=_jvp(_BCE),
    save="inputs",
    doc="−y log σ(x) − (1 − y) log(1 − σ(x)) of logits x and probabilities y, without overflow.",
)


def _log_positive(xp: Any, q: Any) -> Any:
    """log q, and 0 where q is not positive."""
    return xp.log(xp.where(q > 0, q, 1.0))


_KL = (lambda xp, x, y: -y, lambda xp, x, y: xp.where(y > 0, _log_positive(xp, y) + 1.0 - x, 0.0))

kl_div = primitive(
    "kl_div",
    lambda xp, x, y, *, reduction="mean": _value(
        "kl_div", lambda xp, x, y: y * (_log_positive(xp, y) - x), xp, x, y, reduction
    ),
    vjps=_vjps("kl_div", _KL),
    jvp=_jvp(_KL),
    save="inputs",
    doc="y (log y − x) of log-probabilities x and probabilities y; over all classes, y's relative entropy to x.",
)


@composite
def cosine_similarity(x: Any, y: Any, *, axis: int = -1, eps: float = 1e-8) -> Any:
    """x · y / (|x| |y|) along `axis`, each norm taken as `eps` at least."""
    xp = ops()
    x, y = (floating(xp, xp.asarray(a)) for a in (x, y))
    along = xp.sum(x * y, axis=axis)
    # The larger of the squares, not of the norms: the root of zero has no finite derivative.
    norms = [xp.sqrt(xp.maximum(xp.sum(xp.square(a), axis=axis), eps * eps)) for a in (x, y)]
    return along / (norms[0] * norms[1])


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
            f"0 to {logits.shape[-1] - 1}; cross_entropy(ignore_index=) leaves examples out by their label"
        )


def _of_label(xp: Any, scores: Any, labels: Any) -> Any:
    """The score of each example's own class: shape of `labels`."""
    return xp.squeeze(xp.take_along_axis(scores, xp.expand_dims(labels, -1), axis=-1), -1)


def one_hot_of(xp: Any, labels: Any, classes: int, dtype: Any) -> Any:
    """1 at the label of each row of `classes` numbers, 0 elsewhere."""
    return xp.astype(xp.expand_dims(labels, -1) == xp.arange(classes), dtype)


def _cross_entropy(xp: Any, logits: Any, labels: Any, *, reduction: str = "mean") -> Any:
    _check_labels(logits, labels, "cross_entropy")
    refuse_complex("cross_entropy", logits)
    wide = widen(xp, logits)
    if xp is not np or wide.dtype.char not in "fd":
        return reduced(xp, -_of_label(xp, log_softmax_of(xp, wide, -1), labels), reduction), None
    values, probabilities = _cross_entropy_rows(as_rows(wide), labels.reshape(-1))
    loss = reduced(np, values.reshape(labels.shape), reduction)
    return narrow(np, loss, logits.dtype), probabilities.reshape(logits.shape)


def _cross_entropy_rows(logits: Any, labels: Any) -> tuple[Any, Any]:
    """The loss of each row, and the softmax, in one pass over the logits."""
    values, probabilities = np.empty(len(logits), logits.dtype), np.empty(logits.shape, logits.dtype)
    start = 0
    for a, p in row_parts(logits, probabilities):
        stop = start + len(a)
        np.subtract(a, row_tops(a), out=p)
        own = p[np.arange(len(p)), labels[start:stop]]
        np.exp(p, out=p)
        total = row_sums(p)
        np.subtract(np.log(total), own, out=values[start:stop])
        p *= np.reciprocal(total, out=total)[:, None]
        start = stop
    return values, probabilities


def _cross_entropy_vjp(
    xp: Any, g: Any, ans: Any, logits: Any, labels: Any, *, reduction: str = "mean", residual: Any = None
) -> Any:
    g = g * _share(labels.shape, reduction)
    if reduction == "none":
        g = xp.expand_dims(g, -1)
    if residual is None:
        wide = widen(xp, logits)
        return (softmax_of(xp, wide, -1) - one_hot_of(xp, labels, logits.shape[-1], wide.dtype)) * g
    pulled = np.multiply(residual, g)
    rows = pulled.reshape(labels.size, pulled.shape[-1])
    rows[np.arange(labels.size), labels.reshape(-1)] -= np.broadcast_to(g, (*labels.shape, 1)).reshape(-1)
    return pulled


def _cross_entropy_jvp(xp: Any, tangents: Any, ans: Any, logits: Any, labels: Any, *, reduction: str = "mean") -> Any:
    t = tangents[0]
    values = xp.sum(xp.softmax(logits) * t, axis=-1) - _of_label(xp, t, labels)
    return reduced(xp, values, reduction)


softmax_cross_entropy = primitive(
    "softmax_cross_entropy",
    _cross_entropy,
    vjps=[_cross_entropy_vjp, None],
    jvp=_cross_entropy_jvp,
    save="inputs",
    residual=True,
    doc="−log softmax(logits)[label]: logits (..., classes), integer labels (...,). Fused with softmax.",
)


@composite
def cross_entropy(
    logits: Any,
    labels: Any,
    weight: Any = None,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Any:
    """−log softmax(logits)[label], fused with softmax.

    Arguments:
        logits: array of shape (..., classes).
        labels: integers of shape (...,), the numbers of the classes.
        weight: array of shape (classes,), what an example counts for by its label; also differentiable.
        ignore_index: examples with this label count for nothing, such as -100 for padding.
        label_smoothing: share of each label, in [0, 1], that is spread evenly over all classes (Szegedy et al. 2016).
        reduction: "mean" over the examples that count, by their weights (nan when none does); "sum"; "none".

    The same as PyTorch's function, but that classes are the last axis and that no label is ignored unless one says so.
    """
    if weight is None and ignore_index is None and not label_smoothing:
        return softmax_cross_entropy(logits, labels, reduction=reduction)
    if not 0.0 <= label_smoothing <= 1.0:
        raise GradientError(f"cross_entropy(label_smoothing={label_smoothing}) takes a share from 0 to 1")
    xp = ops()
    classes = shape_of(logits)[-1]
    if weight is not None and shape_of(weight) != (classes,):
        raise GradientError(f"cross_entropy() got a weight of shape {shape_of(weight)} for {classes} classes")
    labels = labels if hasattr(labels, "dtype") else np.asarray(labels)
    counts = xp.ones_like(labels, dtype=bool) if ignore_index is None else xp.not_equal(labels, ignore_index)
    labels = xp.where(counts, labels, 0)
    values = softmax_cross_entropy(logits, labels, reduction="none")
    shares = xp.astype(counts, values.dtype)
    if weight is not None:
        weight = xp.astype(weight, values.dtype)
        shares = shares * xp.take(weight, labels)
        values = values * xp.take(weight, labels)
    if label_smoothing:
        scores = xp.negative(xp.log_softmax(logits))
        spread = xp.mean(scores if weight is None else scores * weight, axis=-1)
        values = (1.0 - label_smoothing) * values + label_smoothing * spread
    values = xp.where(counts, values, 0.0)
    return xp.sum(values) / xp.sum(shares) if reduction == "mean" else reduced(xp, values, reduction)


# ---- negative log-likelihood -----------------------------------------------------------------------------------------


def _nll(xp: Any, scores: Any, labels: Any, *, reduction: str = "mean") -> Any:
    _check_labels(scores, labels, "nll")
    return narrow(xp, reduced(xp, -_of_label(xp, widen(xp, scores), labels), reduction), scores.dtype)


def _nll_vjp(xp: Any, g: Any, ans: Any, scores: Any, labels: Any, *, reduction: str = "mean") -> Any:
    g = g * -_share(labels.shape, reduction)
    if reduction == "none":
        g = xp.expand_dims(g, -1)
    return one_hot_of(xp, labels, scores.shape[-1], scores.dtype) * g


def _nll_jvp(xp: Any, tangents: Any, ans: Any, scores: Any, labels: Any, *, reduction: str = "mean") -> Any:
    return reduced(xp, -_of_label(xp, tangents[0], labels), reduction)


nll = primitive(
    "nll",
    _nll,
    vjps=[_nll_vjp, None],
    jvp=_nll_jvp,
    save="inputs",
    doc="−scores[label] of log-probabilities (..., classes) and integer labels (...,).",
)
