"""How kernels of special functions are put together: polynomials, and different formulas in different regions.

Special functions are computed by our own kernels whether SciPy is installed or not, so that a gradient has the same
bits on every worker. The kernels are written over `xp`, so they run on any array namespace, and compute in the
precision of their operand (float32 for half precision).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .blocks import PART, parts
from .precision import narrow, refuse_complex, widen

Kernel = Callable[[Any, Any], Any]


def polynomial(x: Any, coefficients: Sequence[float]) -> Any:
    """Σ coefficients[k]·x^(n-1-k), highest power first, by Horner's scheme."""
    total = x * coefficients[0] + coefficients[1]
    for c in coefficients[2:]:
        # In place where the type allows it; a NumPy scalar or a foreign array is bound anew.
        total *= x
        total += c
    return total


def monic(x: Any, coefficients: Sequence[float]) -> Any:
    """A polynomial whose highest coefficient, 1, is left out."""
    return polynomial(x, (1.0, *coefficients))


def by_region(xp: Any, x: Any, regions: Sequence[tuple[Any, Kernel]]) -> Any:
    """The kernel of each region where its mask holds; the masks are disjoint and cover x, nan may fall in any.

    On NumPy each kernel sees only its own elements. Elsewhere all kernels run on all elements, the foreign ones
    replaced by one of the region's own.
    """
    if xp is np:
        out = np.empty_like(x)
        for mask, kernel in regions:
            if mask.all():
                return kernel(xp, x)
            if mask.any():
                out[mask] = kernel(xp, x[mask])
        return out
    value = xp.full_like(x, xp.nan)
    for mask, kernel in regions:
        if bool(xp.any(mask)):
            own = xp.reshape(x[mask], (-1,))[0]
            value = xp.where(mask, kernel(xp, xp.where(mask, x, own)), value)
    return value


def in_parts(compute: Kernel, x: Any) -> Any:
    """A kernel of NumPy arrays, applied to stretches that stay in the cache through all of its steps."""
    if x.size <= PART:
        return compute(np, x)
    x = np.ascontiguousarray(x)
    out = np.empty_like(x)
    for part, room in parts(x, out):
        room[...] = compute(np, part)
    return out


def kernel(name: str, compute: Kernel) -> Kernel:
    """The forward rule of a primitive from a kernel: takes numbers and integers too, and computes half precision in
    single.
    """

    def forward(xp: Any, x: Any) -> Any:
        x = xp.asarray(x)
        refuse_complex(name, x)
        if not xp.isdtype(x.dtype, "real floating"):
            x = xp.astype(x, xp.float64)
        return narrow(xp, compute(xp, widen(xp, x)), x.dtype)

    forward.__name__ = compute.__name__
    return forward
