"""Whom a supervisor starts again, and when it gives up."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from distgrad.cluster.listening import Listening
from distgrad.cluster.supervise import Training, _Run
from distgrad.errors import WorkerLost
from distgrad.worker.children import Children, Event
from tests.coordinator.training.test_trainer import job


class Actor:
    """A process that is only heard of."""

    pid = 1
    ending = "was killed by signal 9 (SIGKILL)"

    def __init__(self, name: str) -> None:
        self.name = name
        self.begun = False

    def begin(self, orders: object) -> None:
        self.begun = True

    def tail(self) -> str:
        return ""


class Cast:
    """The processes of a run: the latest of each name, and the names of all that were started."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self._latest: dict[str, Actor] = {}

    def start(self, name: str, module: str) -> Actor:
        self.started.append(name)
        self._latest[name] = Actor(name)
        return self._latest[name]

    def get(self, name: str) -> Actor | None:
        return self._latest.get(name)


class Plot:
    """What is heard, each of the process that has the name then."""

    def __init__(self, actors: Cast, *lines: tuple[str, Event]) -> None:
        self._actors = actors
        self._lines = list(lines)

    def next(self) -> tuple[Actor | None, Event]:
        name, event = self._lines.pop(0)
        return self._actors.get(name), event


LISTENING = ("coordinator", {"event": "listening", "address": "memory:coordinator"})
DONE = [("coordinator", {"event": "done"}), ("coordinator", {"event": "exited"})]
W1_ENDS = ("w1", {"event": "exited"})


def follow(folder: Path, *lines: tuple[str, Any]) -> list[str]:
    """Has a run hear these lines; returns the names of the processes that were started again, in order."""
    actors, spec = Cast(), job(folder, "recovery.max_failures=1")
    run = _Run(
        Training(folder / "tiny.toml"),
        spec,
        folder,
        cast(Children, actors),
        cast(Listening, Plot(actors, *lines)),
        lambda event: None,
    )
    run.follow()
    return actors.started[1 + len(spec.cluster.workers) :]


def test_a_worker_that_ends_before_it_is_ready_is_started_again_as_often_as_there_may_be_failures(
    tmp_path: Path,
) -> None:
    assert follow(tmp_path, LISTENING, W1_ENDS, *DONE) == ["w1"]
    with pytest.raises(WorkerLost, match="worker w1 is lost: process 1 was killed by signal 9"):
        follow(tmp_path, LISTENING, W1_ENDS, W1_ENDS)
