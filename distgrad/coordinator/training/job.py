"""A job: what is trained, on which workers, and how. `deploy/jobs/digits.toml` is one, every line explained.

A job is read from a file or from tables made in Python, checked whole, and every mistake reported with the place it
stands at. It remembers where each value came from, so that `describe` can print the job as it will run: nothing is
hidden in a default. The tables themselves are in `specs`.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from distgrad.errors import ConfigError

from ..names import OF_THE_CLUSTER, natural_order, numbered_workers, suggestion
from .schedule import SCHEDULES
from .specs import (
    CheckpointSpec,
    ClusterSpec,
    DataSpec,
    EvaluationSpec,
    LimitsSpec,
    MetricsSpec,
    Name,
    NotEmpty,
    OptimizerSpec,
    PipelineSpec,
    Positive,
    RecoverySpec,
    Seed,
    ShardSpec,
)
from .stages import Stage
from .tables import TableReader, Where, line_numbers, names_in, set_value, toml_text


@dataclass(frozen=True)
class Job:
    """What is trained, on which workers, and how. Made by `Job.load` from a file, or by `Job.of` in Python.

    Without `evaluation` or `checkpoint` there is none.

    Attributes:
        steps: updates of the parameters in all.
        trainers: processes that take steps side by side, each every so many, from batches of its own. All begin with
            the same parameters; then their steps are taken in turn, and the next ones begun.
        data: None when whoever trains brings the data along.
        microbatches: pieces that a batch is cut into, to keep all stages busy; so many for each replica.
        replicas: copies of the whole pipeline, each of which computes on its share of the batch; see `twin_places`.
        seed: weights, data order and random keys derive from it.
        file: the file it was read from.
        origins: dotted path → where the value came from ("digits.toml:12", "--set"); absent: a default.
    """

    name: Name
    steps: Positive
    cluster: ClusterSpec
    shards: Annotated[tuple[ShardSpec, ...], NotEmpty] = field(metadata={"key": "shard"})
    pipeline: PipelineSpec
    optimizer: OptimizerSpec
    data: DataSpec | None = None
    microbatches: Positive = 1
    replicas: Positive = 1
    trainers: Positive = 1
    seed: Seed = 0
    evaluation: EvaluationSpec | None = None
    checkpoint: CheckpointSpec | None = None
    recovery: RecoverySpec = field(default_factory=RecoverySpec)
    metrics: MetricsSpec = field(default_factory=MetricsSpec)
    limits: LimitsSpec = field(default_factory=LimitsSpec)
    file: Path = field(default=Path(), metadata={"key": None}, compare=False)
    origins: Mapping[str, str] = field(default_factory=dict, metadata={"key": None}, compare=False, repr=False)

    @classmethod
    def load(cls, path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Job:
        """Reads a job file. Relative paths in it start from its directory.

        Arguments:
            overrides: values that replace the file's, as `optimizer.settings.lr=0.01` or
                `shard.stem.config.outputs=64`.

        Raises:
            ConfigError: the file is missing, is not TOML, or is not a job; the message lists every mistake with its
                line.
        """
        path = Path(path)
        text = _read_text(path)
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path} is not TOML: {error}") from error
        reader = TableReader(path, table, {where: f"{path.name}:{line}" for where, line in line_numbers(text).items()})
        for assignment in overrides:
            try:
                reader.origins.update(dict.fromkeys(set_value(table, assignment), "--set"))
            except ValueError as error:
                reader.problems.append(f"--set  {assignment}: {error}")
        if "data" not in table:
            reader.refuse(("data",), "missing; expected a table")
        return replace(_checked(reader, str(path)), file=path)

    @classmethod
    def of(cls, **tables: Any) -> Job:
        """A job from the tables of a job file, given as keyword arguments. Relative paths start from the current
        directory. `cluster` may be left out where the workers are there already.

            job = dg.Job.of(
                name="digits",
                steps=100,
                shard=[{"name": "head", "program": "mlp.py:Classifier", "config": {"inputs": 64, "outputs": 10}}],
                pipeline={"forward": ["head.loss"]},
                optimizer={"kind": "Adam", "settings": {"lr": 4e-3}},
            )

        Raises:
            ConfigError: the message lists every mistake.
        """
        named = {shard.get("worker") for shard in tables.get("shard", ()) if isinstance(shard, Mapping)}
        workers = sorted((name for name in named if name), key=natural_order)
        table = {"cluster": {"workers": workers or 1, "programs": "."}, **_plain(tables)}
        given: dict[Where, str] = {(key,): "Python" for key in tables}
        return _checked(TableReader(Path("Job.of"), table, given), "Job.of()")

    def tables(self) -> dict[str, Any]:
        """The job as `Job.of` takes it, of plain data."""
        tables: dict[str, Any] = _table(self)
        return tables

    @property
    def directory(self) -> Path:
        """Where the numbers of a run and the job as it ran are written down."""
        if self.metrics.directory is not None:
            return self.metrics.directory
        return Path("runs", self.name).resolve() if self.checkpoint is None else self.checkpoint.directory


def _checked(reader: TableReader, what: str) -> Job:
    """The job of a reader's table. Raises ConfigError with all its problems, saying `what` has them."""
    values = reader.fields(Job, reader.table)
    _check_names(reader)
    job = None if reader.problems else Job(**values)
    if job is not None:
        for where, why in _contradictions(job):
            reader.refuse(where, why)
    if job is None or reader.problems:
        count = len(reader.problems)
        lines = "\n  ".join(sorted(reader.problems, key=natural_order))
        raise ConfigError(f"{what} has {count} mistake{'s' if count > 1 else ''}:\n  {lines}")
    origins = {reader.dotted(where): origin for where, origin in reader.origins.items()}
    return replace(job, origins=origins)


