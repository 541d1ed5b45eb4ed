"""Training a job: forward calls for every microbatch, backward, update; evaluation and checkpoints now and then."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from distgrad.errors import ConfigError, GradientError
from distgrad.graph.context import Context
from distgrad.optim import from_settings
from distgrad.worker.programs import Programs

from .checkpoint import latest_checkpoint, prune
from .client import Client, PlacedShard
from .job import Job, Stage
from .metrics import MetricsFile, StepMetrics

Report = Callable[[dict[str, Any]], None]


class Data(Protocol):
    """Where a job's examples come from. `batch` depends on nothing but `step`, so a step can be taken again."""

    def batch(self, step: int) -> tuple[Any, Any]:
        """Inputs and targets of a step (from 0), arrays with the examples along the first axis."""

    def held_out(self) -> tuple[Any, Any]:
        """Inputs and targets that are never trained on."""


@dataclass(frozen=True)
class Result:
    """What a run has come to.

    Attributes:
        steps: updates in all, those before a resume included.
        loss: of the last step.
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
            ConfigError, CheckpointError: the job or its checkpoint does not fit.
            GradientError: the loss or a gradient is not finite.
            RemoteError, WorkerLost: a worker failed.
        """
        job = self._job
        data = self._open_data()
        self._place()
        optimizer = self._client.optimizer(
            from_settings(job.optimizer.kind, job.optimizer.settings), list(self._shards.values()), name="job"
        )
        first = self._restore() if self._resume else 0
        began, sent_before = time.monotonic(), self._bytes_sent()
        loss, accuracy = math.nan, None
        with ExitStack() as stack:
            metrics = self._open_metrics(stack, first)
            threads = stack.enter_context(ThreadPoolExecutor(job.microbatches, thread_name_prefix="microbatch"))
            for step in range(first, job.steps):
                loss = self._step(step, data, optimizer, threads)
                taken = step + 1
                rate = (taken - first) / (time.monotonic() - began)
                self._report({"event": "step", "step": taken, "steps": job.steps, "loss": loss, "rate": rate})
                last = taken == job.steps
                if job.evaluation and (last or taken % job.evaluation.every == 0):
                    accuracy = self._evaluate(data)
                    self._report({"event": "evaluated", "step": taken, "accuracy": accuracy, "loss": loss})
                if metrics is not None:
                    metrics.write(StepMetrics(taken, time.time(), loss, accuracy, rate))
                if job.checkpoint and (last or taken % job.checkpoint.every == 0):
                    self._save(taken)
            if first >= job.steps and job.evaluation:
                accuracy = self._evaluate(data)
        seconds = time.monotonic() - began
        return Result(
            steps=job.steps,
            loss=loss,
            accuracy=accuracy,
            seconds=seconds,
            steps_per_second=(job.steps - first) / seconds if seconds else 0.0,
            bytes_sent=self._bytes_sent() - sent_before,
            checkpoint=self._checkpoint,
        )

    # ---- before ------------------------------------------------------------------------------------------------------

    def _open_data(self) -> Data:
        spec = self._job.data
        kind = Programs(self._job.cluster.programs).find(spec.program)
        config = dict(spec.config)
        if "seed" in inspect.signature(kind).parameters:
            config.setdefault("seed", self._job.seed)
        try:
            data: Data = kind(**config)
        except Exception as error:
            raise ConfigError(f"data {spec.program}: {type(error).__name__}: {error}") from error
        return data

    def _place(self) -> None:
        for spec in self._job.shards:
            self._shards[spec.name] = self._client.place(
                spec.name, spec.program, spec.worker or "", spec.config, self._job.seed
            )
        self._report({"event": "placed", "shards": list(self._shards), "steps": self._job.steps})

    def _restore(self) -> int:
        """Returns to the newest checkpoint; returns the number of steps it holds."""
        directory = self._job.checkpoint.directory if self._job.checkpoint else None
        newest = latest_checkpoint(directory) if directory else None
        if newest is None:
            raise ConfigError(f"there is nothing to resume: no complete checkpoint in {directory}")
        extra = self._client.restore(str(newest))
        if extra.get("job") != self._job.name:
            raise ConfigError(f"checkpoint {newest} is of job {extra.get('job')!r}, not of {self._job.name!r}")
        step = int(extra["step"])
        self._checkpoint = str(newest)
        self._report({"event": "resumed", "step": step, "checkpoint": str(newest)})
        return step

    def _open_metrics(self, stack: ExitStack, first: int) -> MetricsFile | None:
        if self._job.checkpoint is None:
            return None
        return stack.enter_context(MetricsFile(self._job.checkpoint.directory / "metrics.jsonl", first))

    # ---- a step ------------------------------------------------------------------------------------------------------

    def _step(self, step: int, data: Data, optimizer: Any, threads: ThreadPoolExecutor) -> float:
        """Forward and backward of every microbatch, side by side, and one update. Returns the mean loss."""
        job = self._job
        x, y = data.batch(step)
        pieces = list(_pieces(np.asarray(x), np.asarray(y), job.microbatches))
        with ExitStack() as stack:
            contexts = [stack.enter_context(self._client.context(step, m)) for m in range(len(pieces))]
            shares = [len(inputs) / len(x) for inputs, _ in pieces]
            losses = list(threads.map(self._microbatch, contexts, pieces, shares))
            loss = math.fsum(share * value for share, value in zip(shares, losses, strict=True))
            result = optimizer.step(*contexts, clip_norm=job.optimizer.clip_norm)
        if not result.applied:
            raise GradientError(
                f"step {step + 1}: a gradient is not finite (loss {loss:g}), so the step was not taken; "
                "lower the learning rate (--set optimizer.settings.lr=...) or clip gradients (optimizer.clip_norm)"
            )
        return loss

    def _microbatch(self, context: Context, piece: tuple[Any, Any], share: float) -> float:
        """Forward and backward of one microbatch, whose loss counts as `share` of the step's."""
        inputs, targets = piece
        with context:
            loss = self._forward(self._job.pipeline.forward, inputs, targets)
            context.backward(loss, gradient=np.asarray(share))
            value = float(loss.item())
        return value

    def _forward(self, stages: tuple[Stage, ...], inputs: Any, *rest: Any) -> Any:
        """Calls the stages one after the other without waiting; the last is given `rest` as well."""
        value = inputs
        for position, stage in enumerate(stages):
            extra = rest if position == len(stages) - 1 else ()
            value = getattr(self._shards[stage.shard], stage.method)(value, *extra)
        return value

    # ---- now and then ------------------------------------------------------------------------------------------------

    def _evaluate(self, data: Data) -> float | None:
        """The share of held-out examples that are told right."""
        stages = self._job.pipeline.evaluate
        if not stages:
            return None
        x, y = data.held_out()
        predicted = self._forward(stages, np.asarray(x)).numpy()
        return float(np.mean(predicted == np.asarray(y)))

    def _save(self, step: int) -> None:
        spec = self._job.checkpoint
        assert spec is not None
        extra = {"job": self._job.name, "step": step, "seed": self._job.seed}
        self._checkpoint = self._client.save(str(spec.directory), extra)
        prune(spec.directory, spec.keep)
        self._report({"event": "saved", "step": step, "checkpoint": self._checkpoint})

    def _bytes_sent(self) -> int:
        return sum(self._client.counts(name)["bytes_sent"] for name in self._job.cluster.workers)


def _pieces(x: Any, y: Any, count: int) -> Iterator[tuple[Any, Any]]:
    """A batch cut into at most `count` microbatches of as equal size as can be."""
    if len(x) != len(y):
        raise ConfigError(f"data: batch() gave {len(x)} inputs and {len(y)} targets")
    return zip(np.array_split(x, min(count, len(x))), np.array_split(y, min(count, len(y))), strict=True)
