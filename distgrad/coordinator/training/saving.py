"""The checkpoints of a run, written while it goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from distgrad.errors import DistgradError, LinkError
from distgrad.graph.waiting import Promise

from ..client import Client
from .specs import CheckpointSpec

_log = logging.getLogger(__name__)


class Saves:
    """Begins checkpoints when they are due, one at a time, and sees to their end.

    Arguments:
        spec: None: there are none.
        steps: of the run; there is a checkpoint after the last.
        saved: told of the step and path of each that is written.
        done: number of steps in the newest checkpoint there is.
    """

    def __init__(
        self, client: Client, spec: CheckpointSpec | None, steps: int, saved: Callable[[int, str], None], done: int
    ) -> None:
        self._client = client
        self._spec = spec
        self._steps = steps
        self._saved = saved
        self._begun = done
        self._pending: tuple[int, Promise[str]] | None = None

    def due(self, step: int) -> bool:
        """Whether a checkpoint after `step` steps is to be begun."""
        spec = self._spec
        return spec is not None and step > self._begun and (step == self._steps or step % spec.every == 0)

    def begin(self, step: int, extra: Mapping[str, Any]) -> None:
        """Begins a checkpoint, after the one before has ended. Steps that are asked for from now on are not in it.

        Raises:
            CheckpointError: the one before was refused by the disk.
        """
        self._pass_over_losses()
        assert self._spec is not None
        self._begun = step
        self._pending = step, self._client.begin_save(str(self._spec.directory), extra, self._spec.keep)

    def look(self) -> None:
        """Notices the end of a checkpoint, if it has come. Raises as `begin` does."""
        if self._pending is not None and self._pending[1].done:
            self._pass_over_losses()

    def _pass_over_losses(self) -> None:
        """Waits as `finish` does. A worker that was lost meanwhile is noticed by the steps; the next checkpoint is
        written when it is due."""
        try:
            self.finish()
        except LinkError as error:
            _log.warning("a checkpoint was not written: %s", error)

    def finish(self) -> None:
        """Waits for the checkpoint that is being written, if there is one.

        Raises:
            CheckpointError: the disk refuses; the earlier checkpoints stand.
            WorkerLost: a worker was lost before it had handed over its state.
        """
        if self._pending is None:
            return
        (step, promise), self._pending = self._pending, None
        self._client.process.executor.wait(promise, what="the checkpoint")
        try:
            path = promise.result()
        except BaseException:
            self._begun = min(self._begun, step - 1)
            raise
        self._saved(step, path)

    def settle(self) -> None:
        """Waits for the checkpoint that is being written, if there is one, when the run has ended otherwise."""
        try:
            self.finish()
        except DistgradError as error:
            _log.warning("the last checkpoint was not written: %s", error)

    def go_back(self, step: int) -> None:
        """The run goes on after `step` steps, of which there is a checkpoint, or which has none after it."""
        self._begun = min(self._begun, step)
