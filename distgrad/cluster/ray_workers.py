"""Workers that Ray places, starts and restarts: an actor each, in a placement group.

Only names, addresses and the programs go through Ray. Tensors travel on distgrad's own links, and who is alive is found
out by them too, since Ray takes up to a minute for that. A restarted actor is a new life of the worker, under its name.
"""

from __future__ import annotations

import io
import logging
import math
import os
import secrets
import threading
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distgrad.errors import ConfigError, DistgradError, Timeout, WorkerLost
from distgrad.transport.settings import TransportSettings
from distgrad.worker.children import THREADS

try:
    import ray
    from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

    from .ray_worker import RayWarden, RayWorker
except ImportError as error:
    raise ConfigError("workers on Ray need the package ray: pip install 'distgrad[ray]'") from error

_log = logging.getLogger(__name__)

# Seconds between two looks at what Ray says of actors that start.
_LOOK_EVERY = 0.2
# Seconds for a node to end a worker that is lost; one that does not answer is lost as well.
_FOR_A_NODE = 2.0
# Seconds for a lost worker to be back, before its node is asked again: one that dies may have answered still.
_TO_BE_BACK = 2.0
# Seconds after which it is said that it is not back.
_UNREMARKED = 5.0
# Seconds for workers to take their leave.
_TO_STOP = 2.0
# Bytes of programs that are handed to every actor.
_MOST_BYTES = 64 * 2**20

Place = tuple[str, int]


@dataclass
class _Life:
    """A worker's actor.

    Attributes:
        place: Ray's promise of the node and process it is in, or will be in once it was started anew.
    """

    actor: Any
    place: Any


