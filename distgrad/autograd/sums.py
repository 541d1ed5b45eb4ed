"""How gradients are added up, in program order whatever the order of arrival, and made to fit their values."""

from __future__ import annotations

from typing import Any

import numpy as np

from .operands import namespace
from .rows import Rows
from .sliced import Sliced
from .tape import Node

# Who contributes to a node: (consumer, input position), or (None, position) for a root or another process.
Contributor = tuple[Node | None, int]


class Total:
    """A sum that grows; None while nothing was added.

    Once it is an array that nobody else has seen, it is added to in place: the same bits without an allocation.
    """

    __slots__ = ("_owned", "total")

    def __init__(self) -> None:
        self._owned = False
        self.total: Any = None

    def accumulate(self, gradient: Any) -> None:
        """Adds a gradient; None adds nothing."""
        if gradient is None:
            return
        if self.total is None:
            self.total = gradient
        elif self._owned and type(gradient) is np.ndarray:
            np.add(self.total, gradient, out=self.total)
        elif self._owned and type(gradient) is Sliced:
            gradient.add_into(self.total)
        else:
            self.total = added(self.total, gradient)
            self._owned = type(self.total) is np.ndarray

    def seen(self) -> Any:
        """The sum so far, for somebody who may keep it: it stays as it is, whatever is added from now on."""
        self._owned = False
        return self.total


def added(first: Any, second: Any) -> Any:
    """The sum of two gradients. Rows can be added to a tensor, as recorded passes give, but not it to them."""
    return second + first if type(second) is Rows else first + second


class Sum(Total):
    """The gradient of a node with several contributors, added up in program order, latest first."""

    __slots__ = ("_due", "_early", "_next")

    def __init__(self, due: list[Contributor]) -> None:
        super().__init__()
        due.sort(key=_program_order, reverse=True)
        self._due = due
        self._next = 0
        self._early: dict[Contributor, Any] | None = None

    @property
    def live(self) -> bool:
        """Whether it holds a gradient, not only Nones."""
        return self.total is not None or any(g is not None for g in (self._early or {}).values())

    def add(self, contributor: Contributor, gradient: Any) -> bool:
        """Adds one contribution, or holds it until those before it have come. True when all have."""
        due = self._due
        if due[self._next] != contributor:
            if self._early is None:
                self._early = {}
            self._early[contributor] = gradient
            return False
        self.accumulate(gradient)
        self._next += 1
        early = self._early
        while early and due[self._next] in early:
            self.accumulate(early.pop(due[self._next]))
            self._next += 1
        return self._next == len(due)


def _program_order(contributor: Contributor) -> tuple[Any, ...]:
    """Sort key of contributors: roots and other processes last (so first when reversed), in their own order."""
    node, position = contributor
    return (1, -position) if node is None else (0, *node.key, -position)


def fit(gradient: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """Gives a gradient the shape and dtype of its value: sums over broadcast axes, drops the imaginary part, casts."""
    if gradient.shape != shape:
        gradient = _unbroadcast(gradient, shape)
    if gradient.dtype != dtype:
        if isinstance(gradient, Rows | Sliced):
            return gradient.astype(dtype)
        xp = namespace(gradient)
        if _is_complex(gradient.dtype) and not _is_complex(dtype):
            gradient = xp.real(gradient)
        gradient = xp.astype(gradient, dtype)
    return gradient


def _is_complex(dtype: Any) -> bool:
    return "complex" in str(dtype)


def _unbroadcast(gradient: Any, shape: tuple[int, ...]) -> Any:
    xp = namespace(gradient)
    extra = len(gradient.shape) - len(shape)
    if extra < 0:
        return xp.broadcast_to(gradient, shape)
    if extra:
        gradient = xp.sum(gradient, axis=tuple(range(extra)))
    axes = tuple(k for k, (have, want) in enumerate(zip(gradient.shape, shape, strict=True)) if have != want)
    if not axes:
        return gradient
    if any(shape[k] != 1 for k in axes):
        return xp.broadcast_to(gradient, shape)
    return xp.sum(gradient, axis=axes, keepdims=True)
