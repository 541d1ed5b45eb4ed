"""Differentiable functions under NumPy's names: `dg.ops.sin(x)`, `dg.ops.sum(x, axis=0)`, and the fused ones of neural
networks.

Every entry takes tensors, arrays and numbers, and returns tensors. The list is the table of primitives and what is
composed of them; a file put in `rules/` is entered by being there. This module is also the namespace `xp` of rules that
run on tensors, so it has NumPy's constants and dtypes too.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

import numpy as np

from . import rules
from .primitive import COMPOSITES, PRIMITIVES
from .rules.precision import WIDENED, widen_rules

for _file in pkgutil.iter_modules(rules.__path__):
    importlib.import_module(f"{rules.__name__}.{_file.name}")

for _name in WIDENED:
    widen_rules(PRIMITIVES[_name])

# NumPy's other names for the same functions.
ALIASES = {
    "absolute": "abs",
    "amax": "max",
    "amin": "min",
    "around": "round",
    "bitwise_not": "invert",
    "conjugate": "conj",
    "degrees": "rad2deg",
    "expit": "sigmoid",
    "fabs": "abs",
    "fix": "trunc",
    "mod": "remainder",
    "pow": "power",
    "radians": "deg2rad",
    "true_divide": "divide",
}
_CONSTANTS = ("e", "inf", "nan", "newaxis", "pi")
_DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "complex64", "complex128",
)  # fmt: skip

_table: dict[str, Any] = {**PRIMITIVES, **COMPOSITES}
_table |= {alias: _table[name] for alias, name in ALIASES.items()}

__all__ = sorted(_table)

globals().update({name: getattr(np, name) for name in (*_CONSTANTS, *_DTYPES)})
globals().update(_table)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
