"""Training a job: step after step, with evaluation and checkpoints now and then."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from distgrad.errors import ConfigError

from .batches import Batches, open_batches
from .checkpoint import latest_checkpoint, prune
from .client import Client, PlacedShard
from .companions import Companions
from .evaluation import Evaluation, Measured
from .job import Job, describe
from .metrics import MetricsFile, Recorder, StepMetrics
from .specs import CheckpointSpec, EvaluationSpec
from .step import Steps

Report = Callable[[dict[str, Any]], None]


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
        data: where batches come from, instead of what the job says. An object with `batch(step)`; or an iterable of
            batches with `state_dict()` and `load_state_dict()`, whose state goes into checkpoints; or any other
            iterable, which cannot go back to a checkpoint. A batch is (inputs, targets), arrays with the examples along
            the first axis. A job with an [evaluation] also calls its `held_out()`, which returns such a pair.
        report: told of what happens, as dicts with an "event": placed, resumed, notice, step, evaluated, saved, sample.
        resume: continue from the newest checkpoint of the job's directory.
    """

    def __init__(
        self,
        client: Client,
        job: Job,
        data: object = None,
        *,
        report: Report = lambda event: None,
        resume: bool = False,
    ) -> None:
        self._client = client
        self._job = job
        self._data = data
        self._report = report
        self._resume = resume
        self._shards: dict[str, PlacedShard] = {}
        self._checkpoint = ""
        self._measured: Measured | None = None

    def run(self) -> Result:
        """Trains to the end.

        Raises:
            ConfigError, CheckpointError: the job, its data or its checkpoint does not fit.
            GradientError: the loss or a gradient is not finite.
            RemoteError, WorkerLost: a worker failed.
        """
        job = self._job
        batches = open_batches(job, self._data)
        if job.trainers > 1 and (self._data is not None or not batches.any_step):
            raise ConfigError(
                f"job {job.name!r} has {job.trainers} trainers, each a process that needs the batches of its steps; "
                "expected data.program to be a class with batch(step), or shards that hold the data"
            )
        self._place()
        optimizer = self._client.optimizer(job.optimizer.rule(), list(self._shards.values()), name="job")
        first = self._return_to_checkpoint(batches) if self._resume else self._begin(batches)
        evaluation = Evaluation(self._shards, job.pipeline, batches)
        began, sent_before = time.monotonic(), self._bytes_sent()
        loss = math.nan
        with ExitStack() as stack:
            recorders = self._open_recorders(stack, first)
            steps = stack.enter_context(Steps(self._client, job, self._shards, optimizer))
            companions = stack.enter_context(Companions(self._client, job, first))
            for step in range(first, job.steps, job.trainers):
                losses = steps.take(step, batches.microbatches(step), companions.check)
                for taken, loss in enumerate(losses, step + 1):
                    rate = (taken - first) / (time.monotonic() - began)
                    self._report({"event": "step", "step": taken, "steps": job.steps, "loss": loss, "rate": rate})
                    measured = self._evaluate(taken, evaluation) if self._due(taken, job.evaluation) else None
                    for recorder in recorders:
                        recorder.write(_record(taken, loss, measured, rate, job.optimizer.learning_rate(taken - 1)))
                    if self._due(taken, job.checkpoint):
                        self._save(taken, batches)
            if first >= job.steps and job.evaluation:
                self._evaluate(first, evaluation)
        if text := evaluation.sample():
            self._report({"event": "sample", "text": text})
        seconds = time.monotonic() - began
        return Result(
            steps=max(first, job.steps),
            loss=loss,
            held_out_loss=self._measured.loss if self._measured else None,
            accuracy=self._measured.accuracy if self._measured else None,
            seconds=seconds,
            steps_per_second=max(job.steps - first, 0) / seconds if seconds else 0.0,
            bytes_sent=self._bytes_sent() - sent_before,
            checkpoint=self._checkpoint,
        )

    # ---- before ------------------------------------------------------------------------------------------------------

    def _place(self) -> None:
        self._shards.update(place_shards(self._client, self._job))
        self._report({"event": "placed", "shards": list(self._shards), "steps": self._job.steps})

    def _begin(self, batches: Batches) -> int:
        """Makes sure that nothing of an earlier run is taken for this one's; returns 0, the steps taken."""
        spec = self._job.checkpoint
        earlier = latest_checkpoint(spec.directory) if spec else None
        if spec and earlier is not None:
            raise ConfigError(
                f"{spec.directory} holds checkpoints of an earlier run, the newest {earlier.name}: continue it with "
                "resume=True, remove it, or give the job another checkpoint.directory"
            )
        if not batches.resumable:
            text = "the data is a plain iterable, which cannot go back: this run cannot be resumed from a checkpoint"
            self._report({"event": "notice", "text": text})
        return 0

    def _return_to_checkpoint(self, batches: Batches) -> int:
        """Returns shards, optimizer and data to the newest checkpoint; returns the number of steps it holds."""
        if self._job.checkpoint is None:
            raise ConfigError(f"job {self._job.name!r} keeps no checkpoints to resume from: it has no [checkpoint]")
        directory = self._job.checkpoint.directory
        newest = latest_checkpoint(directory)
        if newest is None:
            damaged = ", ".join(sorted(path.name for path in directory.glob("step-*")))
            found = f"; {damaged} there is damaged or was never finished" if damaged else ""
            raise ConfigError(f"there is nothing to resume: no complete checkpoint in {directory}{found}")
        extra = self._client.restore(str(newest), job=self._job.name)
        batches.restore(extra["data"])
        self._checkpoint = str(newest)
        step = int(extra["step"])
        if step % self._job.trainers:
            raise ConfigError(
                f"{newest.name} is not at the end of a round of trainers = {self._job.trainers}: go on with as many "
                "trainers as wrote it"
            )
        self._report({"event": "resumed", "step": step, "checkpoint": self._checkpoint})
        return step

    def _open_recorders(self, stack: ExitStack, first: int) -> list[Recorder]:
        """What is written down of every step; beside it, the job as it runs."""
        directory = self._job.directory
        recorders: list[Recorder] = [stack.enter_context(MetricsFile(directory / "metrics.jsonl", first))]
        (directory / "job.txt").write_text(describe(self._job) + "\n", encoding="utf-8")
        if self._job.metrics.tensorboard:
            from .tensorboard import TensorBoardFile

            recorders.append(stack.enter_context(TensorBoardFile(directory / "tensorboard", first)))
        return recorders

    # ---- now and then ------------------------------------------------------------------------------------------------

    def _due(self, taken: int, spec: EvaluationSpec | CheckpointSpec | None) -> bool:
        """Whether it is time for what happens every so many steps and at the end."""
        return spec is not None and (taken == self._job.steps or taken % spec.every == 0)

    def _evaluate(self, step: int, evaluation: Evaluation) -> Measured:
        self._measured = measured = evaluation.measure()
        self._report({"event": "evaluated", "step": step, "accuracy": measured.accuracy, "loss": measured.loss})
        return measured

    def _save(self, step: int, batches: Batches) -> None:
        spec = self._job.checkpoint
        assert spec is not None
        extra = {"job": self._job.name, "step": step, "seed": self._job.seed, "data": batches.state()}
        self._checkpoint = self._client.save(str(spec.directory), extra)
        prune(spec.directory, spec.keep)
        self._report({"event": "saved", "step": step, "checkpoint": self._checkpoint})

    def _bytes_sent(self) -> int:
        return sum(worker.counts.get("bytes_sent", 0) for worker in self._client.workers)


def place_shards(client: Client, job: Job) -> dict[str, PlacedShard]:
    """Builds the shards of a job, each on the worker it names; returns handles by name."""
    return {
        spec.name: client.place(spec.name, spec.program, spec.worker or "", spec.config, job.seed)
        for spec in job.shards
    }


def _record(step: int, loss: float, measured: Measured | None, rate: float, learning_rate: float) -> StepMetrics:
    return StepMetrics(
        step=step,
        time=time.time(),
        loss=loss,
        held_out_loss=measured.loss if measured else None,
        accuracy=measured.accuracy if measured else None,
        steps_per_second=rate,
        learning_rate=learning_rate,
    )
