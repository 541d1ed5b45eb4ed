"""The job that a client trains on the cluster. There is one at a time, and what it has made there goes with its client:
shards, optimizers, and the journal's records of its steps."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial

from distgrad.errors import ConfigError, ContextError, DistgradError, Timeout
from distgrad.graph.process import Process, Reply
from distgrad.graph.waiting import Priority, Promise
from distgrad.transport.interfaces import Identity
from distgrad.wire import pb

from .rounds import Rounds
from .shards import Shards
from .update import Updates

# Seconds between two looks at whether a trainer whose connection broke is connected again.
_LOOK_EVERY = 0.2

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Job:
    """A job from its begin until nothing is left of it.

    Attributes:
        trainer: the client that trains it.
        continues: whether it may go on with what workers hold of it from under an earlier coordinator.
        shards, optimizers: names of what it has made, or is about to.
        gone: kept when nothing is left of it.
    """

    name: str
    steps: int
    trainer: Identity
    continues: bool
    began: float
    shards: set[str] = field(default_factory=set)
    optimizers: set[str] = field(default_factory=set)
    gone: Promise[None] = field(default_factory=Promise)


class RunningJob:
    """The place of the one job that runs, or of none."""

    def __init__(self, process: Process, shards: Shards, updates: Updates, rounds: Rounds) -> None:
        self._process = process
        self._shards = shards
        self._updates = updates
        self._rounds = rounds
        self._lock = threading.Lock()  # guards what follows
        self._job: _Job | None = None
        self._ending = False

    # ---- the job -----------------------------------------------------------------------------------------------------

    def begin(self, trainer: Identity, body: pb.BeginJob, reply: Reply) -> None:
        """Answers a client that wants to train a job, once nothing is left of the one before. Called from a link's
        thread.

        Raises:
            ConfigError: another client trains one.
        """
        with self._lock:
            held = self._job
            if not self._is_there(trainer):  # it left while it waited: nobody would hear of its end
                return
            if held is None:
                self._job = _Job(body.name, body.steps, trainer, body.continues, time.monotonic())
            elif held.trainer != trainer and not self._ending and self._is_connected(held.trainer):
                raise ConfigError(
                    f"job {held.name!r} is being trained here by {held.trainer.name}, since "
                    f"{time.monotonic() - held.began:.0f} s: wait for its end, or use another cluster"
                )
        if held is None and not body.continues:
            self._shards.remove_strays()
        if held is None or held.trainer == trainer:
            reply(pb.Empty())
        else:
            wait = partial(self._begin_after, held.gone, trainer, body, reply)
            self._process.executor.submit(wait, Priority.CALL, context=Context(), cancelled=reply)

    def _is_there(self, client: Identity) -> bool:
        """Whether a client has not been lost, connected or not."""
        link = self._process.endpoint.link(client.name)
        return link is not None and link.peer.incarnation == client.incarnation

    def _is_connected(self, trainer: Identity) -> bool:
        """Whether a trainer is there; one whose connection broke is about to be lost, or back."""
        link = self._process.endpoint.link(trainer.name)
        return link is not None and link.connected

    def _begin_after(self, gone: Promise[None], trainer: Identity, body: pb.BeginJob, reply: Reply) -> None:
        with suppress(Timeout):
            self._process.executor.wait(gone, _LOOK_EVERY, what="the end of the job before")
        try:
            self.begin(trainer, body, reply)
        except ConfigError as error:  # another one that waited was faster, or the trainer before is connected again
            reply(error)

    def makes(self, job: str, *, shard: str = "", optimizer: str = "") -> bool:
        """Notes that a job is about to make something; nothing, when `job` is empty. Returns whether it is to be made
        anew, and not taken from what workers hold from under an earlier coordinator.

        Raises:
            ContextError: the job has ended.
            ConfigError: there is a shard of that name that is not the job's.
        """
        if not job:
            return False
        placed = shard in self._shards
        with self._lock:
            if self._job is None or self._ending or self._job.name != job:
                raise ContextError(f"job {job!r} has ended here, or never began")
            if placed and shard not in self._job.shards:
                raise ConfigError(
                    f"shard {shard!r} of job {job!r} cannot be placed: somebody else has placed one of that name"
                )
            self._job.shards.update({shard} - {""})
            self._job.optimizers.update({optimizer} - {""})
            return not self._job.continues

    def lost(self, peer: Identity) -> None:
        """That process is gone: if it trained the job, what the job has made goes too."""
        with self._lock:
            job = self._job
            if job is None or job.trainer.incarnation != peer.incarnation or self._ending:
                return
            self._ending = True
        self._process.executor.submit(lambda: self._end(job), Priority.CALL, context=Context())

    def _end(self, job: _Job) -> None:
        try:
            self._updates.remove(job.optimizers)
            self._shards.remove(job.shards)
        except DistgradError:  # the journal's disk, or a coordinator that closes
            _log.exception("what job %r has made could not be removed", job.name)
        self._rounds.abandon(job.optimizers, f"job {job.name!r} has ended")
        with self._lock:
            self._job, self._ending = None, False
        job.gone.set_result(None)

    # ---- looks -------------------------------------------------------------------------------------------------------

    def status(self) -> pb.JobStatus | None:
        """What runs and how far it has come; None when nothing does."""
        with self._lock:
            job = self._job
            if job is None:
                return None
            shards, optimizers = set(job.shards), set(job.optimizers)
        versions = self._updates.versions()
        return pb.JobStatus(
            name=job.name,
            trainer=job.trainer.name,
            step=max((versions.get(name, 0) for name in optimizers), default=0),
            steps=job.steps,
            seconds=time.monotonic() - job.began,
            shards={placement.shard: placement.worker for placement in self._shards if placement.shard in shards},
        )

    def __repr__(self) -> str:
        return f"<RunningJob {self._job.name}, trained by {self._job.trainer}>" if self._job else "<RunningJob none>"
