"""Python's operators and NumPy's methods on tensors, attached from tables. Importing this file attaches them.

In-place operators are not defined, so Python computes `x = x + y` for `x += y`: the name is bound anew and nothing is
overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from . import numpy_protocols, ops  # noqa: F401  (tensors learn NumPy's protocols too)
from .tensor import Tensor

# Python's name of an operator -> operation. Each also gets its reflected form: 2 - x calls x.__rsub__(2).
BINARY = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "power",
    "matmul": "matmul",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
}
COMPARISONS = {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}
UNARY = {"neg": "negative", "pos": "positive", "abs": "abs", "invert": "invert"}

# Methods under the names of their operations.
METHODS = """
    all any argmax argmin argsort astype clip compress conj copy count_nonzero cumprod cumsum diagonal dot max mean min
    nonzero prod ptp ravel repeat round searchsorted squeeze std sum swapaxes take trace var
""".split()  # noqa: SIM905


def _attach(name: str, method: Callable[..., Any], doc: str | None) -> None:
    method.__name__ = name
    method.__qualname__ = f"Tensor.{name}"
    method.__doc__ = doc
    setattr(Tensor, name, method)


def _operation(name: str) -> Any:
    return vars(ops)[name]


def _doc(operation: Any) -> str | None:
    doc: str | None = getattr(operation, "doc", None) or operation.__doc__
    return doc


# One closure an operator, which knows that it has operands alone: `x + y` costs less than `dg.ops.add(x, y)`.


def _binary(operation: Any) -> Callable[[Any, Any], Any]:
    apply = operation.apply
    return lambda self, other: apply((self, other), {})


def _reflected(operation: Any) -> Callable[[Any, Any], Any]:
    apply = operation.apply
    return lambda self, other: apply((other, self), {})


def _unary(operation: Any) -> Callable[[Any], Any]:
    apply = operation.apply
    return lambda self: apply((self,), {})


def _method(operation: Any) -> Callable[..., Any]:
    return lambda self, *args, **params: operation(self, *args, **params)


for _name, _op in (BINARY | COMPARISONS).items():
    _attach(f"__{_name}__", _binary(_operation(_op)), _doc(_operation(_op)))
for _name, _op in BINARY.items():
    _attach(f"__r{_name}__", _reflected(_operation(_op)), _doc(_operation(_op)))
for _name, _op in UNARY.items():
    _attach(f"__{_name}__", _unary(_operation(_op)), _doc(_operation(_op)))
for _name in METHODS:
    _attach(_name, _method(_operation(_name)), _doc(_operation(_name)))


# ---- what is no entry of a table -------------------------------------------------------------------------------------


def _divmod(self: Tensor, other: Any) -> tuple[Tensor, Tensor]:
    """divmod(x, y): (x // y, x % y)."""
    return ops.floor_divide(self, other), ops.remainder(self, other)


def _rdivmod(self: Tensor, other: Any) -> tuple[Tensor, Tensor]:
    """divmod(y, x): (y // x, y % x)."""
    return ops.floor_divide(other, self), ops.remainder(other, self)


def _round(self: Tensor, digits: int | None = None) -> Any:
    """round(x, digits)."""
    return ops.round(self, decimals=digits or 0)


def _getitem(self: Tensor, index: Any) -> Tensor:
    """x[index], with NumPy's basic and advanced indices."""
    return ops.getitem(self, index)  # type: ignore[no-any-return]


def _iter(self: Tensor) -> Iterator[Tensor]:
    """The slices of x along its first axis."""
    if not self.shape:
        raise TypeError("iteration over a zero-dimensional tensor")
    return (ops.getitem(self, k) for k in range(self.shape[0]))


def _contains(self: Tensor, value: Any) -> bool:
    """Whether an element equals `value`."""
    return bool(ops.any(ops.equal(self, value)))


def _reshape(self: Tensor, *shape: Any) -> Tensor:
    """x.reshape(2, 3) or x.reshape((2, 3)): the same elements in another shape; one length may be -1."""
    return ops.reshape(self, shape=_unpacked(shape))  # type: ignore[no-any-return]


def _transpose(self: Tensor, *axes: Any) -> Tensor:
    """x.transpose(1, 0) or x.transpose((1, 0)): x with its axes in that order; reversed without arguments."""
    return ops.transpose(self, axes=_unpacked(axes) or None)  # type: ignore[no-any-return]


def _flatten(self: Tensor) -> Tensor:
    """The elements of x in one axis."""
    return ops.reshape(self, shape=(-1,))  # type: ignore[no-any-return]


def _unpacked(arguments: tuple[Any, ...]) -> Any:
    """(2, 3) for the arguments 2, 3 and for the one argument (2, 3) alike."""
    alone = len(arguments) == 1 and (arguments[0] is None or isinstance(arguments[0], tuple | list))
    return arguments[0] if alone else arguments


_OTHERS: dict[str, Callable[..., Any]] = {
    "__divmod__": _divmod,
    "__rdivmod__": _rdivmod,
    "__round__": _round,
    "__getitem__": _getitem,
    "__iter__": _iter,
    "__contains__": _contains,
    "reshape": _reshape,
    "transpose": _transpose,
    "flatten": _flatten,
}
for _name, _function in _OTHERS.items():
    _attach(_name, _function, _function.__doc__)

_PROPERTIES: dict[str, Callable[[Tensor], Any]] = {
    "T": lambda self: ops.transpose(self),
    "mT": lambda self: ops.swapaxes(self, axis1=-1, axis2=-2),
    "real": lambda self: ops.real(self),
    "imag": lambda self: ops.imag(self),
}
for _name, _get in _PROPERTIES.items():
    setattr(Tensor, _name, property(_get))
