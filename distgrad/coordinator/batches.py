"""Where a job's examples come from, checked, and cut into microbatches."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from distgrad.errors import ConfigError, ProgramError
from distgrad.worker.programs import Programs

from .job import Job


class Data(Protocol):
    """What the class of a job's data offers. `batch` depends on nothing but `step`, so a step can be taken again."""

    def batch(self, step: int) -> tuple[Any, Any]:
        """Inputs and targets of a step (from 0), arrays with the examples along the first axis."""

    def held_out(self) -> tuple[Any, Any]:
        """Inputs and targets that are never trained on. Only needed by jobs with an [evaluation]."""


@dataclass(frozen=True, eq=False)
class Microbatch:
    """A piece of a batch.

    Attributes:
        inputs, targets: arrays with the examples along the first axis.
        share: of the batch's examples that are in it.
    """

    inputs: Any
    targets: Any
    share: float


class Batches:
    """The data of a job.

    Arguments:
        program: "FILE.py:CLASS" of the data, for messages.
        microbatches: how many pieces a batch is cut into.
    """

    def __init__(self, data: Data, program: str, microbatches: int) -> None:
        self._data = data
        self._program = program
        self._microbatches = microbatches

    @classmethod
    def open(cls, job: Job) -> Batches:
        """Makes the data of a job: its class is given the config, and the job's seed if it takes one.

        Raises:
            ConfigError: there is no such class, or it refuses.
        """
        spec = job.data
        kind = Programs(job.cluster.programs).find(spec.program)
        if not (isinstance(kind, type) and hasattr(kind, "batch")):
            raise ProgramError(f"data {spec.program} must be a class with batch(step), not {kind!r}")
        if job.evaluation is not None and not hasattr(kind, "held_out"):
            raise ProgramError(f"data {spec.program} has no held_out(), which [evaluation] of the job needs")
        config = dict(spec.config)
        if "seed" in inspect.signature(kind).parameters:
            config.setdefault("seed", job.seed)
        try:
            data: Data = kind(**config)
        except Exception as error:
            raise ConfigError(f"data {spec.program} cannot be made: {type(error).__name__}: {error}") from error
        return cls(data, spec.program, job.microbatches)

    def microbatches(self, step: int) -> list[Microbatch]:
        """The batch of a step (from 0), cut into pieces of as equal size as can be, none of them empty.

        Raises:
            ConfigError: the data failed, or did not give what it should.
        """
        inputs, targets = self._ask(f"batch({step})", lambda: self._data.batch(step))
        count = min(self._microbatches, len(inputs))
        pieces = zip(np.array_split(inputs, count), np.array_split(targets, count), strict=True)
        return [Microbatch(x, y, len(x) / len(inputs)) for x, y in pieces]

    def held_out(self) -> tuple[Any, Any]:
        """Inputs and targets that are never trained on. Raises as `microbatches` does."""
        return self._ask("held_out()", self._data.held_out)

    def _ask(self, what: str, call: Callable[[], Any]) -> tuple[Any, Any]:
        try:
            found = call()
        except Exception as error:
            raise ConfigError(f"data {self._program}: {what} raised {type(error).__name__}: {error}") from error
        if not (isinstance(found, tuple | list) and len(found) == 2):
            raise ConfigError(f"data {self._program}: {what} gave a {type(found).__name__}, expected (inputs, targets)")
        inputs, targets = (np.asarray(part) for part in found)
        if inputs.ndim == 0 or targets.ndim == 0 or len(inputs) != len(targets) or len(inputs) == 0:
            raise ConfigError(
                f"data {self._program}: {what} gave inputs of shape {inputs.shape} and targets of shape "
                f"{targets.shape}, expected the same number of examples, at least one, along the first axis of both"
            )
        return inputs, targets
