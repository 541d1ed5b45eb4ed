"""Served functions on distgrad's own tape: calling one with tensors records it, differentiable twice in both modes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from distgrad.autograd import tree
from distgrad.autograd.operands import ops
from distgrad.autograd.primitive import Primitive
from distgrad.autograd.tensor import Boxed, Tensor

from .flat import DERIVATIVE, LINEAR_IN, Arrays, FlatFunction, Product

if TYPE_CHECKING:
    from .function import RemoteFunction


def holds_tensors(arguments: Any) -> bool:
    """Whether a tree holds a tensor that a transform looks at, or that is recorded."""
    return any(
        isinstance(leaf, Boxed)
        or (isinstance(leaf, Tensor) and (leaf.node is not None or isinstance(leaf.data, Tensor)))
        for leaf in tree.flatten(arguments)[0]
    )


def call_on_tape(function: RemoteFunction, args: Sequence[Any], kwargs: dict[str, Any], timeout: float | None) -> Any:
    """The function's value, recorded: a tree of tensors."""
    flat = FlatFunction(function, args, kwargs, _dtype, timeout)
    value = _primitive(flat, "value")(*flat.operands)
    return flat.result(value)


def _dtype(leaf: Any) -> Any:
    if isinstance(leaf, Tensor | np.ndarray | np.generic):
        return leaf.dtype
    return np.asarray(leaf).dtype if isinstance(leaf, float | complex) else None


def _take(flat: FlatFunction, product: Product, xp: Any, *groups: Arrays) -> Sequence[Any]:
    """A product of arrays, or, recorded, of tensors."""
    if xp is not ops():
        return flat(product, *groups)
    tensors: Sequence[Any] = _primitive(flat, product)(*itertools.chain(*groups))
    return tensors


def _primitive(flat: FlatFunction, product: Product) -> Primitive:
    """A product as an operation on the operands of the function and then on what it is linear in."""

    def forward(xp: Any, *given: Any) -> tuple[Any, ...]:
        return tuple(flat(product, *_groups(flat, product, given)))

    def pull(xp: Any, cotangents: Any, ans: Any, *given: Any) -> _Pulled:
        return _Pulled(flat, product, xp, cotangents, given)

    def push(xp: Any, tangents: Sequence[Any], ans: Any, *given: Any) -> Any:
        operands, *linear = _groups(flat, product, given)
        moved, *moved_linear = _groups(flat, product, tangents)
        terms = []
        for k, group in enumerate(moved_linear):
            if any(t is not None for t in group):
                filled = [*linear[:k], _filled(xp, group, linear[k]), *linear[k + 1 :]]
                terms.append(_take(flat, product, xp, operands, *filled))
        if any(t is not None for t in moved):
            along = _filled(xp, moved[: flat.moving], operands[: flat.moving])
            terms.append(_take(flat, _derivative(flat, product), xp, operands, *linear, along))
        return [sum(parts[1:], parts[0]) for parts in zip(*terms, strict=True)]

    return Primitive(
        f"{product} of {flat.function.name}",
        forward,
        vjps=lambda i, xp, g, pulled, *given: pulled.gradient(i),
        shared=pull,
        jvp=push,
        outputs="many",
    )


class _Pulled:
    """The gradients of what a product takes; each group is asked for when one of it is wanted."""

    def __init__(self, flat: FlatFunction, product: Product, xp: Any, cotangents: Arrays, given: Sequence[Any]) -> None:
        self._flat = flat
        self._product = product
        self._xp = xp
        self._cotangents = cotangents
        self._operands, *self._linear = _groups(flat, product, given)

    def gradient(self, position: int) -> Any:
        if position < len(self._operands):
            return self._by_operands[position] if position < self._flat.moving else None
        return self._by_linear[position - len(self._operands)]

    @cached_property
    def _by_operands(self) -> Sequence[Any]:
        """Of the operands that move."""
        flat, w, groups = self._flat, self._cotangents, self._linear
        if self._product == "value":
            return _take(flat, "vjp", self._xp, self._operands, w)
        if self._product == "vjp":
            return _take(flat, "hvp", self._xp, self._operands, groups[0], w)
        if self._product == "jvp":
            return _take(flat, "hvp", self._xp, self._operands, w, groups[0])
        raise flat.third()

    @cached_property
    def _by_linear(self) -> Sequence[Any]:
        flat, xp, at, w = self._flat, self._xp, self._operands, self._cotangents
        if self._product == "vjp":
            return _take(flat, "jvp", xp, at, w)
        if self._product == "jvp":
            return _take(flat, "vjp", xp, at, w)
        first, second = self._linear
        if self._product == "hvp":
            return [*_take(flat, "second", xp, at, second, w), *_take(flat, "hvp", xp, at, first, w)]
        return [*_take(flat, "hvp", xp, at, w, second), *_take(flat, "hvp", xp, at, w, first)]


def _derivative(flat: FlatFunction, product: Product) -> Product:
    if product not in DERIVATIVE:
        raise flat.third()
    return DERIVATIVE[product]


def _groups(flat: FlatFunction, product: Product, given: Sequence[Any]) -> list[list[Any]]:
    """The operands of the function, and each list of what the product is linear in."""
    assert product == "value" or flat.outputs is not None, "the value comes first"
    sizes = {"moving": flat.moving, "value": flat.outputs.leaves if flat.outputs else 0}
    linear = [sizes[kind] for kind in LINEAR_IN[product]]
    ends = list(itertools.accumulate([len(given) - sum(linear), *linear]))
    return [list(given[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def _filled(xp: Any, tangents: Sequence[Any], primals: Sequence[Any]) -> list[Any]:
    return [xp.zeros_like(x) if t is None else t for t, x in zip(tangents, primals, strict=True)]
