"""The parameters that live on a worker, and the two halves of an update.

An update happens on every owner or on none. *Prepare* pins the gradients of the contexts and answers with their norms;
it changes nothing. *Commit* builds new arrays and swaps all references at once; it never writes in place, so graphs and
checkpoints that hold the old arrays stay right. Both are idempotent, and both refuse a coordinator of an earlier term.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distgrad.autograd.rows import Rows
from distgrad.autograd.tensor import Tensor
from distgrad.errors import ContextError, PermissionDenied
from distgrad.graph.share import Share
from distgrad.graph.waiting import Promise
from distgrad.nn import Buffer, Module, Parameter
from distgrad.nn.parameter import BufferUpdate
from distgrad.optim import Optimizer
from distgrad.optim.optimizer import check_gradient


@dataclass(frozen=True, slots=True)
class Norm:
    """Euclidean norm of one parameter's gradient, in float64."""

    parameter: str
    norm: float
    finite: bool


@dataclass(frozen=True, slots=True)
class _Pinned:
    """What a prepared update needs: gradients by parameter, and changes of buffers in program order."""

    version: int
    gradients: dict[str, Any]
    buffers: list[BufferUpdate]


class Ownership:
    """The parameters of one optimizer on this worker.

    Used in the compute slot only, between calls; `reached` alone may be called from any thread.

    Attributes:
        version: number of updates applied.
        term: highest term of a coordinator seen.
        shards: by name.
        state: of the optimizer; names are SHARD/PARAMETER/SLOT.
    """

    def __init__(self, name: str, optimizer: Optimizer, version: int, term: int) -> None:
        self.name = name
        self.optimizer = optimizer
        self.version = version
        self.term = term
        self.shards: dict[str, Module] = {}
        self.state: dict[str, Any] = {}
        self._pinned: _Pinned | None = None
        self._lock = threading.Lock()  # guards `version` and `_reached`
        self._reached: dict[int, Promise[None]] = {}

    def adopt(self, name: str, shard: Module) -> None:
        """Puts the parameters of a shard under this optimizer; again: nothing happens."""
        if name not in self.shards:
            self.shards[name] = shard
            self.state.update(self.optimizer.init(self._arrays([name])))

    # ---- versions ----------------------------------------------------------------------------------------------------

    def reached(self, version: int) -> Promise[None] | None:
        """None when this owner is at `version`; a promise when it is yet to come there.

        Raises ContextError when it is past it: the context began before an update that has been applied since.
        """
        with self._lock:
            if version > self.version:
                return self._reached.setdefault(version, Promise())
        self.require(version)
        return None

    def require(self, version: int) -> None:
        """Raises ContextError when this owner is not at `version`."""
        if version != self.version:
            raise ContextError(
                f"the context began at version {version} of optimizer {self.name!r}, which is at {self.version} now; "
                "make the calls of a step in contexts begun after the step before it"
            )

    def _arrive(self, version: int) -> None:
        """This owner is at `version` now: calls that waited for it go on."""
        with self._lock:
            self.version = version
            promise = self._reached.pop(version, None)
        if promise is not None:
            promise.set_result(None)

    # ---- the update --------------------------------------------------------------------------------------------------

    def prepare(self, term: int, version: int, shares: Sequence[Share]) -> list[Norm]:
        """Pins the sum of the gradients of `shares`, in their order, for the update to `version`.

        Raises:
            PermissionDenied: the term is over.
            ContextError: this owner is not at the version before.
            ConfigError: a gradient does not have its parameter's shape.
        """
        self.check_term(term)
        if version != self.version + 1:
            raise ContextError(
                f"optimizer {self.name!r} is at version {self.version} here and cannot prepare {version}"
            )
        gradients: dict[str, Any] = {}
        for name, parameter in self._parameters(self.shards):
            total = _sum(share.gradient(parameter.node) for share in shares)
            if total is not None:
                check_gradient(parameter, total)
                gradients[name] = total
        self._pinned = _Pinned(version, gradients, [update for share in shares for update in self._staged(share)])
        return [Norm(name, *_norm(gradient)) for name, gradient in sorted(gradients.items())]

    def commit(self, term: int, version: int, clip_factor: float, learning_rate: float) -> None:
        """Applies the update to `version` that was prepared; again: nothing happens.

        Raises:
            PermissionDenied: the term is over.
            ContextError: it was never prepared here.
        """
        self.check_term(term)
        if version <= self.version:
            return
        pinned = self._pinned
        if pinned is None or pinned.version != version:
            raise ContextError(f"optimizer {self.name!r} is at version {self.version} and has not prepared {version}")
        gradients = _scaled(pinned.gradients, clip_factor)
        parameters = dict(self._parameters(self.shards))
        old = {name: parameter.data for name, parameter in parameters.items()}
        new, state = self.optimizer.update(old, gradients, self.state, version, learning_rate)
        buffers = _blended(pinned.buffers)
        # All that can fail is done: swap.
        for name, parameter in parameters.items():
            parameter.set_data(new[name])
        for buffer, value in buffers:
            buffer.set_data(value)
        self.state = state
        self._pinned = None
        self._arrive(version)

    def withdraw(self, term: int, version: int) -> None:
        """Lets go of what was pinned for the update to `version`, if anything was."""
        self.check_term(term)
        if self._pinned is not None and self._pinned.version == version:
            self._pinned = None

    @property
    def pinned(self) -> bool:
        """Whether an update is prepared and not decided."""
        return self._pinned is not None

    def check_term(self, term: int) -> None:
        """Raises PermissionDenied for a coordinator that another one has replaced."""
        if term < self.term:
            raise PermissionDenied(f"a coordinator of term {term} came after one of term {self.term}: it is refused")
        self.term = term

    # ---- state -------------------------------------------------------------------------------------------------------

    def state_of(self, shard: str) -> dict[str, Any]:
        """The optimizer's state of one shard; names are PARAMETER/SLOT."""
        prefix = f"{shard}/"
        return {name.removeprefix(prefix): array for name, array in self.state.items() if name.startswith(prefix)}

    def load(self, shard: str, state: Mapping[str, Any]) -> None:
        """Takes over the optimizer's state of one shard, which has been checked."""
        self.state = {**self.state, **{f"{shard}/{name}": np.array(array) for name, array in state.items()}}

    def move_to(self, version: int) -> None:
        """From now on this owner is at `version`, whatever it was at. What was pinned is dropped, and calls that waited
        for a version fail: their contexts began in a course of training that has been given up."""
        self._pinned = None
        with self._lock:
            waiting, self._reached = self._reached, {}
        for waited, promise in waiting.items():
            promise.set_error(
                ContextError(
                    f"the context began at version {waited} of optimizer {self.name!r}, which was restored to {version}"
                )
            )
        self._arrive(version)

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _parameters(self, shards: Iterable[str]) -> list[tuple[str, Parameter]]:
        """The trainable parameters as SHARD/PARAMETER."""
        return [
            (f"{shard}/{name}", parameter)
            for shard in shards
            for name, parameter in self.shards[shard].named_parameters()
            if parameter.requires_grad
        ]

    def _arrays(self, shards: Iterable[str]) -> dict[str, Any]:
        return {name: parameter.data for name, parameter in self._parameters(shards)}

    def _staged(self, share: Share) -> list[BufferUpdate]:
        """The changes of this owner's buffers staged in a context, in program order of the calls that made them."""
        own = {id(buffer) for shard in self.shards.values() for buffer in shard.buffers()}
        staged = (update for _, updates in sorted(share.staged.items()) for update in updates)
        return [update for update in staged if id(update.buffer) in own]

    def __repr__(self) -> str:
        pinned = f", {self._pinned.version} prepared" if self._pinned else ""
        return (
            f"<Ownership of {', '.join(self.shards) or 'nothing'} under {self.name} at version {self.version}{pinned}>"
        )


