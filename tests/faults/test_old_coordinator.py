"""A coordinator stands still in the middle of an update, another takes its place, and it wakes up: nobody obeys it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pytest

import distgrad as dg
from distgrad.coordinator.client import Client
from distgrad.coordinator.journal import Journal
from distgrad.errors import DistgradError, WorkerLost
from distgrad.worker.child import WorkerOrders

from .gates import DEADLINE
from .world import PROGRAMS, SIZE, WorkerProcess, quick_settings

pytestmark = pytest.mark.slow

WORKERS = ("w0", "w1")


class Line:
    """A cluster of two workers under one coordinator after the other, all at one address."""

    def __init__(self, folder: Path, boundary: str, stack: ExitStack) -> None:
        self.journal = folder / "journal"
        self.armed = folder / "armed"
        self._folder = folder
        self._boundary = boundary
        self._stack = stack
        self.coordinator = self.start_coordinator()
        self.workers = [self._start_worker(name) for name in WORKERS]
        for worker in self.workers:
            worker.wait_until_ready()

    def start_coordinator(self) -> subprocess.Popen[str]:
        listen = f"unix:{self._folder / 'coordinator'}"
        arguments = [listen, str(self.journal), self._boundary, str(self.armed)]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.old_coordinator", *arguments], stdout=subprocess.PIPE, text=True
        )
        self._stack.callback(process.communicate)
        self._stack.callback(process.kill)
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        return process

    def succeed(self) -> None:
        """Another one takes the address and the lock, as on another machine once those of the first have run out."""
        for file in (*self._folder.glob("coordinator*"), self._folder / "journal.lock"):
            file.unlink()
        self.coordinator = self.start_coordinator()

    def _start_worker(self, name: str) -> WorkerProcess:
        orders = WorkerOrders(
            name=name,
            listen=f"unix:{self._folder / name}",
            directory=str(self._folder / "of-the-parent"),
            settings=quick_settings(),
            coordinator=f"unix:{self._folder / 'coordinator'}",
            programs=str(PROGRAMS),
            patience=DEADLINE,
        )
        worker = WorkerProcess(orders, self._folder / f"{name}.log")
        self._stack.callback(worker.stop)
        return worker

    def client(self, name: str) -> Client:
        client = Client(f"unix:{self._folder / 'coordinator'}", quick_settings(), name)
        self._stack.callback(client.close)
        client.wait_for_workers(WORKERS, DEADLINE)
        return client


class Reign:
    """Gradient descent on two shards, as a client asks a coordinator for it."""

    def __init__(self, line: Line, name: str) -> None:
        self.client = line.client(name)
        config = {"size": SIZE, "gate": ""}
        self.shards = [self.client.place(f"on-{name}", "gated.py:Gated", name, config) for name in WORKERS]
        self.optimizer = self.client.optimizer(dg.optim.SGD(lr=0.5), self.shards, "sgd")

    def step(self, scale: float) -> None:
        x = np.full((1, SIZE), scale)
        with self.client.context() as context:
            context.backward([shard.forward(x) for shard in self.shards], [np.ones_like(x)] * len(self.shards))
            self.optimizer.step(context)

    def weights(self) -> list[float]:
        """What has been taken off each weight, by the steps so far."""
        return [2.0 - float(shard.state_dict()["weight"][0, 0]) for shard in self.shards]


@pytest.fixture
def line(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Line]:
    with ExitStack() as stack:
        yield Line(tmp_path, request.param, stack)


@pytest.mark.parametrize(
    ("line", "decided", "says"),
    [
        ("before decide", False, r"JournalError: journal .* was taken over by another coordinator"),
        pytest.param("between prepares", False, r"WorkerLost: w1(#\w+)? is lost", marks=pytest.mark.long),
        pytest.param("after decide", True, "commit", marks=pytest.mark.long),
    ],
    indirect=["line"],
    ids=["before it decided", "while it asked the owners", "after it decided"],
)
def test_a_coordinator_that_wakes_up_after_its_successor_came_is_obeyed_by_nobody(
    line: Line, decided: bool, says: str
) -> None:
    first = Reign(line, "first")
    first.step(1.0)
    old = line.coordinator
    assert old.stdout is not None
    assert old.stdout.readline() == "commit\n"
    line.armed.touch()

    def ask() -> None:
        with suppress(DistgradError):  # of its loss
            first.step(10.0)

    asking = threading.Thread(target=ask)
    asking.start()
    os.waitid(os.P_PID, old.pid, os.WSTOPPED | os.WNOWAIT)
    line.succeed()
    second = Reign(line, "second")
    taken = 0.5 * (1.0 + 10.0 * decided)
    assert second.optimizer.version == 1 + decided
    assert second.weights() == [taken, taken]
    second.step(100.0)
    old.send_signal(signal.SIGCONT)
    assert re.match(says, old.stdout.readline())
    asking.join(DEADLINE)
    with pytest.raises(WorkerLost, match="coordinator is lost"):
        first.client.check_coordinator()
    assert second.weights() == [taken + 50.0] * 2
    second.step(1.0)
    assert second.weights() == [taken + 50.5] * 2
    assert second.client.present == list(WORKERS)
    assert [worker.incarnation for worker in second.client.workers] == [worker.incarnation for worker in line.workers]
    end(line.coordinator)
    with Journal.open(line.journal) as journal:
        assert [journal.find("sgd", version).term for version in (2, 3)] == ([1, 2] if decided else [2, 2])


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
