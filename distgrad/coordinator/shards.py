"""The shards of a cluster: built on their workers, found by name, and built anew when their worker was started anew."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from distgrad.errors import ConfigError, WorkerLost
from distgrad.graph.process import Process
from distgrad.graph.waiting import Promise
from distgrad.wire import encode_value, pb

from .membership import Member, Membership
from .names import natural_order
from .placement import Placement, Placements

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(@[1-9][0-9]*)?")


@dataclass(frozen=True)
class _Build:
    """A shard as one life of its worker built it, or is about to."""

    incarnation: int
    found: Promise[pb.ShardFound] = field(default_factory=Promise)


class Shards:
    """Where every shard is, and whether it is still there.

    Arguments:
        process: the coordinator's.
        members: the table of members.
        lock: guards that table and this one.
    """

    def __init__(self, process: Process, members: Membership, lock: threading.RLock) -> None:
        self._process = process
        self._members = members
        self._lock = lock
        self._placements = Placements()
        self._builds: dict[str, _Build] = {}

    # ---- building ----------------------------------------------------------------------------------------------------

    def place(
        self, shard: str, program: str, config: Mapping[str, Any], seed: int, worker: str = "", fresh: bool = False
    ) -> pb.ShardFound:
        """Builds a shard on a worker, by default on the one with the fewest. Placed in the same way again it is found,
        or, when its worker was started anew, built anew with its initial weights. One that cannot be built leaves no
        trace.

        Arguments:
            fresh: one that a coordinator before this one has placed there is not taken for it.

        Raises:
            ConfigError: no such worker, no such name, or another shard has it.
            ProgramError: its program refuses.
            WorkerLost: its worker is gone.
        """
        if not _NAME.fullmatch(shard):
            raise ConfigError(
                f"{shard!r} cannot name a shard: letters, digits, '-', '_' and '.' are expected, the first a letter or "
                "a digit"
            )
        with self._lock:
            workers = [member.name for member in self._members.workers()]
            known = shard in self._placements
            placement = self._placements.place(shard, program, config, seed, workers, worker)
            build, begun = self._begin(placement)
        try:
            if begun:
                self._finish(placement, build, anew=fresh and not known)
            self._process.executor.wait(build.found, what=f"shard {shard!r} on {placement.worker}")
            return build.found.result()
        except BaseException:
            with self._lock:
                if begun and not known:
                    self._placements.remove(shard)
            raise

    def build_anew(self) -> None:
        """Builds every shard that was lost with an earlier life of its worker.

        Raises:
            WorkerLost: a worker has not come back.
            ProgramError: its programs are others now.
        """
        with self._lock:
            begun = [(placement, *self._begin(placement)) for placement in self._placements]
        for placement, build, mine in begun:
            if mine:
                self._finish(placement, build)

    def begin_anew(self) -> None:
        """Gives every shard its initial weights, wherever it is. Raises as `build_anew` does."""
        with self._lock:
            for placement in self._placements:
                self._builds[placement.shard] = _Build(self._living(placement).incarnation)
            begun = [(placement, self._builds[placement.shard]) for placement in self._placements]
        for placement, build in begun:
            self._finish(placement, build, anew=True)

    def without_worker(self) -> dict[str, Member | None]:
        """The workers that are gone and have shards, w2 before w10; None for one that was gone long ago."""
        with self._lock:
            gone = {it.worker for it in self._placements if not self._is_there(it.worker)}
            return {worker: self._members.get(worker) for worker in sorted(gone, key=natural_order)}

    def standbys(self) -> list[str]:
        """The living workers that have no shards."""
        with self._lock:
            counts = self._placements.counts()
            return [member.name for member in self._members.workers() if not counts[member.name]]

    def move(self, worker: str, to: str) -> None:
        """The shards of a worker that is gone are another's to build."""
        with self._lock:
            for placement in self._placements.on(worker):
                self._placements.move(placement.shard, to)

    def workers(self) -> dict[str, str]:
        """Shard -> its worker, there or not."""
        with self._lock:
            return {placement.shard: placement.worker for placement in self._placements}

    def _is_there(self, worker: str) -> bool:
        member = self._members.get(worker)
        return member is not None and member.alive

    def _begin(self, placement: Placement) -> tuple[_Build, bool]:
        """The build of a shard on its present worker, and whether the caller has to carry it out. Called with the lock
        held."""
        member = self._living(placement)
        build = self._builds.get(placement.shard)
        if build is not None and build.incarnation == member.incarnation:
            return build, False
        build = self._builds[placement.shard] = _Build(member.incarnation)
        return build, True

    def _finish(self, placement: Placement, build: _Build, anew: bool = False) -> None:
        """Has a shard built on its worker."""
        out: list[Any] = []
        load = pb.LoadShard(
            name=placement.shard,
            program=placement.program,
            config=encode_value(dict(placement.config), out, "config"),
            seed=placement.seed,
            anew=anew,
        )
        try:
            loaded, _ = self._process.ask(placement.worker, load, out)
        except BaseException as error:
            with self._lock:
                self._builds.pop(placement.shard, None)
            build.found.set_error(error)
            raise
        build.found.set_result(
            pb.ShardFound(
                name=placement.shard,
                program=placement.program,
                worker=placement.worker,
                parameters=loaded.parameters,
                methods=loaded.methods,
            )
        )

    def remove(self, shards: Iterable[str]) -> None:
        """Forgets shards and has their workers let go of them; does not wait for that."""
        with self._lock:
            names = [placement.shard for placement in self._placements if placement.shard in set(shards)]
            for name in names:
                self._placements.remove(name)
                self._builds.pop(name, None)
            workers = [member.name for member in self._members.workers()]
        for worker in workers if names else ():  # all of them: some keep copies
            self._process.request(worker, pb.UnloadShards(names=names))

    def remove_strays(self) -> None:
        """Has workers let go of shards that nobody has placed here; an earlier coordinator had. Does not wait."""
        with self._lock:
            names = [placement.shard for placement in self._placements]
            workers = [member.name for member in self._members.workers()]
        for worker in workers:
            self._process.request(worker, pb.UnloadShards(names=names, others=True))

    # ---- finding -----------------------------------------------------------------------------------------------------

    def find(self, shard: str) -> Promise[pb.ShardFound]:
        """What a shard is and where; a promise of it while it is being built.

        Raises:
            ConfigError: there is none of that name.
            WorkerLost: it was lost with its worker.
        """
        with self._lock:
            placement = self._placements[shard]
            member = self._living(placement)
            build = self._builds.get(shard)
        if build is None or build.incarnation != member.incarnation:
            raise WorkerLost(
                f"shard {shard!r} was lost when {placement.worker} was started anew: restore a checkpoint, or place it "
                "again to begin with its initial weights"
            )
        return build.found

    def worker(self, shard: str) -> str:
        """The worker of a shard that is there; raises as `find` does."""
        found = self.find(shard)
        self._process.executor.wait(found, what=f"shard {shard!r}")
        return found.result().worker

    def _living(self, placement: Placement) -> Member:
        """The worker of a shard. Called with the lock held."""
        member = self._members.get(placement.worker)
        if member is None or not member.alive:
            why = f", which is no longer there: {member.reason}" if member is not None else ", which is no longer there"
            raise WorkerLost(
                f"shard {placement.shard!r} was on {placement.worker}{why}. Start a worker of that name, and restore a "
                "checkpoint"
            )
        return member

    def __iter__(self) -> Iterator[Placement]:
        with self._lock:
            return iter(list(self._placements))

    def __contains__(self, shard: object) -> bool:
        with self._lock:
            return shard in self._placements

    def __len__(self) -> int:
        return len(self._placements)

    def __repr__(self) -> str:
        return f"<Shards {', '.join(f'{it.shard} on {it.worker}' for it in self) or 'none'}>"
