"""The module: a function with parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import numpy as np

from distgrad.autograd.checkpoint import SNAPSHOTS
from distgrad.autograd.scoped import Scoped
from distgrad.autograd.tensor import Tensor
from distgrad.errors import ConfigError

from .parameter import Buffer, Parameter

_evaluating: ContextVar[bool] = ContextVar("distgrad_evaluating", default=False)


def evaluating() -> Scoped[bool]:
    """Within its block every module works as in evaluation mode, whatever mode it was put into. What others do with
    the same modules meanwhile, in other threads or tasks, is not affected."""
    return Scoped(_evaluating, True)


def _same_mode() -> Callable[[], Scoped[bool]]:
    """Lets a checkpointed function work in the same mode when it is run again."""
    evaluated = _evaluating.get()
    return lambda: Scoped(_evaluating, evaluated)


SNAPSHOTS.append(_same_mode)


class Module:
    """A function with parameters. Subclasses assign parameters, buffers and other modules to attributes and write
    `forward`.

    What a module owns is what its attributes hold, in the order they were assigned: a `Parameter`, a `Buffer`, a
    `Module`, or a list, tuple or dict of these. Names are paths of attributes, positions and keys: "head.weight",
    "layers.0.bias". What is reachable by several paths (tied weights) goes by the first.
    """

    _training = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The function itself."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    # ---- what it owns ------------------------------------------------------------------------------------------------

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Each parameter once, with its path."""
        return ((name, item) for name, item in self._members() if isinstance(item, Parameter))

    def parameters(self) -> Iterator[Parameter]:
        """Each parameter once."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """Each buffer once, with its path."""
        return ((name, item) for name, item in self._members() if isinstance(item, Buffer))

    def buffers(self) -> Iterator[Buffer]:
        """Each buffer once."""
        return (buffer for _, buffer in self.named_buffers())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly below this one, with their names."""
        return ((name, item) for name, item in _owned(vars(self)) if isinstance(item, Module))

    def children(self) -> Iterator[Module]:
        """The modules directly below this one."""
        return (child for _, child in self.named_children())

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """This module (as "") and all below, each once, with their paths."""
        yield "", self
        yield from ((name, item) for name, item in self._members() if isinstance(item, Module))

    def modules(self) -> Iterator[Module]:
        """This module and all below, each once."""
        return (module for _, module in self.named_modules())

    def _members(self) -> Iterator[tuple[str, Member]]:
        """Everything owned, directly or through modules below, each once, with its path, in order of definition.

        Raises ConfigError where two go by one path.
        """
        names: set[str] = set()
        for name, item in _walk(self, "", {id(self)}):
            if name in names:
                raise ConfigError(
                    f"two members of this {type(self).__name__} are called {name!r}: a key with a dot in it, or the "
                    "number and the text of one key in one dict? Rename one of them"
                )
            names.add(name)
            yield name, item

    # ---- state -------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The arrays of parameters and buffers by path: the arrays themselves, not copies.

        A distributed update swaps arrays and leaves these as they are. An optimizer bound in this process writes into
        them: copy what is to be kept across its steps.
        """
        return {name: item.data for name, item in self._members() if not isinstance(item, Module)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Gives parameters and buffers copies of the arrays of `state`: all of them, or, raising ConfigError, none.

        Names, shapes and dtypes must agree exactly.
        """
        own = {name: item for name, item in self._members() if isinstance(item, Tensor)}
        problems = [f"{name!r} is missing" for name in own if name not in state]
        problems += [f"{name!r} is not part of the module" for name in state if name not in own]
        for name, item in own.items():
            if name not in state:
                continue
            kind = getattr(state[name], "shape", None), getattr(state[name], "dtype", None)
            if kind != (item.shape, item.dtype):
                found = f"{kind[1]}{list(kind[0])}" if kind[0] is not None else f"a {type(state[name]).__name__}"
                problems.append(f"{name!r} is {found}, the module's is {item.dtype}{list(item.shape)}")
        if problems:
            raise ConfigError(f"the state does not fit this {type(self).__name__}: " + "; ".join(problems))
        for name, item in own.items():
            item.set_data(np.array(state[name]) if isinstance(item.data, np.ndarray) else state[name])

    # ---- mode --------------------------------------------------------------------------------------------------------

    @property
    def training(self) -> bool:
        """Whether this module works in training mode here and now; see `train` and `evaluating`."""
        return self._training and not _evaluating.get()

    def train(self, training: bool = True) -> Module:
        """Puts this module and all below into training mode (dropout active, running statistics updated), or, with
        `train(False)`, into evaluation mode. Returns itself.
        """
        for module in self.modules():
            module._training = training
        return self

    def zero_grad(self) -> None:
        """Forgets the gradients that local backward passes accumulated."""
        for parameter in self.parameters():
            if parameter.node is not None:
                parameter.grad = None

    # ---- looks -------------------------------------------------------------------------------------------------------

    def describe(self) -> str:
        """The settings shown in the module's repr; subclasses override it."""
        return ""

    def __repr__(self) -> str:
        children = [f"  {name}: {child!r}".replace("\n", "\n  ") for name, child in self.named_children()]
        head = f"{type(self).__name__}({self.describe()})"
        return "\n".join([head, *children])


Member = Parameter | Buffer | Module


def _walk(module: Module, prefix: str, seen: set[int]) -> Iterator[tuple[str, Member]]:
    for name, item in _owned(vars(module)):
        if id(item) in seen:
            continue
        seen.add(id(item))
        yield prefix + name, item
        if isinstance(item, Module):
            yield from _walk(item, f"{prefix}{name}.", seen)


def _owned(attributes: Mapping[Any, Any]) -> Iterator[tuple[str, Member]]:
    """The members among the values of `attributes`, those in lists, tuples and dicts included."""
    for name, value in attributes.items():
        if isinstance(value, Parameter | Buffer | Module):
            yield str(name), value
        elif isinstance(value, list | tuple):
            yield from ((f"{name}.{path}", item) for path, item in _owned(dict(enumerate(value))))
        elif isinstance(value, dict):
            yield from ((f"{name}.{path}", item) for path, item in _owned(value))
