"""Taking a step: forward and backward of every microbatch, side by side, and one update."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import numpy as np

from distgrad.autograd.checkpoint import checkpoint
from distgrad.errors import GradientError
from distgrad.graph.context import Context
from distgrad.graph.urgency import urgent
from distgrad.worker.twins import twin

from ..client import Client, PlacedShard
from ..optimizer import RemoteOptimizer, Turn
from .batches import Microbatch
from .job import Job
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
        shards: of the job, twins included, by name.
        optimizer: of all of them.

    Attributes:
        shape: of the pipeline, that of the first replica.
        update_seconds: what the latest step took after its last microbatch.
    """

    def __init__(self, client: Client, job: Job, shards: Mapping[str, PlacedShard], optimizer: RemoteOptimizer) -> None:
        self._client = client
        self._job = job
        self._optimizer = optimizer
        self._replicas = [_Replica(client, job, shards, number) for number in range(job.replicas)]
        self.shape = self._replicas[0].shape
        self.update_seconds = 0.0

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
            each = -(-len(pieces) // len(self._replicas))
            for first in range(0, len(contexts), each):
                contexts[first].gather(*contexts[first + 1 : first + each])
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
        each = -(-len(pieces) // len(self._replicas))
        running = [
            replica.threads.submit(self._microbatch, replica, number % each, context, piece)
            for number, (context, piece) in enumerate(zip(contexts, pieces, strict=True))
            for replica in [self._replicas[number // each]]
        ]
        ended, going_on = wait(running, return_when=FIRST_EXCEPTION)
        failed = [microbatch for microbatch in running if microbatch in ended and microbatch.exception() is not None]
        if failed:
            for microbatch in going_on:
                microbatch.cancel()
            self._release(contexts)  # what still waits in them hears of it
            wait(going_on)
        return [microbatch.result() for microbatch in failed or running]

    def _microbatch(self, replica: _Replica, number: int, context: Context, piece: Microbatch) -> float:
        """Forward and backward of one microbatch, whose loss counts as its share of the step's. Returns that loss."""
        urgencies = replica.urgencies[number]
        with context, urgent(urgencies[0]):
            inputs, targets = piece.values(replica.shards)
            loss = run_stages(replica.shards, self._job.pipeline.forward, inputs, targets, urgencies.__getitem__)
            context.backward(loss, gradient=np.asarray(piece.share))
            value = float(loss.item())
        return value

    def _release(self, contexts: Sequence[Context]) -> None:
        """Ends contexts all at once: leaving their blocks one after the other takes a round trip each."""
        process = self._client.process
        released = process.releases.release([context.id for context in contexts])
        process.executor.wait(released, what="the release of a step's contexts")

    def __enter__(self) -> Steps:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for replica in self._replicas:
            replica.threads.shutdown()


class _Replica:
    """One copy of the pipeline.

    Attributes:
        shards: the twins that are part of it, by the names of their originals.
        urgencies: of each microbatch's work, by stage.
        threads: one for each microbatch that may be alive; the others wait in line.
    """

    def __init__(self, client: Client, job: Job, shards: Mapping[str, PlacedShard], number: int) -> None:
        own = {spec.name: shards[twin(spec.name, number)] for spec in job.shards}
        recomputed = {spec.name for spec in job.shards if spec.recompute}
        self.shards = {name: _Recomputed(it) if name in recomputed else it for name, it in own.items()}
        workers = tuple(client.worker_of(own[stage.shard].shard_name) for stage in job.pipeline.forward)
        self.shape = Shape(workers, job.microbatches, job.pipeline.warm_up)
        schedule = SCHEDULES[job.pipeline.schedule]
        self.urgencies = [
            [schedule.urgencies(self.shape, stage, microbatch) for stage in range(len(workers))]
            for microbatch in range(job.microbatches)
        ]
        self.threads = ThreadPoolExecutor(schedule.window(self.shape), thread_name_prefix="microbatch")


class _Recomputed:
    """A shard whose calls keep only their arguments, and are computed again on the way back."""

    def __init__(self, shard: PlacedShard) -> None:
        self._shard = shard

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return checkpoint(getattr(self._shard, method))
