"""Differentiable functions under NumPy's names: `dg.ops.sin(x)`, `dg.ops.sum(x, axis=0)`, and the fused ones of neural networks.

Every entry takes tensors, arrays and numbers, and returns tensors. The list is the table of primitives and what is composed of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distgrad.autograd.primitive import COMPOSITES, PRIMITIVES
from distgrad.autograd.rules import (  # noqa: F401  (importing enters the table)
    activation,
    contraction,
    creation,
    elementwise,
    indexing,
    losses,
    network,
    reductions,
    shape,
    softmax,
)

globals().update(PRIMITIVES)
globals().update(COMPOSITES)

__all__ = sorted({**PRIMITIVES, **COMPOSITES})  # noqa: PLE0605  (made from the tables)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
