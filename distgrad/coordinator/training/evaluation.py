"""How good a model is: its loss and accuracy on examples that it has never been trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from distgrad.errors import ConfigError

from ..client import PlacedShard
from .batches import Batches
from .specs import PipelineSpec
from .stages import run_stages


@dataclass(frozen=True)
class Measured:
    """On held-out examples.

    Attributes:
        loss: mean over them.
        accuracy: the share of targets that were predicted; None when the pipeline predicts nothing.
    """

    loss: float
    accuracy: float | None


class Evaluation:
    """Measures a model that is spread over shards. Calls are made outside any context: nothing is recorded, and modules
    work in evaluation mode.

    Arguments:
        shards: by name.
        batches: where held-out examples come from.
    """

    def __init__(self, shards: Mapping[str, PlacedShard], pipeline: PipelineSpec, batches: Batches) -> None:
        self._shards = shards
        self._pipeline = pipeline
        self._batches = batches

    def measure(self) -> Measured:
        """Loss and accuracy, piece by piece.

        Raises:
            ConfigError: the data or the predictions are not what they should be.
            RemoteError, WorkerLost: a worker failed.
        """
        pieces = self._batches.held_out()
        losses, accuracies = [], []
        for piece in pieces:
            inputs, targets = piece.values(self._shards)
            loss = run_stages(self._shards, self._pipeline.forward, inputs, targets)
            if self._pipeline.evaluate:
                accuracies.append(piece.share * self._accuracy(inputs, targets))
            losses.append(piece.share * float(loss.item()))
        return Measured(math.fsum(losses), math.fsum(accuracies) if accuracies else None)

    def sample(self) -> str:
        """What the job's data makes of the model; empty when the pipeline has no stages for it."""
        stages = self._pipeline.sample
        return self._batches.sample(lambda inputs: run_stages(self._shards, stages, inputs).numpy()) if stages else ""

    def _accuracy(self, inputs: Any, targets: Any) -> float:
        """The share of the targets that are predicted; a last stage that takes the targets says it itself."""
        stages = self._pipeline.evaluate
        if "targets" in (stages[-1].arguments or ()):
            return float(run_stages(self._shards, stages, inputs, targets).item())
        predicted = run_stages(self._shards, stages, inputs).numpy()
        if np.shape(predicted) != np.shape(targets):
            raise ConfigError(
                f"{stages[-1]} returned predictions of shape {np.shape(predicted)} for held-out targets of shape "
                f"{np.shape(targets)}; expected one prediction for each target"
            )
        return float(np.mean(predicted == targets))
