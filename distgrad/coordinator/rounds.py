"""Steps that several trainers take from one version, each from gradients of its own.

A round is one step of each trainer. All compute their gradients from the same parameters, side by side; when the last
has asked for its step, the steps are taken one after the other, in the order of the trainers and not of their asking.
So a trainer's gradients are at most as many steps old as there are other trainers, and every run comes to the same
bits (bounded staleness as in Ho et al. 2013, "More effective distributed ML via a stale synchronous parallel parameter
server", with the bound kept exactly).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from distgrad.errors import ContextError
from distgrad.graph.process import Process
from distgrad.graph.waiting import Promise
from distgrad.wire import pb

from .journal import Decision


@dataclass
class _Round:
    """The steps asked for, by turn, and what was decided of them, once all are."""

    asked: dict[int, pb.UpdateStep] = field(default_factory=dict)
    decided: Promise[list[Decision]] = field(default_factory=Promise)


class Rounds:
    """Collects the steps of each round.

    Arguments:
        take: takes one step.
    """

    def __init__(self, process: Process, take: Callable[[pb.UpdateStep], Decision]) -> None:
        self._process = process
        self._take = take
        self._rounds: dict[tuple[str, int], _Round] = {}
        self._lock = threading.Lock()  # guards the table and the rounds in it

    def step(self, request: pb.UpdateStep) -> pb.Updated:
        """Takes the step when its turn has come; returns when its round has ended.

        Raises:
            ContextError: somebody else has this turn, or it is not due.
            WorkerLost, JournalError: as this or another step of the round failed.
        """
        key = (request.optimizer, request.version - request.turn)
        turns = max(request.turns, 1)
        with self._lock:
            collected = self._rounds.setdefault(key, _Round())
            if request.turn in collected.asked or request.turn >= turns:
                raise ContextError(f"turn {request.turn} of {turns} was asked for twice, or there is no such turn")
            collected.asked[request.turn] = request
            complete = len(collected.asked) == turns
            if complete:
                del self._rounds[key]
        if complete:
            self._run(collected)
        self._process.executor.wait(collected.decided, what="the steps of the other trainers")
        decisions = collected.decided.result()
        own = decisions[min(request.turn, len(decisions) - 1)]
        return pb.Updated(
            version=decisions[-1].version,
            norm=own.norm,
            applied=own.outcome == "commit" and request.turn < len(decisions),
            losses=[collected.asked[turn].loss for turn in range(turns)],
        )

    def abandon(self, optimizers: Collection[str], reason: str) -> None:
        """Gives up the rounds of these optimizers that are not complete: whoever waits in one is told why, and all its
        turns can be asked for again."""
        with self._lock:
            given_up = [self._rounds.pop(key) for key in list(self._rounds) if key[0] in optimizers]
        for collected in given_up:
            collected.decided.set_error(ContextError(f"the round was given up: {reason}"))

    def _run(self, collected: _Round) -> None:
        """Takes the steps in turn, up to the first that is given up."""
        decisions: list[Decision] = []
        try:
            for turn in sorted(collected.asked):
                decisions.append(self._take(collected.asked[turn]))
                if decisions[-1].outcome != "commit":
                    break
        except BaseException as error:
            collected.decided.set_error(error)
        else:
            collected.decided.set_result(decisions)

    def __repr__(self) -> str:
        waiting = {f"{optimizer}@{version}": len(found.asked) for (optimizer, version), found in self._rounds.items()}
        return f"<Rounds: {waiting or 'none waits'}>"
