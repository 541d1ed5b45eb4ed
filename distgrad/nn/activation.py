"""Activation functions as modules, for `Sequential`; `dg.ops` has the same as functions."""

from __future__ import annotations

from typing import Any

from distgrad.autograd import ops

from .module import Module


class Activation(Module):
    """A function of `dg.ops` with fixed settings."""

    function: str

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def forward(self, x: Any) -> Any:
        return getattr(ops, self.function)(x, **self.settings)

    def describe(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.settings.items())


class ReLU(Activation):
    """max(x, 0)."""

    function = "relu"


class LeakyReLU(Activation):
    """x where x > 0, `slope` (0.01) · x elsewhere."""

    function = "leaky_relu"


class ELU(Activation):
    """x where x > 0, `alpha` (1) · (exp(x) − 1) elsewhere."""

    function = "elu"


class SELU(Activation):
    """Self-normalising elu."""

    function = "selu"


class GELU(Activation):
    """x · Φ(x); `approximate`: "none" or "tanh"."""

    function = "gelu"


class SiLU(Activation):
    """x · sigmoid(x)."""

    function = "silu"


class Mish(Activation):
    """x · tanh(softplus(x))."""

    function = "mish"


class Softplus(Activation):
    """log(1 + exp(beta · x)) / beta."""

    function = "softplus"


class Hardtanh(Activation):
    """x kept within [`low`, `high`]."""

    function = "hardtanh"


class Tanh(Activation):
    """Hyperbolic tangent."""

    function = "tanh"


class Sigmoid(Activation):
    """1 / (1 + exp(−x))."""

    function = "sigmoid"


class Softmax(Activation):
    """exp(x) / Σ exp(x) along `axis` (the last)."""

    function = "softmax"


class LogSoftmax(Activation):
    """The logarithm of softmax along `axis` (the last)."""

    function = "log_softmax"
