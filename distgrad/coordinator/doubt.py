"""Updates that were under way when a coordinator or an owner was lost: what became of them.

An owner that has prepared and heard no decision is *in doubt*, and stays so: it must not guess. The journal knows. What
it decided is carried through, everything else is withdrawn; then all owners that are left agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from distgrad.graph.process import Process
from distgrad.graph.waiting import Promise, all_done, settled
from distgrad.wire import pb

from .journal import Decision, Journal


@dataclass(frozen=True)
class Held:
    """What a worker holds of an optimizer.

    Attributes:
        worker: that holds it.
        owner: whose parameters they are: the worker's own, or those of the worker it is the buddy of.
        shards: of the owner, that are at that version.
        prepared: the version that is prepared and not decided; 0 when none is.
    """

    worker: str
    optimizer: str
    owner: str
    version: int
    shards: Sequence[str]
    prepared: int = 0


class Doubts:
    """Asks the workers of a cluster where their updates stand, and settles what is in doubt.

    Arguments:
        process: the coordinator's.
        term: of this coordinator.
        journal: of decisions; None: nothing was decided that is not known to all.
    """

    def __init__(self, process: Process, term: int, journal: Journal | None) -> None:
        self._process = process
        self._term = term
        self._journal = journal

    def settle(self, optimizers: Iterable[str]) -> list[Held]:
        """What the living workers hold of these optimizers, when nothing of it is in doubt any more.

        No step of them may be under way.
        """
        wanted = set(optimizers)
        held = self._ask(wanted)
        doubtful = sorted({(it.worker, it.optimizer, it.prepared) for it in held if it.prepared})
        for worker, optimizer, version in doubtful:
            decision = self._journal.find(optimizer, version) if self._journal is not None else None
            if decision is not None and decision.outcome == "commit":
                self._process.ask(worker, commit_order(self._term, decision))
            else:
                self._process.ask(worker, pb.Withdraw(term=self._term, optimizer=optimizer, version=version))
        return self._ask(wanted) if doubtful else held

    def _ask(self, wanted: set[str]) -> list[Held]:
        answers = {worker: self._process.request(worker, pb.ReadStanding()) for worker in living_workers(self._process)}
        ready: Promise[None] = Promise()
        all_done([settled(answer) for answer in answers.values()], ready)
        self._process.executor.wait(ready, what="what workers hold")
        return [
            Held(worker, it.optimizer, it.owner, it.version, it.shards, it.prepared)
            for worker, answer in answers.items()
            if answer.error is None
            for it in answer.result()[0].held
            if it.optimizer in wanted
        ]


def commit_order(term: int, decision: Decision) -> pb.Commit:
    """What owners are told of a decision."""
    return pb.Commit(
        term=term,
        optimizer=decision.optimizer,
        version=decision.version,
        clip_factor=decision.clip_factor,
        learning_rate=decision.learning_rate,
    )


def living_workers(process: Process) -> list[str]:
    """The workers that a process can send messages to."""
    return sorted(peer.name for peer in process.peers.known() if peer.role == "worker")
