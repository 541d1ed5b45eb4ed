"""Where a gradient goes wrong: naming the operation and the user's line when a rule fails or yields nan or infinity."""

from __future__ import annotations

from typing import Any

import numpy as np

from distgrad.errors import GradientError

from .tape import Node
from .tensor import Tensor


def note_failure(error: Exception, node: Node) -> None:
    """Adds to an exception raised by a rule which operation's gradient was being computed, unless it says so."""
    if str(node) in str(error):
        return
    where = f"recorded by\n  {node.trace}" if node.trace else "run under dg.detect_anomaly() to see who recorded it"
    error.add_note(f"while computing the gradient of {node}, {where}")


def check_finite(node: Node, i: int, gradient: Any, pulled: Any) -> None:
    """Raises GradientError when the gradient of input `i` holds nan or infinity."""
    found = _array(pulled)
    if found is None or np.isfinite(found).all():
        return
    bad = ~np.isfinite(found)
    first = tuple(int(k) for k in np.argwhere(bad)[0])
    place = f"at index {first}" if first else "there"
    kind = "nan" if np.isnan(found[first]) else "infinite"
    recorded = f"recorded by\n  {node.trace}" if node.trace else "recorded outside dg.detect_anomaly()"
    raise GradientError(
        f"the gradient of operand {i} of {node} is {kind} {place} ({int(bad.sum())} of {bad.size} elements), "
        f"{recorded}\n" + _reason(node, _array(gradient), bad)
    )


def _reason(node: Node, gradient: Any, bad: Any) -> str:
    if gradient is not None and not np.isfinite(gradient).all():
        return "The gradient that came to it was not finite either; see gradient= of the root, or a hook."
    if gradient is not None and gradient.shape == bad.shape and not gradient[bad].any():
        return (
            "The gradient that came to it is 0 there (dg.ops.where sends 0 to the branch it does not take), and 0 "
            f"times the infinite or undefined derivative of {node.name} is nan. Keep the operand in the domain even "
            "where it is not used: where(x > 0, sqrt(where(x > 0, x, 1)), 0)."
        )
    return (
        f"The operand is where {node.name} has no finite derivative; keep it away from there, e.g. by dg.ops.clip or "
        "+ eps."
    )


def _array(x: Any) -> Any:
    """The floating-point NumPy array inside; None for what cannot be looked at, such as row-sparse gradients."""
    while isinstance(x, Tensor):
        x = x.data
    return np.asarray(x) if isinstance(x, np.ndarray | np.generic) and x.dtype.kind in "fc" else None
