"""What a process says of its health to whoever asks: probes need no token, and learn nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum

from distgrad.errors import ResourceExhausted

# What probes may ask about: that the process runs, and that it serves its cluster.
RUNS = ""
SERVES = "distgrad.v1.LinkService"
# Whoever reaches a process may watch it, and each watcher costs a stream, of links' listeners also a thread.
MAX_WATCHERS = 128


class Status(Enum):
    """Of a service."""

    SERVING = "serving"
    NOT_SERVING = "not serving"
    UNKNOWN = "unknown"


# Told every status of a service, and None when there will be no more; must not wait.
Watcher = Callable[[Status | None], None]


class Health:
    """Whether a process serves, by service. Safe to use from any thread.

    Arguments:
        service: the one besides that of running.
    """

    def __init__(self, service: str = SERVES) -> None:
        self._service = service
        self._statuses = {RUNS: Status.SERVING, service: Status.NOT_SERVING}
        self._lock = threading.Lock()  # watchers are told under it, so that they hear of changes in their order
        self._watchers: dict[Watcher, str] = {}
        self._closed = False

    def serves(self, serving: bool) -> None:
        """From now on the process serves, or does not."""
        status = Status.SERVING if serving else Status.NOT_SERVING
        with self._lock:
            if status is self._statuses[self._service]:
                return
            self._statuses[self._service] = status
            for watcher, service in self._watchers.items():
                if service == self._service:
                    watcher(status)

    def of(self, service: str) -> Status:
        """How a service is now."""
        return self._statuses.get(service, Status.UNKNOWN)

    def watch(self, service: str, watcher: Watcher) -> Callable[[], None]:
        """Tells a watcher how a service is, now and whenever that changes; until what is returned is called.

        Raises:
            ResourceExhausted: so many watch already that no more are let in.
        """
        with self._lock:
            if len(self._watchers) >= MAX_WATCHERS:
                raise ResourceExhausted(f"{MAX_WATCHERS} watch the health of this process, and no more are let in")
            self._watchers[watcher] = service
            watcher(self.of(service))
            if self._closed:
                watcher(None)
        return lambda: self._forget(watcher)

    def _forget(self, watcher: Watcher) -> None:
        with self._lock:
            self._watchers.pop(watcher, None)

    def close(self) -> None:
        """The process ends: nothing is served, and whoever watches hears no more after that."""
        self.serves(False)
        with self._lock:
            self._closed = True
            for watcher in self._watchers:
                watcher(None)

    def __repr__(self) -> str:
        return f"<Health {self._statuses[self._service].value}>"
