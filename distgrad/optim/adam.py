"""Adam and AdamW."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np

from .optimizer import Optimizer, Slots


@dataclass(frozen=True)
class Adam(Optimizer):
    """Steps of the mean gradient over the root of its mean square, both corrected for their start at zero by the
    number of steps that the parameter itself has made (Kingma & Ba 2015).

    `weight_decay` adds weight_decay · p to the gradient.
    """

    counts_steps: ClassVar[bool] = True

    lr: float = 1e-3
    _: KW_ONLY
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    @property
    def slots(self) -> tuple[str, ...]:
        return ("mean", "square")

    def kernel(self, p: Any, g: Any, slots: Slots, step: int, lr: float, scratch: Any) -> None:
        if self.weight_decay:
            g = p * self.weight_decay + g
        self._move(p, g, slots, step, lr, scratch)

    def _move(self, p: Any, g: Any, slots: Slots, step: int, lr: float, scratch: Any) -> None:
        mean, square = slots
        move_moments(mean, square, g, self.beta1, self.beta2, scratch)
        # lr · m̂ / (√v̂ + eps), with the corrections taken out of the arrays.
        root = math.sqrt(1 - self.beta2**step)
        np.sqrt(square, out=scratch)
        scratch += self.eps * root
        np.divide(mean, scratch, out=scratch)
        scratch *= lr * root / (1 - self.beta1**step)
        p -= scratch


def move_moments(mean: Any, square: Any, g: Any, beta1: float, beta2: float, scratch: Any) -> None:
    """Running means of the gradient and of its square: each keeps `beta` of itself. In place."""
    mean *= beta1
    mean += np.multiply(g, 1 - beta1, out=scratch)
    np.multiply(g, g, out=scratch)
    scratch *= 1 - beta2
    square *= beta2
    square += scratch


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam whose weight decay acts on the parameter itself, p ← (1 − lr · weight_decay) p, before the step
    (Loshchilov & Hutter 2019).
    """

    _: KW_ONLY
    weight_decay: float = 1e-2

    def kernel(self, p: Any, g: Any, slots: Slots, step: int, lr: float, scratch: Any) -> None:
        if self.weight_decay:
            p *= 1 - lr * self.weight_decay
        self._move(p, g, slots, step, lr, scratch)
