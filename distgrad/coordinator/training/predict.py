"""Predicting what each schedule makes of a job, from a short run of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from distgrad.graph.backward import GRADIENTS, WEIGHTS
from distgrad.graph.timesheet import Work

from ..client import Client, PlacedShard
from ..optimizer import RemoteOptimizer
from .batches import Microbatch
from .job import Job
from .schedule import SCHEDULES, Schedule, Shape
from .simulate import Costs, Timeline, simulate
from .step import Steps

# Steps that are measured, after one that is not; and steps of a single microbatch.
STEPS, LONE_STEPS = 3, 7

# Schedules that differ by less are as fast as one another: then the one with less memory is better.
_ALIKE = 0.02


@dataclass(frozen=True)
class Measured:
    """A run of a job.

    Attributes:
        seconds: of a step, in the mean.
        idle: by worker, the share of the time in which it computed nothing.
    """

    shape: Shape
    costs: Costs
    seconds: float
    idle: Mapping[str, float]


@dataclass(frozen=True)
class Prediction:
    """What a schedule would come to."""

    schedule: Schedule
    shape: Shape
    timeline: Timeline

    @property
    def idle(self) -> dict[str, float]:
        """By worker, the share of a step in which it computes nothing."""
        return {worker: self.timeline.idle(worker) for worker in dict.fromkeys(self.shape.workers)}


def predictions(measured: Measured) -> list[Prediction]:
    """What each schedule would make of the job, the best first."""
    found = []
    for schedule in SCHEDULES.values():
        shape = measured.shape if schedule.warms_up else replace(measured.shape, warm_up=None)
        found.append(Prediction(schedule, shape, simulate(schedule, shape, measured.costs)))
    least = min(one.timeline.seconds for one in found)
    alike = [one for one in found if one.timeline.seconds <= least * (1 + _ALIKE)]
    best = min(alike, key=lambda one: one.timeline.alive)
    return [best, *sorted((one for one in found if one is not best), key=lambda one: one.timeline.seconds)]


@dataclass(frozen=True)
class _Run:
    """Some steps. `seconds` and `update` (among them) are of one; `work` of all, by worker and kind."""

    work: Mapping[str, Mapping[str, Work]]
    microbatches: int
    seconds: float
    update: float


class Rehearsal:
    """Runs a job's steps to measure them.

    Arguments:
        shards: of the job, placed.
        optimizer: of all of them; its steps are taken.
        pieces: a batch.
    """

    def __init__(
        self,
        client: Client,
        job: Job,
        shards: Mapping[str, PlacedShard],
        optimizer: RemoteOptimizer,
        pieces: Sequence[Microbatch],
    ) -> None:
        self._client = client
        self._job = job
        self._shards = shards
        self._optimizer = optimizer
        self._pieces = pieces

    def measure(self, schedule: str) -> Measured:
        """Takes some steps by that schedule."""
        pipeline = self._job.pipeline
        warm_up = pipeline.warm_up if SCHEDULES[schedule].warms_up else None
        job = replace(self._job, pipeline=replace(pipeline, schedule=schedule, warm_up=warm_up))
        with Steps(self._client, job, self._shards, self._optimizer) as steps:
            steps.take(0, self._pieces)
            whole = self._run(steps, self._pieces, STEPS)
            lone = self._run(steps, self._pieces[:1], LONE_STEPS)
            shape = steps.shape
        latency = latency_for(shape, self._costs(shape, lone), lone.seconds)
        return Measured(
            shape=replace(shape, warm_up=pipeline.warm_up),
            costs=replace(self._costs(shape, whole), latency=latency),
            seconds=whole.seconds,
            idle={
                worker: 1 - sum(one.seconds for one in kinds.values()) / (STEPS * whole.seconds)
                for worker, kinds in whole.work.items()
            },
        )

    def _run(self, steps: Steps, pieces: Sequence[Microbatch], count: int) -> _Run:
        """Takes that many steps."""
        before, began, update = self._work(steps.shape), time.perf_counter(), 0.0
        for _ in range(count):
            steps.take(0, pieces)
            update += steps.update_seconds
        seconds, after = time.perf_counter() - began, self._work(steps.shape)
        work = {worker: work_between(before[worker], after[worker]) for worker in before}
        return _Run(work, count * len(pieces), seconds / count, update / count)

    def _work(self, shape: Shape) -> dict[str, dict[str, Work]]:
        return {worker: self._client.work(worker) for worker in dict.fromkeys(shape.workers)}

    def _costs(self, shape: Shape, run: _Run) -> Costs:
        return replace(costs_of(self._job, shape, run.work, run.microbatches), update=run.update)


def costs_of(job: Job, shape: Shape, work: Mapping[str, Mapping[str, Work]], microbatches: int) -> Costs:
    """What the tasks of a job take in the mean over so many microbatches, given what each worker has spent on each kind
    of work.

    What a worker spends on gradients is ascribed to its stages in proportion to their calls. Nobody waits for the
    gradients of a pipeline's first stages: those that others wait for are of the worker's other ones, if it has any.
    """
    stages = [[f"{call.shard}.{call.method}" for call in stage.calls()] for stage in job.pipeline.forward]
    uses = Counter(chain.from_iterable(stages))
    calls = [
        sum(work[worker].get(call, Work()).seconds / uses[call] for call in made)
        for worker, made in zip(shape.workers, stages, strict=True)
    ]
    workers = [shape.workers[run[0]] for run in shape.runs]
    called = [sum(calls[run[0] : run[-1] + 1]) for run in shape.runs]
    awaited = [0.0, *called[1:]] if workers[0] in workers[1:] else called

    def ascribed(kind: str, weights: Sequence[float]) -> tuple[float, ...]:
        """The time of a kind of each run's worker, shared among its runs by these weights."""
        whole = dict.fromkeys(workers, 0.0)
        for worker, weight in zip(workers, weights, strict=True):
            whole[worker] += weight
        return tuple(
            work[worker].get(kind, Work()).seconds * weight / (whole[worker] or 1) / microbatches
            for worker, weight in zip(workers, weights, strict=True)
        )

    return Costs(
        forward=tuple(seconds / microbatches for seconds in calls),
        gradient=ascribed(GRADIENTS, awaited),
        weight=ascribed(WEIGHTS, called),
    )


def latency_for(shape: Shape, costs: Costs, seconds: float) -> float:
    """The latency with which a step of a single microbatch takes so many seconds."""
    lone = replace(shape, microbatches=1)
    without, with_one = (
        simulate(SCHEDULES["gpipe"], lone, replace(costs, latency=latency)).seconds for latency in (0.0, 1.0)
    )
    return max(0.0, (seconds - without) / (with_one - without))


def work_between(before: Mapping[str, Work], after: Mapping[str, Work]) -> dict[str, Work]:
    """What was done between two looks at a timesheet."""
    return {
        kind: Work(now.runs - before.get(kind, Work()).runs, now.seconds - before.get(kind, Work()).seconds)
        for kind, now in after.items()
    }
