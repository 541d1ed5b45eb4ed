"""Updates: every owner applies one, or none does, exactly once.

Two-phase commit (Gray, "Notes on data base operating systems", 1978), the coordinator being the one who decides:

    prepare   every owner pins its gradients and answers with their norms; nothing has changed yet
    decide    the decision is appended to the journal and on disk: this is the point of commit. No record means abort
    commit    every owner applies; asked again, it answers again

What the journal does not hold did not happen, so a coordinator may die at any moment: the next one asks the owners what
they have prepared, and looks there. An owner that is lost after the decision changes nothing about it: the others have
moved, and its successor is given the state of a checkpoint, or the copy that its buddy has kept: see `recovery`.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from distgrad.errors import ConfigError, ContextError
from distgrad.graph.process import Process
from distgrad.graph.waiting import Promise, all_done, settled
from distgrad.optim import from_settings
from distgrad.wire import encode_value, pb
from distgrad.worker.twins import families

from .copies import Copies, missing_state
from .doubt import Doubts, commit_order
from .journal import Decision, Journal
from .lines import Line

_log = logging.getLogger(__name__)


@dataclass
class _Group:
    """The shards under one optimizer.

    Attributes:
        owners: worker → its shards.
        adopted: worker → the incarnation of it that has them under this optimizer.
        version: number of updates decided.
        last: the latest decision.
        contexts: whose gradients that one is about.
        before: later steps, as they were taken before a checkpoint was restored.
        copies: of the owners' state on other workers; None when none are wanted.
    """

    name: str
    owners: dict[str, list[str]]
    kind: str
    settings: Mapping[str, Any]
    learning_rate: float
    copies: Copies | None = None
    adopted: dict[str, int] = field(default_factory=dict)
    version: int = 0
    last: Decision | None = None
    contexts: Sequence[str] = ()
    before: dict[int, Decision] = field(default_factory=dict)

    def holders(self) -> list[str]:
        """The workers that an update concerns."""
        return sorted({*self.owners, *self.buddies().values()})

    def buddies(self) -> dict[str, str]:
        """Owner -> the worker that keeps a copy of its state."""
        return self.copies.buddies() if self.copies is not None else {}


class Updates:
    """Drives the updates of all optimizers.

    Arguments:
        process: the coordinator's.
        term: of this coordinator.
        journal: where decisions go; None: nowhere, they end with this process.

    Attributes:
        doubts: settles what an earlier coordinator, or a lost owner, has left in doubt.
    """

    def __init__(self, process: Process, term: int, journal: Journal | None) -> None:
        self._process = process
        self._term = term
        self._journal = journal
        self.doubts = Doubts(process, term, journal)
        self._groups: dict[str, _Group] = {}
        self._lock = threading.Lock()  # guards the table of groups
        self._line = Line(process.executor)  # of those who step optimizers, or see to it that nobody does
        self._deciding = threading.Lock()  # guards the journal

    # ---- optimizers --------------------------------------------------------------------------------------------------

    def create(
        self, name: str, workers: Mapping[str, str], kind: str, settings: Mapping[str, Any], replicate: bool = False
    ) -> int:
        """Puts shards (name -> worker) under an optimizer; returns its version. Again: only returns it.

        Owners that an earlier coordinator has brought to some version are met there. Where they disagree, or one of
        them was started anew, no step can be taken before a recovery or a restore.

        Raises:
            ConfigError: no such optimizer or setting, no shards, the name is held by another optimizer, or a shard is
                under another one.
            ContextError: a worker was started anew, and its shards with it, since the first step.
        """
        optimizer = from_settings(kind, settings)
        if not workers:
            raise ConfigError(f"optimizer {name!r} was given no shards")
        for shard in workers:
            taken = self.of(shard)
            if taken not in ("", name):
                raise ConfigError(f"shard {shard!r} is under optimizer {taken!r} already")
        owners = _by_worker(workers)
        group = _Group(name, owners, kind, settings, optimizer.lr, Copies(name) if replicate else None)
        with self._lock:
            held = self._groups.setdefault(name, group)
        if (held.owners, held.kind, held.settings, held.copies is not None) != (owners, kind, settings, replicate):
            raise ConfigError(
                f"there is an optimizer {name!r} already, with other shards or settings: give this one a name of its "
                "own (name=)"
            )
        with self._line.turn(f"optimizer {name}", name):
            try:
                if held is group:  # a worker that keeps a copy in doubt may be about to become an owner, who has none
                    self.doubts.settle([name])
                self._adopt(held)
                if held is group:
                    self._meet(held)
            except BaseException:
                if held is group:
                    with self._lock:
                        del self._groups[name]
                raise
            return held.version

    def _meet(self, group: _Group) -> None:
        """Finds out at what version the owners are. Copies are made when they agree; otherwise those that an earlier
        coordinator had made may be all that is left of an owner."""
        held = self.doubts.settle([group.name])
        group.version = max((it.version for it in held), default=0)
        if self._journal is not None and self._journal.latest(group.name) > group.version:
            with self._deciding:  # what the journal says beyond that is of training that nobody has gone on with
                self._journal.note_return({group.name: group.version})
        if not missing_state(group.name, group.version, group.owners, held):
            self._copy(group)

    def _adopt(self, group: _Group) -> None:
        """Has the owners put their shards under the optimizer."""
        for worker, shards in sorted(group.owners.items()):
            incarnation = self._process.peers.incarnation(worker)
            if group.adopted.get(worker) == incarnation:
                continue
            if group.version > 0:
                raise ContextError(
                    f"optimizer {group.name!r} is at version {group.version}, but {worker} was started anew and holds "
                    "initial weights: restore a checkpoint"
                )
            self._ask_to_adopt(group, worker, shards)
            group.adopted[worker] = incarnation

    def adopt_anew(self, workers: Mapping[str, str], rebuilt: bool = False) -> None:
        """Has owners that were started anew put their shards (name -> worker) under their optimizers, at version 0, and
        are about to be given another state. Called while paused.

        Arguments:
            rebuilt: all shards were built anew.
        """
        for group in self._all():
            shards = [shard for shards in group.owners.values() for shard in shards]
            group.owners = _by_worker({shard: workers[shard] for shard in shards})
            for worker, own in sorted(group.owners.items()):
                incarnation = self._process.peers.incarnation(worker)
                if rebuilt or group.adopted.get(worker) != incarnation:
                    self._ask_to_adopt(group, worker, own)
                    group.adopted[worker] = incarnation

    def _ask_to_adopt(self, group: _Group, worker: str, shards: list[str]) -> None:
        out: list[Any] = []
        adopt = pb.Adopt(
            optimizer=group.name,
            shards=shards,
            kind=group.kind,
            settings=encode_value(dict(group.settings), out, "settings"),
            term=self._term,
        )
        self._process.ask(worker, adopt, out)

    def remove(self, names: Collection[str]) -> None:
        """Forgets optimizers, and the journal's records of their steps, once the updates under way have ended."""
        with self.paused():
            with self._lock:
                self._groups = {name: group for name, group in self._groups.items() if name not in names}
            if self._journal is not None:
                with self._deciding:
                    self._journal.compact(lambda decision: decision.optimizer not in names)

    def of(self, shard: str) -> str:
        """The optimizer a shard is under; empty when under none."""
        return next((g.name for g in self._all() if any(shard in shards for shards in g.owners.values())), "")

    def require(self, name: str) -> None:
        """Raises ConfigError when there is no optimizer of that name."""
        self._named(name)

    def _named(self, name: str) -> _Group:
        with self._lock:
            group = self._groups.get(name)
        if group is None:
            raise ConfigError(f"there is no optimizer {name!r}; there are {', '.join(self.versions()) or 'none'}")
        return group

    def versions(self) -> dict[str, int]:
        """The version of every optimizer."""
        return {group.name: group.version for group in self._all()}

    def latest_version(self) -> int:
        return max(self.versions().values(), default=0)

    def owners(self) -> dict[str, dict[str, list[str]]]:
        """Optimizer -> worker -> its shards."""
        return {group.name: dict(group.owners) for group in self._all()}

    def restored(self, versions: Mapping[str, int]) -> None:
        """All owners have been given the state of these versions. Called while paused.

        Steps that are taken again from there are compared with what the journal says of them.
        """
        if self._journal is not None:
            with self._deciding:
                self._journal.note_return(versions)
        for group in self._all():
            taken = [d for d in self._journal or () if d.optimizer == group.name and d.outcome == "commit"]
            group.before = {d.version: d for d in taken if d.version > versions[group.name]}
            if group.copies is not None:
                group.copies.forget()
        self.stand(versions)

    def stand(self, versions: Mapping[str, int]) -> None:
        """All owners are at these versions: steps go on from there. Called while paused."""
        for group in self._all():
            group.version = versions[group.name]
            group.last = None
            self._copy(group)

    def rewritten(self, shard: str) -> None:
        """A shard was given another state; copies of it follow. Called while paused."""
        for group in self._all():
            worker = next((worker for worker, shards in group.owners.items() if shard in shards), "")
            if worker and group.copies is not None:
                group.copies.forget(worker)
                self._copy(group)

    def forget(self, versions: Mapping[str, int]) -> None:
        """Drops the journal's records of steps up to these versions, since checkpoints have made them history."""
        if self._journal is not None:
            with self._deciding:
                self._journal.compact(lambda decision: decision.version > versions.get(decision.optimizer, 0))

    def _copy(self, group: _Group) -> None:
        if group.copies is not None:
            group.copies.make(self._process, self._term, group.owners)

    # ---- one at a time -----------------------------------------------------------------------------------------------

    @contextmanager
    def paused(self) -> Iterator[None]:
        """No update happens in the block, and none that is asked for from now on comes before it."""
        with self._line.turn("all optimizers"):
            yield

    def _all(self) -> list[_Group]:
        with self._lock:
            return list(self._groups.values())

    # ---- one update --------------------------------------------------------------------------------------------------

    def step(
        self, name: str, version: int, contexts: list[str], clip_norm: float = 0.0, learning_rate: float | None = None
    ) -> Decision:
        """The update of optimizer `name` to `version`. When it returns a commit, the update has happened; when it
        raises, nobody has changed. Asked again for the last one, with the same contexts, it answers as before.

        Arguments:
            contexts: whose gradients are summed, in this order.
            clip_norm: largest norm of all gradients together; 0: any.
            learning_rate: of this step; None: the optimizer's own.

        Raises:
            ConfigError: there is no such optimizer.
            ContextError: another version is due, or a context has been released.
            WorkerLost: an owner is gone.
            JournalError: the decision could not be written.
        """
        with self._line.turn(f"optimizer {name}", name):
            group = self._named(name)
            if group.last is not None and version == group.version == group.last.version and contexts == group.contexts:
                return group.last
            if version != group.version + 1:
                taken = ": somebody else has taken that step" if version <= group.version else ""
                raise ContextError(f"optimizer {name!r} is at version {group.version}; asked for {version}{taken}")
            rate = group.learning_rate if learning_rate is None else learning_rate
            decision = self._decide(group, version, contexts, clip_norm, rate)
            group.last, group.contexts = decision, contexts
            if decision.outcome == "commit":
                group.version = version
                self._commit(group, decision)
            else:
                self._withdraw(group, version)
            return decision

    def _decide(self, group: _Group, version: int, contexts: list[str], clip_norm: float, rate: float) -> Decision:
        """Prepares on all owners and decides. Whatever goes wrong before the record is on disk means abort."""
        prepare = pb.Prepare(
            term=self._term,
            optimizer=group.name,
            version=version,
            contexts=contexts,
            twins=_twins(group.owners),
            buddies=group.buddies(),
        )
        owners = {worker: self._process.peers.incarnation(worker) for worker in sorted(group.owners)}
        try:
            norms = [norm for reply in self._prepare(group, prepare) for norm in reply.norms]
            total = math.sqrt(math.fsum(n.norm * n.norm for n in sorted(norms, key=lambda n: n.parameter)))
            finite = all(n.finite for n in norms) and math.isfinite(total)
            decision = Decision(
                optimizer=group.name,
                version=version,
                outcome="commit" if finite else "abort",
                clip_factor=clip_norm / total if finite and 0 < clip_norm < total else 1.0,
                learning_rate=rate,
                norm=total,
                owners=owners,
                term=self._term,
            )
            if self._journal is not None:
                with self._deciding:
                    decision = self._journal.append(decision)
        except BaseException:
            if self._journal is None or not self._journal.closed:
                self._withdraw(group, version)
            raise
        self._compare(decision, group.before.pop(version, None))
        return decision

    def _compare(self, now: Decision, before: Decision | None) -> None:
        """A step that was taken again should have come out as it did before."""
        if before is None or _result(now) == _result(before):
            return
        _log.warning(
            "step %d of optimizer %r, taken again from a checkpoint, came out differently: %s with gradient norm %r, "
            "clip factor %r and learning rate %r; before, %s with %r, %r and %r. Something in the programs or the data "
            "depends on more than the job's seed, or the job was changed",
            now.version,
            now.optimizer,
            now.outcome,
            now.norm,
            now.clip_factor,
            now.learning_rate,
            before.outcome,
            before.norm,
            before.clip_factor,
            before.learning_rate,
        )

    def _commit(self, group: _Group, decision: Decision) -> None:
        """Tells the owners what was decided, and waits until they have applied it. One that has not is gone, or about
        to end: what it held is lost with it, and the decision stands."""
        commit = commit_order(self._term, decision)
        answers = {worker: self._process.request(worker, commit) for worker in group.holders()}
        self._wait([settled(answer) for answer in answers.values()], "Commit")
        for worker, answer in answers.items():
            if answer.error is not None:
                _log.error(
                    "step %d of optimizer %r is decided, but %s did not take it: %s",
                    decision.version,
                    group.name,
                    worker,
                    answer.error,
                )

    def _withdraw(self, group: _Group, version: int) -> None:
        """Tells the owners that nothing happens. One that cannot be told is gone, and its pinned state with it."""
        withdraw = pb.Withdraw(term=self._term, optimizer=group.name, version=version)
        for worker in group.holders():
            self._process.request(worker, withdraw)

    def _prepare(self, group: _Group, prepare: pb.Prepare) -> list[pb.Prepared]:
        """The answers of all owners, asked at once. Raises the error that came first once all have answered; those who
        wait for the part of an owner that failed are told, as they would wait for ever."""
        failed: Promise[None] = Promise()

        def look(answer: Promise[Any]) -> None:
            if answer.error is not None and failed.set_error(answer.error):
                self._withdraw(group, prepare.version)

        answers = [self._process.request(worker, prepare) for worker in sorted(group.owners)]
        for answer in answers:
            answer.add_callback(look)
        self._wait([settled(answer) for answer in answers], "Prepare")
        if failed.error is not None:
            failed.result()
        return [answer.result()[0] for answer in answers]

    def _wait(self, promises: list[Promise[Any]], what: str) -> None:
        ready: Promise[None] = Promise()
        all_done(promises, ready)
        self._process.executor.wait(ready, what=f"the owners' answers to {what}")
        ready.result()

    def __repr__(self) -> str:
        return f"<Updates of term {self._term}: {self.versions() or 'no optimizers'}>"


def _by_worker(workers: Mapping[str, str]) -> dict[str, list[str]]:
    owners: dict[str, list[str]] = {}
    for shard, worker in workers.items():
        owners.setdefault(worker, []).append(shard)
    return owners


def _twins(owners: Mapping[str, list[str]]) -> list[pb.Twins]:
    """Which shards of these owners are twins."""
    workers = {shard: worker for worker, shards in owners.items() for shard in shards}
    return [pb.Twins(shards=family, workers=[workers[it] for it in family]) for family in families(workers)]


def _result(decision: Decision) -> tuple[str, ...]:
    """What a decision says of the step; as text, where even NaN equals itself."""
    return decision.outcome, repr(decision.norm), repr(decision.clip_factor), repr(decision.learning_rate)
