"""What is differentiable: primitives, each declared once, and the one place where they are applied.

    sin = primitive("sin", lambda xp, x: xp.sin(x), vjps=[lambda xp, g, ans, x: g * xp.cos(x)], jvp="same")

A rule receives the array namespace as `xp`: NumPy (or CuPy, ...) when it runs on raw arrays, `dg.ops` when it runs on
tensors, so the same text yields first derivatives at full speed and, recorded, derivatives of any order. Rules need
not unbroadcast, cast or accumulate: the engine does so once for all. Operands are positional, parameters keyword-only;
the forward rule's signature tells them apart.

    forward(xp, *args, *, **params)          the value; a tuple of them with `outputs` other than 1; with
                                             `residual=True` a pair (value, residual)
    vjps[i](xp, g, ans, *args, **params)     gradient of args[i]; with several outputs g is a tuple, zeros where a
                                             result has none; with `shared=`, `ans` is what shared(xp, g, ans, ...)
                                             returned
    jvp(xp, tangents, ans, *args, **params)  tangent of the value; tangents[i] is None where args[i] has none

`vjps` may be one function that takes the position first (operations on any number of arrays). A residual, whatever
the forward rule wants to keep for its vjps, arrives as `residual=`; it is None when the rule runs on tensors and must
be computed again there, since a derivative of the derivative has to see how it came about.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from . import tape
from .deferred import Deferred
from .operands import FLOAT32, FLOAT64, NUMPY_TYPES, SCALARS, as_operand, differentiable, namespace, ops
from .opnode import OpNode
from .tape import Node, Output
from .tape import mode as _mode
from .tensor import TENSOR_TYPES, Boxed, Tensor, apply_boxed

Rule = Callable[..., Any]
# "constants" are the operands without a node, such as index arrays.
Save = Literal["all", "inputs", "constants", "output", "nothing"]
Jvp = Rule | Literal["same", "linear", "derived"]
# Makes a tensor of some tape from a value and its node.
Wrap = Callable[[Any, Node | None], Any]

# Every primitive by name: what `dg.ops` offers, what the tests walk.
PRIMITIVES: dict[str, Primitive] = {}
# Functions made of primitives, by name; the rest of `dg.ops`.
COMPOSITES: dict[str, Rule] = {}


class Primitive:
    """A differentiable operation, or one registered as having no gradient (`vjps=None`)."""

    __slots__ = (
        "accepts",
        "defers",
        "doc",
        "forward",
        "jvp",
        "name",
        "operand_names",
        "operands",
        "outputs",
        "parameters",
        "residual",
        "save",
        "saves_inputs",
        "saves_output",
        "shared",
        "vjps",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        forward: Rule,
        *,
        vjps: Sequence[Rule | None] | Rule | None,
        jvp: Jvp = "derived",
        shared: Rule | None = None,
        save: Save = "all",
        outputs: int | Literal["many"] = 1,
        residual: bool = False,
        doc: str | None = None,
    ) -> None:
        self.name = name
        self.forward = forward
        self.vjps = tuple(vjps) if isinstance(vjps, Sequence) else vjps
        self.jvp = jvp
        self.shared = shared
        self.save = save
        self.saves_inputs = save in ("all", "inputs")
        self.saves_output = save in ("all", "output")
        self.outputs = outputs
        # Whether its value has the shape of its one operand, and is not needed by its own vjp: it may be deferred.
        self.defers = False
        self.residual = residual
        self.doc = doc
        # The forward rule's signature says what is an operand and what a parameter: (xp, *operands, *, **parameters).
        code = forward.__code__
        takes_any_number = bool(code.co_flags & inspect.CO_VARARGS)
        self.operands = sys.maxsize if takes_any_number else code.co_argcount - 1
        self.parameters = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
        self.accepts = frozenset(self.parameters)
        self.operand_names = code.co_varnames[1 : code.co_argcount]

    def vjp_of(self, i: int) -> Rule | None:
        """The rule for input `i`; None when that input has no gradient."""
        if self.vjps is None or callable(self.vjps):
            return self.vjps
        return self.vjps[i] if i < len(self.vjps) else None

    def __call__(self, *args: Any, **params: Any) -> Any:
        """Applies the primitive to tensors, arrays and scalars. Returns a Tensor, or a tuple of them.

        Parameters may be given by position after the operands, as NumPy allows.
        """
        if len(args) > self.operands or (params and not self.accepts.issuperset(params)):
            args, params = self._bind(args, params)
        return self.apply(args, params)

    def apply(self, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """The same, operands and parameters told apart. The way of every operation of the user's program: mind its
        cost.
        """
        raw: list[Any] = []
        nodes: list[Node | None] = []
        live = False
        for a in args:
            node = None
            kind = type(a)
            if kind in TENSOR_TYPES:
                node = a.node
                a = a.data
                kind = type(a)
                if node is not None:
                    live = True
            if kind not in NUMPY_TYPES:
                return self._on_others(args, params)
            raw.append(a)
            nodes.append(node)
        if live and self.defers and not params and (mode := _mode.get()).deferring and mode.record:
            dtype = raw[0].dtype
            if dtype is FLOAT64 or dtype is FLOAT32:
                node = OpNode(self, nodes, raw, params, raw[0], None, np, mode)
                return Deferred(self.forward, raw[0], node)
        value = self.forward(np, *raw, **params)
        residual = None
        if self.residual:
            value, residual = value
        mode = _mode.get()
        if live and mode.record and self.vjps is not None:
            return self._recorded(np, raw, nodes, params, mode, Tensor, value, residual)
        if type(value) in SCALARS:  # a rule that uses Python's operators, on numbers alone
            value = np.asarray(value)
        return Tensor(value) if type(value) is not tuple else tuple(map(Tensor, value))

    def _on_others(self, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """The same for operands among which are other things than NumPy arrays: boxes, foreign arrays, sequences."""
        if any(isinstance(a, Boxed) for a in args):
            # Rules see arrays and numbers, never sequences.
            args = tuple(a if isinstance(a, Tensor) else as_operand(a, self.name) for a in args)
            return apply_boxed(self, args, params)
        raw = [a.data if isinstance(a, Tensor) else as_operand(a, self.name) for a in args]
        nodes = [a.node if isinstance(a, Tensor) else None for a in args]
        mode = tape.mode.get()
        if mode.record and self.vjps is not None and any(nodes):
            return self.record(raw, nodes, params, mode, Tensor)
        value = self.evaluate(raw, params)
        return Tensor(value) if type(value) is not tuple else tuple(map(Tensor, value))

    def _bind(self, args: tuple[Any, ...], params: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Parameters given by position and operands given by name, put where they belong."""
        by_position = args[self.operands :]
        if len(by_position) > len(self.parameters):
            raise TypeError(
                f"{self.name}() takes {self.operands} operands and the parameters ({', '.join(self.parameters)}), "
                f"but {len(args)} were given by position"
            )
        twice = set(self.parameters[: len(by_position)]) & params.keys()
        unknown = params.keys() - self.accepts - set(self.operand_names[len(args) :])
        if twice or unknown:
            what = f"got {min(twice)!r} twice" if twice else f"has no parameter {min(unknown)!r}"
            raise TypeError(f"{self.name}() {what}; it takes ({', '.join((*self.operand_names, *self.parameters))})")
        params = {**dict(zip(self.parameters, by_position, strict=False)), **params}
        operands = list(args[: self.operands])
        for name in self.operand_names[len(args) :]:
            if params.keys().isdisjoint(self.operand_names):
                break
            # Operands that are left out before the last one named are None.
            operands.append(params.pop(name, None))
        return tuple(operands), params

    def evaluate(self, raw: Sequence[Any], params: dict[str, Any]) -> Any:
        """The value on raw arrays."""
        return self._forward(namespace(*raw), raw, params)[0]

    def _forward(self, xp: Any, raw: Sequence[Any], params: dict[str, Any]) -> tuple[Any, Any]:
        """Value and residual. Operands that are tensors themselves (one transform below) are a matter for their own
        level.
        """
        if xp is ops():
            return self(*raw, **params), None
        value = self.forward(xp, *raw, **params)
        return value if self.residual else (value, None)

    def record(
        self, raw: list[Any], nodes: list[Node | None], params: dict[str, Any], mode: tape.Mode, wrap: Wrap
    ) -> Any:
        """The value on raw arrays, or on tensors of the transforms around, with a node for it on the tape."""
        xp = namespace(*raw)
        value, residual = self._forward(xp, raw, params)
        return self._recorded(xp, raw, nodes, params, mode, wrap, value, residual)

    def _recorded(
        self,
        xp: Any,
        raw: list[Any],
        nodes: list[Node | None],
        params: dict[str, Any],
        mode: tape.Mode,
        wrap: Wrap,
        value: Any,
        residual: Any,
    ) -> Any:
        """A value, or a tuple of values, with a node."""
        if self.outputs == 1:
            try:
                dtype = value.dtype
            except AttributeError:  # Python computes 1j * numpy.float64(2) itself, to a complex of its own
                value = np.asarray(value)
                dtype = value.dtype
            if dtype is not FLOAT64 and dtype is not FLOAT32 and not differentiable(dtype):
                return wrap(value, None)
            return wrap(value, OpNode(self, nodes, raw, params, value, residual, xp, mode))
        node = OpNode(self, nodes, raw, params, value, residual, xp, mode)
        return tuple(
            wrap(v, Output(node, k, v.shape, v.dtype) if differentiable(v.dtype) else None) for k, v in enumerate(value)
        )

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"


