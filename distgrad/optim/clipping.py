"""Bounds on gradients. Gradients are arrays or `Rows`, by name.

Norms are taken for each parameter in float64 and summed in the order of names, so that they do not depend on which
owner holds what.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from distgrad.autograd.rows import Rows
from distgrad.errors import ConfigError

# Elements that are converted to float64 at a time.
_PART = 65_536


def norm_of(array: Any) -> float:
    """Euclidean norm of an array or `Rows`, its squares summed in float64."""
    values = np.asarray(array.values if isinstance(array, Rows) else array).reshape(-1)
    if values.dtype.kind == "c":
        values = values.view(values.real.dtype)
    total = 0.0
    for start in range(0, values.size, _PART):
        part = values[start : start + _PART].astype(np.float64)
        total += float(np.dot(part, part))
    return math.sqrt(total)


def total_norm(norms: Mapping[str, float]) -> float:
    """The norm of all parameters together, from the norm of each."""
    return math.sqrt(sum(norms[name] ** 2 for name in sorted(norms)))


def clip_factor(norm: float, limit: float) -> float:
    """What gradients of this norm are multiplied by so that it is at most `limit`: 1 where it is already."""
    if not limit > 0:
        raise ConfigError(f"a norm cannot be clipped to {limit}; the limit must be positive")
    return 1.0 if norm <= limit else limit / norm


def clip_by_norm(gradients: Mapping[str, Any], limit: float) -> tuple[dict[str, Any], float]:
    """New gradients whose norm, all together, is at most `limit`, and the norm they had."""
    present = {name: g for name, g in gradients.items() if g is not None}
    norm = total_norm({name: norm_of(g) for name, g in present.items()})
    factor = clip_factor(norm, limit)
    return {name: g if factor == 1.0 else g * factor for name, g in present.items()}, norm


def clip_by_value(gradients: Mapping[str, Any], limit: float) -> dict[str, Any]:
    """New gradients whose every element is within ± `limit`; of complex ones real and imaginary part each."""
    if not limit > 0:
        raise ConfigError(f"gradients cannot be clipped to ± {limit}; the limit must be positive")
    return {name: _clipped(g, limit) for name, g in gradients.items() if g is not None}


def _clipped(g: Any, limit: float) -> Any:
    if isinstance(g, Rows):
        return Rows(g.indices, _clipped(g.values, limit), g.length)
    if g.dtype.kind == "c":  # NumPy compares complex numbers by their real parts first
        return (np.clip(g.real, -limit, limit) + 1j * np.clip(g.imag, -limit, limit)).astype(g.dtype)
    return np.clip(g, -limit, limit)
