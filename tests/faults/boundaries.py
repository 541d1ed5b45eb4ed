"""Boundaries of the protocol of updates, checkpoints and recoveries, at each of which a process may be killed.

A boundary is the beginning or the end of a function of distgrad. A *plan* names boundaries in an order; a process that
has called `install` ends itself with SIGKILL at a boundary of its own when all boundaries before it in the plan have
struck. Nothing in distgrad knows of this: functions are replaced, in processes of a test whose environment says so.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distgrad.wire import pb

# Environment variable: the folder with `plan.json`, where boundaries that have struck leave a mark.
PLAN = "DISTGRAD_TEST_PLAN"


@dataclass(frozen=True)
class Boundary:
    """The beginning or end of a function.

    Attributes:
        function: "MODULE:NAME" or "MODULE:CLASS.NAME", looked up there at every call.
        after: whether the process is killed when the function has returned, not before it begins.
        when: looks at the function's arguments.
    """

    function: str
    after: bool = False
    when: Callable[..., bool] = lambda *_: True


def _order(kind: type, worker: str) -> Callable[..., bool]:
    return lambda process, peer, body, *_: isinstance(body, kind) and peer == worker


_COORDINATOR = "distgrad.coordinator"
_WORKER = "distgrad.worker"

OF_WORKERS = {
    "before prepare": Boundary(f"{_WORKER}.ownership:Ownership.prepare"),
    "prepared, and nobody told": Boundary(f"{_WORKER}.ownership:Ownership.prepare", after=True),
    "a copy has pinned": Boundary(f"{_WORKER}.replica:Replicas.pin", after=True),
    "before commit": Boundary(f"{_WORKER}.holding:Holding.commit"),
    "committed, and nobody told": Boundary(f"{_WORKER}.holding:Holding.commit", after=True),
    "snapshot taken": Boundary(f"{_WORKER}.host:Host.take_snapshot", after=True),
    "asked for the snapshot": Boundary(f"{_WORKER}.host:Host.snapshot"),
    "given a state": Boundary(f"{_WORKER}.host:Host.load_state", after=True),
    "a copy was made": Boundary(f"{_WORKER}.replica:Replicas.take", after=True),
    "asked for a copy": Boundary(f"{_WORKER}.replica:Replica.shard"),
}

OF_THE_COORDINATOR = {
    "before prepare": Boundary(f"{_COORDINATOR}.update:Updates._decide"),
    "between prepares": Boundary("distgrad.graph.process:Process.request", when=_order(pb.Prepare, "w1")),
    "before decide": Boundary(f"{_COORDINATOR}.journal:Journal.append"),
    "after decide": Boundary(f"{_COORDINATOR}.journal:Journal.append", after=True),
    "between commits": Boundary("distgrad.graph.process:Process.request", when=_order(pb.Commit, "w1")),
    "after commit": Boundary(f"{_COORDINATOR}.update:Updates._commit", after=True),
    "before the snapshot": Boundary(f"{_COORDINATOR}.states:States._take_snapshot"),
    "after the snapshot": Boundary(f"{_COORDINATOR}.states:States._take_snapshot", after=True),
    "a shard of a checkpoint written": Boundary(f"{_COORDINATOR}.checkpoint:_write_shard", after=True),
    "before a checkpoint is in place": Boundary(f"{_COORDINATOR}.checkpoint:_move_into_place"),
    "a checkpoint in place": Boundary(f"{_COORDINATOR}.checkpoint:_move_into_place", after=True),
    "before the journal is compacted": Boundary(f"{_COORDINATOR}.journal:Journal.compact"),
    "the journal compacted": Boundary(f"{_COORDINATOR}.journal:Journal.compact", after=True),
    "old checkpoints removed": Boundary(f"{_COORDINATOR}.states:prune", after=True),
    "recovery: before lost shards are built": Boundary(f"{_COORDINATOR}.shards:Shards.build_anew"),
    "recovery: lost shards built": Boundary(f"{_COORDINATOR}.update:Updates.adopt_anew"),
    "recovery: doubts settled": Boundary(f"{_COORDINATOR}.recovery:missing_state"),
    "recovery: one shard given its state": Boundary(f"{_COORDINATOR}.states:States.give", after=True),
    "recovery: before the return is noted": Boundary(f"{_COORDINATOR}.journal:Journal.note_return"),
    "recovery: the return noted": Boundary(f"{_COORDINATOR}.journal:Journal.note_return", after=True),
    "recovery: before copies are made": Boundary(f"{_COORDINATOR}.copies:Copies.make"),
    "recovery: all agree": Boundary(f"{_COORDINATOR}.update:Updates.stand", after=True),
}


@dataclass(frozen=True)
class Strike:
    """A process is killed at a boundary."""

    process: str
    boundary: str

    def find(self) -> Boundary:
        table = OF_THE_COORDINATOR if self.process == "coordinator" else OF_WORKERS
        return table[self.boundary]

    def __str__(self) -> str:
        return f"{self.process}: {self.boundary}"


class Plan:
    """Strikes in their order, in a folder that the processes of a run share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.strikes = [Strike(*strike) for strike in json.loads((folder / "plan.json").read_text())]

    @classmethod
    def write(cls, folder: Path, strikes: list[Strike]) -> Plan:
        folder.mkdir()
        (folder / "plan.json").write_text(json.dumps([[strike.process, strike.boundary] for strike in strikes]))
        return cls(folder)

    @property
    def struck(self) -> int:
        """How many strikes have been."""
        return sum(1 for _ in self._folder.glob("struck-*"))

    def strike(self, number: int) -> None:
        """Ends this process, if that is the strike whose turn it is."""
        if self.struck == number:
            (self._folder / f"struck-{number}").touch()
            os.kill(os.getpid(), signal.SIGKILL)


def install() -> None:
    """Replaces the functions at whose boundaries the environment's plan has this process end."""
    if PLAN not in os.environ:
        return
    plan = Plan(Path(os.environ[PLAN]))
    for number, strike in enumerate(plan.strikes):
        if strike.process == sys.argv[-1]:
            strike_at(strike.find(), functools.partial(plan.strike, number))


def strike_at(boundary: Boundary, strike: Callable[[], None]) -> None:
    """From now on this process calls `strike` at that boundary."""
    module, _, path = boundary.function.partition(":")
    owner: Any = importlib.import_module(module)
    *classes, name = path.split(".")
    for part in classes:
        owner = getattr(owner, part)
    function = getattr(owner, name)

    @functools.wraps(function)
    def replaced(*args: Any, **kwargs: Any) -> Any:
        if not boundary.after and boundary.when(*args):
            strike()
        result = function(*args, **kwargs)
        if boundary.after and boundary.when(*args):
            strike()
        return result

    setattr(owner, name, replaced)
