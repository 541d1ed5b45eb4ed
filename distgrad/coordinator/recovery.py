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
import math
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
from .copies import Missing, missing_state
from .membership import Member
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

    def recover(
        self, directory: Path | None, job: str, patience: float, standby_after: float, steps: int = 1
    ) -> Recovered:
        """Returns when steps can be taken again.

        Arguments:
            directory: of checkpoints; None when there are none.
            job: checkpoints of others are refused.
            patience: seconds to wait for workers that are gone.
            standby_after: seconds that a worker must not have been heard of before one without shards takes its place.
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
            now = time.monotonic()
            overdue = [worker for worker, member in gone.items() if now >= _heard_of(member) + standby_after]
            if overdue and (standbys := self._shards.standbys()):
                _log.warning("%s takes the place of %s, which has not come back", standbys[0], overdue[0])
                self._shards.move(overdue[0], to=standbys[0])
            elif now >= began + patience:
                raise Timeout(
                    f"{'; '.join(map(_loss, gone, gone.values()))}; {', '.join(gone)} did not come back within "
                    f"{patience:g} s, and no worker without shards was there to take the place: start one"
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
            for copy in missing_state(optimizer, versions[optimizer], owners, held)
        ]
        lacking = any(copy.kept is None for copy in missing)
        halfway = any(version % steps for version in versions.values())
        forgotten = not any(versions.values()) and bool(_checkpoints(directory))  # everybody was lost
        if lacking or halfway or forgotten:
            return self._go_back(directory, job)
        self._give_copies(missing, versions)
        return Recovered(versions, pb.SOURCE_REPLICAS if missing else pb.SOURCE_OWNERS)

    def _give_copies(self, missing: Sequence[Missing], versions: Mapping[str, int]) -> None:
        for copy in missing:
            assert copy.kept is not None
            request = pb.ReadReplica(optimizer=copy.kept.optimizer, owner=copy.kept.owner, shard=copy.shard)
            reply, arrays = self._process.ask(copy.kept.worker, request)
            self._states.give(copy.shard, decode_value(reply.state, arrays), versions)
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


def _heard_of(member: Member | None) -> float:
    """When a worker that is gone was heard of last."""
    return member.since if member is not None else -math.inf


def _loss(worker: str, member: Member | None) -> str:
    return f"{worker} is lost: {member.reason if member is not None else 'it was gone long ago'}"


def _checkpoints(directory: Path | None) -> list[Path]:
    return complete_checkpoints(directory) if directory is not None else []
