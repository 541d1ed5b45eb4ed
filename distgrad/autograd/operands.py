"""What primitives are applied to: arrays and numbers, their namespaces, and what stands for those not kept."""

from __future__ import annotations

from typing import Any

import numpy as np

from distgrad.errors import GradientError

from .tensor import Tensor

# Array types met so far and their namespaces. Python scalars are weak in promotion and go with any of them.
# None stands for an operand that is left out.
SCALARS = (bool, int, float, complex, type(None))
_NAMESPACES: dict[type, Any] = dict.fromkeys((np.ndarray, *SCALARS, *np.sctypeDict.values()), np)
# What NumPy's own functions take.
NUMPY_TYPES = frozenset(_NAMESPACES)
FLOAT32, FLOAT64 = (np.dtype(np.float32), np.dtype(np.float64))


class Spec:
    """Stands for an operand whose values were not kept: the shape and dtype that rules may still ask for."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape = shape
        self.dtype = dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))


_ops: Any = None


def ops() -> Any:
    """The namespace `dg.ops`; its module is made of primitives, so it can only be imported after them."""
    # An import statement for each operation would cost as much as the operation.
    global _ops
    if _ops is None:
        from . import ops as module

        _ops = module
    return _ops


def namespace(*values: Any) -> Any:
    """The array namespace of `values`: `dg.ops` for tensors, NumPy for NumPy, else theirs under NumPy's names."""
    xp = np
    for v in values:
        found = _NAMESPACES.get(type(v))
        if found is None:
            if isinstance(v, Tensor):
                return ops()
            found = _foreign_namespace(v)
        if found is not np:
            xp = found
    return xp


def _foreign_namespace(value: Any) -> Any:
    """The namespace of an array type met for the first time, remembered from then on."""
    if isinstance(value, np.ndarray):
        return np
    # Imported here because only users of other array packages pay for it.
    from .namespaces import namespace_of

    xp = _NAMESPACES[type(value)] = namespace_of(value)
    return xp


def as_operand(value: Any, name: str) -> Any:
    """An operand of the primitive of that name that is no tensor: arrays and numbers as they are, a sequence as a NumPy
    array. Raises GradientError when it is none of these."""
    if type(value) in _NAMESPACES:
        return value
    if hasattr(value, "__array_namespace__"):
        _foreign_namespace(value)
        return value
    array = np.asarray(value)
    if array.dtype == object:
        raise GradientError(
            f"{name}() got an operand of type {type(value).__name__}, which is not an array, a tensor or a number; "
            "stack a list of tensors with dg.ops.stack"
        )
    return array


def spec(value: Any) -> Any:
    """What remains of an operand that is not kept: its shape and dtype; Python scalars stay."""
    if type(value) in SCALARS:
        return value
    if type(value) is tuple:
        return tuple(map(spec, value))
    return Spec(value.shape, value.dtype)


def differentiable(dtype: Any) -> bool:
    """Whether values of this dtype have gradients: real and complex floating point."""
    kind = getattr(dtype, "kind", None)
    if kind is None:
        return "float" in str(dtype) or "complex" in str(dtype)
    return kind in "fcV" and (kind != "V" or "float" in str(dtype))


def check_direction(direction: Any, dtype: Any, what: str) -> None:
    """Raises GradientError when a tangent or cotangent cannot be one of a value of this dtype: a complex one of a real
    value, which would lose its imaginary part, or no number at all.
    """
    kind = "c" if isinstance(direction, complex) else getattr(getattr(direction, "dtype", None), "kind", "f")
    if kind == "c" and "complex" not in str(dtype):
        raise GradientError(f"{what} is complex, but the value it belongs to is {dtype}")
    if kind in "USO" or isinstance(direction, str):
        raise GradientError(f"{what} holds no numbers: {direction!r}")
