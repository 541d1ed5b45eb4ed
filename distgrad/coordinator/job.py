"""The job file: what is trained, on which workers, and how. `deploy/jobs/digits.toml` is one, every line explained.

`load_job` reads and checks a file whole, reports every mistake with the line it stands on, and remembers where each
value came from, so that `describe` can print the job as it will run: nothing is hidden in a default.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from distgrad.errors import ConfigError

from .names import natural_order, suggestion
from .schedule import SCHEDULES
from .stages import Stage, parse_stage
from .tables import Check, Parse, TableReader, Where, line_numbers, names_in, set_value, toml_text

_LETTERS = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_PROGRAM = re.compile(r"[A-Za-z0-9_./-]+\.py:[A-Za-z_][A-Za-z0-9_]*")


def _worker_names(raw: object) -> tuple[str, ...]:
    if type(raw) is int and raw > 0:
        return _numbered(raw)
    if isinstance(raw, list) and raw and all(isinstance(name, str) and _LETTERS.fullmatch(name) for name in raw):
        return tuple(raw)
    raise ValueError


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"w{number}" for number in range(count))


_Positive = Annotated[int, Check("at least 1", lambda value: value >= 1)]
_Count = Annotated[int, Check("at least 0", lambda value: value >= 0)]
_NotNegative = Annotated[float, Check("at least 0", lambda value: value >= 0)]
_Seed = Annotated[int, Check("from 0 to 2**64 - 1", lambda value: 0 <= value < 2**64)]
_Name = Annotated[str, Check("a letter, then letters, digits, '-' or '_'", _LETTERS.fullmatch)]
_Program = Annotated[str, Check('"FILE.py:NAME" with FILE.py in the folder of programs', _PROGRAM.fullmatch)]
_Stages = tuple[Annotated[Stage, Parse('"SHARD.METHOD" or "SHARD.METHOD(ARGUMENT, ...)"', parse_stage)], ...]
_ScheduleName = Annotated[str, Check(f"one of {', '.join(SCHEDULES)}", SCHEDULES.__contains__)]
_NotEmpty = Check("at least one", bool)


@dataclass(frozen=True)
class ClusterSpec:
    """The processes.

    Attributes:
        workers: their names; w0, w1, ... when the file gives a number.
        programs: the folder of shard programs.
        blas_threads: threads for matrix products, in each process.
    """

    workers: Annotated[
        tuple[str, ...], Parse('a number of at least 1, or a list of names like ["w0", "w1"]', _worker_names)
    ]
    programs: Path
    blas_threads: _Positive = 1


@dataclass(frozen=True)
class ShardSpec:
    """One piece of the model. `worker`: None lets the coordinator choose. `config`: keyword arguments of the class."""

    name: _Name
    program: _Program
    worker: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PipelineSpec:
    """The calls of one microbatch; see `stages` for how they are written.

    Attributes:
        forward: the last stage returns the loss.
        evaluate: the last stage returns a prediction. Empty: evaluation is by the loss alone.
        schedule: whose turn it is at a worker that has work of several microbatches; see `schedule`.
        warm_up: microbatches that may be alive beyond those that fill the pipeline. None: as many again.
    """

    forward: Annotated[_Stages, _NotEmpty]
    evaluate: _Stages = ()
    schedule: _ScheduleName = "1f1b"
    warm_up: _Count | None = None


@dataclass(frozen=True)
class OptimizerSpec:
    """How parameters move.

    Attributes:
        kind: a class of `distgrad.optim`.
        settings: its keyword arguments.
        clip_norm: gradients are scaled down so that the norm of all together is at most this; 0: never.
    """

    kind: _Name
    settings: Mapping[str, Any] = field(default_factory=dict)
    clip_norm: _NotNegative = 0.0


@dataclass(frozen=True)
class DataSpec:
    """Where batches come from: a class of the folder of programs, made with `config` as keyword arguments."""

    program: _Program
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationSpec:
    """`every`: steps between evaluations."""

    every: _Positive


@dataclass(frozen=True)
class CheckpointSpec:
    """`every`: steps between checkpoints. `keep`: how many of the newest stay."""

    directory: Path
    every: _Positive
    keep: _Positive = 3


@dataclass(frozen=True)
class Job:
    """A job file, checked. Without `evaluation` or `checkpoint` there is none.

    Attributes:
        steps: updates of the parameters in all.
        microbatches: pieces that a batch is cut into, to keep all stages busy.
        seed: weights, data order and random keys derive from it.
        file: the file it was read from.
        origins: dotted path → where the value came from ("digits.toml:12", "--set"); absent: a default.
    """

    name: _Name
    steps: _Positive
    cluster: ClusterSpec
    shards: Annotated[tuple[ShardSpec, ...], _NotEmpty] = field(metadata={"key": "shard"})
    pipeline: PipelineSpec
    optimizer: OptimizerSpec
    data: DataSpec
    microbatches: _Positive = 1
    seed: _Seed = 0
    evaluation: EvaluationSpec | None = None
    checkpoint: CheckpointSpec | None = None
    file: Path = field(default=Path(), metadata={"key": None}, compare=False)
    origins: Mapping[str, str] = field(default_factory=dict, metadata={"key": None}, compare=False, repr=False)


def load_job(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Job:
    """Reads a job file. Relative paths in it start from its directory.

    Args:
        overrides: values that replace the file's, as `optimizer.settings.lr=0.01` or `shard.stem.config.outputs=64`.

    Raises:
        ConfigError: the file is missing, is not TOML, or is not a job; the message lists every mistake with its line.
    """
    path = Path(path)
    text = _read_text(path)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    origins: dict[Where, str] = {where: f"{path.name}:{line}" for where, line in line_numbers(text).items()}
    reader = TableReader(path, table, origins)
    for assignment in overrides:
        try:
            origins.update(dict.fromkeys(set_value(table, assignment), "--set"))
        except ValueError as error:
            reader.problems.append(f"--set  {assignment}: {error}")
    values = reader.fields(Job, table)
    _check_names(reader)
    _check_warm_up(reader)
    if reader.problems:
        count = len(reader.problems)
        lines = "\n  ".join(sorted(reader.problems, key=natural_order))
        raise ConfigError(f"{path} has {count} mistake{'s' if count > 1 else ''}:\n  {lines}")
    return Job(**values, file=path, origins={reader.dotted(where): origin for where, origin in origins.items()})


def with_workers(job: Job, count: int) -> Job:
    """The same job on `count` workers w0, w1, ...: the shards of the file's i-th worker go to worker i modulo `count`.

    The results are the same bits, as nothing is derived from a worker's name.
    """
    if count < 1:
        raise ConfigError(f"--workers {count}: expected at least 1")
    names = _numbered(count)
    moved = {old: names[index % count] for index, old in enumerate(job.cluster.workers)}
    shards = tuple(replace(shard, worker=moved[shard.worker] if shard.worker else None) for shard in job.shards)
    origins = dict(job.origins)
    for path in ["cluster.workers", *(f"shard.{shard.name}.worker" for shard in shards if shard.worker)]:
        origins[path] = f"--workers {count}"
    return replace(job, cluster=replace(job.cluster, workers=names), shards=shards, origins=origins)


def open_job(path: str | os.PathLike[str], overrides: Sequence[str] = (), workers: int | None = None) -> Job:
    """The job as it will run: the file, what replaces values of it, and on `workers` workers if a number is given."""
    job = load_job(path, overrides)
    return job if workers is None else with_workers(job, workers)


def describe(job: Job) -> str:
    """The job as it will run, a value a line, each with where it came from.

    For example `optimizer.settings.lr = 0.01    # --set`.
    """
    rows = [(f"{path} = {toml_text(value)}", job.origins.get(path, "default")) for path, value in _leaves(job)]
    width = max(len(text) for text, _ in rows)
    return "\n".join(f"{text:<{width}}  # {origin}" for text, origin in rows)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not a text in UTF-8: {error}") from error
    except OSError as error:
        beside = [file.name for file in path.parent.glob("*.toml")]
        hint = suggestion(path.name, beside)
        raise ConfigError(f"job file {path} cannot be read: {error.strerror}{hint}") from error


def _check_names(reader: TableReader) -> None:
    """What one part of a job says of another. What could not be read is left out: its mistake is noted already."""
    named = names_in(reader.table.get("shard"))
    known = [name for name in named if name is not None]
    for name, count in Counter(known).items():
        if count > 1:
            places = [reader.origin(("shard", index)) for index, other in enumerate(named) if other == name]
            reader.refuse(("shard", named.index(name)), f"{count} shards have this name: {', '.join(places)}")
    workers = reader.values.get(("cluster", "workers"), ())
    for name, count in Counter(workers).items():
        if count > 1:
            reader.refuse(("cluster", "workers"), f"the name '{name}' is given {count} times", workers)
    for where, value in reader.values.items():
        if where[0] == "shard" and where[2:] == ("worker",) and workers and value not in workers:
            reader.refuse(where, f"not a worker of the cluster; its workers: {', '.join(workers)}", value)
        for stage in value.calls() if isinstance(value, Stage) else ():
            if stage.shard not in known:
                hint = suggestion(stage.shard, known) or f"; shards: {', '.join(known)}"
                reader.refuse(where, f"there is no shard '{stage.shard}'{hint}", str(value))


def _check_warm_up(reader: TableReader) -> None:
    schedule = SCHEDULES.get(reader.values.get(("pipeline", "schedule"), ""))
    warm_up = reader.values.get(("pipeline", "warm_up"))
    if schedule is not None and warm_up is not None and not schedule.warms_up:
        reader.refuse(
            ("pipeline", "warm_up"), f"the schedule '{schedule.name}' admits all microbatches at once", warm_up
        )


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        inside = list(value.items())
    elif isinstance(value, tuple) and value and isinstance(value[0], ShardSpec):
        inside = [(shard.name, shard) for shard in value]
    elif dataclasses.is_dataclass(value) and not isinstance(value, Stage):
        named = [(item.metadata.get("key", item.name), item.name) for item in dataclasses.fields(value)]
        inside = [(key, getattr(value, name)) for key, name in named if key is not None]
    else:
        yield path, value
        return
    for key, item in inside:
        yield from _leaves(item, f"{path}.{key}" if path else key)
