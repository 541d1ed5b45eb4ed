"""What a run does when processes are lost: it waits for their successors, has the state brought back, and goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from distgrad.errors import ContextClosed, DistgradError, LinkError, RemoteError, WorkerLost
from distgrad.wire import pb

from ..client import Client
from ..recovery import Recovered
from .job import Job

# What a remote method raises when a process that it needed was lost.
_OF_LOSSES = frozenset({"WorkerLost", "LinkError", "ContextClosed"})

_SOURCES = {
    pb.SOURCE_OWNERS: "what the workers hold",
    pb.SOURCE_REPLICAS: "the copies of other workers",
    pb.SOURCE_CHECKPOINT: "a checkpoint",
    pb.SOURCE_INITIAL: "the beginning",
}


class Survival:
    """Decides whether a run survives a failure, and recovers its cluster.

    Arguments:
        report: told of "failure" and "recovered".
        failures: that the run has survived so far.
        standby_after: see `Client.recover`.
    """

    def __init__(
        self, client: Client, job: Job, report: Callable[[dict[str, Any]], None], failures: int, standby_after: float
    ) -> None:
        self._client = client
        self._job = job
        self._report = report
        self._failures = failures
        self._standby_after = standby_after
        self._alive = self._living()

    def note(self, error: DistgradError) -> None:
        """Counts a failure. Raises `error` again when no loss of a process explains it; WorkerLost when there were too
        many, or the coordinator is gone, without whom nobody recovers."""
        self._client.check_coordinator()
        lost = self._alive - self._living()
        of_a_loss = bool(lost) or isinstance(error, LinkError | ContextClosed)
        if isinstance(error, RemoteError):
            of_a_loss = of_a_loss or error.original in _OF_LOSSES
        if not of_a_loss:
            raise error
        self._alive -= lost  # another error must have another cause
        whole = "\n".join([self._reasons(lost) or str(error), *self._whereabouts(lost), *self._waits()])
        if self._failures >= self._job.recovery.max_failures:
            raise WorkerLost(whole) from error
        self._failures += 1
        self._report(
            {
                "event": "failure",
                "reason": whole,
                "failures": self._failures,
                "max_failures": self._job.recovery.max_failures,
            }
        )

    def recover(self) -> Recovered:
        """Brings all shards to one version again.

        Raises:
            Timeout: a worker did not come back.
            WorkerLost: another failure.
        """
        began = time.monotonic()
        spec, checkpoint = self._job.recovery, self._job.checkpoint
        self._alive = self._living()
        directory = str(checkpoint.directory) if checkpoint is not None else ""
        found = self._client.recover(
            directory, self._job.name, spec.patience_seconds, self._standby_after, self._job.trainers
        )
        self._alive = self._living()
        seconds = time.monotonic() - began
        self._report(
            {
                "event": "recovered",
                "step": found.versions.get("job", 0),
                "source": _SOURCES[found.source],
                "checkpoint": found.path,
                "seconds": seconds,
            }
        )
        return found

    def _waits(self) -> list[str]:
        """Who waited for whom at the loss, as a line; none when nobody waited for a call."""
        caller = self._client.process.caller
        waits, caller.waits_at_loss = caller.waits_at_loss, []
        return [f"when it was lost, {'; '.join(waits)}"] if waits else []

    def _whereabouts(self, lost: frozenset[int]) -> list[str]:
        """Where these incarnations were, a line each; of those whose starter knows, nothing."""
        members = [it for it in list(self._client.membership.members.values()) if it.incarnation in lost and it.host]
        return [
            f"{it.name} was process {it.pid} on {it.host}: see "
            + (f"its log there, {it.log}" if it.log else "what it has printed there")
            for it in members
        ]

    def _reasons(self, lost: frozenset[int]) -> str:
        """Why these incarnations were lost, as far as it is known who they were."""
        members = list(self._client.membership.members.values())
        return "; ".join(f"{it.name} is lost: {it.reason}" for it in members if it.incarnation in lost and it.reason)

    def _living(self) -> frozenset[int]:
        """The incarnations of the workers that are alive."""
        members = list(self._client.membership.members.values())
        return frozenset(it.incarnation for it in members if it.role == "worker" and it.state == "alive")
