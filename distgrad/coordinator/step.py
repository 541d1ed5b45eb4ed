"""Taking a step: forward and backward of every microbatch, side by side, and one update."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType

import numpy as np

from distgrad.errors import GradientError
from distgrad.graph.context import Context

from .batches import Microbatch
from .client import Client, PlacedShard, RemoteOptimizer
from .job import Job
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
    """

    def __init__(self, client: Client, job: Job, shards: Mapping[str, PlacedShard], optimizer: RemoteOptimizer) -> None:
        self._client = client
        self._job = job
        self._shards = shards
        self._optimizer = optimizer
        self._threads = ThreadPoolExecutor(job.microbatches, thread_name_prefix="microbatch")

    def take(self, step: int, pieces: Sequence[Microbatch]) -> float:
        """Takes the step (from 0) with a batch in these pieces. Returns the mean loss.

        Raises:
            GradientError: the loss or a gradient is not finite.
            RemoteError, WorkerLost: a worker failed.
        """
        with ExitStack() as stack:
            contexts = [stack.enter_context(self._client.context(step, number)) for number in range(len(pieces))]
            losses = list(self._threads.map(self._microbatch, contexts, pieces))
            loss = math.fsum(piece.share * value for piece, value in zip(pieces, losses, strict=True))
            if not math.isfinite(loss):
                raise GradientError(f"step {step + 1}: the loss is {loss}, so the step was not taken; {_ADVICE}")
            result = self._optimizer.step(*contexts, clip_norm=self._job.optimizer.clip_norm)
            self._release(contexts)
        if not result.applied:
            raise GradientError(
                f"step {step + 1}: a gradient is not finite (loss {loss:g}), so the step was not taken; {_ADVICE}"
            )
        return loss

    def _microbatch(self, context: Context, piece: Microbatch) -> float:
        """Forward and backward of one microbatch, whose loss counts as its share of the step's. Returns that loss."""
        with context:
            loss = run_stages(self._shards, self._job.pipeline.forward, piece.inputs, piece.targets)
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
