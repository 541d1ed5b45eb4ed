"""What a function returns, held against what its author has declared that it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distgrad.autograd.reverse import arrived
from distgrad.wire import pb
from distgrad.wire.dtypes import dtype_named

from .failures import Code, Refused
from .functions import Description
from .specs import Anything, ArraySpec, Violation, check, converted, outline_of


def held_to(description: Description, call: Callable[..., Any], arguments: Mapping[str, Any]) -> Callable[..., Any]:
    """The function, for arguments of these shapes: what it returns is refused unless it is what was declared, and has
    the declared dtypes where it converts to them without loss."""
    gives = description.gives
    if isinstance(gives, Anything):
        return call
    symbols: dict[str, int] = {}
    for name, value in arguments.items():
        check(description.takes[name], outline_of(value), symbols, name)
    usual = isinstance(gives, ArraySpec) and gives.dtype and gives.shape is not None
    dtype = dtype_named(gives.dtype) if usual else None
    shape = tuple([symbols.get(axis) if type(axis) is str else axis for axis in gives.shape]) if usual else None

    def held(**given: Any) -> Any:
        value = arrived(call(**given))
        # To NumPy, None is another word for float64.
        if usual and hasattr(value, "dtype") and value.dtype == dtype and value.shape == shape:
            return value  # told quickly
        violations = check(gives, outline_of(value), dict(symbols), "value")
        if violations:
            raise _wrong(description.name, violations)
        return converted(gives, value)

    return held


def _wrong(function: str, violations: Sequence[Violation]) -> Refused:
    said = "; ".join(f"{v.field}: declared {v.expected}, returned {v.got}" for v in violations)
    told = pb.UserException(type="WrongResult", message=said)
    return Refused(Code.INTERNAL, f"{function} did not return what it is declared to give: {said}", violations, told)
