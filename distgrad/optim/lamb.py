"""LAMB."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np

from .adam import move_moments
from .clipping import norm_of
from .optimizer import Optimizer, Slots


@dataclass(frozen=True)
class LAMB(Optimizer):
    """Adam's step, rescaled for each parameter to the parameter's own norm (You et al. 2020).

    r = m̂ / (√v̂ + eps) + weight_decay · p; p ← p − lr · |p| / |r| · r, without the ratio where either norm is zero.
    """

    elementwise: ClassVar[bool] = False
    counts_steps: ClassVar[bool] = True

    lr: float = 1e-3
    _: KW_ONLY
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-6
    weight_decay: float = 0.0

    @property
    def slots(self) -> tuple[str, ...]:
        return ("mean", "square")

    def kernel(self, p: Any, g: Any, slots: Slots, step: int, lr: float, scratch: Any) -> None:
        mean, square = slots
        move_moments(mean, square, g, self.beta1, self.beta2, scratch)
        np.sqrt(square, out=scratch)
        scratch *= 1 / math.sqrt(1 - self.beta2**step)
        scratch += self.eps
        np.divide(mean, scratch, out=scratch)
        scratch *= 1 / (1 - self.beta1**step)
        if self.weight_decay:
            scratch += self.weight_decay * p
        norms = norm_of(p), norm_of(scratch)
        scratch *= lr * (norms[0] / norms[1] if all(norms) else 1.0)
        p -= scratch
