"""An optimizer bound to parameters of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from distgrad.autograd import tape
from distgrad.autograd.tensor import Tensor
from distgrad.errors import ConfigError

from .optimizer import Optimizer, check_gradient


@runtime_checkable
class HasParameters(Protocol):
    """A module, or anything else whose parameters have names."""

    def named_parameters(self) -> Iterable[tuple[str, Tensor]]: ...


Trainable = HasParameters | Mapping[str, Tensor] | Iterable[Tensor]


class BoundOptimizer:
    """Steps the parameters it was bound to, by the gradients in their `.grad`. Parameters without one stay untouched.

    A step writes into the parameters' arrays; whoever keeps an array of `state_dict()` across steps keeps a copy.

    Attributes:
        rule: the optimizer.
        parameters: by name; frozen ones are left out.
        state: its arrays, see `Optimizer.init`.
        step_count: steps made.
        schedule: factor of the learning rate by number of steps made before, or None.
    """

    def __init__(self, rule: Optimizer, parameters: Trainable, schedule: Callable[[int], float] | None = None) -> None:
        self.rule = rule
        self.parameters = _named(parameters)
        if not self.parameters:
            raise ConfigError(f"{type(rule).__name__} was bound to nothing that requires grad")
        self.state = rule.init({name: p.data for name, p in self.parameters.items()})
        self.step_count = 0
        self.schedule = schedule

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return self.rule.lr * (1.0 if self.schedule is None else self.schedule(self.step_count))

    def step(self) -> None:
        """One update of every parameter that has a gradient; of none, raising ConfigError, if one of these does not
        belong to its parameter.
        """
        lr = self.learning_rate
        rule, state = self.rule, self.state
        gradients = {name: p.grad for name, p in self.parameters.items() if p.grad is not None}
        for name, gradient in gradients.items():
            check_gradient(self.parameters[name], gradient)
        self.step_count += 1
        for name, gradient in gradients.items():
            parameter = self.parameters[name]
            if isinstance(gradient, Tensor):
                gradient = gradient.data
            slots = (state[f"{name}/{slot}"] for slot in rule.slots)
            step = rule.next_step(name, state)
            rule.apply([_writeable(parameter), *slots], gradient, step, lr)
            if step:
                state[f"{name}/steps"] = np.array(step, np.int64)

    def zero_grad(self) -> None:
        """Forgets the accumulated gradients."""
        for parameter in self.parameters.values():
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Copies of the state's arrays, and the number of steps made as "step": all that a resumed run needs besides
        the parameters.
        """
        return {**{name: array.copy() for name, array in self.state.items()}, "step": self.step_count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from what `state_dict` returned; names, shapes and dtypes must agree, else ConfigError."""
        found = {name: array for name, array in state.items() if name != "step"}
        if found.keys() != self.state.keys() or "step" not in state:
            odd = sorted(found.keys() ^ self.state.keys()) or ["step"]
            raise ConfigError(f"the state does not belong to these parameters and {self.rule}: see {odd[0]!r}")
        for name, array in found.items():
            own = self.state[name]
            if array.shape != own.shape or array.dtype != own.dtype:
                raise ConfigError(
                    f"{name!r} is {array.dtype}{list(array.shape)}, expected {own.dtype}{list(own.shape)}"
                )
        self.state = {name: array.copy() for name, array in found.items()}
        self.step_count = int(state["step"])

    def __repr__(self) -> str:
        return f"<{self.rule} of {len(self.parameters)} parameters after {self.step_count} steps>"


def _writeable(parameter: Tensor) -> Any:
    """The parameter's array, about to be written to; a copy takes its place where it is read-only."""
    array = parameter.data
    if not getattr(getattr(array, "flags", None), "writeable", True):
        parameter.set_data(array.copy())
    tape.clock.write(parameter.data)
    return parameter.data


def _named(parameters: Trainable) -> dict[str, Tensor]:
    """The parameters that require grad, each once, by name: a module's paths, a mapping's keys, or positions.

    Raises ConfigError for what can be no parameter.
    """
    pairs: Iterable[tuple[str, Tensor]]
    if isinstance(parameters, HasParameters):
        pairs = parameters.named_parameters()
    elif isinstance(parameters, Mapping):
        pairs = parameters.items()
    else:
        pairs = ((str(k), p) for k, p in enumerate(parameters))
    first: dict[int, tuple[str, Tensor]] = {}
    for name, p in pairs:
        if not isinstance(p, Tensor) or not p.is_leaf:
            found = "a tensor computed from others" if isinstance(p, Tensor) else f"of type {type(p).__name__}"
            raise ConfigError(
                f"parameter {name!r} of an optimizer is {found}, expected a Parameter, or a tensor made with "
                "requires_grad=True"
            )
        if p.requires_grad:
            first.setdefault(id(p), (name, p))
    return dict(first.values())
