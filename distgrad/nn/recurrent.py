"""Recurrent cells: one step of a sequence. The program's own loop makes the network."""

from __future__ import annotations

from typing import Any

import numpy as np

from distgrad.autograd import ops

from . import random
from .initialise import fan_in_uniform
from .module import Module
from .parameter import Parameter


class _Cell(Module):
    """What recurrent cells have in common: affine maps of input and state, for `gates` gates at once."""

    def __init__(self, inputs: int, hidden: int, gates: int, dtype: Any) -> None:
        def drawn(*shape: int) -> Parameter:
            return Parameter(fan_in_uniform(shape, random.next_generator(), hidden, dtype))

        self.input_weight = drawn(gates * hidden, inputs)
        self.hidden_weight = drawn(gates * hidden, hidden)
        self.input_bias = drawn(gates * hidden)
        self.hidden_bias = drawn(gates * hidden)
        self.inputs, self.hidden = inputs, hidden

    def initial(self, batch: int) -> Any:
        """Zeros (batch, hidden)."""
        return np.zeros((batch, self.hidden), self.input_weight.dtype)

    def describe(self) -> str:
        return f"{self.inputs}, {self.hidden}"


class LSTMCell(_Cell):
    """Long short-term memory (Hochreiter & Schmidhuber 1997, with a forget gate).

    Attributes:
        input_weight, hidden_weight: (4 · hidden, inputs) and (4 · hidden, hidden): input, forget, cell and output gate.
        input_bias, hidden_bias: (4 · hidden,).
    """

    def __init__(self, inputs: int, hidden: int, *, dtype: Any = "float32") -> None:
        super().__init__(inputs, hidden, 4, dtype)

    def forward(self, x: Any, state: tuple[Any, Any] | None = None) -> tuple[Any, Any]:
        """x (batch, inputs) and the state (h, c), each (batch, hidden), zeros unless given -> the new (h, c)."""
        h, c = (self.initial(x.shape[0]), self.initial(x.shape[0])) if state is None else state
        gates = ops.linear(x, self.input_weight, self.input_bias) + ops.linear(h, self.hidden_weight, self.hidden_bias)
        enter, forget, cell, leave = ops.split(gates, 4, axis=-1)
        c = ops.sigmoid(forget) * c + ops.sigmoid(enter) * ops.tanh(cell)
        return ops.sigmoid(leave) * ops.tanh(c), c


class GRUCell(_Cell):
    """Gated recurrent unit (Cho et al. 2014, with the reset gate after the product, as cuDNN has it).

    Attributes:
        input_weight, hidden_weight: (3 · hidden, inputs) and (3 · hidden, hidden): reset, update and new gate.
        input_bias, hidden_bias: (3 · hidden,).
    """

    def __init__(self, inputs: int, hidden: int, *, dtype: Any = "float32") -> None:
        super().__init__(inputs, hidden, 3, dtype)

    def forward(self, x: Any, h: Any = None) -> Any:
        """x (batch, inputs) and the state h (batch, hidden), zeros unless given -> the new h."""
        h = self.initial(x.shape[0]) if h is None else h
        reset_x, update_x, new_x = ops.split(ops.linear(x, self.input_weight, self.input_bias), 3, axis=-1)
        reset_h, update_h, new_h = ops.split(ops.linear(h, self.hidden_weight, self.hidden_bias), 3, axis=-1)
        update = ops.sigmoid(update_x + update_h)
        new = ops.tanh(new_x + ops.sigmoid(reset_x + reset_h) * new_h)
        return new + update * (h - new)
