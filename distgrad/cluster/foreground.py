"""One process of a cluster over several machines, run in the foreground until a signal ends it."""

from __future__ import annotations

import os
import queue
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from distgrad.autograd.allocator import keep_freed_memory
from distgrad.coordinator.membership import Member
from distgrad.coordinator.server import Coordinator
from distgrad.errors import ConfigError, WorkerLost
from distgrad.transport.settings import TransportSettings
from distgrad.worker.worker import Worker

from .signals import Interrupted, ending_signals

Announce = Callable[[str], None]


def run_coordinator(settings: TransportSettings, listen: str, journal: Path | None, announce: Announce) -> None:
    """Coordinates until a signal comes; `announce` is told the address, and who comes and goes.

    Raises:
        Interrupted: by that signal.
        LinkError: the address is taken.
        ConfigError: the address is open to others and the settings do not guard it.
        JournalError: the journal is in use or damaged.
    """
    heard: queue.SimpleQueue[signal.Signals | Member] = queue.SimpleQueue()
    coordinator = Coordinator(settings, listen, journal)
    try:
        with ending_signals(heard.put):
            coordinator.on_event.append(heard.put)
            announce(f"coordinator of cluster {settings.cluster} at {coordinator.start()}")
            while isinstance(news := heard.get(), Member):
                announce(_news(news))
            raise Interrupted(news.name)
    finally:
        coordinator.close()


def run_worker(
    settings: TransportSettings,
    coordinator: str,
    programs: Path,
    name: str,
    listen: str,
    max_depth: int,
    announce: Announce,
) -> None:
    """Hosts shards until a signal comes or the coordinator is lost.

    Arguments:
        name: empty for one made of this machine's name and the process.
        listen: empty for a free port of the interface that leads to the coordinator.

    Raises:
        Interrupted: by a signal.
        WorkerLost: the coordinator is gone.
        LinkError, PermissionDenied, ConfigError, ProgramError: it could not start or was not let in.
    """
    keep_freed_memory()
    heard: queue.SimpleQueue[signal.Signals | str] = queue.SimpleQueue()
    name = name or f"{socket.gethostname()}-{os.getpid()}"
    worker = Worker(name, coordinator, programs, settings, listen or _towards(coordinator), max_depth=max_depth)
    try:
        with ending_signals(heard.put):
            worker.start()
            announce(f"worker {name} at {worker.process.identity.address}, joined to {coordinator}")
            threading.Thread(target=lambda: heard.put(worker.wait()), name="distgrad-wait", daemon=True).start()
            news = heard.get()
            if isinstance(news, signal.Signals):
                raise Interrupted(news.name)
            raise WorkerLost(news)
    finally:
        worker.stop("it ends")
        worker.close()


def _news(member: Member) -> str:
    who = f"{member.role} {member.name} (process {member.pid}{f' at {member.address}' if member.address else ''})"
    return f"{who} joined" if member.alive else f"{who} {member.state}: {member.reason}"


def _towards(address: str) -> str:
    """A free port on the interface of this machine that leads to `address`."""
    host, _, port = address.rpartition(":")
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(target)  # sends nothing: the system only chooses the way
            own = probe.getsockname()[0]
    except (OSError, ValueError) as error:
        raise ConfigError(f"{address!r} does not lead to a coordinator: {error}; expected HOST:PORT") from error
    return f"[{own}]:0" if ":" in own else f"{own}:0"