def _plain(tables: Any) -> Any:
    """Python's values as TOML would have them."""
    if isinstance(tables, Mapping):
        return {key: _plain(value) for key, value in tables.items()}
    if isinstance(tables, list | tuple):
        return [_plain(value) for value in tables]
    return str(tables) if isinstance(tables, Path) else tables


def twin_places(job: Job, shard: ShardSpec) -> list[str]:
    """The workers of a shard in each replica, by its number; empty names let the coordinator choose.

    The first replica is as the file says. In each further one everything moves on by the same number of workers, the
    job's workers divided by the replicas, and in a circle: two replicas of a pipeline over w0 and w1 come to w2 and w3
    where there are four workers, and to w1 and w0 where there are two.
    """
    if shard.worker is None:
        return [""] * job.replicas
    workers = job.cluster.workers
    first, stride = workers.index(shard.worker), max(1, len(workers) // job.replicas)
    return [workers[(first + number * stride) % len(workers)] for number in range(job.replicas)]


def with_workers(job: Job, count: int) -> Job:
    """The same job on `count` workers w0, w1, ...: the shards of the file's i-th worker go to worker i modulo `count`.

    The results are the same bits, as nothing is derived from a worker's name.
    """
    if count < 1:
        raise ConfigError(f"--workers {count}: expected at least 1")
    names = numbered_workers(count)
    moved = {old: names[index % count] for index, old in enumerate(job.cluster.workers)}
    shards = tuple(replace(shard, worker=moved[shard.worker] if shard.worker else None) for shard in job.shards)
    origins = dict(job.origins)
    for path in ["cluster.workers", *(f"shard.{shard.name}.worker" for shard in shards if shard.worker)]:
        origins[path] = f"--workers {count}"
    return replace(job, cluster=replace(job.cluster, workers=names), shards=shards, origins=origins)


def on_members(job: Job, assigned: Mapping[str, str]) -> Job:
    """The same job on the members that stand for its workers."""
    shards = tuple(replace(shard, worker=assigned[shard.worker] if shard.worker else None) for shard in job.shards)
    workers = tuple(assigned[name] for name in job.cluster.workers)
    return replace(job, cluster=replace(job.cluster, workers=workers), shards=shards)


def open_job(path: str | os.PathLike[str], overrides: Sequence[str] = (), workers: int | None = None) -> Job:
    """The job as it will run: the file, what replaces values of it, and on `workers` workers if a number is given."""
    job = Job.load(path, overrides)
    return job if workers is None else with_workers(job, workers)


def values(job: Job) -> dict[str, str]:
    """Every value of a job by its path, as TOML writes it: {"optimizer.settings.lr": "0.01", ...}."""
    return {path: toml_text(value) for path, value in _leaves(job)}


def describe(job: Job) -> str:
    """The job as it will run, a value a line, each with where it came from.

    For example `optimizer.settings.lr = 0.01    # --set`.
    """
    rows = [(f"{path} = {text}", job.origins.get(path, "default")) for path, text in values(job).items()]
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
        if name in OF_THE_CLUSTER:
            reader.refuse(("cluster", "workers"), f"another process of the cluster has the name '{name}'", workers)
    for where, value in reader.values.items():
        if where[0] == "shard" and where[2:] == ("worker",) and workers and value not in workers:
            reader.refuse(where, f"not a worker of the cluster; its workers: {', '.join(workers)}", value)
        for stage in value.calls() if isinstance(value, Stage) else ():
            if stage.shard not in known:
                hint = suggestion(stage.shard, known) or f"; shards: {', '.join(known)}"
                reader.refuse(where, f"there is no shard '{stage.shard}'{hint}", str(value))


def _contradictions(job: Job) -> Iterator[tuple[Where, str]]:
    """What is right by itself and does not go together."""
    try:
        job.optimizer.learning_rate(0)
    except ConfigError as error:
        yield ("optimizer",), str(error)
    except TypeError as error:
        yield ("optimizer",), f"its settings or those of its schedule are refused: {error}"
    schedule = SCHEDULES[job.pipeline.schedule]
    if job.pipeline.warm_up is not None and not schedule.warms_up:
        yield ("pipeline", "warm_up"), f"the schedule '{schedule.name}' admits all microbatches at once"
    if job.replicas > 1 and job.trainers > 1:
        yield (
            ("replicas",),
            f"a job has either replicas or several trainers, and this one has trainers = {job.trainers}",
        )
    for where in _uneven(job):
        yield where, f"expected a multiple of trainers = {job.trainers}"
    if job.data is not None and (job.data.program is None) != job.data.held:
        yield ("data",), "expected either a program, or methods of shards as inputs and targets"
    if job.data is not None and (job.data.inputs is None) != (job.data.targets is None):
        yield ("data",), "inputs and targets go together, found only one of them"
    if job.evaluation is not None:
        held = job.data is not None and job.data.held
        if any((call is not None) != held for call in (job.evaluation.inputs, job.evaluation.targets)):
            yield ("evaluation",), "inputs and targets are methods of the shards that hold the data, and only of such"
        if held and job.pipeline.evaluate and "targets" not in (job.pipeline.evaluate[-1].arguments or ()):
            yield ("pipeline", "evaluate"), "shards hold the targets, so the last stage must take `targets` and judge"


def _uneven(job: Job) -> Iterator[Where]:
    """What does not happen at the end of a round of all trainers."""
    counts = {
        ("steps",): job.steps,
        ("evaluation", "every"): job.evaluation.every if job.evaluation else 0,
        ("checkpoint", "every"): job.checkpoint.every if job.checkpoint else 0,
    }
    return (where for where, count in counts.items() if count % job.trainers)


def _table(value: Any) -> Any:
    """What a file holds for a value: of dataclasses, the fields that are not None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, Stage):
        named = [(item.metadata.get("key", item.name), getattr(value, item.name)) for item in dataclasses.fields(value)]
        return {key: _table(item) for key, item in named if key is not None and item is not None}
    if isinstance(value, Mapping):
        return {key: _table(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_table(item) for item in value]
    return str(value) if isinstance(value, Stage | Path) else value


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