def _sum(gradients: Iterable[Any]) -> Any:
    """The sum in the order given, of those that are there; None when none is."""
    total = None
    for gradient in gradients:
        if gradient is not None:
            plain = gradient.data if isinstance(gradient, Tensor) else gradient
            total = plain if total is None else total + plain
    return total


def _scaled(gradients: dict[str, Any], factor: float) -> dict[str, Any]:
    """The gradients times a factor, each in its own dtype."""
    if factor == 1.0:
        return gradients
    return {name: gradient * np.asarray(factor, _real(gradient.dtype)) for name, gradient in gradients.items()}


def _blended(updates: Sequence[BufferUpdate]) -> list[tuple[Buffer, Any]]:
    """What buffers become when the updates are made one after the other."""
    values: dict[int, tuple[Buffer, Any]] = {}
    for update in updates:
        _, value = values.get(id(update.buffer), (None, update.buffer.data))
        values[id(update.buffer)] = update.buffer, update.after(value)
    return list(values.values())


def _norm(gradient: Any) -> tuple[float, bool]:
    values = gradient.values if isinstance(gradient, Rows) else np.asarray(gradient)
    with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is told
        wide = np.abs(values).astype(np.float64).ravel()
        norm = float(np.sqrt(np.dot(wide, wide)))
    return norm, bool(np.isfinite(norm))


def _real(dtype: Any) -> Any:
    return np.empty(0, dtype).real.dtype
