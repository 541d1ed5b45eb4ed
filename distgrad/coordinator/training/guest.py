"""A job trained by a guest: a client of a cluster that was there before and stays.

When the coordinator is lost, the guest waits for the next one as the workers do, and goes on from the state that they
have kept. When it was only the guest's connection that was lost, the coordinator has let go of all that the guest had
made there, and the guest goes on from the newest checkpoint. Either way it comes to the bits of an undisturbed run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from distgrad.errors import DistgradError, LinkError, Timeout, WorkerLost
from distgrad.transport.settings import TransportSettings

from ..client import Client
from .job import Job, on_members
from .resuming import in_the_way
from .trainer import Result, Trainer

# Seconds between two attempts to find a coordinator, and for one of them.
_BETWEEN_ATTEMPTS = 0.1
_FOR_AN_ATTEMPT = 5.0


class Guest:
    """Trains a job on the workers of a coordinator.

    Arguments:
        coordinator: its address, and that of the next.
        name: of this client.
        report: told of what happens, as by `Trainer`; and "listening", from when checkpoints are the run's own.
        resume: continue from the newest checkpoint.
        fresh: begin anew even where an earlier run has left checkpoints, and remove them.
        failures: when an earlier guest trained this very run and was lost: how many losses it has survived so far.
    """

    def __init__(
        self,
        job: Job,
        coordinator: str,
        settings: TransportSettings,
        name: str,
        report: Callable[[dict[str, Any]], None],
        *,
        resume: bool = False,
        fresh: bool = False,
        failures: int = 0,
    ) -> None:
        self._job = job
        self._coordinator = coordinator
        self._settings = settings
        self._name = name
        self._report = report
        self._resume = resume
        self._fresh = fresh
        self._failures = failures
        self._patience = 0.0  # for a coordinator that is not there
        self._workers: list[str] = []  # that were there when the coordinator before was lost

    def train(self) -> Result:
        """Trains to the end.

        Raises:
            WorkerLost: more processes were lost than may be, or no other coordinator came.
            DistgradError: as `Trainer.run` does.
        """
        while True:
            with self._join() as client:
                try:
                    return self._train(client)
                except DistgradError as error:
                    self._note(client, error)

    def _join(self) -> Client:
        deadline = time.monotonic() + self._patience
        # The coordinator may still take the client before this one for alive.
        name = f"{self._name}.{self._failures}" if self._failures else self._name
        while True:
            try:
                return Client(self._coordinator, self._settings, name, timeout=_FOR_AN_ATTEMPT)
            except LinkError as error:
                if not self._patience:
                    raise
                if time.monotonic() >= deadline:
                    where, patience = self._coordinator, self._patience
                    raise WorkerLost(
                        f"the coordinator is lost, and no other came to {where} within {patience:g} s: {error}"
                    ) from error
            time.sleep(_BETWEEN_ATTEMPTS)  # nothing tells that somebody listens over there

    def _train(self, client: Client) -> Result:
        job = self._job
        client.begin_job(job.name, job.steps, continues=self._failures > 0)
        if job.checkpoint and not self._resume and not self._failures:
            self._begin_anew(client, str(job.checkpoint.directory))
        self._report({"event": "listening", "address": ""})
        with suppress(Timeout):  # others may take their places
            client.wait_for_workers(self._workers, self._patience, client.check_coordinator)
        members = client.assign_workers(job.cluster.workers, job.limits.join_seconds)
        for name, member in members.items():
            place = {"member": member.name, "address": member.address, "process": member.pid}
            self._report({"event": "ready", "worker": name, **place})
        moved = on_members(job, {name: member.name for name, member in members.items()})
        return Trainer(client, moved, report=self._hear, resume=self._resume, failures=self._failures).run()

    def _begin_anew(self, client: Client, directory: str) -> None:
        """Makes sure that nothing of an earlier run is taken for this one's."""
        if not self._fresh and (earlier := client.find_checkpoint(directory).path):
            raise in_the_way(earlier)
        client.remove_checkpoints(directory)

    def _hear(self, event: dict[str, Any]) -> None:
        if event["event"] == "failure":
            self._failures = event["failures"]
        self._report(event)

    def _note(self, client: Client, error: DistgradError) -> None:
        """Counts the loss of the coordinator. Raises `error` again when it is no such loss, or there were too many."""
        limit = self._job.recovery.max_failures
        try:
            client.check_coordinator()
        except WorkerLost as loss:
            if self._failures >= limit:
                raise error from loss
            reason = str(loss)
        else:
            raise error
        self._failures += 1
        self._patience = self._job.recovery.patience_seconds
        self._workers = client.present
        self._report({"event": "failure", "reason": reason, "failures": self._failures, "max_failures": limit})
        text = f"waiting up to {self._patience:g} s for the next coordinator at {self._coordinator}"
        self._report({"event": "notice", "text": text})
