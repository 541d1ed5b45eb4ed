"""Training a job: step after step, with evaluation and checkpoints now and then."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any

from distgrad.errors import ConfigError, DistgradError
from distgrad.worker.twins import twin

from ..client import Client, FoundCheckpoint, PlacedShard
from ..optimizer import RemoteOptimizer
from .batches import Batches, open_batches
from .companions import Companions
from .evaluation import Evaluation, Measured
from .feed import Feed
from .job import Job, describe, twin_places
from .metrics import METRICS, MetricsFile, Recorder, StepMetrics, last_step
from .resuming import compare, lasting
from .saving import Saves
from .step import Steps
from .survival import Survival

# Of all parameters of a job.
_OPTIMIZER = "job"

Report = Callable[[dict[str, Any]], None]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What a run has come to.

    Attributes:
        steps: updates in all, those before a resume included.
        loss: of the last step; NaN when there was none left to take.
        held_out_loss: mean over held-out examples; None when the job does not evaluate.
        accuracy: on held-out examples; None when the job does not evaluate, or predicts nothing.
        seconds: of this run.
        bytes_sent: by the workers to other processes, in this run.
        checkpoint: path of the last one; empty when the job keeps none.
    """

    steps: int
    loss: float
    held_out_loss: float | None
    accuracy: float | None
    seconds: float
    steps_per_second: float
    bytes_sent: int
    checkpoint: str


