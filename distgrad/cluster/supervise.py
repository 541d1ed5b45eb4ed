"""A job trained on this machine: its coordinator and workers are started, watched, started anew when they are lost, and
ended. Nothing is computed here, so nothing that goes wrong there can keep this process from noticing."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distgrad.coordinator.checkpoint import remove_leftovers
from distgrad.coordinator.child import TrainingOrders
from distgrad.coordinator.training.job import Job, describe, open_job
from distgrad.errors import ConfigError, DistgradError, LinkError, WorkerLost
from distgrad.transport.settings import TransportSettings
from distgrad.worker.child import WorkerOrders, failure
from distgrad.worker.children import Child, Children, Event, how_it_ended
from distgrad.worker.member import COORDINATOR

from .directory import run_directory, socket_in
from .listening import Listening
from .signals import ending_signals


@dataclass(frozen=True)
class Training:
    """What `distgrad train` was asked for.

    Attributes:
        file: of the job.
        overrides, workers: what differs from the file; see `open_job`.
        resume: continue from the newest checkpoint.
        fresh: remove what an earlier run has left.
    """

    file: Path
    overrides: tuple[str, ...] = ()
    workers: int | None = None
    resume: bool = False
    fresh: bool = False


def train(training: Training, report: Callable[[Event], None]) -> None:
    """Trains a job to its end. Whatever happens, no process, socket or temporary file is left.

    Arguments:
        report: told of what happens: "job", "ready" (each worker), "placed", "resumed", "step", "evaluated", "saved",
            "failure" (a process was lost), "recovered", and "done" at the end.

    Raises:
        WorkerLost: more processes were lost than may be; the message names the last, its signal, and its log.
        Interrupted: Ctrl-C, or another signal to end.
        DistgradError: the job cannot be trained, for example ConfigError or RemoteError.
    """
    job = open_job(training.file, training.overrides, training.workers)
    heard = Listening(job.limits.silence_seconds)
    with ending_signals(heard.put), run_directory() as directory:
        report({"event": "job", "text": describe(job)})
        logs = _log_directory(job, directory)
        children = Children(logs, job.cluster.blas_threads, lambda child, event: heard.put((child, event)))
        run = _Run(training, job, directory, children, heard, report)
        try:
            with children:
                run.follow()
        finally:
            if job.checkpoint is not None and run.listening:
                remove_leftovers(job.checkpoint.directory)


class _Run:
    """The processes of one job, each started again when it is lost, until the coordinator has done or gives up.

    Attributes:
        listening: whether a coordinator has begun, so that nobody but this run writes checkpoints of the job.
    """

    def __init__(
        self,
        training: Training,
        job: Job,
        directory: Path,
        children: Children,
        heard: Listening,
        report: Callable[[Event], None],
    ) -> None:
        self._training = training
        self._job = job
        self._directory = directory
        self._children = children
        self._heard = heard
        self._report = report
        self.listening = False
        self._address = ""  # of the coordinator, while there is one
        self._incarnations: dict[Child, int] = {}  # of workers that have become ready
        self._last_lost: Child | None = None
        self._failures = 0
        self._checkpoint = ""
        self._settings = TransportSettings(
            cluster=job.name,
            token=secrets.token_hex(16),
            silence=job.limits.silence_seconds,
            max_transfer_bytes=job.limits.transfer_bytes,
            lossy=job.cluster.lossy,
        )

    def follow(self) -> None:
        """Returns when the job is done."""
        self._start()
        done = False
        while True:
            child, event = self._heard.next()
            self._checkpoint = event.get("checkpoint") or self._checkpoint
            kind = event["event"]
            if child is not self._children.get(child.name) or kind == "alive":
                continue
            if kind == "exited" and done and child.name == COORDINATOR:
                return
            if kind == "exited":
                if not done:
                    self._replace(child, event)
            elif child.name == COORDINATOR:
                self._hear_coordinator(event)
                done = done or kind == "done"
            else:
                self._hear_worker(child, event)

    def _hear_coordinator(self, event: Event) -> None:
        match event["event"]:
            case "listening":
                self.listening = True
                self._address = event["address"]
                for name in self._job.cluster.workers:
                    self._begin_worker(name)
            case "lost":
                self._end_lost(event)
            case "failed":
                raise self._given_up(event)
            case "failure":
                self._count(event["reason"])
            case _:
                self._report(event)

    def _hear_worker(self, child: Child, event: Event) -> None:
        if event["event"] == "ready":
            self._incarnations[child] = event["incarnation"]
            self._report({"event": "ready", "worker": child.name, "process": child.pid, "log": str(child.log)})
        elif event["event"] == "failed":
            error = failure(event)
            if child not in self._incarnations and not isinstance(error, LinkError):
                raise error  # it would fail again

    # ---- starting ----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Starts all processes, so that all import their modules at once; the coordinator alone gets its orders."""
        self._start_coordinator()
        for name in self._job.cluster.workers:
            self._children.start(name, "distgrad.worker")

    def _start_coordinator(self) -> None:
        training = self._training
        self._children.start(COORDINATOR, "distgrad.coordinator").begin(
            TrainingOrders(
                **self._common(COORDINATOR),
                job=str(training.file.resolve()),
                overrides=training.overrides,
                workers=training.workers,
                resume=training.resume,
                fresh=training.fresh,
                failures=self._failures if self.listening else 0,
            )
        )

    def _begin_worker(self, name: str) -> None:
        """Gives a worker its orders, once there is a coordinator to join. Repeated, it does nothing."""
        child = self._children.get(name)
        assert child is not None
        if self._address and not child.begun:
            child.begin(
                WorkerOrders(
                    **self._common(name),
                    coordinator=self._address,
                    programs=str(self._job.cluster.programs.resolve()),
                    max_depth=self._job.limits.call_depth,
                    patience=self._job.recovery.patience_seconds,
                )
            )

    def _common(self, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "listen": socket_in(self._directory, name),
            "directory": str(self._directory),
            "settings": self._settings,
        }

    # ---- losses ------------------------------------------------------------------------------------------------------

    def _replace(self, child: Child, event: Event) -> None:
        """A process has ended that should not have: starts its successor."""
        self._last_lost = child
        if child.name == COORDINATOR:
            self._address = ""
            self._count(self._describe(child))
            self._start_coordinator()
            return
        if child in self._incarnations:
            lost = {"name": child.name, "incarnation": self._incarnations[child], "reason": how_it_ended(child)}
            coordinator = self._children.get(COORDINATOR)
            assert coordinator is not None
            coordinator.say({"lost": lost})
            if self._failures >= self._job.recovery.max_failures:
                return  # the coordinator is about to give up
        else:  # nobody else knows of it
            self._count(self._describe(child))
        self._children.start(child.name, "distgrad.worker")
        self._begin_worker(child.name)

    def _end_lost(self, event: Event) -> None:
        """The coordinator has declared a worker lost. If its process is still there, stopped or stuck, it is ended."""
        child = self._children.get(event["worker"])
        if child is not None and self._incarnations.get(child) == event["incarnation"]:
            child.end(event["reason"])

    def _count(self, reason: str) -> None:
        """Counts a failure, and gives up when there are too many."""
        limit = self._job.recovery.max_failures
        self._failures += 1
        if self._failures > limit:
            raise WorkerLost("\n".join([reason, *self._advice()]))
        self._report({"event": "failure", "reason": reason, "failures": self._failures, "max_failures": limit})

    # ---- what is said of it ------------------------------------------------------------------------------------------

    def _given_up(self, event: Event) -> DistgradError:
        """Why the coordinator has ended the run. Of a lost process this one knows more."""
        error = failure(event)
        if isinstance(error, LinkError) and self._last_lost is not None:
            waits = str(error).splitlines()[1:]
            return WorkerLost("\n".join([self._describe(self._last_lost), *waits, *self._advice()]))
        return error

    def _describe(self, child: Child) -> str:
        """A lost process, why it was lost, and the end of its log."""
        what = child.name if child.name == COORDINATOR else f"worker {child.name}"
        lines = [f"{what} is lost: {how_it_ended(child)}"]
        if tail := child.tail():
            lines.append(f"the end of its log, {child.log}:\n{tail}")
        return "\n".join(lines)

    def _advice(self) -> list[str]:
        return [f"the newest checkpoint is {self._checkpoint}: continue with --resume"] if self._checkpoint else []


def _log_directory(job: Job, temporary: Path) -> Path:
    """Where logs are kept: with the numbers of the run, to be read when it has ended; else only as long as it runs.

    Raises:
        ConfigError: the folder cannot be made.
    """
    if job.checkpoint is None and job.metrics.directory is None:
        return temporary
    logs = job.directory / "logs"
    try:
        logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"logs and metrics of this run cannot be kept in {job.directory}: {error}; choose another folder with "
            "metrics.directory"
        ) from error
    return logs
