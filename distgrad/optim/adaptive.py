"""Adagrad, RMSprop and Lion: steps whose size each element sets for itself."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from .optimizer import Optimizer, Slots


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """p ← p − lr · g / (√s + eps), s the sum of all squared gradients so far (Duchi et al. 2011).

    `initial_sum` is what s starts from; `weight_decay` adds weight_decay · p to the gradient.
    """

    lr: float = 1e-2
    _: KW_ONLY
    initial_sum: float = 0.0
    eps: float = 1e-10
    weight_decay: float = 0.0

    @property
    def slots(self) -> tuple[str, ...]:
        return ("sum",)

    def initial(self, slot: str) -> float:
        return self.initial_sum

    def kernel(self, p: Any, g: Any, slots: Slots, step: int, lr: float, scratch: Any) -> None:
        (total,) = slots
        if self.weight_decay:
            g = p * self.weight_decay + g
        total += np.multiply(g, g, out=scratch)
        np.sqrt(total, out=scratch)
        scratch += self.eps
        np.divide(g, scratch, out=scratch)
        scratch *= lr
        p -= scratch


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """p ← p − lr · d, d = g / (√s + eps), s the running mean of squared gradients (Hinton 2012, as PyTorch writes it).

    With `momentum` μ the step is the sum v ← μ v + d. `centered` takes the square of the running mean gradient off s.
    """

    lr: float = 1e-2
    _: KW_ONLY
    decay: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    centered: bool = False
    weight_decay: float = 0.0

    @property
    def slots(self) -> tuple[str, ...]:
        return ("square", *(("mean",) if self.centered else ()), *(("momentum",) if self.momentum else ()))

    def kernel(self, p: Any, g: Any, slots: Slots, step: int, lr: float, scratch: Any) -> None:
        arrays = dict(zip(self.slots, slots, strict=True))
        if self.weight_decay:
            g = p * self.weight_decay + g
        square = arrays["square"]
        square *= self.decay
        np.multiply(g, g, out=scratch)
        scratch *= 1 - self.decay
        square += scratch
        if self.centered:
            mean = arrays["mean"]
            mean *= self.decay
            mean += np.multiply(g, 1 - self.decay, out=scratch)
            np.subtract(square, np.multiply(mean, mean, out=scratch), out=scratch)
            # Where the gradient does not change, the difference is rounded to either side of zero.
            np.maximum(scratch, 0, out=scratch)
            np.sqrt(scratch, out=scratch)
        else:
            np.sqrt(square, out=scratch)
        scratch += self.eps
        np.divide(g, scratch, out=scratch)
        if self.momentum:
            velocity = arrays["momentum"]
            velocity *= self.momentum
            velocity += scratch
            np.multiply(velocity, lr, out=scratch)
        else:
            scratch *= lr
        p -= scratch


@dataclass(frozen=True)
class Lion(Optimizer):
    """p ← p − lr · (sign(β₁ m + (1 − β₁) g) + weight_decay · p), m the running mean of gradients by β₂ (Chen et al.
    2023).
    """

    lr: float = 1e-4
    _: KW_ONLY
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.0

    @property
    def slots(self) -> tuple[str, ...]:
        return ("mean",)

    def kernel(self, p: Any, g: Any, slots: Slots, step: int, lr: float, scratch: Any) -> None:
        (mean,) = slots
        if self.weight_decay:
            p *= 1 - lr * self.weight_decay
        direction = mean * self.beta1
        direction += np.multiply(g, 1 - self.beta1, out=scratch)
        np.sign(direction, out=direction)
        direction *= lr
        p -= direction
        mean *= self.beta2
        mean += np.multiply(g, 1 - self.beta2, out=scratch)