class Trainer:
    """Runs a job on a cluster whose workers have joined.

        job = dg.Job.load("deploy/jobs/digits.toml", ["steps=100"])
        with dg.LocalCluster(workers=3, programs="workers/") as cluster:
            result = dg.Trainer(cluster, job).run()
            print(result.accuracy)

    Everything is decided by the job's seed: neither timing nor placement changes a bit.

    Arguments:
        client: of the cluster; a `dg.LocalCluster`, or what `dg.connect` returned.
        data: where batches come from, instead of what the job says. An object with `batch(step)`, which a thread of its
            own calls for the next step while one is taken, and nobody else meanwhile; or an iterable of
            batches with `state_dict()` and `load_state_dict()`, whose state goes into checkpoints; or any other
            iterable, which cannot go back to a checkpoint. A batch is (inputs, targets), arrays with the examples along
            the first axis. A job with an [evaluation] also calls its `held_out()`, which returns such a pair.
        report: told of what happens, as dicts with an "event": placed, resumed, notice, step, evaluated, saved, sample,
            failure, recovered.
        resume: continue from the newest checkpoint of the job's directory.
        failures: when an earlier coordinator of this very run was lost: how many losses the run has survived so far. It
            continues from what the workers hold.
        standby_after: seconds that a worker must not have been heard of before one without shards takes its place: one
            that has ended may be started again meanwhile.
    """

    def __init__(
        self,
        client: Client,
        job: Job,
        data: object = None,
        *,
        report: Report = lambda event: None,
        resume: bool = False,
        failures: int = 0,
        standby_after: float = 2.0,
    ) -> None:
        self._client = client
        self._job = job
        self._data = data
        self._report = report
        self._resume = resume
        self._continues = failures > 0
        self._survival = Survival(client, job, report, failures, standby_after)
        self._shards: dict[str, PlacedShard] = {}
        self._checkpoint = ""
        self._measured: Measured | None = None
        self._measured_after = -1  # steps
        self._loss = math.nan

    def run(self) -> Result:
        """Trains to the end. Losses of processes are survived as the job's [recovery] says.

        Raises:
            ConfigError, CheckpointError: the job, its data or its checkpoint does not fit.
            GradientError: the loss or a gradient is not finite.
            RemoteError: a shard's method has raised.
            WorkerLost: more processes were lost than may be.
            Timeout: a lost worker did not come back.
        """
        began, sent_before = time.monotonic(), self._bytes_sent()
        batches = open_batches(self._job, self._data)
        if self._job.trainers > 1 and (self._data is not None or not batches.any_step):
            raise ConfigError(
                f"job {self._job.name!r} has {self._job.trainers} trainers, each a process that needs the batches of "
                "its steps; expected data.program to be a class with batch(step), or shards that hold the data"
            )
        course = self._train(batches)
        seconds = time.monotonic() - began
        return Result(
            steps=course.taken,
            loss=self._loss,
            held_out_loss=self._measured.loss if self._measured else None,
            accuracy=self._measured.accuracy if self._measured else None,
            seconds=seconds,
            steps_per_second=(course.taken - course.first) / seconds if seconds else 0.0,
            bytes_sent=_since(sent_before, self._bytes_sent()),
            checkpoint=self._checkpoint,
        )

    def _train(self, batches: Batches) -> _Course:
        """Sets out, and goes on after every loss that is survived, to the end."""
        optimizer: RemoteOptimizer | None = None
        course: _Course | None = None
        again = False
        try:
            while True:
                try:
                    if optimizer is None:
                        optimizer = self._attach(again)
                    elif course is not None:
                        self._return(course)
                    elif not self._continues:  # which recovers when it sets out
                        self._survival.recover()
                    if course is None:
                        course = self._set_out(batches, optimizer.version)
                    evaluation = Evaluation(self._shards, self._job.pipeline, batches)
                    with Steps(self._client, self._job, self._shards, optimizer) as steps:
                        self._go_on(course, steps, evaluation)
                    if text := evaluation.sample():
                        self._report({"event": "sample", "text": text})
                    return course
                except DistgradError as error:
                    self._survival.note(error)
                    again = True
        finally:
            if course is not None:
                course.saves.settle()
                course.feed.close()

    # ---- the course --------------------------------------------------------------------------------------------------

    def _go_on(self, course: _Course, steps: Steps, evaluation: Evaluation) -> None:
        """Takes the steps that are left, and does what is due after each."""
        with ExitStack() as stack:
            recorders = self._open_recorders(stack, course.followed)
            companions = stack.enter_context(Companions(self._client, self._job, course.taken))
            if course.taken == course.first:
                course.began = time.monotonic()
            while True:
                if course.taken > course.followed:
                    self._follow_up(course, evaluation, recorders)
                if course.saves.due(course.taken):
                    self._save(course)
                if course.taken >= self._job.steps:
                    break
                step = course.taken
                for loss in self._take(course, steps, step, companions.check):
                    course.taken += 1
                    course.losses[course.taken] = self._loss = loss
                    event = {"event": "step", "step": course.taken, "steps": self._job.steps}
                    self._report({**event, "loss": loss, "rate": course.rate()})
                course.saves.look()
            course.saves.finish()
        if self._job.evaluation and self._measured_after != course.taken:
            self._evaluate(course.taken, evaluation)

    def _take(self, course: _Course, steps: Steps, step: int, check: Callable[[], None]) -> tuple[float, ...]:
        """Takes a step, and meanwhile draws the batch of the next that this trainer takes."""
        pieces, following = course.feed.take(step), step + self._job.trainers
        with course.feed.ahead(following) if following < self._job.steps else nullcontext():
            return steps.take(step, pieces, check)

    def _follow_up(self, course: _Course, evaluation: Evaluation, recorders: Sequence[Recorder]) -> None:
        """What is to be known after the steps of a round."""
        spec = self._job.evaluation
        for step in range(course.followed + 1, course.taken + 1):
            due = spec is not None and (step == self._job.steps or step % spec.every == 0)
            measured = self._evaluate(step, evaluation) if due else None
            loss, rate = course.losses.pop(step, None), self._job.optimizer.learning_rate(step - 1)
            for recorder in recorders:
                recorder.write(_record(step, loss, measured, course.rate(), rate))
            course.followed = step

    def _evaluate(self, step: int, evaluation: Evaluation) -> Measured:
        measured = self._measured = evaluation.measure()
        self._measured_after = step
        self._report({"event": "evaluated", "step": step, "accuracy": measured.accuracy, "loss": measured.loss})
        return measured

    def _save(self, course: _Course) -> None:
        extra = {"job": self._job.name, "step": course.taken, "seed": self._job.seed, "values": lasting(self._job)}
        course.saves.begin(course.taken, {**extra, "data": course.feed.mark(course.taken)})

    def _saved(self, step: int, path: str) -> None:
        self._checkpoint = path
        self._report({"event": "saved", "step": step, "checkpoint": path})

    def _return(self, course: _Course) -> None:
        """After a loss: has the cluster recovered, and returns to the step that its state is of."""
        found = self._survival.recover()
        course.taken = found.versions[_OPTIMIZER]
        course.followed = min(course.followed, course.taken)
        course.losses = {step: loss for step, loss in course.losses.items() if step <= course.taken}
        course.saves.go_back(course.taken)
        course.feed.go_to(course.taken)

    # ---- before ------------------------------------------------------------------------------------------------------

    def _attach(self, again: bool) -> RemoteOptimizer:
        """Has the shards on their workers and under their optimizer. `again`: after a loss, workers are waited for."""
        if again:
            named = sorted({spec.worker for spec in self._job.shards if spec.worker})
            self._client.wait_for_workers(named, self._job.recovery.patience_seconds)
        self._shards.update(place_shards(self._client, self._job))
        self._report({"event": "placed", "shards": list(self._shards), "steps": self._job.steps})
        shards, replicate = list(self._shards.values()), self._job.recovery.replicate
        return self._client.optimizer(self._job.optimizer.rule(), shards, name=_OPTIMIZER, replicate=replicate)

    def _set_out(self, batches: Batches, version: int) -> _Course:
        """The course of the run from where it begins, is resumed or is continued. `version`: of its optimizer."""
        if self._continues:
            return self._continue(batches)
        first = self._return_to_checkpoint(batches) if self._resume else self._begin(batches, version)
        return self._course(first, Feed(batches, first), checkpoint=first)

    def _continue(self, batches: Batches) -> _Course:
        """Goes on where an earlier coordinator of this run was lost."""
        taken = self._survival.recover().versions[_OPTIMIZER]
        feed, saved = Feed(batches, 0), 0
        newest = self._newest()
        if newest.path:
            self._checkpoint = newest.path
            saved = int(newest.extra["step"])
            feed.learn(saved, newest.extra["data"])
        feed.go_to(taken)
        return self._course(taken, feed, checkpoint=saved)

    def _course(self, first: int, feed: Feed, checkpoint: int) -> _Course:
        saves = Saves(self._client, self._job.checkpoint, self._job.steps, self._saved, checkpoint)
        followed = min(first, last_step(self._job.directory / METRICS)) if self._continues else first
        return _Course(first, first, followed, feed, saves)

    def _begin(self, batches: Batches, version: int) -> int:
        """Makes sure that nothing of an earlier run is taken for this one's; returns 0, the steps taken."""
        earlier = self._newest().path
        if earlier:
            raise ConfigError(
                f"there are checkpoints of an earlier run, the newest {earlier}: continue it with resume=True, remove "
                "it, or give the job another checkpoint.directory"
            )
        if version:
            raise ConfigError(
                f"the shards of job {self._job.name!r} have been trained in this cluster before, {version} steps: a "
                "run from the beginning needs another cluster; resume=True continues from a checkpoint"
            )
        if not batches.resumable:
            text = "the data is a plain iterable, which cannot go back: this run cannot be resumed from a checkpoint"
            self._report({"event": "notice", "text": text})
            _log.warning("%s", text)  # a program that listens to no events is to know it, too
        return 0

    def _return_to_checkpoint(self, batches: Batches) -> int:
        """Returns shards, optimizer and data to the newest checkpoint; returns the number of steps it holds."""
        if self._job.checkpoint is None:
            raise ConfigError(f"job {self._job.name!r} keeps no checkpoints to resume from: it has no [checkpoint]")
        newest = self._newest()
        if not newest.path:
            damaged = ", ".join(newest.damaged)
            found = f"; {damaged} there is damaged or was never finished" if damaged else ""
            directory = self._job.checkpoint.directory
            raise ConfigError(f"there is nothing to resume: no complete checkpoint in {directory}{found}")
        changes = compare(newest.path, newest.extra.get("values", {}), lasting(self._job))
        extra = self._client.restore(newest.path, job=self._job.name)
        batches.restore(extra["data"])
        self._checkpoint = newest.path
        step = int(extra["step"])
        if step % self._job.trainers:
            raise ConfigError(
                f"{newest.path} is not at the end of a round of trainers = {self._job.trainers}: go on with as many "
                "trainers as wrote it"
            )
        self._report({"event": "resumed", "step": step, "checkpoint": self._checkpoint})
        if changes:
            self._report({"event": "notice", "text": f"the job has changed since: {changes}"})
        return step

    def _newest(self) -> FoundCheckpoint:
        """The newest checkpoint of the job's directory, which is the coordinator's."""
        spec = self._job.checkpoint
        return self._client.find_checkpoint(str(spec.directory)) if spec is not None else FoundCheckpoint()

    def _open_recorders(self, stack: ExitStack, first: int) -> list[Recorder]:
        """What is written down of every step; beside it, the job as it runs."""
        directory = self._job.directory
        recorders: list[Recorder] = [stack.enter_context(MetricsFile(directory / METRICS, first))]
        (directory / "job.txt").write_text(describe(self._job) + "\n", encoding="utf-8")
        if self._job.metrics.tensorboard:
            from .tensorboard import TensorBoardFile

            recorders.append(stack.enter_context(TensorBoardFile(directory / "tensorboard", first)))
        return recorders

    def _bytes_sent(self) -> dict[int, int]:
        """What each life of a worker has sent to other processes."""
        return {worker.incarnation: worker.counts.get("bytes_sent", 0) for worker in self._client.workers}


