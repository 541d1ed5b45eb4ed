"""What runs on Ray's nodes: workers, an actor each, and on every node one that ends those that are stopped or stuck."""

from __future__ import annotations

import io
import os
import shutil
import signal
import tempfile
import threading
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import ray

from distgrad.autograd.allocator import keep_freed_memory
from distgrad.errors import DistgradError, LinkError
from distgrad.transport.settings import TransportSettings
from distgrad.worker.member import Whereabouts
from distgrad.worker.worker import Worker

from .joining import await_listener, own_host_towards

# Seconds that a restarted actor waits for a coordinator that is away, and between two attempts to join.
_PATIENCE = 60.0
_BETWEEN_ATTEMPTS = 0.2


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
            self._stopped.wait(_BETWEEN_ATTEMPTS)


class RayWarden:
    """Ends workers of its node at once. Ray itself gives an actor that is stopped five seconds to end in order."""

    def end(self, process: int) -> None:
        """Ends a worker's process, unless it is gone. Another may have its number by now."""
        with suppress(FileNotFoundError, ProcessLookupError):
            if RayWorker.__name__.encode() in Path(f"/proc/{process}/cmdline").read_bytes():  # Ray names it after us
                os.kill(process, signal.SIGKILL)
