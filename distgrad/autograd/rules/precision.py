"""Half-precision storage with single-precision arithmetic: what sums, exponentials and matrix products compute in."""

from __future__ import annotations

from typing import Any

import numpy as np

from distgrad.errors import GradientError

from ..operands import differentiable
from ..primitive import Primitive, Rule
from .nested import is_complex


def is_half(dtype: Any) -> bool:
    """Whether values of this dtype are kept in two bytes: float16, bfloat16."""
    return "float16" in str(dtype) if getattr(dtype, "itemsize", 2) == 2 else False


def floating(xp: Any, x: Any) -> Any:
    """`x` in float64 where it holds integers or booleans, else itself. Of bytes, negatives, differences and products
    wrap around, and NumPy's exponentials are in float16.
    """
    if not hasattr(x, "dtype"):
        return float(x) if isinstance(x, bool) else x
    return x if differentiable(x.dtype) else xp.astype(x, np.float64 if xp is np else xp.float64)


def widen(xp: Any, x: Any) -> Any:
    """`x` in a dtype fit to compute in: float32 for half precision, float64 for integers, itself otherwise."""
    return xp.astype(x, np.float32 if xp is np else xp.float32) if is_half(x.dtype) else floating(xp, x)


def narrow(xp: Any, value: Any, dtype: Any) -> Any:
    """`value` back in the dtype its operands are stored in, unless they are integers or it is complex."""
    done = value.dtype == dtype or not differentiable(dtype) or is_complex(value)
    return value if done else xp.astype(value, dtype)


def refuse_complex(name: str, *operands: Any) -> None:
    """Raises GradientError where an operand is complex, for functions of real numbers."""
    for x in operands:
        if hasattr(x, "dtype") and is_complex(x):
            raise GradientError(
                f"{name}() is a function of real numbers, and got {x.dtype}; give it the absolute value, or the real "
                "and the imaginary part"
            )


# What NumPy does not compute in bfloat16, gives in another dtype, or adds up in bfloat16, where 256 + 1 is 256.
WIDENED = (
    "sum", "mean", "prod", "var", "std", "cumsum", "cumprod", "vector_norm", "leaky_relu", "hardtanh", "elu",
    "selu", "softplus", "sigmoid", "gelu", "remainder", "fmod", "floor_divide", "clip", "sinc", "xlogy",
    "logsumexp", "erf", "erfc", "erfinv", "i0", "bessel_i", "gammaln", "digamma", "polygamma", "matmul",
    "contract", "inv", "solve", "pinv", "det", "slogdet", "cholesky", "qr_factors", "eigh_of_hermitian",
    "svd_factors",
)  # fmt: skip


def widen_rules(op: Primitive) -> None:
    """Lets a primitive compute in float32 when its operands are bfloat16 arrays: values come back in bfloat16."""
    forward, vjps, shared = op.forward, op.vjps, op.shared

    def widened(xp: Any, *args: Any, **params: Any) -> Any:
        half = next((a.dtype for a in args if _is_bfloat16(a)), None) if xp is np else None
        if half is None:
            return forward(xp, *args, **params)
        value = forward(xp, *map(_wide, args), **params)
        value, *residual = value if op.residual else (value,)
        value = tuple(_narrow(v, half) for v in value) if type(value) is tuple else _narrow(value, half)
        return (value, *residual) if op.residual else value

    op.forward = widened
    if isinstance(vjps, tuple):
        op.vjps = tuple(rule and _on_wide(rule, 0) for rule in vjps)
    elif vjps is not None:
        op.vjps = _on_wide(vjps, 1)
    op.shared = shared and _on_wide(shared, 0)


def _on_wide(rule: Rule, before: int) -> Rule:
    """A rule on operands widened, `before` arguments coming before the namespace. The engine casts what it returns."""

    def on_wide(*args: Any, **params: Any) -> Any:
        if args[before] is np and any(map(_is_bfloat16, args)):
            args = tuple(map(_wide, args))
        return rule(*args, **params)

    return on_wide


def _is_bfloat16(value: Any) -> bool:
    # Of NumPy's kinds it is "V", void: only ml_dtypes knows it. Its name would take longer to ask for than a small sum.
    return isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "V"


def _wide(value: Any) -> Any:
    if type(value) is tuple:
        return tuple(map(_wide, value))
    return value.astype(np.float32) if _is_bfloat16(value) else value


def _narrow(value: Any, dtype: Any) -> Any:
    return value.astype(dtype) if value.dtype.kind == "f" else value
