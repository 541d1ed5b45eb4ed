"""A job trained on workers that are no children of this process. One process of its own trains: it is started, watched
and ended here, as `supervise` does with all of them. Nothing is computed in this process."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from distgrad.coordinator.checkpoint import remove_leftovers
from distgrad.coordinator.child import TrainingOrders
from distgrad.coordinator.training.job import Job, describe, open_job
from distgrad.errors import DistgradError, WorkerLost
from distgrad.transport.settings import TransportSettings
from distgrad.worker.child import failure
from distgrad.worker.children import Children, Event, how_it_ended

from .directory import run_directory
from .listening import Listening
from .signals import ending_signals
from .supervise import Training, _log_directory

Report = Callable[[Event], None]

TRAINER = "trainer"


def train_on_cluster(training: Training, coordinator: str, settings: TransportSettings, report: Report) -> None:
    """Trains a job on the workers that have joined a coordinator elsewhere, or are about to.

    Arguments:
        coordinator: its address.
        settings: of links; the same secrets as the cluster's.
        report: told of what happens, as by `supervise.train`.

    Raises:
        WorkerLost: a worker, the coordinator or the trainer ended.
        Timeout: the job has more workers than have joined in time; says which are missing.
        Interrupted: Ctrl-C, or another signal to end.
        DistgradError: the job cannot be trained, for example ConfigError or RemoteError.
    """
    with attached(training, TRAINER, report) as run:
        links = for_job(settings, run.job)
        run.begin(name=f"{TRAINER}-{secrets.token_hex(3)}", listen="", settings=links, coordinator=coordinator)
        run.follow()


def for_job(settings: TransportSettings, job: Job) -> TransportSettings:
    """The settings of links, with what a job says of them."""
    limits = job.limits
    return replace(
        settings, silence=limits.silence_seconds, max_transfer_bytes=limits.transfer_bytes, lossy=job.cluster.lossy
    )


@contextmanager
def attached(training: Training, name: str, report: Report) -> Iterator[Attached]:
    """The one process that trains, to be begun in the block. At the end nothing of it is left.

    Arguments:
        name: of that process.
    """
    job = open_job(training.file, training.overrides, training.workers)
    heard = Listening(job.limits.silence_seconds)
    with ending_signals(heard.put), run_directory() as directory:
        report({"event": "job", "text": describe(job)})
        logs = _log_directory(job, directory)
        with Children(logs, job.cluster.blas_threads, lambda child, event: heard.put((child, event))) as children:
            run = Attached(training, job, name, children, str(directory), heard, report)
            try:
                yield run
            finally:
                children.stop()
                if job.checkpoint is not None and run.listening:
                    remove_leftovers(job.checkpoint.directory)


class Attached:
    """The process that trains, from its orders to its end.

    Attributes:
        job: the job as it will run.
        listening: whether the process coordinates by now, so that nobody but this run writes checkpoints of the job.
    """

    def __init__(
        self,
        training: Training,
        job: Job,
        name: str,
        children: Children,
        directory: str,
        heard: Listening,
        report: Report,
    ) -> None:
        self.job = job
        self.listening = False
        self._set_out = False  # checkpoints are this run's
        self._training = training
        self._name = name
        self._children = children
        self._child = children.start(name, "distgrad.coordinator")
        self._orders: dict[str, Any] = {}
        self._failures = 0
        self._directory = directory
        self._heard = heard
        self._report = report
        self._checkpoint = ""

    def begin(self, **orders: Any) -> None:
        """Gives the process its orders: those of `TrainingOrders` that do not follow from the training."""
        training = self._training
        self._orders = orders
        self._child.begin(
            TrainingOrders(
                directory=self._directory,
                job=str(training.file.resolve()),
                overrides=training.overrides,
                workers=training.workers,
                resume=training.resume,
                fresh=training.fresh,
                failures=self._failures,
                **orders,
            )
        )

    def hear(self, event: Event) -> None:
        """Takes note of what happened elsewhere. May be called from any thread."""
        self._heard.put((self._child, event))

    def fail(self, error: DistgradError) -> None:
        """Ends the run with an error found elsewhere. May be called from any thread."""
        self._heard.put(error)

    def follow(
        self,
        listening: Callable[[str], None] = lambda address: None,
        lost: Callable[[str], None] = lambda worker: None,
    ) -> None:
        """Returns when the training is done, and its process has ended.

        Arguments:
            listening: called with the address at which the process listens, if it coordinates.
            lost: called with the name of a worker that was lost, whose process may still be there.
        """
        done = False
        while True:
            child, event = self._heard.next()
            if child is not self._child:  # of an earlier life
                continue
            self._checkpoint = event.get("checkpoint") or self._checkpoint
            match event["event"]:
                case "failed":
                    raise self._with_advice(failure(event))
                case "exited" if not done:
                    self._continue()
                case "exited":
                    return
                case "listening":
                    self._set_out = True
                    if event["address"]:
                        if not self.listening:
                            listening(event["address"])
                        self.listening = True
                        self._orders["listen"] = event["address"]  # where the next coordinator is looked for
                case "failure":
                    self._failures = event["failures"]
                    self._report(event)
                case "alive":
                    pass
                case "lost":
                    lost(event["worker"])
                case kind:
                    self._report(event)
                    done = kind == "done"

    def _continue(self) -> None:
        """The process is lost, and is started again. One that coordinates has its journal; workers wait for it. What
        a guest of another cluster has made there is gone with it: it goes on from the newest checkpoint.

        Raises:
            WorkerLost: there were too many losses, or this one is not survived.
        """
        limit = self.job.recovery.max_failures
        if not self._set_out or self._failures >= limit:
            raise self._lost()
        self._failures += 1
        reason = f"the {self._child.name} is lost: {how_it_ended(self._child)}"
        self._report({"event": "failure", "reason": reason, "failures": self._failures, "max_failures": limit})
        self._child = self._children.start(self._name, "distgrad.coordinator")
        self.begin(**self._orders)

    def _lost(self) -> DistgradError:
        lines = [f"the {self._child.name} is lost: {how_it_ended(self._child)}"]
        if tail := self._child.tail():
            lines.append(f"the end of its log, {self._child.log}:\n{tail}")
        return self._with_advice(WorkerLost("\n".join(lines)))

    def _with_advice(self, error: DistgradError) -> DistgradError:
        if not isinstance(error, WorkerLost):
            return error
        lines = [str(error)]
        if self._checkpoint:
            lines.append(f"the newest checkpoint is {self._checkpoint}: continue with --resume")
        return WorkerLost("\n".join(lines))
