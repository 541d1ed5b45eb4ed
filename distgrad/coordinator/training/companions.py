"""The other trainers of a job that has several: processes that the first one starts, watches and ends.

Each is a client of its own and takes every `trainers`-th step, with the batch of that step; see `rounds` for the order.
The first trainer places the shards, evaluates and saves; the others only take steps.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from distgrad.errors import Timeout, WorkerLost
from distgrad.worker.child import Orders, Parent, end_at_once, failure
from distgrad.worker.children import Child, Children, Event, how_it_ended

from ..client import Client
from .batches import open_batches
from .job import Job
from .step import Steps


@dataclass(frozen=True, kw_only=True)
class TrainerOrders(Orders):
    """What a companion must know to begin.

    Attributes:
        coordinator: address.
        job: as tables.
        number: which trainer it is, from 1.
        version: number of steps taken before.
    """

    coordinator: str
    job: Mapping[str, Any]
    number: int
    version: int


class Companions:
    """The other trainers, from when they are ready to take steps to the end of the block.

    Arguments:
        client: of the first trainer, which has placed the shards.
        version: number of steps taken before.
    """

    def __init__(self, client: Client, job: Job, version: int) -> None:
        self._heard: queue.SimpleQueue[tuple[Child, Event]] = queue.SimpleQueue()
        # What they log is part of the first trainer's log.
        self._children = Children(None, job.cluster.blas_threads, lambda child, event: self._heard.put((child, event)))
        self._seconds = job.limits.join_seconds
        self._orders = [
            TrainerOrders(
                name=f"{client.process.identity.name}-{number}",
                listen="",
                directory="",
                settings=client.settings,
                coordinator=client.coordinator,
                job=job.tables(),
                number=number,
                version=version,
            )
            for number in range(1, job.trainers)
        ]

    def check(self) -> None:
        """Raises the error of a companion that has failed, or WorkerLost for one that has ended."""
        with suppress(queue.Empty):
            while True:
                self._hear(*self._heard.get_nowait())

    def __enter__(self) -> Companions:
        try:
            for orders in self._orders:
                self._children.start(orders.name, "distgrad.coordinator.training.companions").begin(orders)
            self._wait_until_ready()
        except BaseException:
            self._children.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._children.stop()

    def _wait_until_ready(self) -> None:
        waiting = {orders.name for orders in self._orders}
        deadline = time.monotonic() + self._seconds
        while waiting:
            try:
                child, event = self._heard.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                raise Timeout(f"{', '.join(sorted(waiting))} not ready within {self._seconds:g} s") from None
            self._hear(child, event)
            waiting.discard(child.name)

    def _hear(self, child: Child, event: Event) -> None:
        if event["event"] == "failed":
            raise failure(event)
        if event["event"] == "exited":
            raise WorkerLost(f"trainer {child.name} is lost: {how_it_ended(child)}")


def main() -> None:
    """Takes the steps of one companion, as its orders say."""
    parent = Parent()
    with parent.reporting("training"):
        parent.attend(end_at_once)  # nothing is lost with it: what has not been committed did not happen
        orders = TrainerOrders.from_plain(parent.orders)
        job = Job.of(**orders.job)
        batches = open_batches(job)
        with Client(orders.coordinator, orders.settings, orders.name) as client:
            shards = {spec.name: client.shard(spec.name) for spec in job.shards}
            optimizer = client.follow_optimizer("job", job.optimizer.rule(), orders.version)
            with Steps(client, job, shards, optimizer) as steps:
                parent.tell("ready")
                for step in range(orders.version + orders.number, job.steps, job.trainers):
                    steps.take(step, batches.microbatches(step))
            threading.Event().wait()  # for the first trainer, which may still evaluate; it ends this process


if __name__ == "__main__":
    main()
