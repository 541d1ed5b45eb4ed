"""A job trained on this machine: its coordinator and workers are started, watched and ended. Nothing is computed here,
so nothing that goes wrong there can keep this process from noticing."""

from __future__ import annotations

import queue
import secrets
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distgrad.coordinator.checkpoint import remove_leftovers
from distgrad.coordinator.child import TrainingOrders
from distgrad.coordinator.job import Job, describe, open_job
from distgrad.errors import DistgradError, WorkerLost
from distgrad.transport.settings import TransportSettings
from distgrad.worker.child import WorkerOrders, failure
from distgrad.worker.member import COORDINATOR

from .children import Child, Children, Event, how_it_ended
from .directory import run_directory, socket_in
from .signals import Interrupted, ending_signals

# Seconds for a cause to be heard when a process has ended in order, and for another once one has been heard.
_FOR_A_CAUSE = 2.0
_FOR_ANOTHER = 0.3


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
            and "done" at the end.

    Raises:
        WorkerLost: a process ended; the message names it, its number and signal, and its log.
        Interrupted: Ctrl-C, or another signal to end.
        DistgradError: the job cannot be trained, for example ConfigError or RemoteError.
    """
    heard: queue.SimpleQueue[Message] = queue.SimpleQueue()
    with ending_signals(heard.put), run_directory() as directory:
        job = open_job(training.file, training.overrides, training.workers)
        report({"event": "job", "text": describe(job)})
        logs = _log_directory(job, directory)
        children = Children(logs, job.cluster.blas_threads, lambda child, event: heard.put((child, event)))
        run = _Run(training, job, directory, children, heard)
        try:
            with children:
                run.follow(report)
        finally:
            if job.checkpoint is not None and run.listening:
                remove_leftovers(job.checkpoint.directory)


Message = signal.Signals | tuple[Child, Event]


class _Run:
    """The processes of one job, from their start to the first of them that ends.

    Attributes:
        listening: whether the coordinator has begun, so that nobody but this run writes checkpoints of the job.
    """

    def __init__(
        self,
        training: Training,
        job: Job,
        directory: Path,
        children: Children,
        heard: queue.SimpleQueue[Message],
    ) -> None:
        self._training = training
        self._job = job
        self._directory = directory
        self._children = children
        self._heard = heard
        self.listening = False
        self._checkpoint = ""
        self._settings = TransportSettings(
            cluster=job.name,
            token=secrets.token_hex(16),
            silence=job.limits.silence_seconds,
            max_transfer_bytes=job.limits.transfer_bytes,
            lossy=job.cluster.lossy,
        )

    def follow(self, report: Callable[[Event], None]) -> None:
        self._start()
        done = False
        while True:
            child, event = self._next()
            kind = event["event"]
            if kind == "failed" or (kind == "exited" and not done):
                raise self._cause(child, event)
            if kind == "exited":
                return
            if kind == "listening":
                self.listening = True
                self._start_workers(event["address"])
            elif kind == "ready":
                report({"event": "ready", "worker": child.name, "process": child.pid, "log": str(child.log)})
            elif child.name == COORDINATOR:
                report(event)
                done = kind == "done"

    # ---- starting ----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Starts all processes, so that all import their modules at once; the coordinator alone gets its orders."""
        training = self._training
        coordinator = self._children.start(COORDINATOR, "distgrad.coordinator")
        for name in self._job.cluster.workers:
            self._children.start(name, "distgrad.worker")
        coordinator.begin(
            TrainingOrders(
                **self._common(COORDINATOR),
                job=str(training.file.resolve()),
                overrides=training.overrides,
                workers=training.workers,
                resume=training.resume,
                fresh=training.fresh,
            )
        )

    def _start_workers(self, coordinator: str) -> None:
        programs = str(self._job.cluster.programs.resolve())
        for name in self._job.cluster.workers:
            child = self._children.get(name)
            assert child is not None
            child.begin(
                WorkerOrders(
                    **self._common(name),
                    coordinator=coordinator,
                    programs=programs,
                    max_depth=self._job.limits.call_depth,
                )
            )

    def _common(self, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "listen": socket_in(self._directory, name),
            "directory": str(self._directory),
            "settings": self._settings,
        }

    # ---- listening ---------------------------------------------------------------------------------------------------

    def _next(self, timeout: float | None = None) -> tuple[Child, Event]:
        message = self._heard.get(timeout=timeout)
        if isinstance(message, signal.Signals):
            raise Interrupted(message.name)
        self._checkpoint = message[1].get("checkpoint", self._checkpoint)
        return message

    def _cause(self, child: Child, event: Event) -> DistgradError:
        """Why the run has failed. When one process ends, others follow or complain, and any may be heard of first; so
        all are heard for a moment, and a process that was killed or crashed counts before what others say."""
        heard = [(child, event)]
        deadline = time.monotonic() + (_FOR_ANOTHER if _tells_a_cause(event) else _FOR_A_CAUSE)
        while (left := deadline - time.monotonic()) > 0:
            try:
                heard.append(self._next(left))
            except queue.Empty:
                break
            if _tells_a_cause(heard[-1][1]):
                deadline = min(deadline, time.monotonic() + _FOR_ANOTHER)
        told = {child.name: event for child, event in heard if event["event"] == "failed"}
        for child, event in heard:
            if event["event"] == "exited" and event["code"] != 0 and child.name not in told:
                return self._lost(child)
        for event in told.values():
            return failure(event)
        return self._lost(heard[0][0])

    def _lost(self, child: Child) -> DistgradError:
        what = child.name if child.name == COORDINATOR else f"worker {child.name}"
        lines = [f"{what} is lost: {how_it_ended(child)}"]
        if tail := child.tail():
            lines.append(f"the end of its log, {child.log}:\n{tail}")
        if self._checkpoint:
            lines.append(f"the newest checkpoint is {self._checkpoint}: continue with --resume")
        return WorkerLost("\n".join(lines))


def _tells_a_cause(event: Event) -> bool:
    return event["event"] == "failed" or bool(event.get("code"))


def _log_directory(job: Job, temporary: Path) -> Path:
    """Where logs are kept: with the job's checkpoints, to be read when the run has ended."""
    if job.checkpoint is None:
        return temporary
    logs = job.checkpoint.directory / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    return logs
