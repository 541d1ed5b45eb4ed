"""Forward mode: values that carry a tangent.

Reference: Griewank & Walther, "Evaluating Derivatives", chapter 3.1. A `Dual` pairs a value with the directional
derivative along the direction that `dg.jvp` was asked for. The rule of each primitive comes from the table of
primitives:

    "same"      elementwise: the vjp's formula, with the tangent in the cotangent's place
    "linear"    the operation is linear in each input: apply it with the tangent in that input's place
    "derived"   no rule of its own: two vjps make a jvp (`by_vjps`)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import tape
from .operands import differentiable, ops
from .primitive import Primitive
from .tensor import Boxed, Tensor


class Dual(Boxed, boxed=True):
    """A value (`data`) with its tangent, of the same shape and dtype, at one level of `jvp`."""

    __slots__ = ("tangent",)

    def __init__(self, primal: Any, tangent: Any, level: int) -> None:
        super().__init__(primal)
        self.tangent = tangent
        self.level = level

    @property
    def requires_grad(self) -> bool:
        return isinstance(self.data, Tensor) and self.data.requires_grad

    def __repr__(self) -> str:
        return f"Dual({self.data!r}, tangent={self.tangent!r})"

    @classmethod
    def apply(cls, op: Primitive, level: int, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        mine = [type(a) is cls and a.level == level for a in args]
        primals = [a.data if own else a for a, own in zip(args, mine, strict=True)]
        value = op(*primals, **params)
        if op.vjps is None or not tape.mode.get().record:
            return value
        tangents = [a.tangent if own else None for a, own in zip(args, mine, strict=True)]
        tangent = tangent_of(op, primals, tangents, value, params)
        if op.outputs == 1:
            return cls._paired(value, tangent, level)
        return tuple(cls._paired(v, t, level) for v, t in zip(value, tangent, strict=True))

    @classmethod
    def _paired(cls, value: Any, tangent: Any, level: int) -> Any:
        return cls(value, _like(tangent, value), level) if differentiable(value.dtype) else value


def tangent_of(
    op: Primitive, primals: Sequence[Any], tangents: Sequence[Any], value: Any, params: dict[str, Any]
) -> Any:
    """The tangent of `op(*primals)` along `tangents` (None where an operand has none): a tensor, or a tuple for
    several outputs.
    """
    xp = ops()
    if op.residual and op.jvp == "same":
        params = {**params, "residual": None}
    if callable(op.jvp):
        return op.jvp(xp, tangents, value, *primals, **params)
    if op.jvp == "derived":
        return by_vjps(op, primals, tangents, value, params)
    total: Any = None
    for i, tangent in enumerate(tangents):
        if tangent is None:
            continue
        if op.jvp == "linear":
            term = op(*(tangent if k == i else p for k, p in enumerate(primals)), **params)
        else:
            rule = op.vjp_of(i)
            term = None if rule is None else rule(xp, tangent, value, *primals, **params)
        if term is not None:
            total = term if total is None else total + term
    return total


def by_vjps(op: Primitive, primals: Sequence[Any], tangents: Sequence[Any], value: Any, params: dict[str, Any]) -> Any:
    """The jvp as the vjp of the vjp, which is linear in its cotangent (J. Townsend, "A new trick for calculating
    Jacobian vector products", 2017).
    """
    from .transforms import linear_transpose_jvp

    found = iter(linear_transpose_jvp(lambda *xs: op(*xs, **params), primals, tangents))
    if op.outputs == 1:
        return next(found)
    return tuple(next(found) if differentiable(v.dtype) else None for v in value)


def _like(tangent: Any, value: Any) -> Any:
    """A tangent in the shape and dtype of its value; zeros when there is none."""
    xp = ops()
    if tangent is None:
        return xp.zeros_like(value)
    if tangent.shape != value.shape:
        tangent = xp.broadcast_to(tangent, value.shape)
    return tangent if tangent.dtype == value.dtype else xp.astype(tangent, value.dtype)