def primitive(name: str, forward: Rule, **declaration: Any) -> Primitive:
    """Declares a primitive and enters it in the table; see the module's documentation and `Primitive`."""
    if name in PRIMITIVES:
        raise ValueError(f"primitive {name!r} is declared twice")
    PRIMITIVES[name] = Primitive(name, forward, **declaration)
    return PRIMITIVES[name]


def composite(function: Rule) -> Rule:
    """Enters a function made of primitives in `dg.ops` under its own name."""
    if function.__name__ in PRIMITIVES or function.__name__ in COMPOSITES:
        raise ValueError(f"operation {function.__name__!r} is declared twice")
    COMPOSITES[function.__name__] = function
    return function


def elementwise(
    name: str, forward: Rule, derivatives: Sequence[Rule | None], *, save: Save = "inputs", doc: str | None = None
) -> Primitive:
    """Declares a primitive that acts on each element alone, by its partial derivatives.

    derivatives[i](xp, ans, *args, **params)   the derivative of the value by args[i]; None where it has none

    Complex gradients follow the conjugate convention (that of steepest ascent): the vjp multiplies by the conjugate
    of a holomorphic function's derivative, the jvp by the derivative itself.
    """
    made = primitive(
        name, forward, vjps=[d and _vjp_from(d) for d in derivatives], jvp=_jvp_from(derivatives), save=save, doc=doc
    )
    made.defers = save == "inputs" and len(derivatives) == 1 and derivatives[0] is not None
    return made


