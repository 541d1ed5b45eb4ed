"""Served functions inside PyTorch: `f.as_torch()`, differentiable twice, in both modes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .flat import FlatFunction, Product

if TYPE_CHECKING:
    from .function import RemoteFunction

Tensors = Sequence[torch.Tensor]


def as_torch(function: RemoteFunction) -> Callable[..., Any]:
    """The function for trees of torch tensors, which may be on any device."""

    def call(*args: Any, **kwargs: Any) -> Any:
        flat = FlatFunction(function, args, kwargs, _dtype)
        operands = [torch.as_tensor(x) for x in flat.operands]
        return flat.result(_Value.apply(flat, *operands))

    call.__name__, call.__doc__ = function.name, f"{function!r}, for tensors of torch."
    return call


def _dtype(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        return torch.empty(0, dtype=leaf.dtype).numpy().dtype
    return np.asarray(leaf).dtype if isinstance(leaf, np.ndarray | np.generic | float | complex) else None


def _product(flat: FlatFunction, product: Product, operands: Tensors, *linear: Tensors) -> tuple[torch.Tensor, ...]:
    arrays = [[x.detach().cpu().resolve_conj().numpy() for x in group] for group in (operands, *linear)]
    found = flat(product, arrays[0], *arrays[1:])
    device = operands[0].device if operands else None
    return tuple(torch.as_tensor(y, device=device) for y in found)


def _like(found: Tensors, primals: Tensors) -> tuple[torch.Tensor, ...]:
    return tuple(y.to(x.dtype) for y, x in zip(found, primals, strict=True))


def _or_zeros(tangents: Sequence[torch.Tensor | None], primals: Tensors) -> list[torch.Tensor]:
    return [torch.zeros_like(x) if t is None else t for t, x in zip(tangents, primals, strict=True)]


class _Value(torch.autograd.Function):
    """value(x)"""

    @staticmethod
    def forward(ctx: Any, flat: FlatFunction, *operands: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.flat = flat
        ctx.save_for_backward(*operands)
        ctx.save_for_forward(*operands)
        return _product(flat, "value", operands)

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        operands = ctx.saved_tensors
        gradients = _Vjp.apply(ctx.flat, len(operands), *operands, *cotangents)
        return (None, *gradients, *[None] * (len(operands) - len(gradients)))

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: torch.Tensor | None) -> Any:
        operands = ctx.saved_tensors
        moving = _or_zeros(tangents[: ctx.flat.moving], operands[: ctx.flat.moving])
        return _Jvp.apply(ctx.flat, len(operands), *operands, *moving)


class _Vjp(torch.autograd.Function):
    """vjp(x, w)"""

    @staticmethod
    def forward(ctx: Any, flat: FlatFunction, count: int, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.flat, ctx.count = flat, count
        ctx.save_for_backward(*given)
        ctx.save_for_forward(*given)
        operands, cotangents = given[:count], given[count:]
        return _like(_product(flat, "vjp", operands, cotangents), operands[: flat.moving])

    @staticmethod
    def backward(ctx: Any, *vectors: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        operands, cotangents = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        by_x = _Hvp.apply(ctx.flat, ctx.count, *operands, *cotangents, *vectors)
        by_w = _Jvp.apply(ctx.flat, ctx.count, *operands, *vectors)
        return (None, None, *by_x, *[None] * (ctx.count - ctx.flat.moving), *by_w)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise ctx.flat.third()


class _Jvp(torch.autograd.Function):
    """jvp(x, t)"""

    @staticmethod
    def forward(ctx: Any, flat: FlatFunction, count: int, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.flat, ctx.count = flat, count
        ctx.save_for_backward(*given)
        return _product(flat, "jvp", given[:count], given[count:])

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        operands, tangents = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        by_x = _Hvp.apply(ctx.flat, ctx.count, *operands, *cotangents, *tangents)
        by_t = _Vjp.apply(ctx.flat, ctx.count, *operands, *cotangents)
        return (None, None, *by_x, *[None] * (ctx.count - ctx.flat.moving), *by_t)


class _Hvp(torch.autograd.Function):
    """hvp(x, w, t)"""

    @staticmethod
    def forward(ctx: Any, flat: FlatFunction, count: int, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.flat = flat
        operands, cotangents, vectors = given[:count], given[count : -flat.moving], given[-flat.moving :]
        return _like(_product(flat, "hvp", operands, cotangents, vectors), operands[: flat.moving])

    @staticmethod
    def backward(ctx: Any, *vectors: torch.Tensor) -> Any:
        raise ctx.flat.third()
