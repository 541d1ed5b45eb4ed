"""Reverse mode inside another transform: a tape whose arrays are that transform's boxes.

`jvp(grad(f))` and `vmap(grad(f))` run the backward pass on values that are boxes themselves. A `Lifted` tensor is a
tensor whose data is whatever the enclosing transforms see; its nodes save those values, and the rules run on them
with `dg.ops` as namespace, so the enclosing transform follows every step of the backward pass. Nothing else changes:
same primitives, same engine.
"""

from __future__ import annotations

from typing import Any

from . import tape
from .primitive import Primitive
from .tape import Leaf, Node
from .tensor import Boxed, Tensor


class Lifted(Boxed, boxed=True):
    """A tensor on the tape of one `grad` that runs inside another transform."""

    __slots__ = ()

    def __init__(self, data: Any, node: Node | None, level: int) -> None:
        super().__init__(data, node)
        self.level = level

    @classmethod
    def variable(cls, data: Any, level: int) -> Lifted:
        """A variable at `level` over a value of the transforms around it.

        An array that none of them has boxed becomes a tensor all the same: its gradients may well be boxes, so the
        rules of what is computed from it must run on `dg.ops`.
        """
        data = data if isinstance(data, Tensor) else Tensor(data)
        return cls(data, Leaf(tape.mode.get().frame, data.shape, data.dtype), level)

    @classmethod
    def apply(cls, op: Primitive, level: int, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        mine = [type(a) is cls and a.level == level for a in args]
        raw = [a.data if own else a for a, own in zip(args, mine, strict=True)]
        nodes = [a.node if own else None for a, own in zip(args, mine, strict=True)]
        mode = tape.mode.get()
        if op.vjps is None or not mode.record or not any(nodes):
            return op(*raw, **params)
        return op.record(raw, nodes, params, mode, lambda value, node: cls(value, node, level))
