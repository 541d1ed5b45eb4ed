"""Functions with derivatives of the user's own: `custom_vjp` by a pullback, `custom_jvp` by a pushforward.

Each call becomes one primitive whose operands are the arrays among the arguments, so that everything that is true of
primitives (any order, any nesting) is true of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import update_wrapper
from typing import Any

import numpy as np

from distgrad.errors import GradientError

from . import tape, tree
from .operands import differentiable, ops
from .primitive import Primitive
from .reverse import name_of, vjp
from .tensor import TENSOR_TYPES, Boxed, Tensor

Function = Callable[..., Any]


# The custom functions whose value is being computed, here and now.
_plainly: ContextVar[frozenset[_Custom]] = ContextVar("distgrad_custom_plainly", default=frozenset())


class _Custom(ABC):
    """A function that is taken as a whole by every derivative."""

    def __init__(self, f: Function) -> None:
        if not callable(f):
            raise GradientError(f"dg.{type(self).__name__} decorates a function, not {type(f).__name__}")
        self._f = f
        update_wrapper(self, f)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {name_of(self._f)}>"

    def __call__(self, *args: Any) -> Any:
        if self in _plainly.get() or not tape.mode.get().record:
            return self._f(*args)
        leaves, structure = tree.flatten(args)
        places = [k for k, x in enumerate(leaves) if _is_operand(x)]
        shapes: list[tree.Structure] = []

        rest = [None if k in places else x for k, x in enumerate(leaves)]

        def on_tree(f: Function, operands: Sequence[Any]) -> Any:
            full = list(rest)
            for k, x in zip(places, operands, strict=True):
                full[k] = x
            return f(*tree.unflatten(structure, full))

        op = self._primitive(on_tree, shapes, structure, places)
        results = op(*(leaves[k] for k in places))
        return tree.unflatten(shapes[0], results)

    @contextmanager
    def _called_plainly(self) -> Iterator[None]:
        """Lets a rule that computes the value call the function it belongs to."""
        token = _plainly.set(_plainly.get() | {self})
        try:
            yield
        finally:
            _plainly.reset(token)

    @abstractmethod
    def _primitive(
        self, on_tree: Function, shapes: list[tree.Structure], structure: tree.Structure, places: list[int]
    ) -> Primitive:
        """This call as a primitive. `on_tree(f, operands)` calls a function of the arguments; the structure of the
        results is left in `shapes`.
        """

    def _undefined(self, method: str) -> GradientError:
        return GradientError(f"{self} has no derivative yet; give it one with {name_of(self._f)}.{method}(...)")


def _is_operand(x: Any) -> bool:
    return isinstance(x, Tensor | np.ndarray | np.generic | float | complex) or hasattr(x, "__array_namespace__")


def _dtype(x: Any) -> Any:
    return x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype


def _outputs(result: Any, shapes: list[tree.Structure], f: Function) -> tuple[Any, ...]:
    """The results as bare arrays; their structure is noted in `shapes`."""
    leaves, structure = tree.flatten(result)
    shapes[:] = [structure]
    return tuple(_bare(y, f) for y in leaves)


def _bare(y: Any, f: Function) -> Any:
    if isinstance(y, Boxed) or (isinstance(y, Tensor) and y.node is not None):
        raise GradientError(
            f"{name_of(f)} uses a value that is being differentiated without taking it as an argument; "
            "pass it in, so that the derivative can account for it"
        )
    return y.data if isinstance(y, Tensor) else np.asarray(y) if not hasattr(y, "dtype") else y


class custom_vjp(_Custom):  # noqa: N801  (a decorator)
    """A function with a pullback of its own, for derivatives that are unstable, wasteful or unknown to the rules.

        @dg.custom_vjp
        def f(x, y): ...

        f.defvjp(forward, backward)

    `forward(x, y)` returns (value, residual), `backward(residual, cotangent)` a tuple with the gradient of each
    argument (a tree like it, None for none). Both are written with `dg.ops` or NumPy's functions; second derivatives
    differentiate through them.

    >>> import distgrad as dg
    >>> @dg.custom_vjp
    ... def log1pexp(x):
    ...     return dg.ops.log1p(dg.ops.exp(x))
    >>> log1pexp.defvjp(lambda x: (log1pexp(x), x), lambda x, g: (g * (1 - 1 / (1 + dg.ops.exp(x))),))
    >>> float(dg.grad(log1pexp)(100.0))
    1.0
    """

    def __init__(self, f: Function) -> None:
        super().__init__(f)
        self._forward: Function | None = None
        self._backward: Function | None = None

    def defvjp(self, forward: Function, backward: Function) -> None:
        """Gives the function its forward rule and its pullback."""
        self._forward, self._backward = forward, backward

    def _primitive(
        self, on_tree: Function, shapes: list[tree.Structure], structure: tree.Structure, places: list[int]
    ) -> Primitive:
        forward, backward = self._forward, self._backward
        if forward is None or backward is None:
            raise self._undefined("defvjp")

        def evaluate(xp: Any, *operands: Any) -> Any:
            with self._called_plainly():
                value, residual = _pair(on_tree(forward, operands), forward)
            return _outputs(value, shapes, self._f), tree.map(
                lambda x: x.data if type(x) in TENSOR_TYPES else x, residual
            )

        def pulled(xp: Any, g: Any, ans: Any, *operands: Any, residual: Any) -> list[Any]:
            if residual is None:
                _, residual = _pair(on_tree(forward, operands), forward)
            gradients = backward(residual, tree.unflatten(shapes[0], g))
            return _operand_gradients(gradients, structure, places, backward)

        return Primitive(
            name_of(self._f),
            evaluate,
            vjps=lambda i, xp, g, gradients, *operands, residual: _same_kind(gradients[i], xp),
            shared=pulled,
            outputs="many",
            residual=True,
        )


def _pair(result: Any, forward: Function) -> tuple[Any, Any]:
    if not isinstance(result, tuple) or len(result) != 2:
        raise GradientError(
            f"the forward rule {name_of(forward)} must return (value, residual), not {type(result).__name__}"
        )
    return result


def _operand_gradients(gradients: Any, structure: tree.Structure, places: list[int], backward: Function) -> list[Any]:
    """The gradients of the operands among those of the arguments, where None stands for a whole argument."""
    if not isinstance(gradients, tuple | list) or len(gradients) != len(structure.children):
        found = f"{len(gradients)} of them" if isinstance(gradients, tuple | list) else type(gradients).__name__
        raise GradientError(
            f"the pullback {name_of(backward)} must return a tuple with a gradient for each of the "
            f"{len(structure.children)} arguments, and returned {found}"
        )
    flat: list[Any] = []
    for k, (gradient, argument) in enumerate(zip(gradients, structure.children, strict=True)):
        if gradient is None:
            flat += [None] * argument.leaves
        else:
            flat += tree.flatten_like(argument, gradient, f"the gradient of argument {k} from {name_of(backward)}")
    return [flat[place] for place in places]


def _same_kind(gradient: Any, xp: Any) -> Any:
    """A gradient as the pass wants it: a tensor when it runs on tensors, else an array."""
    if gradient is None:
        return None
    if xp is ops():
        return gradient if isinstance(gradient, Tensor) else Tensor(np.asarray(gradient))
    return (
        gradient.data
        if type(gradient) in TENSOR_TYPES
        else np.asarray(gradient)
        if not hasattr(gradient, "dtype")
        else gradient
    )


class custom_jvp(_Custom):  # noqa: N801  (a decorator)
    """A function with a pushforward of its own. Reverse mode transposes it, so it must be linear in the tangents.

        @dg.custom_jvp
        def f(x, y): ...

        f.defjvp(rule)

    `rule(primals, tangents)` returns (value, tangent); both arguments are tuples like the arguments of `f`.

    >>> import distgrad as dg
    >>> @dg.custom_jvp
    ... def square(x):
    ...     return x * x
    >>> square.defjvp(lambda primals, tangents: (square(*primals), 2 * primals[0] * tangents[0]))
    >>> float(dg.grad(square)(3.0)), float(dg.jvp(square, (3.0,), (1.0,))[1])
    (6.0, 6.0)
    """

    def __init__(self, f: Function) -> None:
        super().__init__(f)
        self._rule: Function | None = None

    def defjvp(self, rule: Function) -> None:
        """Gives the function its pushforward."""
        self._rule = rule

    def _primitive(
        self, on_tree: Function, shapes: list[tree.Structure], structure: tree.Structure, places: list[int]
    ) -> Primitive:
        rule = self._rule
        if rule is None:
            raise self._undefined("defjvp")

        def evaluate(xp: Any, *operands: Any) -> Any:
            with self._called_plainly():
                return _outputs(on_tree(self._f, operands), shapes, self._f)

        def pushed(operands: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, ...]:
            args = on_tree(lambda *args: args, operands)
            directions = on_tree(lambda *args: args, tangents)
            result = rule(args, directions)
            if not isinstance(result, tuple) or len(result) != 2:
                raise GradientError(
                    f"the rule {name_of(rule)} must return (value, tangent), not {type(result).__name__}"
                )
            return tuple(tree.flatten_like(shapes[0], result[1], f"the tangent from {name_of(rule)}"))

        def zeros(operands: Sequence[Any]) -> list[Any]:
            return [ops().zeros_like(x) for x in operands]

        def jvp(xp: Any, tangents: Sequence[Any], ans: Any, *operands: Any) -> Any:
            filled = [z if t is None else t for t, z in zip(tangents, zeros(operands), strict=True)]
            return pushed(operands, filled)

        def pulled(xp: Any, g: Any, ans: Any, *operands: Any) -> Sequence[Any]:
            moving = [k for k, x in enumerate(operands) if differentiable(_dtype(x))]

            def linear(*chosen: Any) -> Any:
                filled = zeros(operands)
                for k, t in zip(moving, chosen, strict=True):
                    filled[k] = t
                return pushed(operands, filled)

            _, transposed = vjp(linear, *(zeros(operands)[k] for k in moving))
            gradients = dict(zip(moving, transposed(tuple(g)), strict=True))
            return [gradients.get(k) for k in range(len(operands))]

        return Primitive(
            name_of(self._f),
            evaluate,
            vjps=lambda i, xp, g, gradients, *operands: _same_kind(gradients[i], xp),
            shared=pulled,
            jvp=jvp,
            outputs="many",
        )
