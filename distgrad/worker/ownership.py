"""The parameters that live on a worker, and how they take part in an update: see `holding`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distgrad.autograd.rows import Rows
from distgrad.autograd.tensor import Tensor
from distgrad.errors import ContextError
from distgrad.graph.share import Share
from distgrad.graph.waiting import Promise
from distgrad.nn import Buffer, Module, Parameter
from distgrad.optim import Optimizer
from distgrad.optim.optimizer import check_gradient

from .holding import BufferChange, Holding, Pinned
from .twins import original

# Gradients by SHARD/PARAMETER.
_Sums = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Norm:
    """Euclidean norm of one parameter's gradient, in float64."""

    parameter: str
    norm: float
    finite: bool


class Ownership(Holding):
    """The parameters of one optimizer on this worker.

    Used in the compute slot only, between calls; `reached` alone may be called from any thread.

    Attributes:
        shards: by name.
    """

    def __init__(self, name: str, optimizer: Optimizer, version: int, term: int) -> None:
        super().__init__(name, optimizer, version, term)
        self.shards: dict[str, Module] = {}
        self._behind: set[str] = set()  # the shards that are not at this version
        self._lock = threading.Lock()  # guards `version` and `_reached`
        self._reached: dict[int, Promise[None]] = {}

    def adopt(self, name: str, shard: Module) -> None:
        """Puts the parameters of a shard under this optimizer; again: nothing happens. One that comes to others which
        have taken steps is behind them until it is given a state: nobody must take it for trained."""
        if name not in self.shards:
            if self.shards and self.version:
                self._behind.add(name)
            self.shards[name] = shard
            own = {key: parameter.data for key, parameter in self._parameters([name])}
            self.state.update(self.optimizer.init(own))

    def release(self, name: str) -> None:
        """Lets go of a shard; the version is 0 when it was the last."""
        prefix = f"{name}/"
        self.shards.pop(name, None)
        self._behind.discard(name)
        self.state = {key: array for key, array in self.state.items() if not key.startswith(prefix)}
        if not self.shards:
            self.move_to(0)

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

    def prepare(
        self, term: int, version: int, shares: Sequence[Share], reduce: Callable[[_Sums], _Sums] | None = None
    ) -> list[Norm]:
        """Pins the sum of the gradients of `shares`, in their order, for the update to `version`; returns the norms of
        those that are not counted elsewhere.

        Arguments:
            reduce: adds what twins of the shards have found; may wait for their owners.

        Raises:
            PermissionDenied: the term is over.
            ContextError: this owner is not at the version before, or not with all its shards.
            ConfigError: a gradient does not have its parameter's shape.
        """
        self.check_term(term)
        self.require_next(version)
        if self._behind:
            shards = ", ".join(sorted(self._behind))
            raise ContextError(
                f"{shards} came with initial weights when optimizer {self.name!r} was at version {self.version}: "
                "recover, or restore a checkpoint"
            )
        gradients: dict[str, Any] = {}
        found = [share for share in shares if share.gradients]
        for name, parameter in self._parameters(self.shards):
            total = _sum(share.gradient(parameter.node) for share in found)
            if total is not None:
                check_gradient(parameter, total)
                gradients[name] = total
        if reduce is not None:
            gradients = reduce(gradients)
            self.require_next(version)  # who waited may be late
        self.pin(term, Pinned(version, gradients, [change for share in shares for change in self._staged(share)]))
        counted = {shard for shard in self.shards if shard == original(shard)}
        return [
            Norm(name, *_norm(gradient))
            for name, gradient in sorted(gradients.items())
            if name.partition("/")[0] in counted
        ]

    def _swap(self, parameters: Mapping[str, Any], buffers: Mapping[str, Any], version: int) -> None:
        for name, parameter in self._parameters(self.shards):
            parameter.set_data(parameters[name])
        own = dict(self._buffers())
        for name, value in buffers.items():
            own[name].set_data(value)
        self._arrive(version)

    # ---- state -------------------------------------------------------------------------------------------------------

    def load(self, shard: str, state: Mapping[str, Any]) -> None:
        """Takes over the optimizer's state of one shard, which has been checked."""
        self._behind.discard(shard)
        self.state = {**self.state, **{f"{shard}/{name}": np.array(array) for name, array in state.items()}}

    def move_to(self, version: int) -> None:
        """From now on this owner is at `version`, whatever it was at. What was pinned is dropped, and calls that waited
        for a version fail: their contexts began in a course of training that has been given up."""
        self.pending = None
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

    def _buffers(self) -> list[tuple[str, Buffer]]:
        """The buffers as SHARD/BUFFER."""
        return [(f"{shard}/{name}", item) for shard, own in self.shards.items() for name, item in own.named_buffers()]

    def trainable(self) -> dict[str, Any]:
        return {name: parameter.data for name, parameter in self._parameters(self.shards)}

    def buffer(self, name: str) -> Any:
        return dict(self._buffers())[name].data

    def shards_at_version(self) -> list[str]:
        return [name for name in self.shards if name not in self._behind]

    def _staged(self, share: Share) -> list[BufferChange]:
        """The changes of this owner's buffers staged in a context, in program order of the calls that made them."""
        if not share.staged:  # the usual case; the rest asks each shard for its buffers
            return []
        names = {id(buffer): name for name, buffer in self._buffers()}
        staged = (update for _, updates in sorted(share.staged.items()) for update in updates)
        return [
            BufferChange(names[id(update.buffer)], update.keep, update.addend)
            for update in staged
            if id(update.buffer) in names
        ]

    def __repr__(self) -> str:
        pinned = f", {self.prepared} prepared" if self.pinned else ""
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


def _norm(gradient: Any) -> tuple[float, bool]:
    values = gradient.values if isinstance(gradient, Rows) else np.asarray(gradient)
    with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is told
        wide = np.abs(values).astype(np.float64).ravel()
        norm = float(np.sqrt(np.dot(wide, wide)))
    return norm, bool(np.isfinite(norm))
