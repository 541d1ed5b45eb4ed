"""What a module owns: parameters, which gradients change, and buffers, which forward passes change."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np

from distgrad.autograd.checkpoint import SNAPSHOTS
from distgrad.autograd.scoped import Scoped
from distgrad.autograd.tensor import Tensor, variable
from distgrad.errors import GradientError


class Parameter(Tensor):
    """A variable that a module owns and an optimizer updates. `set_data` gives it a new array.

    Arguments:
        data: an array of floating-point or complex numbers, taken as it is.
        requires_grad: False for a frozen parameter: saved with the module, never updated.
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        array = _array(data)
        super().__init__(array, variable(array).node if requires_grad else None)

    def __repr__(self) -> str:
        return f"Parameter({super().__repr__()})"


class Buffer(Tensor):
    """An array that belongs to a module's state and has no gradient, such as a running mean.

    A forward pass changes it by `blend` alone, so that the change can be staged; see `staged_buffers`.
    """

    __slots__ = ()

    def __init__(self, data: Any) -> None:
        super().__init__(_array(data))

    def blend(self, keep: float, addend: Any) -> None:
        """Makes the buffer `keep · buffer + addend`: at once, or, within `staged_buffers`, when its owner commits."""
        update = BufferUpdate(self, float(keep), addend)
        staged = _staged.get()
        if staged is None:
            update.apply()
        else:
            staged.append(update)

    def __repr__(self) -> str:
        return f"Buffer({super().__repr__()})"


@dataclass(frozen=True, slots=True, eq=False)
class BufferUpdate:
    """One change of a buffer: `keep · buffer + addend`.

    Changes of this form made on several microbatches, applied one after the other in program order, give the bits
    that one process gets.
    """

    buffer: Buffer
    keep: float
    addend: Any

    def apply(self) -> None:
        """Gives the buffer its new array. The old one is not written to: a checkpoint may hold it."""
        self.buffer.set_data(blended(self.buffer.data, self.keep, self.addend))


def blended(value: Any, keep: float, addend: Any) -> Any:
    """The array of a buffer after a change: `keep · value + addend`, in the buffer's dtype."""
    return np.asarray(value * keep + addend, dtype=value.dtype)


_staged: ContextVar[list[BufferUpdate] | None] = ContextVar("distgrad_staged_buffers", default=None)


def staged_buffers() -> Scoped[list[BufferUpdate]]:
    """Collects the changes of buffers that forward passes in its block make, instead of applying them.

    The owner applies them, in order, when the step commits, or drops them with the step. Until then every forward
    pass reads the old values.
    """
    return Scoped(_staged, [])


# A checkpointed function that runs again has changed its buffers already; what the second run stages is dropped.
SNAPSHOTS.append(lambda: staged_buffers)


def _array(data: Any) -> Any:
    if isinstance(data, Tensor):
        raise GradientError(
            "a parameter or buffer is made from an array, not from a tensor; pass tensor.numpy().copy()"
        )
    return data if hasattr(data, "__array_namespace__") else np.asarray(data)
