"""Taking a step: forward and backward of every microbatch, side by side, and one update."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np

from distgrad.autograd.checkpoint import checkpoint
from distgrad.errors import GradientError
from distgrad.graph.context import Context
from distgrad.graph.urgency import urgent

from .batches import Microbatch
from .client import Client, PlacedShard
from .job import Job
from .optimizer import RemoteOptimizer, Turn
from .schedule import SCHEDULES, Shape
from .stages import run_stages

_ADVICE = (
    "lower the learning rate (--set optimizer.settings.lr=...) or clip gradients (--set optimizer.clip_norm=...), and "
    "look for infinite values in the data"
)


class Steps:
    """Takes the steps of a job. `with Steps(...) as steps:` ends its threads.

    The loss that the job's last stage returns is the mean over its microbatch, and a step follows the gradient of the
    mean over the batch. A step that raises has changed no parameter and left no context; it can be taken again.

    Arguments:
        shards: of the job, by name.
        optimizer: of all of them.

    Attributes:
        shape: of the pipeline.
        update_seconds: what the latest step took after its last microbatch.
    """

    def __init__(self, client: Client, job: Job, shards: Mapping[str, PlacedShard], optimizer: RemoteOptimizer) -> None:
        self._client = client
        self._job = job
        recomputed = {spec.name for spec in job.shards if spec.recompute}
        self._shards = {name: _Recomputed(it) if name in recomputed else it for name, it in shards.items()}
        self._optimizer = optimizer
        self._schedule = SCHEDULES[job.pipeline.schedule]
        self.shape = pipeline_shape(client, job)
        self.update_seconds = 0.0
        # A thread for each microbatch that may be alive: the others wait in line.
        self._threads = ThreadPoolExecutor(self._schedule.window(self.shape), thread_name_prefix="microbatch")

    def take(
        self, step: int, pieces: Sequence[Microbatch], check: Callable[[], None] = lambda: None
    ) -> tuple[float, ...]:
        """Takes the step (from 0) with a batch in these pieces. Returns its mean loss; where a job has several
        trainers, the mean losses of the step of each.

        Arguments:
            check: called now and then while waiting for other trainers; may raise to end the wait.

        Raises:
            GradientError: the loss or a gradient is not finite.
            RemoteError, WorkerLost: a worker failed.
        """
        with ExitStack() as stack:
            contexts = [stack.enter_context(self._client.context(step, number)) for number in range(len(pieces))]
            losses = self._run(contexts, pieces)
            loss = math.fsum(piece.share * value for piece, value in zip(pieces, losses, strict=True))
            if not math.isfinite(loss):
                raise GradientError(f"step {step + 1}: the loss is {loss}, so the step was not taken; {_ADVICE}")
            began = time.perf_counter()
            spec = self._job.optimizer
            turn = Turn(step % self._job.trainers, self._job.trainers, loss, check)
            result = self._optimizer.step(
                *contexts, clip_norm=spec.clip_norm, learning_rate=spec.learning_rate(step), turn=turn
            )
            self._release(contexts)
            self.update_seconds = time.perf_counter() - began
        if not result.applied:
            raise GradientError(
                f"step {step + 1}: a gradient is not finite (loss {loss:g}), so the step was not taken; {_ADVICE}"
            )
        return result.losses

    def _run(self, contexts: Sequence[Context], pieces: Sequence[Microbatch]) -> list[float]:
        """Forward and backward of all microbatches. Raising, nothing of them goes on."""
        running = [
            self._threads.submit(self._microbatch, number, context, piece)
            for number, (context, piece) in enumerate(zip(contexts, pieces, strict=True))
        ]
        ended, going_on = wait(running, return_when=FIRST_EXCEPTION)
        failed = [microbatch for microbatch in running if microbatch in ended and microbatch.exception() is not None]
        if failed:
            for microbatch in going_on:
                microbatch.cancel()
            self._release(contexts)  # what still waits in them hears of it
            wait(going_on)
        return [microbatch.result() for microbatch in failed or running]

    def _microbatch(self, number: int, context: Context, piece: Microbatch) -> float:
        """Forward and backward of one microbatch, whose loss counts as its share of the step's. Returns that loss."""
        urgencies = partial(self._schedule.urgencies, self.shape, microbatch=number)
        with context, urgent(urgencies(0)):
            inputs, targets = piece.values(self._shards)
            loss = run_stages(self._shards, self._job.pipeline.forward, inputs, targets, urgencies)
            context.backward(loss, gradient=np.asarray(piece.share))
            value = float(loss.item())
        return value

    def _release(self, contexts: Sequence[Context]) -> None:
        """Ends contexts all at once: leaving their blocks one after the other takes a round trip each."""
        process = self._client.process
        for released in [process.release(context.id) for context in contexts]:
            process.executor.wait(released, what="the release of a step's contexts")

    def __enter__(self) -> Steps:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown()


class _Recomputed:
    """A shard whose calls keep only their arguments, and are computed again on the way back."""

    def __init__(self, shard: PlacedShard) -> None:
        self._shard = shard

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return checkpoint(getattr(self._shard, method))


def pipeline_shape(client: Client, job: Job) -> Shape:
    """The pipeline of a job whose shards are placed."""
    workers = tuple(client.worker_of(stage.shard) for stage in job.pipeline.forward)
    return Shape(workers, job.microbatches, job.pipeline.warm_up)