class RayWorkers:
    """The actors. `with RayWorkers(...) as workers:` leaves none behind.

    Arguments:
        names: of the workers.
        programs: the folder of programs; Ray carries its files to the nodes.
        address: of a running Ray: "auto" for the one this machine belongs to, or "HOST:PORT"; empty: one is started on
            this machine, and ended with this block. A Ray that this process has joined already is used as it is.
        blas_threads: threads for matrix products, in each worker.
        cpus: what each worker takes of Ray's.
        max_restarts: how often Ray starts a lost actor anew; -1: always.
        timeout: seconds for Ray to find room for all.
        notice: told when a lost worker is not back soon, from any thread.

    Attributes:
        host: this machine, as the workers reach it: the loopback interface when all of Ray's nodes are here.

    Raises:
        ConfigError: there is no such folder or no such Ray.
        Timeout: Ray has no room for the workers.
    """

    def __init__(
        self,
        names: Sequence[str],
        programs: Path | str,
        *,
        address: str = "",
        blas_threads: int = 1,
        cpus: float = 1.0,
        max_restarts: int = 10,
        timeout: float = 60.0,
        notice: Callable[[str], None] = _log.warning,
    ) -> None:
        self._names = list(names)
        self._blas_threads = blas_threads
        self._cpus = cpus
        self._max_restarts = max_restarts
        self._mark = secrets.token_hex(4)
        self._notice = notice
        self._closing = threading.Event()
        self._lock = threading.Lock()  # guards what follows
        self._lives: dict[str, _Life] = {}
        self._wardens: dict[str, Any] = {}  # node -> its warden
        self._lost_nodes: set[str] = set()
        self._threads: list[threading.Thread] = []
        self._started = 0  # actors
        self._group: Any = None
        self._programs = _pack(Path(programs))
        self._own_ray = not ray.is_initialized()
        if self._own_ray:
            _join_ray(address, cpus * len(self._names))
        try:
            self.host = _host()
            self._reserve(timeout)
        except BaseException:
            self.close()
            raise

    def _reserve(self, timeout: float) -> None:
        self._group = placement_group([{"CPU": self._cpus}] * len(self._names), strategy="SPREAD")
        if not self._group.wait(timeout):
            raise Timeout(
                f"Ray found no room for {len(self._names)} workers of {self._cpus:g} CPU each within {timeout:g} s: "
                f"{_free_cpus()}; ask for less of them, or add nodes"
            )

    def start(self, coordinator: str, settings: TransportSettings, max_depth: int = 1000) -> None:
        """Has Ray start all workers, which join a coordinator. Does not wait for them."""
        self._orders = (coordinator, self._programs, settings, max_depth)
        for name in self._names:
            self._begin(name)
        for node in self._reserved().values():
            self._warden(node)

    def _begin(self, name: str) -> None:
        """Has Ray start a worker: where room was reserved for it, or, when that node is lost, on any other. Ray will
        reserve room elsewhere, too, once it knows of that loss."""
        with self._lock:
            index = self._names.index(name)
            options: dict[str, Any] = {
                "num_cpus": self._cpus,
                "max_restarts": self._max_restarts,
                # What these variables say is read when NumPy is imported.
                "runtime_env": {"env_vars": dict.fromkeys(THREADS, str(self._blas_threads))},
            }
            if self._reserved().get(index) in self._lost_nodes:
                options["label_selector"] = {"ray.io/node-id": f"!in({','.join(sorted(self._lost_nodes))})"}
            else:
                options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(self._group, index)
            self._started += 1
            options["name"] = f"distgrad-{self._mark}-{name}-{self._started}"
            actor = ray.remote(RayWorker).options(**options).remote(name, self._mark, *self._orders)
            self._lives[name] = _Life(actor, _ask_place(actor))

    def _reserved(self) -> dict[int, str]:
        """Number of the worker -> the node with room for it."""
        found: dict[int, str] = placement_group_table(self._group)["bundles_to_node_id"]
        return found

    def wait(self, timeout: float) -> dict[str, Place]:
        """The node and process of every worker, once all have started. May be called from any thread.

        Raises:
            WorkerLost: one could not start; says why, as Ray has it.
            Timeout: some did not in time.
        """
        deadline = time.monotonic() + timeout
        asked = {life.place: name for name, life in self._lives.items()}
        places: dict[str, Place] = {}
        while asked and not self._closing.is_set():
            ready, _ = ray.wait(list(asked), num_returns=1, timeout=_LOOK_EVERY)
            for answer in ready:
                name = asked.pop(answer)
                try:
                    places[name] = ray.get(answer)
                except ray.exceptions.RayError as error:
                    raise WorkerLost(f"worker {name} did not start on Ray: {_cause(error)}") from error
            if asked and time.monotonic() > deadline:
                raise Timeout(f"{', '.join(asked.values())} did not start on Ray within {timeout:g} s")
        return places

    # ---- losses ------------------------------------------------------------------------------------------------------

    def replace(self, name: str) -> None:
        """A worker was declared lost: what is left of it, stopped or stuck, is ended, and it is started anew, on
        another node if its own is lost. Does not wait."""
        thread = threading.Thread(target=self._replace, args=[name], name=f"distgrad-replace-{name}", daemon=True)
        with self._lock:
            if self._closing.is_set():
                return
            self._threads.append(thread)
            thread.start()

    def _replace(self, name: str) -> None:
        life = self._lives[name]
        place = _answer(life.place, timeout=0.0)
        if place is None:  # lost before it has said where it is
            ray.kill(life.actor, no_restart=False)
        remark_at = time.monotonic() + _UNREMARKED
        while not self._closing.is_set():
            if place is not None and not self._renew(name, *place):
                place = None
            try:
                if self._is_back(name):
                    return
            except ray.exceptions.RayError as error:
                self._notice(f"worker {name} does not come back on Ray: {_cause(error)}")
                return
            if time.monotonic() > remark_at:
                self._notice(
                    f"worker {name} is not back on Ray: it needs {self._cpus:g} CPU, and {_free_cpus()}; add a node if "
                    "that is too few"
                )
                remark_at = math.inf

    def _renew(self, name: str, node: str, process: int) -> bool:
        """Has a worker started anew, where it was if that node is there. Returns whether it was."""
        life = self._lives[name]
        living = _living_nodes()
        there = node not in living or self._end(node, process)  # a node that is gone is for Ray to replace
        elsewhere = living - self._lost_nodes - {node}
        if not there and elsewhere:
            with self._lock:
                self._lost_nodes.add(node)
            ray.kill(life.actor)
            self._begin(name)
            return False
        if not there:
            ray.kill(life.actor, no_restart=False)
        life.place = _ask_place(life.actor)
        return there

    def _end(self, node: str, process: int) -> bool:
        """Has a worker's process ended by its node. False when that does not answer: Ray would find out much later."""
        done = self._warden(node).end.remote(process)
        ready, _ = ray.wait([done], timeout=_FOR_A_NODE)
        try:
            ray.get(ready)
        except ray.exceptions.RayError:  # of the warden, which has ended with its node
            return False
        return bool(ready)

    def _warden(self, node: str) -> Any:
        with self._lock:
            if node not in self._wardens:
                there = NodeAffinitySchedulingStrategy(node, soft=False)
                self._wardens[node] = ray.remote(RayWarden).options(num_cpus=0, scheduling_strategy=there).remote()
            return self._wardens[node]

    def _is_back(self, name: str) -> bool:
        """Whether a worker has come back, within some seconds. Raises RayError when it never will."""
        deadline = time.monotonic() + _TO_BE_BACK
        place = None
        while place is None and time.monotonic() < deadline and not self._closing.is_set():
            place = _answer(self._lives[name].place, _LOOK_EVERY)
        if place is not None:
            self._warden(place[0])  # is there before it is needed
        return place is not None

    # ---- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Ends the workers, and Ray if it was started or joined here. Harmless when repeated."""
        with self._lock:
            self._closing.set()
        for thread in self._threads:
            thread.join()
        stopped = [life.actor.stop.remote() for life in self._lives.values()]
        if stopped:
            ray.wait(stopped, num_returns=len(stopped), timeout=_TO_STOP)
        for actor in [*(life.actor for life in self._lives.values()), *self._wardens.values()]:
            ray.kill(actor)
        self._lives.clear()
        self._wardens.clear()
        if self._group is not None:
            remove_placement_group(self._group)
            self._group = None
        if self._own_ray:
            ray.shutdown()
            self._own_ray = False

    def __enter__(self) -> RayWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<RayWorkers {', '.join(self._names)} of {self._cpus:g} CPU each>"


