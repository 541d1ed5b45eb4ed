"""The tape's node of a primitive that was applied to something that depends on a variable."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from distgrad.errors import FreedGraphError

from . import tape
from .operands import SCALARS, Spec, differentiable, ops, spec
from .tape import Frame, Node, Output, Places
from .tape import clock as _clock
from .tensor import Tensor

if TYPE_CHECKING:
    from .primitive import Primitive

_NO_PARAMS: dict[str, Any] = {}


class OpNode(Node):
    """A recorded application of a primitive, with what its vjps need."""

    # `args` and `out` stand in for what is not kept by something that has its shape and dtype, often a node.
    __slots__ = ("args", "clock", "op", "out", "params", "residual", "xp")

    def __init__(
        self,
        op: Primitive,
        nodes: list[Node | None],
        raw: list[Any],
        params: dict[str, Any],
        value: Any,
        residual: Any,
        xp: Any,
        mode: tape.Mode,
    ) -> None:
        # Written out instead of calling Node.__init__: this runs once per operation of the user's program.
        frame: Frame = mode.frame
        inputs = tuple(nodes)
        self.inputs = inputs
        self.frame = frame
        self.index = frame.next_op()
        self.hooks = None
        self.trace = _user_line() if mode.anomaly else None
        self.op = op
        self.params = params
        self.residual = residual
        self.xp = xp
        self.clock = _clock.now
        self.args: tuple[Any, ...] | None
        if op.saves_inputs:
            self.args = tuple(raw)
        elif None not in inputs:
            self.args = inputs
        elif op.save == "constants":
            self.args = tuple([a if n is None else n for a, n in zip(raw, inputs, strict=True)])
        else:
            self.args = tuple([spec(a) if n is None else n for a, n in zip(raw, inputs, strict=True)])
        if op.outputs == 1:
            self.shape = value.shape
            self.dtype = value.dtype
            self.out: Any = value if op.saves_output else None
        else:
            self.shape = ()
            self.dtype = None
            self.out = value if op.saves_output else spec(value)

    @property
    def name(self) -> str:
        return self.op.name

    def shared(self, gradient: Any, record: bool) -> Any:
        """Namespace, answer (or what the vjps share), operands and parameters for the rules: raw, or as tensors
        linked to the tape under `record`.
        """
        op, args, out, params, xp = self.op, self.args, self.out, self.params, self.xp
        if args is None:
            raise self._freed()
        if self.clock != _clock.now:
            _clock.check(self.clock, (*args, *(out if type(out) is tuple else (out,))), self)
        if record:
            xp = ops()
            args = tuple(map(_linked, args, self.inputs))
            if op.outputs != 1:
                out = tuple(_linked(o, self._output(k, o)) for k, o in enumerate(out))
            elif out is not None:
                out = Tensor(out, self)
        if out is None:
            out = self
        if op.residual:
            params = {**params, "residual": None if record else self.residual}
        if op.shared is not None:
            out = op.shared(xp, gradient, out, *args, **params)
        return xp, out, args, params

    def _output(self, position: int, value: Any) -> Output | None:
        return Output(self, position, value.shape, value.dtype) if differentiable(value.dtype) else None

    def complete(self, gradient: Places, record: bool) -> tuple[Any, ...]:
        """The gradients of all results: zeros for those that received none."""
        if self.out is None:
            raise self._freed()
        given = gradient.by_position
        return tuple(given[k] if k in given else self._zeros(o, record) for k, o in enumerate(self.out))

    def _zeros(self, value: Any, record: bool) -> Any:
        return (ops() if record else self.xp).zeros(value.shape, dtype=value.dtype)

    def _freed(self) -> FreedGraphError:
        return FreedGraphError(
            f"the saved values of {self} were freed by an earlier backward pass over it; "
            "pass retain_graph=True to that pass to keep them"
        )

    def vjp(self, i: int, gradient: Any, shared: Any, record: bool) -> Any:
        xp, out, args, params = shared
        vjps = self.op.vjps
        if type(vjps) is tuple:
            rule = vjps[i]
            return None if rule is None else rule(xp, gradient, out, *args, **params)
        return vjps(i, xp, gradient, out, *args, **params)  # type: ignore[operator, misc]

    def free(self) -> None:
        self.args = self.out = self.residual = None
        self.params = _NO_PARAMS


def _linked(value: Any, node: Node | None) -> Any:
    """A saved operand as a tensor on the tape; scalars and what stands for values that were not kept as they are."""
    return value if type(value) in SCALARS or isinstance(value, Spec | Node) else Tensor(value, node)


def _user_line() -> str:
    """The innermost line of the running program that is not ours."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("distgrad."):
        frame = frame.f_back
    return f'File "{frame.f_code.co_filename}", line {frame.f_lineno}, in {frame.f_code.co_name}'
