"""Training a job: step after step, with evaluation and checkpoints now and then."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from distgrad.errors import ConfigError
from distgrad.optim import from_settings

from .batches import Batches
from .checkpoint import latest_checkpoint, prune
from .client import Client, PlacedShard
from .job import Job
from .metrics import MetricsFile, StepMetrics
from .stages import run_stages
from .step import Steps

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Result:
    """What a run has come to.

    Attributes:
        steps: updates in all, those before a resume included.
        loss: of the last step; NaN when there was none left to take.
        accuracy: on held-out examples; None when the job does not evaluate.
        seconds: of this run.
        bytes_sent: by the workers to other processes, in this run.
        checkpoint: path of the last one; empty when the job keeps none.
    """

    steps: int
    loss: float
    accuracy: float | None
    seconds: float
    steps_per_second: float
    bytes_sent: int
    checkpoint: str


class Trainer:
    """Runs a job on a cluster whose workers have joined.

    Everything is decided by the job's seed: neither timing nor placement changes a bit.

    Arguments:
        report: told of what happens, as dicts with an "event": placed, resumed, step, evaluated, saved.
        resume: continue from the newest checkpoint of the job's directory.
    """

    def __init__(self, client: Client, job: Job, report: Report = lambda event: None, resume: bool = False) -> None:
        self._client = client
        self._job = job
        self._report = report
        self._resume = resume
        self._shards: dict[str, PlacedShard] = {}
        self._checkpoint = ""

    def run(self) -> Result:
        """Trains to the end.

        Raises:
            ConfigError, CheckpointError: the job, its data or its checkpoint does not fit.
            GradientError: the loss or a gradient is not finite.
            RemoteError, WorkerLost: a worker failed.
        """
        job = self._job
        batches = Batches.open(job)
        self._place()
        rule = from_settings(job.optimizer.kind, job.optimizer.settings)
        optimizer = self._client.optimizer(rule, list(self._shards.values()), name="job")
        first = self._restore() if self._resume else 0
        began, sent_before = time.monotonic(), self._bytes_sent()
        loss, accuracy = math.nan, None
        with ExitStack() as stack:
            metrics = self._open_metrics(stack, first)
            steps = stack.enter_context(Steps(self._client, job, self._shards, optimizer))
            for step in range(first, job.steps):
                loss = steps.take(step, batches.microbatches(step))
                taken = step + 1
                rate = (taken - first) / (time.monotonic() - began)
                self._report({"event": "step", "step": taken, "steps": job.steps, "loss": loss, "rate": rate})
                last = taken == job.steps
                evaluated = job.evaluation and (last or taken % job.evaluation.every == 0)
                if evaluated:
                    accuracy = self._evaluate(taken, batches)
                if metrics is not None:
                    metrics.write(StepMetrics(taken, time.time(), loss, accuracy if evaluated else None, rate))
                if job.checkpoint and (last or taken % job.checkpoint.every == 0):
                    self._save(taken)
            if first >= job.steps and job.evaluation:
                accuracy = self._evaluate(first, batches)
        seconds = time.monotonic() - began
        return Result(
            steps=max(first, job.steps),
            loss=loss,
            accuracy=accuracy,
            seconds=seconds,
            steps_per_second=max(job.steps - first, 0) / seconds if seconds else 0.0,
            bytes_sent=self._bytes_sent() - sent_before,
            checkpoint=self._checkpoint,
        )

    # ---- before ------------------------------------------------------------------------------------------------------

    def _place(self) -> None:
        for spec in self._job.shards:
            self._shards[spec.name] = self._client.place(
                spec.name, spec.program, spec.worker or "", spec.config, self._job.seed
            )
        self._report({"event": "placed", "shards": list(self._shards), "steps": self._job.steps})

    def _restore(self) -> int:
        """Returns to the newest checkpoint; returns the number of steps it holds."""
        if self._job.checkpoint is None:
            raise ConfigError(f"job {self._job.name!r} keeps no checkpoints to resume from: it has no [checkpoint]")
        directory = self._job.checkpoint.directory
        newest = latest_checkpoint(directory)
        if newest is None:
            damaged = ", ".join(sorted(path.name for path in directory.glob("step-*")))
            found = f"; {damaged} there is damaged or was never finished" if damaged else ""
            raise ConfigError(f"there is nothing to resume: no complete checkpoint in {directory}{found}")
        step = int(self._client.restore(str(newest), job=self._job.name)["step"])
        self._checkpoint = str(newest)
        self._report({"event": "resumed", "step": step, "checkpoint": self._checkpoint})
        return step

    def _open_metrics(self, stack: ExitStack, first: int) -> MetricsFile | None:
        if self._job.checkpoint is None:
            return None
        return stack.enter_context(MetricsFile(self._job.checkpoint.directory / "metrics.jsonl", first))

    # ---- now and then ------------------------------------------------------------------------------------------------

    def _evaluate(self, step: int, batches: Batches) -> float | None:
        """The share of held-out examples that are told right; None for a job that evaluates by the loss on them."""
        pipeline = self._job.pipeline
        inputs, targets = batches.held_out()
        accuracy = loss = None
        if pipeline.evaluate:
            predicted = run_stages(self._shards, pipeline.evaluate, inputs).numpy()
            if np.shape(predicted) != targets.shape:
                raise ConfigError(
                    f"{pipeline.evaluate[-1]} returned predictions of shape {np.shape(predicted)} for held-out targets "
                    f"of shape {targets.shape}; expected one prediction for each target"
                )
            accuracy = float(np.mean(predicted == targets))
        else:
            loss = float(run_stages(self._shards, pipeline.forward, inputs, targets).item())
        self._report({"event": "evaluated", "step": step, "accuracy": accuracy, "loss": loss})
        return accuracy

    def _save(self, step: int) -> None:
        spec = self._job.checkpoint
        assert spec is not None
        extra = {"job": self._job.name, "step": step, "seed": self._job.seed}
        self._checkpoint = self._client.save(str(spec.directory), extra)
        prune(spec.directory, spec.keep)
        self._report({"event": "saved", "step": step, "checkpoint": self._checkpoint})

    def _bytes_sent(self) -> int:
        return sum(self._client.counts(name)["bytes_sent"] for name in self._job.cluster.workers)