def _join_ray(address: str, cpus: float) -> None:
    """Joins a running Ray, or starts one with room for the workers."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address.startswith("ray://"):
        raise ConfigError(
            f"{address} is for Ray's client, whose programs run elsewhere: run on a node of the cluster (ray job "
            "submit), and give auto"
        )
    try:
        if address:
            ray.init(address=address, **options)
        else:
            ray.init(address="local", num_cpus=max(os.cpu_count() or 1, round(cpus + 0.5)), **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"no Ray at {address or 'this machine'}: {error}") from error


def _ask_place(actor: Any) -> Any:
    """Ray's promise of where an actor is. Asked again by Ray itself, should the actor be lost and started anew."""
    return actor.place.options(max_task_retries=-1).remote()


def _answer(place: Any, timeout: float) -> Place | None:
    """What was promised; None when it has not come in time. Raises RayError when it never will."""
    ready, _ = ray.wait([place], timeout=timeout)
    found: Place | None = ray.get(place) if ready else None
    return found


def _living_nodes() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _free_cpus() -> str:
    has, free = (resources.get("CPU", 0) for resources in (ray.cluster_resources(), ray.available_resources()))
    return f"{free:g} of its {has:g} CPUs are free"


def _host() -> str:
    nodes = {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    own: str = ray.util.get_node_ip_address()
    return "127.0.0.1" if nodes <= {own} else own


def _pack(folder: Path) -> bytes:
    """The files of a folder as a ZIP archive; what Python and editors leave there is left out. Ray hands small archives
    to a restarted actor by itself, and keeps large ones in its object store."""
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder of programs")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(path.relative_to(folder) for path in folder.rglob("*")):
            if not any(part == "__pycache__" or part.startswith(".") for part in path.parts):
                archive.write(folder / path, path)
    if packed.tell() > _MOST_BYTES:
        raise ConfigError(f"{folder} has more than {_MOST_BYTES // 2**20} MiB: keep data where all nodes see it")
    return packed.getvalue()


def _cause(error: Exception) -> str:
    """What went wrong in an actor, without Ray's wrapping and traceback."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, DistgradError):
        return str(cause)
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