def _vjp_from(derivative: Rule) -> Rule:
    def vjp(xp: Any, g: Any, ans: Any, *args: Any, **params: Any) -> Any:
        factor = derivative(xp, ans, *args, **params)
        dtype = getattr(factor, "dtype", None)
        if dtype is FLOAT64 or dtype is FLOAT32:  # the usual case, without the call
            return g * factor
        return g * conjugate(xp, factor)

    return vjp


def _jvp_from(derivatives: Sequence[Rule | None]) -> Rule:
    def jvp(xp: Any, tangents: Sequence[Any], ans: Any, *args: Any, **params: Any) -> Any:
        terms = [
            t * d(xp, ans, *args, **params)
            for t, d in zip(tangents, derivatives, strict=False)
            if t is not None and d is not None
        ]
        return sum(terms[1:], terms[0]) if terms else None

    return jvp


def conjugate(xp: Any, factor: Any) -> Any:
    """The conjugate of a complex array, tensor or number; a real one as it is."""
    dtype = getattr(factor, "dtype", None)
    if dtype is None:
        return factor.conjugate() if type(factor) is complex else factor
    kind = getattr(dtype, "kind", None)
    if kind is None:  # a foreign namespace's dtype
        kind = "c" if "complex" in str(dtype) else "f"
    return xp.conj(factor) if kind == "c" else factor
