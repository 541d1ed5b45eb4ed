"""One process of a cluster over several machines, run in the foreground until a signal ends it."""

from __future__ import annotations

import faulthandler
import os
import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from distgrad.autograd.allocator import keep_freed_memory
from distgrad.coordinator.membership import Member, require_name
from distgrad.coordinator.server import Coordinator
from distgrad.errors import ConfigError, WorkerLost
from distgrad.transport.addresses import require_address, unix_address
from distgrad.transport.grpc_health import health_listener
from distgrad.transport.settings import TransportSettings
from distgrad.worker.member import Whereabouts, choose_name
from distgrad.worker.programs import Programs
from distgrad.worker.worker import Worker

from .environment import read_launch
from .joining import Announce, await_listener, own_host_towards
from .signals import Interrupted, ending_signals


@dataclass(frozen=True, kw_only=True)
class CoordinatorOptions:
    """What `distgrad coordinator` was asked for.

    Attributes:
        listen: address for links.
        journal: file in which updates are decided; None: in memory.
        checkpoints: directory below which clients may save and restore; None: anywhere.
        client_tokens: file with tokens that admit clients and no workers, one a line.
        health: address at which health alone is told, in the clear; empty: none.
    """

    listen: str
    journal: Path | None = None
    checkpoints: Path | None = None
    client_tokens: Path | None = None
    health: str = ""


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """What `distgrad worker` was asked for.

    Attributes:
        coordinator: address; empty: what the environment says.
        programs: the folder of programs.
        name: empty: what the environment says, else what the coordinator gives.
        listen: empty for a free port of the interface that leads to the coordinator.
        advertise: "HOST:PORT" or "HOST" at which others reach it, if not there.
        patience: seconds to wait for a coordinator that is not there yet, or not there any more.
        max_depth: how deep calls may nest.
        health: address at which health alone is told, in the clear; empty: none.
    """

    coordinator: str = ""
    programs: Path
    name: str = ""
    listen: str = ""
    advertise: str = ""
    patience: float = 60.0
    max_depth: int = 1000
    health: str = ""


def run_coordinator(options: CoordinatorOptions, settings: TransportSettings, announce: Announce) -> None:
    """Coordinates until a signal comes; `announce` is told the address, and who comes and goes.

    Raises:
        Interrupted: by that signal.
        LinkError: the address is taken.
        ConfigError: the address is open to others and the settings do not guard it.
        JournalError: the journal is in use or damaged.
    """
    expected = read_launch(os.environ).workers
    if options.client_tokens is not None:
        settings = replace(settings, client_tokens=_tokens(options.client_tokens))
    heard: queue.SimpleQueue[signal.Signals | Member] = queue.SimpleQueue()
    coordinator = Coordinator(settings, options.listen, options.journal, checkpoints=options.checkpoints)
    with ExitStack() as stack:
        stack.callback(coordinator.close)
        stack.enter_context(ending_signals(heard.put))
        coordinator.on_event.append(heard.put)
        bound = coordinator.start()
        if options.health:
            stack.enter_context(health_listener(coordinator.process.endpoint.health, options.health))
        announce(f"coordinator of cluster {settings.cluster} at {bound}")
        while isinstance(news := heard.get(), Member):
            announce(_news(news, len(coordinator.workers()), expected))
        raise Interrupted(news.name)


def run_worker(options: WorkerOptions, settings: TransportSettings, announce: Announce) -> None:
    """Hosts shards until a signal comes or the coordinator is lost and no other comes.

    Whatever ends it but a kill is told to the cluster.

    Raises:
        Interrupted: by a signal.
        WorkerLost: the coordinator is gone.
        LinkError, PermissionDenied, ConfigError, ProgramError: it could not start or was not let in.
    """
    keep_freed_memory()
    faulthandler.enable(2)  # crashes are told in the log
    launch = read_launch(os.environ)
    coordinator = options.coordinator or launch.coordinator
    if not coordinator:
        raise ConfigError(
            "there is no coordinator to join: say --join HOST:PORT, or set DISTGRAD_JOIN; and neither MASTER_ADDR nor "
            "SLURM_JOB_NODELIST is set"
        )
    # Refused now is what would be once the coordinator is there.
    Programs(options.programs)
    for address in filter(None, (options.listen, options.health)):
        require_address(address)
    if options.name:
        require_name(options.name, "worker")
    await_listener(coordinator, options.patience, announce)
    name = options.name or launch.name or choose_name(coordinator, settings)
    listen, advertise = _own_addresses(options, coordinator)
    heard: queue.SimpleQueue[signal.Signals | str] = queue.SimpleQueue()
    worker = Worker(
        name,
        coordinator,
        options.programs,
        settings,
        listen,
        advertise=advertise,
        max_depth=options.max_depth,
        patience=options.patience,
        whereabouts=Whereabouts.of_this_process(),
    )
    with ExitStack() as stack:
        stack.enter_context(_leaving(worker))
        stack.enter_context(ending_signals(heard.put))
        if options.health:
            stack.enter_context(health_listener(worker.process.endpoint.health, options.health))
        worker.start()
        announce(f"worker {name} at {worker.process.identity.address}, joined to {coordinator}")
        threading.Thread(target=lambda: heard.put(worker.wait()), name="distgrad-wait", daemon=True).start()
        news = heard.get()
        if isinstance(news, signal.Signals):
            raise Interrupted(news.name)
        raise WorkerLost(news)


def _tokens(file: Path) -> tuple[str, ...]:
    """The lines of a file of clients' tokens. Without any, clients would be trusted as those with the cluster's are."""
    lines = [line.strip() for line in file.read_bytes().splitlines()]
    tokens = [line.decode() for line in lines if line and line.isascii()]
    if not tokens or len(tokens) < len(list(filter(None, lines))):
        raise ConfigError(
            f"{file} holds no tokens, or signs that are not ASCII: expected letters and digits, a token a line"
        )
    return tuple(tokens)


@contextmanager
def _leaving(worker: Worker) -> Iterator[None]:
    """At the end of the block the worker leaves its cluster, and says why."""
    reason = "it has ended"
    try:
        yield
    except Interrupted as interrupted:
        reason = f"it was told to end by {interrupted}"
        raise
    except Exception as error:
        reason = f"it has ended: {error}"
        raise
    finally:
        worker.stop(reason)
        worker.close(reason)


def _news(member: Member, workers: int, expected: int) -> str:
    where = f" at {member.address}" if member.address else ""
    who = f"{member.role} {member.name} (process {member.pid}{where})"
    news = f"{who} joined" if member.alive else f"{who} {member.state}: {member.reason}"
    return f"{news}; {workers} of {expected} workers are here" if expected and member.role == "worker" else news


def _own_addresses(options: WorkerOptions, coordinator: str) -> tuple[str, str]:
    """Where a worker listens, and at which host others reach it if that is every address of this machine."""
    if unix_address(coordinator) is not None:
        return options.listen, options.advertise
    own = own_host_towards(coordinator)
    return options.listen or f"{own}:0", options.advertise or (own if _is_wildcard(options.listen) else "")


def _is_wildcard(address: str) -> bool:
    return address.startswith(("0.0.0.0:", "[::]:"))
