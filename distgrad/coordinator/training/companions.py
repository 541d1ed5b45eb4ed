"""The other trainers of a job that has several: processes that the first one starts, watches and ends.

Each is a client of its own and takes every `trainers`-th step, with the batch of that step; see `rounds` for the order.
The first trainer places the shards, evaluates and saves; the others only take steps.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

from distgrad.errors import Timeout, WorkerLost
from distgrad.worker.child import Orders, Parent, events, failure

from ..client import Client
from .batches import open_batches
from .job import Job
from .step import Steps

# Seconds for a companion to end by itself.
_TO_END = 2.0

Event = dict[str, Any]


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
        self._heard: queue.SimpleQueue[tuple[str, Event]] = queue.SimpleQueue()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._threads: list[threading.Thread] = []
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
                self._start(orders)
            self._wait_until_ready()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends them: each does when its orders' pipe is closed."""
        for process in self._processes.values():
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()
        for process in self._processes.values():
            try:
                process.wait(_TO_END)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for thread in self._threads:
            thread.join()

    def _start(self, orders: TrainerOrders) -> None:
        command = [sys.executable, "-u", "-P", "-m", "distgrad.coordinator.training.companions", orders.name]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._processes[orders.name] = process
        thread = threading.Thread(target=self._listen, args=(orders.name, process), name=orders.name, daemon=True)
        thread.start()
        self._threads.append(thread)
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, and the thread is about to say so
            process.stdin.write(json.dumps(asdict(orders), default=str).encode() + b"\n")
            process.stdin.flush()

    def _listen(self, name: str, process: subprocess.Popen[bytes]) -> None:
        """In a thread: passes on what a companion says, its end last."""
        assert process.stdout is not None
        with process.stdout:
            for event in events(process.stdout):
                self._heard.put((name, event))
        self._heard.put((name, {"event": "exited", "process": process.pid}))

    def _wait_until_ready(self) -> None:
        waiting = set(self._processes)
        deadline = time.monotonic() + self._seconds
        while waiting:
            try:
                name, event = self._heard.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                raise Timeout(f"{', '.join(sorted(waiting))} not ready within {self._seconds:g} s") from None
            self._hear(name, event)
            waiting.discard(name)

    def _hear(self, name: str, event: Event) -> None:
        if event["event"] == "failed":
            raise failure(event)
        if event["event"] == "exited":
            raise WorkerLost(f"trainer {name} is lost: process {event['process']} has ended before the training")


def main() -> None:
    """Takes the steps of one companion, as its orders say."""
    parent = Parent()
    with parent.reporting("training"):
        # Nothing is lost with it: what has not been committed did not happen.
        parent.attend(lambda reason: os._exit(0))
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
