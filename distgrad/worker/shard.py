"""What a program defines: shards, and functions that may be called from elsewhere."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, overload

from distgrad.errors import ProgramError
from distgrad.nn import Module

F = TypeVar("F", bound=Callable[..., Any])

_OUTPUTS = "_distgrad_outputs"
_PRIVATE = "_distgrad_private"


class Shard(Module):
    """A module that lives on one worker. Methods marked `@dg.remote` can be called from other processes.

        class Stage(dg.Shard):
            def __init__(self, inputs, outputs):
                self.linear = dg.nn.Linear(inputs, outputs)

            @dg.remote
            def forward(self, x):
                return dg.ops.relu(self.linear(x))

    Between two waits (for a Ref, a call) a method runs alone; at a wait, other calls may enter the same shard.

    Calls made outside any context are inference: modules work in evaluation mode, and buffers stay as they are. In a
    context, changes of buffers take effect with the update that uses the context's gradients.
    """


@overload
def remote(function: F) -> F: ...
@overload
def remote(*, outputs: int = 1, private: bool = False) -> Callable[[F], F]: ...
def remote(function: Any = None, *, outputs: int = 1, private: bool = False) -> Any:
    """Marks a method of a shard, or a function of a program, as callable from other processes. It may be a coroutine:
    while it awaits Refs or anything else, others compute.

    Arguments:
        outputs: how many Refs a call returns; the method then returns a tuple of that length.
        private: what a call returns stays on its worker: its Ref can be given to calls there, and nobody elsewhere gets
            the value.

    Raises:
        ProgramError: what is marked is not a function or method, is a generator, or its name begins with an underscore.
    """
    if function is None:
        return lambda f: _marked(f, outputs, private)
    return _marked(function, outputs, private)


def _marked(function: Any, outputs: int, private: bool) -> Any:
    if isinstance(function, type | staticmethod | classmethod | property) or not callable(function):
        raise ProgramError(f"@remote marks functions and methods, not a {type(function).__name__}")
    name = getattr(function, "__qualname__", repr(function))
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ProgramError(f"{name}: a generator's items cannot be called for; return a list, or declare outputs=")
    if name.rpartition(".")[2].startswith("_"):
        raise ProgramError(f"{name}: a name that begins with an underscore is private, so nobody could call it")
    if outputs < 1:
        raise ProgramError(f"{name}: outputs must be at least 1, not {outputs}")
    setattr(function, _OUTPUTS, outputs)
    setattr(function, _PRIVATE, private)
    return function


def outputs_of(function: Any) -> int:
    """How many Refs a call of `function` returns; 0 when it may not be called from elsewhere."""
    found: int = getattr(function, _OUTPUTS, 0)
    return found


def is_private(function: Any) -> bool:
    """Whether the values of `function` stay on its worker."""
    found: bool = getattr(function, _PRIVATE, False)
    return found


def remote_methods(shard: type[Shard]) -> dict[str, int]:
    """The remote methods of a class of shards, with their numbers of outputs."""
    found = {name: outputs_of(getattr(shard, name)) for name in dir(shard)}
    return {name: outputs for name, outputs in found.items() if outputs}
