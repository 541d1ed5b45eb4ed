"""A job's examples, checked and cut into microbatches."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distgrad.errors import ConfigError, ProgramError
from distgrad.worker.programs import Programs

from .data import Source, source
from .job import Job
from .specs import DataSpec, EvaluationSpec
from .stages import Stage


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

    def values(self, shards: Mapping[str, Any]) -> tuple[Any, Any]:
        """What the pipeline is given as inputs and targets. Called in the microbatch's context.

        Arguments:
            shards: handles by name.
        """
        return self.inputs, self.targets


@dataclass(frozen=True, eq=False)
class HeldMicrobatch(Microbatch):
    """A piece of a batch that shards hold: `inputs` and `targets` are the calls that give it.

    Attributes:
        numbers: what the calls are given.
    """

    inputs: Stage
    targets: Stage
    numbers: tuple[int, ...]

    def values(self, shards: Mapping[str, Any]) -> tuple[Any, Any]:
        """Two Refs: the values go from the shards that hold them to the stages that use them, or stay."""
        calls = (self.inputs, self.targets)
        inputs, targets = (getattr(shards[call.shard], call.method)(*self.numbers) for call in calls)
        return inputs, targets


class Batches(ABC):
    """The data of a job.

    Attributes:
        resumable: whether a run can go on where another ended.
        any_step: whether the batch of any step can be had at any time.
    """

    resumable: bool
    any_step: bool

    @abstractmethod
    def microbatches(self, step: int) -> Sequence[Microbatch]:
        """The batch of a step (from 0), cut into pieces of as equal size as can be, none of them empty.

        Raises:
            ConfigError: the data failed, or did not give what it should.
        """

    @abstractmethod
    def held_out(self) -> Sequence[Microbatch]:
        """Examples that are never trained on, in pieces. Raises as `microbatches` does."""

    def sample(self, call: Callable[[Any], Any]) -> str:
        """Text that shows what the model does, made by calling it; empty when the data does not say how."""
        return ""

    @abstractmethod
    def state(self) -> str:
        """How far the data has been used, for a checkpoint."""

    @abstractmethod
    def restore(self, state: str) -> None:
        """Goes back to where the data stood. Raises ConfigError when it cannot."""


def open_batches(job: Job, data: object = None) -> Batches:
    """The data of a job: `data`, or what the job says.

    Raises:
        ConfigError: there is none, or it is not of a kind that can be used, or lacks what the job needs.
    """
    spec = job.data
    if data is not None:
        return DrivenBatches(job, data, type(data).__name__)
    if spec is None:
        raise ConfigError(f"job {job.name!r} has no [data], and none was given: Trainer(cluster, job, data)")
    if spec.program is None:
        return HeldBatches(job, spec)
    return DrivenBatches(job, _made(job, spec, spec.program), spec.program)


class DrivenBatches(Batches):
    """Data in the process that drives the training, which hands it to the shards."""

    def __init__(self, job: Job, data: object, name: str) -> None:
        self._data: Any = data
        self._name = name
        self._pieces = job.microbatches * job.replicas
        self._source: Source = source(data, name)
        self._evaluation = job.evaluation
        self.resumable = self._source.resumable
        self.any_step = self._source.any_step
        if job.evaluation is not None and not hasattr(data, "held_out"):
            raise ConfigError(f"data {name} has no held_out(), which [evaluation] of the job needs")
        if job.pipeline.sample and not hasattr(data, "sample"):
            raise ConfigError(f"data {name} has no sample(), which pipeline.sample of the job is for")

    def microbatches(self, step: int) -> Sequence[Microbatch]:
        inputs, targets = self._ask(f"batch({step})", lambda: self._source.batch(step))
        return _cut(inputs, targets, self._pieces)

    def held_out(self) -> Sequence[Microbatch]:
        inputs, targets = self._ask("held_out()", self._data.held_out)
        size = self._evaluation.batch if self._evaluation is not None else 0
        return _cut(inputs, targets, -(-len(inputs) // size) if size else 1)

    def sample(self, call: Callable[[Any], Any]) -> str:
        return str(self._data.sample(call))

    def state(self) -> str:
        return self._source.state()

    def restore(self, state: str) -> None:
        self._source.restore(state)

    def _ask(self, what: str, call: Callable[[], Any]) -> tuple[Any, Any]:
        try:
            found = call()
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(f"data {self._name}: {what} raised {type(error).__name__}: {error}") from error
        if not (isinstance(found, tuple | list) and len(found) == 2):
            raise ConfigError(f"data {self._name}: {what} gave a {type(found).__name__}, expected (inputs, targets)")
        inputs, targets = (np.asarray(part) for part in found)
        if inputs.ndim == 0 or targets.ndim == 0 or len(inputs) != len(targets) or len(inputs) == 0:
            raise ConfigError(
                f"data {self._name}: {what} gave inputs of shape {inputs.shape} and targets of shape "
                f"{targets.shape}, expected the same number of examples, at least one, along the first axis of both"
            )
        return inputs, targets


class HeldBatches(Batches):
    """Data that shards hold. All that leaves this process is numbers: of the step and of the microbatch."""

    resumable = True
    any_step = True

    def __init__(self, job: Job, spec: DataSpec) -> None:
        assert spec.inputs is not None
        assert spec.targets is not None
        self._calls = spec.inputs, spec.targets
        self._count = job.microbatches * job.replicas
        self._evaluation = job.evaluation

    def microbatches(self, step: int) -> Sequence[Microbatch]:
        numbers = range(self._count)
        return [HeldMicrobatch(*self._calls, 1 / self._count, (step, number, self._count)) for number in numbers]

    def held_out(self) -> Sequence[Microbatch]:
        spec = self._evaluation
        assert isinstance(spec, EvaluationSpec)
        assert spec.inputs is not None
        assert spec.targets is not None
        return [HeldMicrobatch(spec.inputs, spec.targets, 1.0, ())]

    def state(self) -> str:
        return ""

    def restore(self, state: str) -> None:
        pass  # the step says it all


def _cut(inputs: Any, targets: Any, count: int) -> list[Microbatch]:
    count = min(count, len(inputs))
    pieces = zip(np.array_split(inputs, count), np.array_split(targets, count), strict=True)
    return [Microbatch(x, y, len(x) / len(inputs)) for x, y in pieces]


def _made(job: Job, spec: DataSpec, program: str) -> object:
    """Makes the data of a job: its class is given the config, and the job's seed if it takes one."""
    kind = Programs(job.cluster.programs).find(program)
    if not isinstance(kind, type):
        raise ProgramError(f"data {program} must be a class, for example with batch(step), not {kind!r}")
    config = dict(spec.config)
    if "seed" in inspect.signature(kind).parameters:
        config.setdefault("seed", job.seed)
    try:
        data: object = kind(**config)
    except Exception as error:
        raise ConfigError(f"data {program} cannot be made: {type(error).__name__}: {error}") from error
    return data
