"""A cluster of real processes that tests may harm: any worker can be killed, stopped, cut off, and started again.

The test's own process coordinates and drives, as with `LocalCluster`. What differs: links that break are given up
sooner, the parent tells nobody that a child has died unless asked to, and a name can be given to a new process.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distgrad.coordinator.client import Client, PlacedShard
from distgrad.coordinator.membership import Member
from distgrad.coordinator.server import Coordinator
from distgrad.graph.process import Process
from distgrad.transport.settings import TransportSettings
from distgrad.worker.child import STOP, WorkerOrders

from .gates import DEADLINE, Gate, open_gate

PROGRAMS = Path(__file__).parent / "programs"
SIZE = 3

# What a process holds for contexts: zero when all of them are over.
HOLDINGS = ("contexts", "values", "sends", "recvs", "passes", "calls")


def quick_settings(**changes: Any) -> TransportSettings:
    """Links that are given up a second after they break."""
    quick = {"cluster": "faults", "token": "token", "heartbeat": 0.25, "reconnect_window": 1.0}
    return TransportSettings(**(quick | changes))


class WorkerProcess:
    """A worker in a process of its own.

    Arguments:
        prefix: a command that runs the worker's: `ip netns exec NAME`, say.
    """

    def __init__(self, orders: WorkerOrders, log: Path, prefix: Sequence[str] = ()) -> None:
        self.name = orders.name
        self.log = log
        self.incarnation = 0
        self._events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        command = [*prefix, sys.executable, "-P", "-m", "distgrad.worker", orders.name]
        home = str(PROGRAMS.parents[2])
        environment = os.environ | {"PYTHONPATH": home, "OPENBLAS_NUM_THREADS": "1"}
        with open(log, "wb") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment
            )
        self._write(json.dumps(asdict(orders)).encode() + b"\n")
        self._listener = threading.Thread(target=self._listen, name=f"events-of-{self.name}", daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_ready(self) -> None:
        self.incarnation = self.event("ready")["incarnation"]

    def event(self, kind: str) -> dict[str, Any]:
        """The next event of that kind; the last is "exited"."""
        deadline = time.monotonic() + DEADLINE
        while True:
            event = self._events.get(timeout=max(deadline - time.monotonic(), 0))
            if event["event"] == kind:
                return event
            if event["event"] == "exited":
                raise AssertionError(f"{self.name} ended before {kind}; its log ends:\n{self.log.read_text()[-3000:]}")

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def stop(self) -> None:
        """Ends the process, whatever state it is in."""
        if self._process.poll() is None:
            self.signal(signal.SIGCONT)
            self._write(STOP)
            try:
                self._process.wait(2)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._listener.join()
        self._process.stdin.close()

    def _write(self, line: bytes) -> None:
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except BrokenPipeError:  # it has ended
            return

    def _listen(self) -> None:
        with self._process.stdout as lines:
            for line in lines:
                self._events.put(json.loads(line))
        self._events.put({"event": "exited", "code": self._process.wait()})


class World:
    """A coordinator, a driver and workers.

    Attributes:
        programs: the folder that workers load shards from.
        events: changes of membership as the coordinator sees them, with the time of each.
    """

    programs = PROGRAMS

    def __init__(self, directory: Path, gate: Gate, settings: TransportSettings, stack: ExitStack) -> None:
        self.directory = directory
        self.gate = gate
        self.settings = settings
        self.workers: dict[str, WorkerProcess] = {}
        self.events: list[tuple[float, Member]] = []
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self._stack = stack
        self.coordinator = Coordinator(settings, self.address("coordinator"))
        stack.callback(self.coordinator.close)
        self.coordinator.on_event.append(self._heard)
        self.coordinator_address = self.coordinator.start()
        self.driver = self.client("driver")

    # ---- processes ---------------------------------------------------------------------------------------------------

    def address(self, name: str) -> str:
        """Where process `name` listens."""
        return f"unix:{self.directory / name}{next(self._numbers)}"

    def prefix(self, name: str) -> list[str]:
        """What a worker's command begins with."""
        return []

    def client(self, name: str) -> Client:
        client = Client(self.coordinator_address, self.settings, name)
        self._stack.callback(client.close)
        return client

    def begin(self, name: str) -> WorkerProcess:
        """Starts a worker and does not wait for it. One that had the name must be lost."""
        orders = WorkerOrders(
            name=name,
            listen=self.address(name),
            directory=str(self.directory / "of-the-parent"),
            settings=self.settings,
            coordinator=self.coordinator_address,
            programs=str(self.programs),
        )
        log = self.directory / f"{name}-{next(self._numbers)}.log"
        worker = self.workers[name] = WorkerProcess(orders, log, self.prefix(name))
        self._stack.callback(worker.stop)
        return worker

    def start(self, *names: str) -> None:
        """Starts workers and waits until they are members."""
        for worker in [self.begin(name) for name in names]:
            worker.wait_until_ready()
        self.driver.wait_for_workers(names, DEADLINE)

    # ---- shards ------------------------------------------------------------------------------------------------------

    def place(self, shard: str, worker: str) -> PlacedShard:
        return self.driver.place(shard, "gated.py:Gated", worker, {"size": SIZE, "gate": self.gate.address})

    # ---- what is known -----------------------------------------------------------------------------------------------

    def _heard(self, member: Member) -> None:
        with self._changed:
            self.events.append((time.monotonic(), member))
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[], Any], what: Callable[[], str]) -> Any:
        """Returns what `condition` returns once that is true; looks again whenever a member changes, and now and then.
        `what` names it when it does not come."""
        deadline = time.monotonic() + DEADLINE
        while not (found := condition()):
            assert time.monotonic() < deadline, f"{what()} did not happen within {DEADLINE} s"
            with self._changed:
                self._changed.wait(0.02)
        return found

    def loss(self, worker: WorkerProcess) -> tuple[float, Member]:
        """When the coordinator learned that `worker` is lost, and what it says."""

        def found() -> tuple[float, Member] | None:
            of_worker = [e for e in self.events if e[1].incarnation == worker.incarnation and not e[1].alive]
            return of_worker[0] if of_worker else None

        return self.wait_for(found, lambda: f"the loss of {worker.name}")

    def living(self) -> list[str]:
        return [member.name for member in self.coordinator.workers()]

    def holdings(self) -> dict[str, dict[str, int]]:
        """What every living process holds for contexts, where it is not nothing."""
        gc.collect()  # an error that was caught keeps references until then
        processes: list[Process] = [self.coordinator.process, self.driver.process]
        counts = {process.name: process.counts() for process in processes}
        counts |= {name: self.driver.counts(name) for name in self.living()}
        held = {name: {what: c[what] for what in HOLDINGS if c[what]} for name, c in counts.items()}
        return {name: c for name, c in held.items() if c}

    def assert_nothing_is_held(self) -> None:
        """Every living process has let go of every context, at the latest soon."""
        self.wait_for(lambda: not self.holdings(), lambda: f"the release of {self.holdings()}")


@contextmanager
def world(*workers: str, settings: TransportSettings | None = None, kind: type[World] = World) -> Iterator[World]:
    """A cluster with these workers; at the end nothing of it is left."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        gate = stack.enter_context(open_gate())
        found = kind(directory, gate, settings or quick_settings(), stack)
        stack.callback(gate.let_all_go)
        found.start(*workers)
        yield found
