"""Stochastic gradient descent."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from distgrad.errors import ConfigError

from .optimizer import Optimizer, Slots


@dataclass(frozen=True)
class SGD(Optimizer):
    """p ← p − lr · d, where d is the gradient g + weight_decay · p, or its running sum.

    With momentum μ the sum is v ← μ v + g, and d = v, or g + μ v with `nesterov` (Sutskever et al. 2013, as PyTorch
    writes it).
    """

    lr: float
    _: KW_ONLY
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise ConfigError("SGD: nesterov=True needs a momentum above 0")

    @property
    def slots(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum else ()

    def kernel(self, p: Any, g: Any, slots: Slots, step: int, lr: float, scratch: Any) -> None:
        if self.weight_decay:
            g = np.add(np.multiply(p, self.weight_decay, out=scratch), g, out=scratch)
        if not slots:
            p -= np.multiply(g, lr, out=scratch)
            return
        (velocity,) = slots
        velocity *= self.momentum
        velocity += g
        if self.nesterov:
            p -= np.multiply(g, lr, out=scratch)
            p -= np.multiply(velocity, lr * self.momentum, out=scratch)
        else:
            p -= np.multiply(velocity, lr, out=scratch)
