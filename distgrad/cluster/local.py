"""A cluster of processes on this machine, for as long as a block lasts."""

from __future__ import annotations

import atexit
import queue
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from distgrad.coordinator.arguments import require_number, require_whole
from distgrad.coordinator.client import Client
from distgrad.coordinator.membership import Member, require_name
from distgrad.coordinator.names import OF_THE_CLUSTER, numbered_workers
from distgrad.coordinator.server import Coordinator
from distgrad.errors import ConfigError, Timeout, WorkerLost
from distgrad.transport.interfaces import Identity
from distgrad.transport.settings import LOSSLESS, Lossy, TransportSettings
from distgrad.worker.child import WorkerOrders, failure
from distgrad.worker.children import Child, Children, Event, how_it_ended
from distgrad.worker.member import COORDINATOR

from .directory import run_directory, socket_in

# Kinds of lanes that links may use beside gRPC, by the best of them.
LANES = {"unix": ("unix",), "tcp": ("tcp",), "grpc": ()}

# Seconds a link that broke waits for the system's word on how the process ended.
_FOR_THE_ENDING = 0.5

# Processes in a row that may end before they are ready to take the place of a lost one.
_ATTEMPTS = 3


class LocalCluster(Client):
    """Worker processes on this machine, and this process as their coordinator and client.

        with dg.LocalCluster(workers=3, programs="workers/") as cluster:
            stem = cluster.place("stem", "mlp.py:Stage", worker="w0", config={"inputs": 64, "outputs": 32})

    They are reached over Unix sockets in a directory that only this user can enter, with a token drawn for this
    cluster, and end with the block or with this process, whatever way it ends. One that is lost comes back under its
    name, without its shards: `recover` or `restore` brings those back. Three that end before they are ready are not
    followed by another; `workers` says why.

    Arguments:
        workers: how many, to be named w0, w1, ...; or their names.
        programs: the folder of programs they can load; they run nothing else.
        blas_threads: threads for matrix products, in each worker.
        max_depth: how deep calls may nest.
        timeout: seconds for all workers to be ready.
        lossy: encodings of what the processes send one another, for example dg.Lossy(gradients="bf16").
        lane: "unix", or, to measure and try what other machines would use, "tcp" or "grpc".

    Attributes:
        directory: where sockets and the workers' logs are.

    Raises:
        ConfigError: the arguments are wrong.
        WorkerLost: a worker ended before it was ready; the end of its log is shown.
        Timeout: a worker did not become ready in time.
    """

    def __init__(
        self,
        workers: int | Sequence[str] = 2,
        programs: str | Path = "workers",
        *,
        blas_threads: int = 1,
        max_depth: int = 1000,
        timeout: float = 30.0,
        lossy: Lossy = LOSSLESS,
        lane: str = "unix",
    ) -> None:
        names = worker_names(workers)
        require_whole("LocalCluster", 1, blas_threads=blas_threads, max_depth=max_depth)
        require_number("LocalCluster", timeout=timeout)
        if lane not in LANES:
            raise ConfigError(f"lane={lane!r}, expected one of {', '.join(LANES)}")
        token = secrets.token_hex(16)
        settings = TransportSettings(cluster="local", token=token, lossy=lossy, fast_lanes=LANES[lane])
        self._heard: queue.SimpleQueue[tuple[Child, Event]] = queue.SimpleQueue()
        self._lives: dict[int, Child] = {}  # incarnation -> the process
        self._attempts: Counter[str] = Counter()  # to replace a lost worker, in a row
        self._lock = threading.Lock()  # guards what follows, and that nothing is started once it is set
        self._closing = False
        with ExitStack() as stack:
            self.directory = stack.enter_context(run_directory())
            self._children = stack.enter_context(Children(self.directory, blas_threads, self._hear))
            for name in names:  # they import their modules while this process goes on
                self._children.start(name, "distgrad.worker")
            self._coordinator = Coordinator(settings, self._address_for(COORDINATOR, lane))
            stack.callback(self._coordinator.close)
            stack.callback(self._replace_no_more)  # workers end with their coordinator
            self._coordinator.process.endpoint.explain = self._explain
            address = self._coordinator.start()
            self._coordinator.on_event.append(self._end_lost)
            self._orders = partial(
                WorkerOrders,
                directory=str(self.directory),
                settings=settings,
                coordinator=address,
                programs=str(programs),
                max_depth=max_depth,
            )
            self._lane = lane
            for child in self._children:
                self._begin(child)
            super().__init__(address, settings, "driver")
            stack.callback(super().close)
            self.process.endpoint.explain = self._explain
            self._wait_until_ready(names, timeout)
            self._stack = stack.pop_all()
        atexit.register(self.close)

    def close(self) -> None:
        """Ends the workers and leaves nothing behind. Harmless when repeated, and in a fork."""
        if self.process.forked is not None:
            return
        self._replace_no_more()
        atexit.unregister(self.close)
        self._stack.close()  # this client takes its leave, then the coordinator does; then the workers are ended

    def _begin(self, child: Child) -> None:
        child.begin(self._orders(name=child.name, listen=self._address_for(child.name, self._lane)))

    def _address_for(self, name: str, lane: str) -> str:
        return socket_in(self.directory, name) if lane == "unix" else "127.0.0.1:0"

    def _wait_until_ready(self, names: Sequence[str], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        waiting = set(names)
        while waiting:
            try:
                child, event = self._heard.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                raise Timeout(f"{', '.join(sorted(waiting))} not ready within {timeout:g} s") from None
            if event["event"] == "ready":
                waiting.discard(child.name)
            elif event["event"] == "failed":
                raise failure(event)
            elif event["event"] == "exited":
                raise WorkerLost(f"{child.name} {_did_not_start(child)}")

    def _hear(self, child: Child, event: Event) -> None:
        """In the child's thread."""
        self._heard.put((child, event))
        match event["event"]:
            case "ready":
                self._lives[event["incarnation"]] = child
                self._attempts[child.name] = 0
            case "exited" if not self._closing:
                self._ended(child)

    def _ended(self, child: Child) -> None:
        """A process has ended that should not have. One of those that the cluster begins with, which has not become
        ready, is the business of `_wait_until_ready`."""
        lost = [incarnation for incarnation, life in self._lives.items() if life is child]
        if lost:
            self._coordinator.declare_lost(child.name, lost[0], how_it_ended(child))
        elif not self._attempts[child.name]:
            return
        if self._attempts[child.name] < _ATTEMPTS:
            self._replace(child)
        else:
            self._coordinator.give_up(child.name, f"{_ATTEMPTS} to take its place {_did_not_start(child)}")

    def _replace(self, child: Child) -> None:
        """Starts a process in the place of one that has ended."""
        with self._lock:
            if self._closing:
                return
            self._attempts[child.name] += 1
            try:
                self._begin(self._children.start(child.name, "distgrad.worker"))
            except OSError as error:
                self._coordinator.give_up(child.name, f"none can be started to take its place: {error}")

    def _replace_no_more(self) -> None:
        with self._lock:
            self._closing = True

    def _end_lost(self, member: Member) -> None:
        """A worker that was declared lost may be stopped or stuck: it must not go on."""
        child = self._lives.get(member.incarnation)
        if child is not None and not member.alive and not child.ended.is_set():
            child.signal(signal.SIGKILL)

    def _explain(self, peer: Identity, reason: str) -> str:
        """Why a worker is lost. The parent of a process knows better than its link, if a moment later."""
        child = self._lives.get(peer.incarnation)
        if self._closing or child is None or not child.ended.wait(_FOR_THE_ENDING):
            return reason
        return how_it_ended(child)

    def __repr__(self) -> str:
        return f"<LocalCluster of {', '.join(child.name for child in self._children)} in {self.directory}>"


def _did_not_start(child: Child) -> str:
    return f"did not start: {how_it_ended(child)}. Its log ends:\n{child.tail()}"


def worker_names(workers: object) -> list[str]:
    if isinstance(workers, int) and not isinstance(workers, bool):
        names = list(numbered_workers(workers))
    else:
        names = list(workers) if isinstance(workers, Sequence) and not isinstance(workers, str) else []
    if not names or len(set(names)) < len(names) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"workers={workers!r}, expected a number of at least 1 or different names")
    for name in names:
        require_name(name, "worker")
    if taken := OF_THE_CLUSTER.intersection(names):
        raise ConfigError(f"workers={workers!r}: another process of the cluster has the name {', '.join(taken)}")
    return names
