"""Kinds of data that a job can be trained on in the process that drives it, and how a run goes on where another ended.

    batch(step)                         any batch at any time: a run can go back to any step
    an iterable with a state            `state_dict()` goes into checkpoints, `load_state_dict()` goes back to one
    any other iterable                  batches come once, in turn: such a run cannot be resumed

Each gives (inputs, targets), arrays with the examples along the first axis. Data that never leaves its shards is not
here but in `batches`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

from distgrad.errors import ConfigError


@runtime_checkable
class ByStep(Protocol):
    """Data that depends on nothing but the step, so a step can be taken again."""

    def batch(self, step: int) -> Any:
        """Inputs and targets of a step (from 0)."""


@runtime_checkable
class Stateful(Protocol):
    """Data that knows how far it has come. It is iterated once more when it has ended.

    The state is plain data: numbers, text, true, false, None, and lists and dicts of these. It is taken between two
    batches; after `load_state_dict` a new iterator goes on from there.
    """

    def __iter__(self) -> Iterator[Any]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Source(Protocol):
    """Gives batches, each step's in turn.

    Attributes:
        resumable: whether `restore` can go back to what `state` told.
        any_step: whether batches can be had in any order.
    """

    resumable: bool
    any_step: bool

    def batch(self, step: int) -> Any: ...

    def state(self) -> str:
        """Where it stands, as text for a checkpoint."""

    def restore(self, state: str) -> None:
        """Goes back to where it stood. Raises ConfigError when it cannot."""


def source(data: object, name: str) -> Source:
    """How batches are drawn from data of whichever kind.

    Arguments:
        name: of the data, for messages.

    Raises:
        ConfigError: it is of no kind.
    """
    if isinstance(data, ByStep):
        return _ByStep(data)
    if isinstance(data, Stateful):
        return _Stateful(data, name)
    if isinstance(data, Iterable):
        return _Once(data, name)
    raise ConfigError(
        f"data {name} has neither batch(step), nor can it be iterated: expected an object with batch(step), an "
        "iterable with state_dict() and load_state_dict(), or an iterable"
    )


class _ByStep:
    resumable = True
    any_step = True

    def __init__(self, data: ByStep) -> None:
        self._data = data

    def batch(self, step: int) -> Any:
        return self._data.batch(step)

    def state(self) -> str:
        return ""

    def restore(self, state: str) -> None:
        pass  # the step says it all


class _Once:
    """Batches of an iterable, over and over when it can be iterated again."""

    resumable = False
    any_step = False

    def __init__(self, data: Iterable[Any], name: str) -> None:
        self._name = name
        self._data = data
        self._iterator: Iterator[Any] | None = None

    def batch(self, step: int) -> Any:
        for _ in range(2):
            if self._iterator is None:
                self._iterator = iter(self._data)
            for batch in self._iterator:
                return batch
            self._iterator = None
        raise ConfigError(f"data {self._name} has ended before step {step + 1}, and is empty when iterated again")

    def state(self) -> str:
        return ""

    def restore(self, state: str) -> None:
        raise ConfigError(
            f"data {self._name} is a plain iterable: it cannot go back to where a checkpoint was written, so the run "
            "cannot be resumed. Give it batch(step), or state_dict() and load_state_dict()"
        )


class _Stateful(_Once):
    resumable = True

    def __init__(self, data: Stateful, name: str) -> None:
        super().__init__(data, name)
        self._stateful = data

    def state(self) -> str:
        state = self._stateful.state_dict()
        try:
            return json.dumps(state)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"data {self._name}: state_dict() must give plain data for checkpoints: {error}"
            ) from error

    def restore(self, state: str) -> None:
        if not state:
            raise ConfigError(
                f"the checkpoint holds no state of data {self._name}: it was written by a run on other data"
            )
        self._stateful.load_state_dict(json.loads(state))
        self._iterator = None
