"""A cluster whose workers Ray runs: for a block of a program, or for a job."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from distgrad.coordinator.client import Client
from distgrad.coordinator.membership import Member
from distgrad.coordinator.server import Coordinator
from distgrad.coordinator.training.job import open_job
from distgrad.errors import DistgradError
from distgrad.transport.settings import TLS, TransportSettings
from distgrad.worker.children import Event
from distgrad.worker.member import COORDINATOR

from .attach import Attached, attached, for_job
from .local import worker_names
from .ray_workers import RayWorkers
from .supervise import Training


class RayCluster(Client):
    """Workers that are Ray actors, and this process as their coordinator and client.

        with dg.RayCluster(workers=4, programs="workers/", address="auto") as cluster:
            stem = cluster.place("stem", "mlp.py:Stage", worker="w0", config={"inputs": 64, "outputs": 32})

    Ray places, starts and restarts them; a worker that was lost comes back under its name, without its shards:
    `cluster.restore` brings those back. Tensors do not go through Ray. When Ray has nodes on other machines, links
    leave this one, and `tls` or `insecure` is needed.

    Arguments:
        workers: how many, to be named w0, w1, ...; or their names.
        programs: the folder of programs they can load; Ray carries its files to the nodes.
        address: "auto" for the Ray this machine belongs to, or its "HOST:PORT"; empty: one is started here for as long
            as the block lasts.
        blas_threads: threads for matrix products, in each worker.
        cpus: what each worker takes of Ray's.
        max_restarts: how often Ray starts a lost worker anew; -1: always.
        max_depth: how deep calls may nest.
        tls: files that make links private, at the same paths on every node.
        insecure: leave this machine without TLS, over a network you trust.
        timeout: seconds for Ray to find room, and then for all workers to be ready.

    Raises:
        ConfigError: the arguments are wrong, there is no such Ray, or the package `ray` is not installed.
        WorkerLost: a worker could not start.
        Timeout: Ray has no room, or a worker did not become ready in time.
    """

    def __init__(
        self,
        workers: int | Sequence[str] = 2,
        programs: str | Path = "workers",
        *,
        address: str = "",
        blas_threads: int = 1,
        cpus: float = 1.0,
        max_restarts: int = 10,
        max_depth: int = 1000,
        tls: TLS | None = None,
        insecure: bool = False,
        timeout: float = 60.0,
    ) -> None:
        names = worker_names(workers)
        settings = TransportSettings(cluster="ray", token=secrets.token_hex(16), tls=tls, insecure=insecure)
        with ExitStack() as stack:
            self._workers = RayWorkers(
                names,
                programs,
                address=address,
                blas_threads=blas_threads,
                cpus=cpus,
                max_restarts=max_restarts,
                timeout=timeout,
            )
            stack.callback(self._workers.close)
            coordinator = Coordinator(settings, f"{self._workers.host}:0")
            stack.callback(coordinator.close)
            coordinator.on_event.append(self._hear)
            bound = coordinator.start()
            self._workers.start(bound, settings, max_depth)
            self._workers.wait(timeout)
            super().__init__(bound, settings, "driver")
            stack.callback(super().close)
            self.wait_for_workers(names, timeout)
            self._stack = stack.pop_all()

    def _hear(self, member: Member) -> None:
        if member.role == "worker" and not member.alive:
            self._workers.replace(member.name)

    def close(self) -> None:
        """Ends the workers, and Ray if it was started here. Harmless when repeated, and in a fork."""
        if self.process.forked is not None:
            return
        self._stack.close()  # this client takes its leave, then the coordinator does; then Ray ends the actors

    def __repr__(self) -> str:
        return f"<RayCluster of {self._workers!r}>"


def train_on_ray(
    training: Training,
    address: str,
    cpus: float,
    settings: TransportSettings,
    report: Callable[[Event], None],
) -> None:
    """Trains a job on workers that are Ray actors; the coordinator is a child of this process.

    Arguments:
        address, cpus: see `RayWorkers`; "local" starts a Ray here.
        settings: of links between machines; the token is drawn anew.
        report: told of what happens, as by `supervise.train`.

    Raises: as `attach.train_on_cluster`, and as `RayWorkers`.
    """
    job = open_job(training.file, training.overrides, training.workers)
    links = replace(for_job(settings, job), cluster=job.name, token=secrets.token_hex(16))
    workers = RayWorkers(
        job.cluster.workers,
        job.cluster.programs,
        address="" if address == "local" else address,
        blas_threads=job.cluster.blas_threads,
        cpus=cpus,
        max_restarts=-1,  # how many losses are too many is for the job to say
        timeout=job.limits.join_seconds,
        notice=lambda text: run.hear({"event": "notice", "text": text}),
    )
    with workers, attached(training, COORDINATOR, report) as run:
        run.begin(name=COORDINATOR, listen=f"{workers.host}:0", settings=links)

        def start_workers(coordinator: str) -> None:
            workers.start(coordinator, links, job.limits.call_depth)
            threading.Thread(target=_watch, args=[workers, run], name="distgrad-ray", daemon=True).start()

        run.follow(start_workers, workers.replace)


def _watch(workers: RayWorkers, run: Attached) -> None:
    """Tells of the workers once they have started, or ends the run with why they could not."""
    try:
        places = workers.wait(run.job.limits.join_seconds)
    except DistgradError as error:
        run.fail(error)
        return
    for name, (node, process) in places.items():
        place = {"member": name, "address": f"Ray's node {node[:8]}", "process": process}
        run.hear({"event": "ready", "worker": name, **place})
