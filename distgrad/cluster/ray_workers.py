"""Workers that Ray places, starts and restarts: an actor each, in a placement group.

Only names, addresses and the programs go through Ray. Tensors travel on distgrad's own links, and who is alive is found
out by them too, since Ray takes up to a minute for that. A restarted actor is a new life of the worker, under its name.
"""

from __future__ import annotations

import io
import os
import secrets
import shutil
import tempfile
import threading
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distgrad.autograd.allocator import keep_freed_memory
from distgrad.errors import ConfigError, DistgradError, LinkError, Timeout, WorkerLost
from distgrad.transport.settings import TransportSettings
from distgrad.worker.member import Whereabouts
from distgrad.worker.worker import Worker

from .children import THREADS
from .joining import await_listener, own_host_towards

try:
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
except ImportError as error:
    raise ConfigError("workers on Ray need the package ray: pip install 'distgrad[ray]'") from error

# Seconds between two looks at what Ray says of actors that start.
_LOOK_EVERY = 0.2
# Seconds that a restarted actor waits for a coordinator that is away.
_PATIENCE = 60.0
# Seconds for workers to take their leave.
_TO_STOP = 2.0
# Bytes of programs that are handed to every actor.
_MOST_BYTES = 64 * 2**20


class RayWorker:
    """A worker in the process of a Ray actor. Ray calls the constructor at every start of it. When the coordinator is
    lost the worker begins a new life as well, once a coordinator is there again.

    Arguments:
        mark: of the cluster; in the name of the folder that holds the programs on this node.
        programs: the folder of programs, as a ZIP archive.
    """

    def __init__(
        self,
        name: str,
        mark: str,
        coordinator: str,
        programs: bytes,
        settings: TransportSettings,
        max_depth: int,
    ) -> None:
        keep_freed_memory()
        # A life before this one that was killed could not remove its own.
        self._folder = Path(tempfile.gettempdir(), f"distgrad-programs-{mark}-{name}")
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(mode=0o700)
        with zipfile.ZipFile(io.BytesIO(programs)) as archive:
            archive.extractall(self._folder)
        self._name = name
        self._coordinator = coordinator
        self._settings = settings
        self._max_depth = max_depth
        self._stopped = threading.Event()
        try:
            self._worker = self._join()
        except BaseException:
            shutil.rmtree(self._folder)
            raise
        threading.Thread(target=self._live, name="distgrad-live", daemon=True).start()

    def place(self) -> tuple[str, int]:
        """The id of the node it runs on, and its process."""
        return ray.get_runtime_context().get_node_id(), os.getpid()

    def stop(self) -> None:
        """The cluster ends: the worker takes its leave, and nothing of it is left on this node."""
        self._stopped.set()
        self._worker.close()
        shutil.rmtree(self._folder)

    def _join(self) -> Worker:
        await_listener(self._coordinator, _PATIENCE, print)
        listen = f"{own_host_towards(self._coordinator)}:0"
        worker = Worker(
            self._name,
            self._coordinator,
            self._folder,
            self._settings,
            listen,
            max_depth=self._max_depth,
            patience=_PATIENCE,
            whereabouts=Whereabouts.of_this_process(),
        )
        try:
            worker.start()
        except BaseException:
            worker.close()
            raise
        return worker

    def _live(self) -> None:
        """One life after the other, until it is told to stop, or a coordinator does not come back."""
        while not self._stopped.is_set():
            print(f"the worker ends: {self._worker.wait()}", flush=True)
            self._worker.close()
            try:
                self._worker = self._join_again()
            except DistgradError as error:
                print(f"the worker does not come back: {error}", flush=True)
                os._exit(1)

    def _join_again(self) -> Worker:
        """A coordinator that ends may still be seen to listen, so one failure says little."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return self._join()
            except LinkError:
                if time.monotonic() > deadline:
                    raise
            self._stopped.wait(_LOOK_EVERY)


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
    ) -> None:
        self._names = list(names)
        self._blas_threads = blas_threads
        self._cpus = cpus
        self._max_restarts = max_restarts
        self._mark = secrets.token_hex(4)
        self._closing = threading.Event()
        self._actors: dict[str, Any] = {}
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
            has = ray.cluster_resources().get("CPU", 0)
            free = ray.available_resources().get("CPU", 0)
            raise Timeout(
                f"Ray found no room for {len(self._names)} workers of {self._cpus:g} CPU each within {timeout:g} s: "
                f"{free:g} of its {has:g} CPUs are free; ask for less of them, or add nodes"
            )

    def start(self, coordinator: str, settings: TransportSettings, max_depth: int = 1000) -> None:
        """Has Ray start all workers, which join a coordinator. Does not wait for them."""
        actor = ray.remote(RayWorker)
        # What these say is read when NumPy is imported.
        environment = {"env_vars": dict.fromkeys(THREADS, str(self._blas_threads))}
        for index, name in enumerate(self._names):
            self._actors[name] = actor.options(
                name=f"distgrad-{self._mark}-{name}",
                num_cpus=self._cpus,
                max_restarts=self._max_restarts,
                runtime_env=environment,
                scheduling_strategy=PlacementGroupSchedulingStrategy(self._group, index),
            ).remote(name, self._mark, coordinator, self._programs, settings, max_depth)

    def wait(self, timeout: float) -> dict[str, tuple[str, int]]:
        """The node and process of every worker, once all have started. May be called from any thread.

        Raises:
            WorkerLost: one could not start; says why, as Ray has it.
            Timeout: some did not in time.
        """
        deadline = time.monotonic() + timeout
        asked = {actor.place.remote(): name for name, actor in self._actors.items()}
        places: dict[str, tuple[str, int]] = {}
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

    def end_lost(self, name: str) -> None:
        """Has Ray end a worker that was declared lost, if it is still there, stopped or stuck, and start it anew."""
        ray.kill(self._actors[name], no_restart=False)

    def close(self) -> None:
        """Ends the workers, and Ray if it was started or joined here. Harmless when repeated."""
        self._closing.set()
        if self._actors:
            stopped = [actor.stop.remote() for actor in self._actors.values()]
            ray.wait(stopped, num_returns=len(stopped), timeout=_TO_STOP)
        for actor in self._actors.values():
            ray.kill(actor)
        self._actors.clear()
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
