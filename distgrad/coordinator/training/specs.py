"""The tables of a job file as frozen dataclasses, each value with its rule. `job` reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from distgrad.optim import Optimizer, from_settings, schedules
from distgrad.transport.settings import Lossy
from distgrad.wire.encodings import ENCODINGS

from ..names import numbered_workers
from .schedule import SCHEDULES
from .stages import Stage, parse_stage
from .tables import Check, Parse

_LETTERS = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_PROGRAM = re.compile(r"[A-Za-z0-9_./-]+\.py:[A-Za-z_][A-Za-z0-9_]*")


def _worker_names(raw: object) -> tuple[str, ...]:
    if type(raw) is int and raw > 0:
        return numbered_workers(raw)
    if isinstance(raw, list) and raw and all(isinstance(name, str) and _LETTERS.fullmatch(name) for name in raw):
        return tuple(raw)
    raise ValueError


Positive = Annotated[int, Check("at least 1", lambda value: value >= 1)]
Count = Annotated[int, Check("at least 0", lambda value: value >= 0)]
Seconds = Annotated[float, Check("more than 0", lambda value: value > 0)]
NotNegative = Annotated[float, Check("at least 0", lambda value: value >= 0)]
Seed = Annotated[int, Check("from 0 to 2**64 - 1", lambda value: 0 <= value < 2**64)]
Name = Annotated[str, Check("a letter, then letters, digits, '-' or '_'", _LETTERS.fullmatch)]
Program = Annotated[str, Check('"FILE.py:NAME" with FILE.py in the folder of programs', _PROGRAM.fullmatch)]
ScheduleName = Annotated[str, Check(f"one of {', '.join(SCHEDULES)}", SCHEDULES.__contains__)]
Encoding = Annotated[str, Check(f"{', '.join(ENCODINGS)}, or empty", ("", *ENCODINGS).__contains__)]
NotEmpty = Check("at least one", bool)
OneStage = Annotated[Stage, Parse('"SHARD.METHOD" or "SHARD.METHOD(ARGUMENT, ...)"', parse_stage)]
Stages = tuple[OneStage, ...]


@dataclass(frozen=True)
class ClusterSpec:
    """The processes.

    Attributes:
        workers: their names; w0, w1, ... when the file gives a number.
        programs: the folder of shard programs.
        blas_threads: threads for matrix products, in each process.
        lossy_values, lossy_gradients: "bf16", "fp16" or "int8": large arrays of floats travel between workers that this
            job starts with fewer digits (`dg.Lossy`); empty: as they are.
    """

    workers: Annotated[
        tuple[str, ...], Parse('a number from 1 to 1000, or a list of names like ["w0", "w1"]', _worker_names)
    ]
    programs: Path
    blas_threads: Positive = 1
    lossy_values: Encoding = ""
    lossy_gradients: Encoding = ""

    @property
    def lossy(self) -> Lossy:
        return Lossy(values=self.lossy_values, gradients=self.lossy_gradients)


@dataclass(frozen=True)
class ShardSpec:
    """One piece of the model.

    Attributes:
        worker: None lets the coordinator choose.
        config: keyword arguments of the class.
        recompute: between forward and backward its calls keep their arguments alone, and are computed again on the way
            back: less memory for more time, and the same bits (`dg.checkpoint`).
    """

    name: Name
    program: Program
    worker: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    recompute: bool = False


@dataclass(frozen=True)
class PipelineSpec:
    """The calls of one microbatch; see `stages` for how they are written.

    Attributes:
        forward: the last stage returns the loss, the mean over the microbatch.
        evaluate: the last stage returns predictions, one for each target; or, when `targets` is among its arguments,
            the share of them that is right. Empty: evaluation is by the loss alone.
        sample: what the data's `sample` may call to show at the end what the model does. Empty: nothing is shown.
        schedule: whose turn it is at a worker that has work of several microbatches; see `schedule`.
        warm_up: microbatches that may be alive beyond those that fill the pipeline. None: as many again.
    """

    forward: Annotated[Stages, NotEmpty]
    evaluate: Stages = ()
    sample: Stages = ()
    schedule: ScheduleName = "zero-bubble"
    warm_up: Count | None = None


@dataclass(frozen=True)
class OptimizerSpec:
    """How parameters move.

    Attributes:
        kind: a class of `distgrad.optim`.
        settings: its keyword arguments.
        schedule: the learning rate over the steps, as a factor: "kind" is a class of `distgrad.optim.schedules`, the
            rest are its keyword arguments. Empty: it stays.
        clip_norm: gradients are scaled down so that the norm of all together is at most this; 0: never.
    """

    kind: Name
    settings: Mapping[str, Any] = field(default_factory=dict)
    schedule: Mapping[str, Any] = field(default_factory=dict)
    clip_norm: NotNegative = 0.0

    def rule(self) -> Optimizer:
        """The optimizer. Raises ConfigError when there is none of that kind, or it refuses the settings."""
        return from_settings(self.kind, self.settings)

    def learning_rate(self, step: int) -> float:
        """Of the step after `step` others. Raises ConfigError when there is no such schedule."""
        factor = schedules.from_settings(self.schedule)(step) if self.schedule else 1.0
        return self.rule().lr * factor


@dataclass(frozen=True)
class DataSpec:
    """Where batches come from: a class of the folder of programs, or shards that hold the data themselves.

    Attributes:
        program: a class with `batch(step)`.
        config: its keyword arguments.
        inputs, targets: instead of a program, methods of shards. Each is given the number of the step, of the
            microbatch, and how many microbatches there are, and returns its part: the values stay with the shards and
            those they are handed to.
    """

    program: Program | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    inputs: OneStage | None = None
    targets: OneStage | None = None

    @property
    def held(self) -> bool:
        """Whether shards hold the data."""
        return self.inputs is not None or self.targets is not None


@dataclass(frozen=True)
class EvaluationSpec:
    """Looks at examples that are never trained on, now and then and at the end.

    Attributes:
        every: steps between evaluations.
        batch: examples in a call; 0: all at once.
        inputs, targets: methods of the shards that hold the data, which return the held-out examples.
    """

    every: Positive
    batch: Count = 0
    inputs: OneStage | None = None
    targets: OneStage | None = None


@dataclass(frozen=True)
class CheckpointSpec:
    """`every`: steps between checkpoints. `keep`: how many of the newest stay."""

    directory: Path
    every: Positive
    keep: Positive = 3


@dataclass(frozen=True)
class RecoverySpec:
    """What a run does when processes are lost.

    Attributes:
        max_failures: how many losses of processes are survived; one more ends the run.
        replicate: every worker's state is kept by another worker as well, so that no step is taken again.
        patience_seconds: for a lost worker, or one that takes its place, to come; and for the next coordinator of a
            cluster that others have started.
    """

    max_failures: Count = 10
    replicate: bool = False
    patience_seconds: Seconds = 30.0


@dataclass(frozen=True)
class MetricsSpec:
    """What is written down of a run: the numbers of every step, and the job as it ran.

    Attributes:
        directory: None: the checkpoints', or, without any, runs/NAME in the current directory.
        tensorboard: event files for TensorBoard as well; needs the extra `tensorboard`.
    """

    directory: Path | None = None
    tensorboard: bool = False


@dataclass(frozen=True)
class LimitsSpec:
    """Where patience ends.

    Attributes:
        join_seconds: for all workers to have joined.
        silence_seconds: after which a process that says nothing, not even that it lives, is lost.
        call_depth: how deep calls may nest.
        transfer_bytes: of large arrays under way on one link.
    """

    join_seconds: Seconds = 30.0
    silence_seconds: Seconds = 3.0
    call_depth: Positive = 1000
    transfer_bytes: Positive = 16 * 2**30
