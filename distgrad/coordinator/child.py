"""A coordinator that another process has started to train one job. What the two say to each other:
`distgrad.worker.child`."""

from __future__ import annotations

import math
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distgrad.transport.interfaces import Identity
from distgrad.worker.child import Orders, Parent, end_at_once

from .checkpoint import latest_checkpoint, remove_checkpoints
from .client import Client
from .membership import Member
from .server import Coordinator
from .training.guest import Guest
from .training.job import Job, open_job
from .training.resuming import in_the_way
from .training.trainer import Trainer

# Seconds between two signs of life.
BEAT = 0.5
# Seconds that a link which broke waits for the parent's word on how its process ended.
FOR_THE_PARENT = 0.2


@dataclass(frozen=True, kw_only=True)
class TrainingOrders(Orders):
    """What to train.

    Attributes:
        job: path of the job file.
        overrides, workers: see `open_job`.
        resume: continue from the newest checkpoint.
        fresh: begin anew even where an earlier run has left checkpoints, and remove them.
        coordinator: address of a cluster that runs elsewhere, to train on; empty: this process coordinates one.
        failures: when an earlier process that trained this very run was lost: how many losses it has survived so far.
    """

    job: str
    overrides: tuple[str, ...] = ()
    workers: int | None = None
    resume: bool = False
    fresh: bool = False
    coordinator: str = ""
    failures: int = 0


def train(parent: Parent, orders: TrainingOrders) -> None:
    """Trains the job, reporting what happens; the last report is "done"."""
    job = open_job(orders.job, orders.overrides, orders.workers)
    if orders.coordinator:
        _train_elsewhere(parent, orders, job)
    else:
        _train_here(parent, orders, job)


def _train_here(parent: Parent, orders: TrainingOrders, job: Job) -> None:
    """Coordinates a cluster of its own."""
    checkpoints = job.checkpoint.directory if job.checkpoint else None
    journal = (checkpoints or Path(orders.directory)) / "journal"
    with Coordinator(orders.settings, orders.listen, journal) as coordinator:
        coordinator.on_event.append(lambda member: _tell_of_loss(parent, member))
        endings = _Endings(coordinator)
        # All this may be killed at any moment without harm, so an order to stop needs no more ceremony than that.
        parent.attend(end_at_once, endings.hear)
        parent.beat(BEAT)
        if checkpoints is not None and not orders.resume and not orders.failures:
            _begin_anew(checkpoints, orders.fresh)
            if coordinator.journal is not None:
                coordinator.journal.compact(keep=lambda decision: False)
        address = coordinator.process.identity.address
        parent.tell("listening", address=address)
        with Client(address, orders.settings, "trainer") as client, parent.reporting("training"):
            client.wait_for_workers(job.cluster.workers, job.limits.join_seconds)
            trainer = Trainer(
                client,
                job,
                report=lambda event: parent.tell(**event),
                resume=orders.resume,
                failures=orders.failures,
                standby_after=math.inf,  # whoever started the workers starts their successors
            )
            parent.tell("done", **asdict(trainer.run()))


class _Endings:
    """How workers have ended, which whoever started them knows better than their links, if a moment later."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._told: dict[int, str] = {}  # incarnation -> how
        self._changed = threading.Condition()
        coordinator.process.endpoint.explain = self._explain

    def hear(self, news: dict[str, Any]) -> None:
        """What the parent says of a worker that is lost."""
        name, incarnation, reason = (news["lost"][key] for key in ("name", "incarnation", "reason"))
        with self._changed:
            self._told[incarnation] = reason
            self._changed.notify_all()
        self._coordinator.declare_lost(name, incarnation, reason)

    def _explain(self, peer: Identity, reason: str) -> str:
        with self._changed:
            self._changed.wait_for(lambda: peer.incarnation in self._told, FOR_THE_PARENT)
            return self._told.get(peer.incarnation, reason)


def _tell_of_loss(parent: Parent, member: Member) -> None:
    """Whoever started a worker that is silent must know, to end it and start another."""
    if member.role == "worker" and not member.alive:
        parent.tell("lost", worker=member.name, incarnation=member.incarnation, reason=member.reason)


def _train_elsewhere(parent: Parent, orders: TrainingOrders, job: Job) -> None:
    """Trains as a client of a cluster that was there before and stays."""
    parent.attend(end_at_once)
    parent.beat(BEAT)
    with parent.reporting("training"):
        guest = Guest(
            job,
            orders.coordinator,
            orders.settings,
            orders.name,
            lambda event: parent.tell(**event),
            resume=orders.resume,
            fresh=orders.fresh,
            failures=orders.failures,
        )
        parent.tell("done", **asdict(guest.train()))


def _begin_anew(directory: Path, fresh: bool) -> None:
    """Makes sure that nothing of an earlier run is taken for this one's. No other run is under way here."""
    earlier = latest_checkpoint(directory)
    if earlier is not None and not fresh:
        raise in_the_way(str(earlier))
    remove_checkpoints(directory)
