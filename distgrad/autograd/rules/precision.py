"""Half-precision storage with single-precision arithmetic: what sums, exponentials and matrix products compute in."""

from __future__ import annotations

from typing import Any

import numpy as np


def is_half(dtype: Any) -> bool:
    """Whether values of this dtype are kept in two bytes: float16, bfloat16."""
    return "float16" in str(dtype) if getattr(dtype, "itemsize", 2) == 2 else False


def widen(xp: Any, x: Any) -> Any:
    """`x` in a dtype fit to compute in: float32 for half precision, itself otherwise."""
    return xp.astype(x, np.float32 if xp is np else xp.float32) if is_half(x.dtype) else x


def narrow(xp: Any, value: Any, dtype: Any) -> Any:
    """`value` back in the dtype its operands are stored in."""
    return value if value.dtype == dtype else xp.astype(value, dtype)
