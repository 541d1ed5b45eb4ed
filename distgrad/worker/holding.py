"""State that moves by prepared updates, on every worker that holds it or on none.

*Prepare* pins the gradients and changes nothing. *Commit* builds new arrays and swaps all references at once; it never
writes in place, so graphs, snapshots and checkpoints that hold the old arrays stay right. Both are idempotent, and both
refuse a coordinator of an earlier term.

An owner and the copies of its state on other workers pin the same arrays and commit by the same arithmetic, which is
here; so they hold the same bits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distgrad.errors import ContextError, PermissionDenied
from distgrad.nn.parameter import blended
from distgrad.optim import Optimizer


@dataclass(frozen=True, slots=True)
class BufferChange:
    """One change of a buffer: `keep · buffer + addend`. The name is SHARD/BUFFER."""

    name: str
    keep: float
    addend: Any

    def after(self, value: Any) -> Any:
        return blended(value, self.keep, self.addend)


@dataclass(frozen=True, slots=True)
class Pinned:
    """What a prepared update needs.

    Attributes:
        version: that the update leads to.
        gradients: arrays or `Rows` by SHARD/PARAMETER; parameters without a gradient are absent.
        buffers: changes in program order.
    """

    version: int
    gradients: Mapping[str, Any]
    buffers: Sequence[BufferChange]


class Holding(ABC):
    """What a worker holds of one optimizer. Used in the compute slot only.

    Attributes:
        name: of the optimizer.
        version: number of updates applied.
        term: highest term of a coordinator seen.
        state: of the optimizer; names are SHARD/PARAMETER/SLOT.
        pending: the update that is prepared and not decided.
    """

    def __init__(self, name: str, optimizer: Optimizer, version: int, term: int) -> None:
        self.name = name
        self.optimizer = optimizer
        self.version = version
        self.term = term
        self.state: dict[str, Any] = {}
        self.pending: Pinned | None = None

    # ---- the arrays --------------------------------------------------------------------------------------------------

    @abstractmethod
    def trainable(self) -> dict[str, Any]:
        """The arrays that updates change, by SHARD/PARAMETER."""

    @abstractmethod
    def buffer(self, name: str) -> Any:
        """The array of the buffer SHARD/BUFFER."""

    @abstractmethod
    def shards_at_version(self) -> list[str]:
        """The shards that are at `version`."""

    @abstractmethod
    def _swap(self, parameters: Mapping[str, Any], buffers: Mapping[str, Any], version: int) -> None:
        """Puts new arrays in the place of the old ones; cannot fail."""

    # ---- the update --------------------------------------------------------------------------------------------------

    def pin(self, term: int, pinned: Pinned) -> None:
        """Keeps what the update to `pinned.version` needs, until it is committed or withdrawn.

        Raises:
            PermissionDenied: the term is over.
            ContextError: this is not at the version before.
        """
        self.check_term(term)
        self.require_next(pinned.version)
        self.pending = pinned

    def require_next(self, version: int) -> None:
        """Raises ContextError unless `version` is the next."""
        if version != self.version + 1:
            raise ContextError(
                f"optimizer {self.name!r} is at version {self.version} here and cannot prepare {version}"
            )

    def commit(self, term: int, version: int, clip_factor: float, learning_rate: float) -> None:
        """Applies the update to `version` that was prepared; again: nothing happens.

        Raises:
            PermissionDenied: the term is over.
            ContextError: it was never prepared here.
        """
        self.check_term(term)
        if version <= self.version:
            return
        pinned = self.pending
        if pinned is None or pinned.version != version:
            raise ContextError(f"optimizer {self.name!r} is at version {self.version} and has not prepared {version}")
        gradients = _scaled(pinned.gradients, clip_factor)
        new, state = self.optimizer.update(self.trainable(), gradients, self.state, learning_rate)
        buffers: dict[str, Any] = {}
        for change in pinned.buffers:
            old = buffers[change.name] if change.name in buffers else self.buffer(change.name)
            buffers[change.name] = change.after(old)
        # All that can fail is done.
        self.state = state
        self.pending = None
        self._swap(new, buffers, version)

    def withdraw(self, term: int, version: int) -> None:
        """Lets go of what was pinned for the update to `version`, if anything was."""
        self.check_term(term)
        if self.pending is not None and self.pending.version == version:
            self.pending = None

    @property
    def pinned(self) -> bool:
        """Whether an update is prepared and not decided."""
        return self.pending is not None

    @property
    def prepared(self) -> int:
        """The version of that update; 0 when there is none."""
        return self.pending.version if self.pending is not None else 0

    def check_term(self, term: int) -> None:
        """Raises PermissionDenied for a coordinator that another one has replaced."""
        if term < self.term:
            raise PermissionDenied(f"a coordinator of term {term} came after one of term {self.term}: it is refused")
        self.term = term

    def state_of(self, shard: str) -> dict[str, Any]:
        """The optimizer's state of one shard; names are PARAMETER/SLOT."""
        prefix = f"{shard}/"
        return {name.removeprefix(prefix): array for name, array in self.state.items() if name.startswith(prefix)}


def _scaled(gradients: Mapping[str, Any], factor: float) -> Mapping[str, Any]:
    """The gradients times a factor, each in its own dtype."""
    if factor == 1.0:
        return gradients
    return {name: gradient * np.asarray(factor, _real(gradient.dtype)) for name, gradient in gradients.items()}


def _real(dtype: Any) -> Any:
    return np.empty(0, dtype).real.dtype
