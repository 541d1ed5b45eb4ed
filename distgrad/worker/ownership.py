"""The parameters that live on a worker, and the two halves of an update.

An update happens on every owner or on none. *Prepare* pins the gradients of the contexts and answers with their norms;
it changes nothing. *Commit* builds new arrays and swaps all references at once; it never writes in place, so graphs and
checkpoints that hold the old arrays stay right. Both are idempotent, and both refuse a coordinator of an earlier term.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from distgrad.autograd.rows import Rows
from distgrad.autograd.tensor import Tensor
from distgrad.errors import ContextError, PermissionDenied
from distgrad.graph.share import Share
from distgrad.graph.waiting import Promise
from distgrad.nn import Module, Parameter
from distgrad.nn.parameter import BufferUpdate
from distgrad.optim import Optimizer


@dataclass(frozen=True, slots=True)
class Norm:
    """Euclidean norm of one parameter's gradient, in float64."""

    parameter: str
    norm: float
    finite: bool


@dataclass(slots=True)
class _Pinned:
    """What a prepared update needs: gradients by parameter, and changes of buffers in program order."""

    gradients: dict[str, Any]
    buffers: list[BufferUpdate] = field(default_factory=list)


class Ownership:
    """The parameters of one optimizer on this worker.

    Not locked: it is used in the compute slot only, between calls.

    Attributes:
        version: number of updates applied.
        term: highest term of a coordinator seen.
    """

    def __init__(self, name: str, optimizer: Optimizer, version: int, term: int) -> None:
        self.name = name
        self.optimizer = optimizer
        self.version = version
        self.term = term
        self.shards: dict[str, Module] = {}
        self.state: dict[str, Any] = {}
        self._pinned: dict[int, _Pinned] = {}
        self._reached: dict[int, Promise[None]] = {}

    def adopt(self, name: str, shard: Module) -> None:
        """Puts the parameters of a shard under this optimizer."""
        self.shards[name] = shard
        self.state.update(self.optimizer.init(self._arrays([name])))

    # ---- versions ----------------------------------------------------------------------------------------------------

    def reached(self, version: int) -> Promise[None] | None:
        """None when this owner is at `version`; a promise when it is yet to come there.

        Raises ContextError when it is past it: the context began before an update that has been applied since.
        """
        if version < self.version:
            raise ContextError(
                f"the context began at version {version} of optimizer {self.name!r}, which is at {self.version} now; "
                "make the calls of a step in contexts begun after the step before it"
            )
        return None if version == self.version else self._reached.setdefault(version, Promise())

    def _arrive(self, version: int) -> None:
        self.version = version
        for waited in [v for v in self._reached if v <= version]:
            self._reached.pop(waited).set_result(None)

    # ---- the update --------------------------------------------------------------------------------------------------

    def prepare(self, term: int, version: int, shares: Sequence[Share]) -> list[Norm]:
        """Pins the sum of the gradients of `shares`, in their order, for the update to `version`.

        Raises:
            PermissionDenied: the term is over.
            ContextError: this owner is not at the version before.
        """
        self._check_term(term)
        if version != self.version + 1:
            raise ContextError(
                f"optimizer {self.name!r} is at version {self.version} here and cannot prepare {version}"
            )
        gradients: dict[str, Any] = {}
        for name, parameter in self._parameters(self.shards):
            total = _sum(share.gradient(parameter.node) for share in shares)
            if total is not None:
                gradients[name] = total
        self._pinned[version] = _Pinned(gradients, [update for share in shares for update in _buffers(share, self)])
        return [Norm(name, *_norm(gradient)) for name, gradient in sorted(gradients.items())]

    def commit(self, term: int, version: int, clip_factor: float, learning_rate: float) -> None:
        """Applies the update to `version` that was prepared; again: nothing happens.

        Raises:
            PermissionDenied: the term is over.
            ContextError: it was never prepared here.
        """
        self._check_term(term)
        if version <= self.version:
            return
        pinned = self._pinned.get(version)
        if pinned is None or version != self.version + 1:
            raise ContextError(f"optimizer {self.name!r} is at version {self.version} and has not prepared {version}")
        gradients = pinned.gradients
        if clip_factor != 1.0:
            gradients = {
                name: gradient * np.asarray(clip_factor, _real(gradient.dtype)) for name, gradient in gradients.items()
            }
        parameters = dict(self._parameters(self.shards))
        old = {name: parameter.data for name, parameter in parameters.items()}
        new, state = self.optimizer.update(old, gradients, self.state, version, learning_rate)
        # All that can fail is done: swap.
        for name, parameter in parameters.items():
            parameter.set_data(new[name])
        self.state = state
        for update in pinned.buffers:
            update.apply()
        self._pinned.clear()
        self._arrive(version)

    def withdraw(self, term: int, version: int) -> None:
        """Lets go of what was pinned for the update to `version`, if anything was."""
        self._check_term(term)
        self._pinned.pop(version, None)

    def load(self, shard: str, state: Mapping[str, Any], version: int) -> None:
        """Takes over the optimizer's state of one shard, at `version`."""
        self.state.update({f"{shard}/{name}": array for name, array in state.items()})
        self._pinned.clear()
        self._arrive(version)

    def state_of(self, shard: str) -> dict[str, Any]:
        """The optimizer's state of one shard; names are PARAMETER/SLOT."""
        prefix = f"{shard}/"
        return {name.removeprefix(prefix): array for name, array in self.state.items() if name.startswith(prefix)}

    @property
    def pinned(self) -> int:
        """How many updates are prepared and not decided."""
        return len(self._pinned)

    def _check_term(self, term: int) -> None:
        if term < self.term:
            raise PermissionDenied(f"a coordinator of term {term} came after one of term {self.term}: it is refused")
        self.term = term

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


def _sum(gradients: Iterable[Any]) -> Any:
    """The sum in the order given, of those that are there; None when none is."""
    total = None
    for gradient in gradients:
        if gradient is not None:
            plain = gradient.data if isinstance(gradient, Tensor) else gradient
            total = plain if total is None else total + plain
    return total


def _buffers(share: Share, owner: Ownership) -> list[BufferUpdate]:
    """The changes of this owner's buffers staged in a context, in program order of the calls that made them."""
    own = {id(buffer) for shard in owner.shards.values() for buffer in shard.buffers()}
    return [update for _, updates in sorted(share.staged.items()) for update in updates if id(update.buffer) in own]


def _norm(gradient: Any) -> tuple[float, bool]:
    values = gradient.values if isinstance(gradient, Rows) else np.asarray(gradient)
    wide = np.abs(values).astype(np.float64).ravel()
    norm = float(np.sqrt(np.dot(wide, wide)))
    return norm, bool(np.isfinite(norm))


def _real(dtype: Any) -> Any:
    return np.empty(0, dtype).real.dtype
