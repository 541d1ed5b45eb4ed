"""Values that are computed when somebody looks at them.

A pullback needs what the vjps of its operations need, which is often not the value: that of sin is cos of the operand.
Where nobody wants the value (`reverse.pullback_of`), operations on each element whose vjps do without it defer it. Its
shape and dtype are those of the operand, so nothing but the data has to wait.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .tape import clock
from .tensor import Tensor

if TYPE_CHECKING:
    from .opnode import OpNode


class Deferred(Tensor):
    """A recorded tensor whose data is computed when it is first asked for."""

    __slots__ = ("_forward", "_operand", "_value")

    node: OpNode

    def __init__(self, forward: Callable[..., Any], operand: Any, node: OpNode) -> None:
        """
        Arguments:
            forward: the rule, of the namespace and the operand.
            operand: an array of floating-point numbers; the value has its shape and dtype.
        """
        self.node = node
        self._forward = forward
        self._operand = operand
        self._value: Any = None

    @property
    def data(self) -> Any:
        if self._value is None:
            node = self.node
            if node.clock != clock.now:
                clock.check(node.clock, (self._operand,), node)
            self._value = self._forward(np, self._operand)
            self._operand = None
        return self._value

    @property
    def shape(self) -> tuple[int, ...]:
        return self.node.shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> Any:
        return self.node.dtype
