"""Updates: every owner applies one, or none does, exactly once.

Two-phase commit (Gray, "Notes on data base operating systems", 1978), the coordinator being the one who decides:

    prepare   every owner pins its gradients and answers with their norms; nothing has changed yet
    decide    the decision is appended to the journal and on disk: this is the point of commit. No record means abort
    commit    every owner applies; asked again, it answers again

What the journal does not hold did not happen, so a coordinator may die at any moment.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from distgrad.errors import ConfigError, ContextError, DistgradError
from distgrad.graph.process import Process
from distgrad.graph.waiting import Promise, all_done
from distgrad.optim import from_settings
from distgrad.wire import encode_value, pb

from .journal import Decision, Journal


@dataclass
class _Group:
    """The shards under one optimizer."""

    name: str
    owners: dict[str, list[str]]
    kind: str
    settings: Mapping[str, Any]
    learning_rate: float
    version: int = 0
    last: Decision | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Updates:
    """Drives the updates of all optimizers.

    Arguments:
        process: the coordinator's.
        term: of this coordinator.
        journal: where decisions go; None: nowhere, they end with this process.
    """

    def __init__(self, process: Process, term: int, journal: Journal | None) -> None:
        self._process = process
        self._term = term
        self._journal = journal
        self._groups: dict[str, _Group] = {}
        self._lock = threading.Lock()

    # ---- optimizers --------------------------------------------------------------------------------------------------

    def create(self, name: str, workers: Mapping[str, str], kind: str, settings: Mapping[str, Any]) -> int:
        """Puts shards (name -> worker) under an optimizer; returns its version."""
        optimizer = from_settings(kind, settings)
        owners: dict[str, list[str]] = {}
        for shard, worker in workers.items():
            taken = self.of(shard)
            if taken not in ("", name):
                raise ConfigError(f"shard {shard!r} is under optimizer {taken!r} already")
            owners.setdefault(worker, []).append(shard)
        group = _Group(name, owners, kind, settings, optimizer.lr)
        with self._lock:
            held = self._groups.get(name)
            if held is not None and (held.owners, held.kind, held.settings) != (owners, kind, settings):
                raise ConfigError(f"there is an optimizer {name!r} already, with other shards or settings")
            group = self._groups.setdefault(name, group)
        for worker, shards in owners.items():
            out: list[Any] = []
            adopt = pb.Adopt(
                optimizer=name,
                shards=shards,
                kind=kind,
                settings=encode_value(dict(settings), out, "settings"),
                version=group.version,
                term=self._term,
            )
            self._process.ask(worker, adopt, out)
        return group.version

    def of(self, shard: str) -> str:
        """The optimizer a shard is under; empty when under none."""
        with self._lock:
            groups = list(self._groups.values())
        return next((g.name for g in groups if any(shard in shards for shards in g.owners.values())), "")

    def versions(self) -> dict[str, int]:
        """The version of every optimizer."""
        with self._lock:
            return {name: group.version for name, group in self._groups.items()}

    def latest_version(self) -> int:
        return max(self.versions().values(), default=0)

    def restore(self, versions: Mapping[str, int]) -> None:
        """All owners have been given the state of these versions."""
        for name, version in versions.items():
            if name in self._groups:
                self._groups[name].version = version
                self._groups[name].last = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """No update happens in the block."""
        with self._lock:
            groups = sorted(self._groups.values(), key=lambda group: group.name)
        taken = []
        try:
            for group in groups:
                self._take(group)
                taken.append(group)
            yield
        finally:
            for group in taken:
                group.lock.release()

    def _take(self, group: _Group) -> None:
        with self._process.executor.parked(f"optimizer {group.name}"):
            group.lock.acquire()

    # ---- one update --------------------------------------------------------------------------------------------------

    def step(self, name: str, version: int, contexts: list[str], clip_norm: float, learning_rate: float) -> Decision:
        """The update of optimizer `name` to `version`. Asked again for the last one, answers as before.

        Arguments:
            contexts: whose gradients are summed, in this order.
            clip_norm: largest norm of all gradients together; 0: any.
            learning_rate: of this step; 0: the optimizer's own.

        Raises:
            ContextError: another version is due.
            WorkerLost: an owner is gone. Before the decision nobody has changed; after it, all others have.
        """
        group = self._groups.get(name)
        if group is None:
            raise ConfigError(f"there is no optimizer {name!r}")
        self._take(group)
        try:
            if group.last is not None and version == group.version == group.last.version:
                return group.last
            if version != group.version + 1:
                raise ContextError(f"optimizer {name!r} is at version {group.version}; asked for {version}")
            decision = self._decide(group, version, contexts, clip_norm, learning_rate or group.learning_rate)
            group.last = decision
            if decision.outcome == "commit":
                group.version = version
                self._commit(group, decision)
            else:
                self._withdraw(group, version)
            return decision
        finally:
            group.lock.release()

    def _decide(
        self, group: _Group, version: int, contexts: list[str], clip_norm: float, learning_rate: float
    ) -> Decision:
        """Prepares on all owners and decides. Whatever goes wrong before the record is on disk means abort."""
        prepare = pb.Prepare(term=self._term, optimizer=group.name, version=version, contexts=contexts)
        try:
            norms = [norm for reply in self._ask_all(group, prepare) for norm in reply.norms]
            total = math.sqrt(math.fsum(n.norm * n.norm for n in sorted(norms, key=lambda n: n.parameter)))
            finite = all(n.finite for n in norms)
            decision = Decision(
                optimizer=group.name,
                version=version,
                outcome="commit" if finite else "abort",
                clip_factor=clip_norm / total if finite and 0 < clip_norm < total else 1.0,
                learning_rate=learning_rate,
                norm=total,
                owners={worker: self._process.peers.incarnation(worker) for worker in sorted(group.owners)},
                term=self._term,
            )
            return decision if self._journal is None else self._append(decision)
        except DistgradError:
            if self._journal is None or not self._journal.closed:
                self._withdraw(group, version)
            raise

    def _append(self, decision: Decision) -> Decision:
        assert self._journal is not None
        with self._lock:
            return self._journal.append(decision)

    def _commit(self, group: _Group, decision: Decision) -> None:
        self._ask_all(
            group,
            pb.Commit(
                term=self._term,
                optimizer=group.name,
                version=decision.version,
                clip_factor=decision.clip_factor,
                learning_rate=decision.learning_rate,
            ),
        )

    def _withdraw(self, group: _Group, version: int) -> None:
        """Tells the owners that nothing happens. One that cannot be told is gone, and its pinned state with it."""
        withdraw = pb.Withdraw(term=self._term, optimizer=group.name, version=version)
        for worker in group.owners:
            self._process.request(worker, withdraw)

    def _ask_all(self, group: _Group, body: Any) -> list[Any]:
        """The answers of all owners, asked at once. Raises the first error once all have answered."""
        promises = [self._process.request(worker, body) for worker in sorted(group.owners)]
        ready: Promise[None] = Promise()
        all_done(promises, ready)
        self._process.executor.wait(ready, what=f"the owners' answers to {type(body).__name__}")
        ready.result()
        return [promise.result()[0] for promise in promises]
