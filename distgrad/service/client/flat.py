"""A served function as one of a list of arrays, with every product that first and second derivatives need.

What other frameworks differentiate is made of five products of a function f at a point x,

    value(x)             f(x)
    vjp(x, w)            wᵀ f'(x)
    jvp(x, t)            f'(x) t
    hvp(x, w, t)         the derivative of vjp(x, w) along t
    second(x, t, s)      the derivative of jvp(x, t) along s

which are closed under differentiation up to second order: each is linear in all but x, and the transposes of these
linear maps are among them again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from distgrad.autograd import tree
from distgrad.errors import GradientError
from distgrad.wire.dtypes import Array

from ..specs import check, example, outline_of, spec_from_pb

if TYPE_CHECKING:
    from .function import RemoteFunction

Product = Literal["value", "vjp", "jvp", "hvp", "second"]
# A list of arrays: the leaves of the arguments that move, or of the value.
Arrays = Sequence[Any]

# By product: what it is linear in, and what it is like: leaves of the value or of the arguments that move.
LINEAR_IN: dict[Product, tuple[str, ...]] = {
    "value": (),
    "vjp": ("value",),
    "jvp": ("moving",),
    "hvp": ("value", "moving"),
    "second": ("moving", "moving"),
}
IS_LIKE: dict[Product, str] = {
    "value": "value",
    "vjp": "moving",
    "jvp": "value",
    "hvp": "moving",
    "second": "value",
}
# The derivative of each along a direction of x, which becomes the last of what it is linear in.
DERIVATIVE: dict[Product, Product] = {"value": "jvp", "vjp": "hvp", "jvp": "second"}


class FlatFunction:
    """A served function for arguments of one structure.

    Attributes:
        function: the served function.
        names: of the arguments that move: those with floating-point or complex leaves only.
        moving: how many leaves these have; they come first among the operands.
        outputs: the structure of the value; None until it was asked for.
    """

    def __init__(
        self,
        function: RemoteFunction,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        dtype_of: Callable[[Any], Any],
        timeout: float | None = None,
    ) -> None:
        """
        Arguments:
            dtype_of: the NumPy dtype of a leaf that is an array in the framework; None for what is passed on as it is.
            timeout: of every request.
        """
        arguments = function.by_name(args, kwargs)
        self.function = function
        self._timeout = timeout
        self.names = tuple(name for name, argument in arguments.items() if _moves(argument, dtype_of))
        self._all_names = (*self.names, *(name for name in arguments if name not in self.names))
        leaves, self._structure = tree.flatten(tuple(arguments[name] for name in self._all_names))
        self._places = [k for k, leaf in enumerate(leaves) if dtype_of(leaf) is not None]
        self._fixed = [None if k in self._places else leaf for k, leaf in enumerate(leaves)]
        self._moving = tree.flatten(tuple(arguments[name] for name in self.names))[1]
        self.moving = self._moving.leaves
        self.operands = [leaves[k] for k in self._places]
        self.outputs: tree.Structure | None = None

    def __call__(self, product: Product, operands: Arrays, *linear: Arrays) -> list[Array]:
        """A product.

        Arguments:
            operands: all array leaves of the arguments.
            linear: what it is linear in, as `LINEAR_IN` says.
        """
        return self.many(product, operands, [linear])[0]

    def many(self, product: Product, operands: Arrays, linears: Sequence[Sequence[Arrays]]) -> list[list[Array]]:
        """The same product at one point for several vectors; in one request."""
        at = self.function.at(**self._arguments(map(np.asarray, operands))).with_timeout(self._timeout)
        shaped = [
            [self._shaped(kind, arrays) for kind, arrays in zip(LINEAR_IN[product], linear, strict=True)]
            for linear in linears
        ]
        if product == "value":
            return [self._value_leaves(at.value())] * len(linears)
        if product == "vjp":
            return [self._moving_leaves(g) for g in at.vjps([w for (w,) in shaped], wrt=self.names)]
        if product == "jvp":
            return [self._value_leaves(t) for t in at.jvps([t for (t,) in shaped], wrt=self.names)]
        if product == "hvp":
            products = at.hvps([t for _, t in shaped], cotangents=[w for w, _ in shaped], wrt=self.names)
            return [self._moving_leaves(p) for p in products]
        return [self._value_leaves(t) for t in at.second_jvps([(t, s) for t, s in shaped], wrt=self.names)]

    def _arguments(self, operands: Iterable[Any]) -> dict[str, Any]:
        leaves = list(self._fixed)
        for k, operand in zip(self._places, operands, strict=True):
            leaves[k] = operand
        return dict(zip(self._all_names, tree.unflatten(self._structure, leaves), strict=True))

    def declared(self, operands: Arrays) -> list[Array] | None:
        """Arrays of the shapes and dtypes of the value's leaves for such operands, if what is declared of the function
        determines them. Then `outputs` is known too.

        Arguments:
            operands: only their `shape` and `dtype` are looked at.
        """
        described = self.function.describe()
        outlines = outline_of(self._arguments(operands))
        symbols: dict[str, int] = {}
        for argument in described.arguments:
            if argument.name in outlines:
                check(spec_from_pb(argument.spec), outlines[argument.name], symbols, argument.name)
        value = example(spec_from_pb(described.result), symbols)
        if value is None:
            return None
        leaves, self.outputs = tree.flatten(value)
        return leaves

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for calls that differ in their arrays only."""
        return self._structure, tuple(self._fixed)

    def result(self, leaves: Arrays) -> Any:
        """The tree of the value with these leaves."""
        assert self.outputs is not None, "the value was not asked for"
        return tree.unflatten(self.outputs, leaves)

    def third(self) -> GradientError:
        """Why there is no third derivative."""
        return GradientError(
            f"third derivatives of {self.function.name} were asked for; its server gives first and second ones"
        )

    def _shaped(self, kind: str, arrays: Arrays) -> Any:
        arrays = [np.asarray(array) for array in arrays]
        return self.result(arrays) if kind == "value" else tree.unflatten(self._moving, arrays)

    def _value_leaves(self, value: Any) -> list[Array]:
        leaves, self.outputs = tree.flatten(value)
        return [np.asarray(leaf) for leaf in leaves]

    def _moving_leaves(self, gradient: tuple[Any, ...]) -> list[Array]:
        leaves = tree.flatten_like(self._moving, tuple(gradient), f"the gradient of {self.function.name}")
        return [np.asarray(leaf) for leaf in leaves]


def _moves(argument: Any, dtype_of: Callable[[Any], Any]) -> bool:
    dtypes = [dtype_of(leaf) for leaf in tree.flatten(argument)[0]]
    return bool(dtypes) and all(dtype is not None and np.dtype(dtype).kind in "fcV" for dtype in dtypes)
