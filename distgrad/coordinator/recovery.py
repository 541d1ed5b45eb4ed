"""All shards at one version again after processes were lost.

1. Every lost worker comes back under its name, or a worker that has no shards takes its place.
2. What was lost with it is built anew, with initial weights, at version 0.
3. Updates in doubt are settled: see `doubt`. All owners that were not lost are at one version now.
4. The others are given that version's state from the copies that buddies keep. When one is missing, every shard returns
   to the newest checkpoint that is sound, and when there is none, to its initial weights: the steps since are taken
   again and come to the same bits.

Nothing here depends on what was done before it was interrupted, so it may be begun again at any point, also by the next
coordinator.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distgrad.errors import CheckpointError, Timeout
from distgrad.graph.process import Process
from distgrad.wire import decode_value, pb

from .checkpoint import complete_checkpoints
from .doubt import Held
from .shards import Shards
from .states import States
from .update import Updates

_log = logging.getLogger(__name__)

# Seconds between two looks at who is there.
_LOOK_EVERY = 0.02


@dataclass(frozen=True)
class Recovered:
    """What a recovery came to.

    Attributes:
        versions: the version every optimizer is at now.
        source: where the state came from.
        path: of the checkpoint, when it was one.
        extra: that the checkpoint was saved with.
    """

    versions: Mapping[str, int]
    source: pb.Source
    path: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


class Recovery:
    """Recovers a cluster. One at a time: another `recover` waits."""

    def __init__(self, process: Process, shards: Shards, updates: Updates, states: States) -> None:
        self._process = process
        self._shards = shards
        self._updates = updates
        self._states = states
        self._lock = threading.Lock()
        self._former: dict[str, str] = {}  # worker -> the one whose place it has taken, and whose copies are its own

    def recover(
        self, directory: Path | None, job: str, patience: float, standby_after: float, steps: int = 1
    ) -> Recovered:
        """Returns when steps can be taken again.

        Arguments:
            directory: of checkpoints; None when there are none.
            job: checkpoints of others are refused.
            patience: seconds to wait for workers that are gone.
            standby_after: seconds after which a worker without shards takes the place of one that has not come back.
            steps: that are taken together: nobody goes on from a version in the middle of them.

        Raises:
            Timeout: a worker has not come back.
            WorkerLost: one was lost again.
            ConfigError: the checkpoint is another job's.
        """
        with self._process.executor.parked("the recovery before"):
            self._lock.acquire()
        try:
            self._await_workers(patience, standby_after)
            with self._updates.paused():
                return self._bring_together(directory, job, steps)
        finally:
            self._lock.release()

    # ---- workers -----------------------------------------------------------------------------------------------------

    def _await_workers(self, patience: float, standby_after: float) -> None:
        began = time.monotonic()
        while gone := self._shards.without_worker():
            waited = time.monotonic() - began
            if waited >= standby_after and (standbys := self._shards.standbys()):
                lost = next(iter(gone))
                _log.warning("%s takes the place of %s, which has not come back", standbys[0], lost)
                self._shards.move(lost, to=standbys[0])
                self._former[standbys[0]] = self._former.pop(lost, lost)
            elif waited >= patience:
                lost = "; ".join(f"{worker} is lost: {reason}" for worker, reason in gone.items())
                raise Timeout(
                    f"{lost}; {', '.join(gone)} did not come back within {patience:g} s, and no worker without shards "
                    "was there to take the place: start one"
                )
            else:
                with self._process.executor.parked(f"the return of {', '.join(gone)}"):
                    time.sleep(_LOOK_EVERY)

    # ---- state -------------------------------------------------------------------------------------------------------

    def _bring_together(self, directory: Path | None, job: str, steps: int) -> Recovered:
        self._shards.build_anew()
        self._updates.adopt_anew(self._shards.workers())
        versions = self._updates.versions()
        held = self._updates.doubts.settle(versions)
        missing = [
            copy
            for optimizer, owners in self._updates.owners().items()
            for copy in missing_state(optimizer, versions[optimizer], sorted(owners), held, self._former)
        ]
        lacking = any(copy.keeper is None for copy in missing)
        halfway = any(version % steps for version in versions.values())
        forgotten = not any(versions.values()) and bool(_checkpoints(directory))  # everybody was lost
        if lacking or halfway or forgotten:
            found = self._go_back(directory, job)
        else:
            self._give_copies(missing, versions)
            found = Recovered(versions, pb.SOURCE_REPLICAS if missing else pb.SOURCE_OWNERS)
        self._former.clear()
        return found

    def _give_copies(self, missing: Sequence[Missing], versions: Mapping[str, int]) -> None:
        owners = self._updates.owners()
        for copy in missing:
            assert copy.keeper is not None
            for shard in owners[copy.optimizer][copy.owner]:
                request = pb.ReadReplica(optimizer=copy.optimizer, owner=copy.former, shard=shard)
                reply, arrays = self._process.ask(copy.keeper, request)
                self._states.give(shard, decode_value(reply.state, arrays), versions)
        self._updates.stand(versions)

    def _go_back(self, directory: Path | None, job: str) -> Recovered:
        refused: set[Path] = set()
        # Looked for anew each time: a save that comes to its end writes one, and may remove that which is being read.
        while path := next((path for path in _checkpoints(directory) if path not in refused), None):
            try:
                _, extra = self._states.go_back(path, job)
            except CheckpointError as error:
                _log.warning("not recovered from %s: %s", path, error)
                refused.add(path)
            else:
                return Recovered(self._updates.versions(), pb.SOURCE_CHECKPOINT, str(path), extra)
        self._shards.begin_anew()
        self._updates.adopt_anew(self._shards.workers(), rebuilt=True)
        self._updates.restored(dict.fromkeys(self._updates.versions(), 0))
        return Recovered(self._updates.versions(), pb.SOURCE_INITIAL)


def _checkpoints(directory: Path | None) -> list[Path]:
    return complete_checkpoints(directory) if directory is not None else []


@dataclass(frozen=True)
class Missing:
    """State that an owner lacks.

    Attributes:
        former: the worker that was lost with it: the owner itself, or the one whose place it has taken.
        keeper: the worker that keeps a copy; None when nobody does.
    """

    optimizer: str
    owner: str
    former: str
    keeper: str | None


def missing_state(
    optimizer: str, version: int, owners: Sequence[str], held: Sequence[Held], former: Mapping[str, str]
) -> list[Missing]:
    """Which owners of an optimizer are not at its version, and who keeps their state of it.

    Example:
        >>> held = [Held("w0", "adam", "w0", 7), Held("w1", "adam", "w1", 0), Held("w0", "adam", "w1", 7)]
        >>> missing_state("adam", 7, ["w0", "w1"], held, former={})
        [Missing(optimizer='adam', owner='w1', former='w1', keeper='w0')]
    """
    current = [it for it in held if it.optimizer == optimizer and it.version == version]
    own = {it.owner for it in current if it.worker == it.owner}
    keepers = {it.owner: it.worker for it in current if it.worker != it.owner}
    lacking = [(owner, former.get(owner, owner)) for owner in owners if owner not in own]
    return [Missing(optimizer, owner, lost, keepers.get(lost)) for owner, lost in lacking]