@dataclass
class _Course:
    """How far a run has come.

    Attributes:
        first: steps that had been taken when it set out.
        taken: steps that the state is of.
        followed: steps that what is due after each has been done for.
        losses: of those in between, as far as they are known.
    """

    first: int
    taken: int
    followed: int
    feed: Feed
    saves: Saves
    losses: dict[int, float] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def rate(self) -> float:
        """Steps per second."""
        return max(self.taken - self.first, 0) / (time.monotonic() - self.began)


def _since(before: Mapping[int, int], now: Mapping[int, int]) -> int:
    """What was sent meanwhile, by those that are there now."""
    return sum(sent - before.get(incarnation, 0) for incarnation, sent in now.items())


def place_shards(client: Client, job: Job) -> dict[str, PlacedShard]:
    """Builds the shards of a job and their twins, each on its worker; returns handles by name."""
    return {
        twin(spec.name, number): client.place(twin(spec.name, number), spec.program, worker, spec.config, job.seed)
        for spec in job.shards
        for number, worker in enumerate(twin_places(job, spec))
    }


def _record(step: int, loss: float | None, measured: Measured | None, rate: float, learning_rate: float) -> StepMetrics:
    return StepMetrics(
        step=step,
        time=time.time(),
        loss=loss,
        held_out_loss=measured.loss if measured else None,
        accuracy=measured.accuracy if measured else None,
        steps_per_second=rate,
        learning_rate=learning_rate,
    )
