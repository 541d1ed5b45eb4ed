"""Shards that stop in the middle of something and go on when the test says so: see `tests/faults/gates.py`."""

from __future__ import annotations

import ctypes
import socket
import time
from typing import Any

import numpy as np

import distgrad as dg
from distgrad.errors import DistgradError


def pass_gate(address: str, tag: str, holding_interpreter: bool = False) -> None:
    """Tells the test that this place is reached and waits until it lets go.

    Arguments:
        holding_interpreter: wait in foreign code that does not release the GIL, so that no thread here runs meanwhile.
    """
    with socket.socket(socket.AF_UNIX) as gate:
        gate.connect(address)
        gate.sendall(tag.encode() + b"\n")
        if holding_interpreter:
            ctypes.PyDLL(None).recv(gate.fileno(), ctypes.create_string_buffer(1), 1, 0)
        else:
            gate.recv(1)


class Gated(dg.Shard):
    """x · weight, which can be stopped in the middle of a forward, of a backward and of an update.

    Arguments:
        size: of the last axis, before and after.
        gate: address of the test's gate.
    """

    def __init__(self, size: int, gate: str) -> None:
        self.weight = dg.nn.Parameter(np.eye(size, dtype=np.float64) * 2)
        self.gate = gate
        self.visits_left = 0
        self.holding = False

    @dg.remote
    def forward(self, x: Any) -> Any:
        return x @ self.weight

    @dg.remote
    def stop_forward(self, x: Any, holding_interpreter: bool = False) -> Any:
        """`forward`, with a stop in the middle."""
        y = x @ self.weight
        pass_gate(self.gate, "forward", holding_interpreter)
        return y

    @dg.remote
    def stop_backward(self, x: Any, holding_interpreter: bool = False) -> Any:
        """`forward`, with a stop in the middle of its backward."""
        return stops_backward(x @ self.weight, self.gate, holding_interpreter)

    @dg.remote
    def stop_update(self, visits: int, holding_interpreter: bool = False) -> None:
        """From now on whoever looks at the parameters for the `visits`th time stops: an owner looks once to prepare an
        update and once to commit it."""
        self.visits_left = visits
        self.holding = holding_interpreter

    def named_parameters(self) -> Any:
        if self.visits_left:
            self.visits_left -= 1
            if not self.visits_left:
                pass_gate(self.gate, "update", self.holding)
        return super().named_parameters()

    @dg.remote
    def chain(self, x: Any, other: Any, method: str, *args: Any) -> Any:
        """Calls another shard and waits for its value."""
        return getattr(other, method)(x @ self.weight, *args).get()

    @dg.remote
    def stop_then_chain(self, x: Any, other: Any, method: str) -> Any:
        """`chain`, with a stop before."""
        pass_gate(self.gate, "chain")
        return getattr(other, method)(x @ self.weight).get()

    @dg.remote
    def chain_for(self, x: Any, other: Any, method: str, seconds: float) -> Any:
        """`chain`, but waits only so long."""
        return getattr(other, method)(x @ self.weight).get(timeout=seconds)

    @dg.remote
    def hand_on(self, x: Any, other: Any, method: str, *args: Any) -> Any:
        """Calls another shard and returns without waiting."""
        return getattr(other, method)(x @ self.weight, *args)

    @dg.remote
    def fail(self, x: Any) -> Any:
        raise ValueError("as asked")

    @dg.remote
    def fail_backward(self, x: Any) -> Any:
        return fails_backward(x @ self.weight)

    @dg.remote
    def witness(self, other: Any, method: str, *args: Any) -> tuple[float, str]:
        """Calls another shard and returns when, on the clock of this machine, its worker was known to be lost, and
        how that was put."""
        try:
            getattr(other, method)(np.ones((1, len(self.weight.data))), *args).numpy()
        except DistgradError as error:
            return time.monotonic(), f"{type(error).__name__}: {error}"
        return time.monotonic(), ""


@dg.custom_vjp
def stops_backward(x: Any, gate: str, holding_interpreter: bool) -> Any:
    """x itself; its pullback stops at the gate."""
    return x * 1.0


def _forward(x: Any, gate: str, holding_interpreter: bool) -> Any:
    return x * 1.0, (gate, holding_interpreter)


def _backward(residual: Any, gradient: Any) -> Any:
    gate, holding_interpreter = residual
    pass_gate(gate, "backward", holding_interpreter)
    return gradient, None, None


stops_backward.defvjp(_forward, _backward)


@dg.custom_vjp
def fails_backward(x: Any) -> Any:
    """x itself; its pullback fails."""
    return x * 1.0


def _fail(residual: Any, gradient: Any) -> Any:
    raise ValueError("as asked")


fails_backward.defvjp(lambda x: (x * 1.0, None), _fail)
