"""The protocol of a distributed backward pass, as a pure state machine: what one process of many must decide.

Here is decided; nothing is computed, sent or waited for. `backward.py` feeds events in and carries the actions out, so
every interleaving can be enumerated in a test without a socket.

1. **Start.** The initiator engages the processes that own roots. Every message that may be a process's first carries
   the whole table of roots. At first contact a process lists its sends and roots and counts, over that snapshot, the
   contributions each of its nodes will get. A node runs when it has them all; when a value that came from elsewhere is
   complete, its gradient (or None) goes to the process it came from. What nothing here leads to can get no gradient:
   it gives None at once.

2. **Rest** is detected by Dijkstra and Scholten's rule ("Termination detection for diffusing computations", 1980). The
   message that engages an idle process makes its sender the *parent*. Any other is acknowledged when the process has no
   work of its own. The parent is acknowledged when, besides, all that the process sent has been acknowledged; then the
   process is idle again, and may be engaged anew. When the initiator is idle, all are: the pass is at rest.
   Acknowledgements carry up the change in the number of waiting nodes and the names of the processes met. Nobody
   waiting: the pass is done. The usual graph ends here.

3. **Mark.** Nodes wait though all is at rest: some counted send will never deliver, because its value was unused,
   detached, or its call failed. All that will ever flow must come from a node that already holds a contribution, since
   the roots have run. So from each of these the mark follows inputs and edges: a send it reaches will deliver, any
   other never will. The mark is a diffusing computation like the first, and ends the same way.

4. **Resume.** Every process met drops the sends the mark did not reach (they deliver None). The counts are now exact: a
   node waits only for marked contributions; the marked part is finite and acyclic, so its first waiting node in graph
   order has all of them. The pass goes on to its second rest, where nobody waits. If somebody does, that is a bug here
   and is reported as one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Phase(Enum):
    """What a pass is doing, as its initiator knows."""

    RUN = "run"
    MARK = "mark"
    RESUME = "resume"
    DONE = "done"
    FAILED = "failed"


# ---- actions ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Tell `to` that `count` of its messages are completed, with what changed since this process last told anyone."""

    to: str
    count: int
    waiting: int = 0
    met: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BeginMark:
    """Tell every process of `met` to mark from its nodes that hold a contribution."""

    met: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BeginResume:
    """Tell every process of `met` to drop what was not marked and go on."""

    met: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Complete:
    """The pass has ended everywhere; `met` are the processes that took part."""

    met: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Broken:
    """An invariant does not hold: nodes wait at the second rest."""

    waiting: int


Action = Acknowledge | BeginMark | BeginResume | Complete | Broken


class Participant:
    """The state of one process in one pass.

    `me` and `initiator` are names of processes. `waiting` is told by the shell whenever the process may have become
    idle: how many nodes of this process still miss a contribution.

    Events: `engaged` (a message that must be acknowledged came), `sent` (such messages were sent), `acknowledged`,
    `worked` (the process may have no more work). All but `engaged` and `sent` return the actions to carry out.
    """

    def __init__(self, me: str, initiator: str) -> None:
        self.me = me
        self.initiator = initiator
        self.phase = Phase.RUN
        # The sender of the message that engaged this process. The initiator's own is itself.
        self.parent: str | None = me if me == initiator else None
        # Messages of ours not yet acknowledged.
        self.deficit = 0
        # Messages of others, besides the engaging one, that we have to acknowledge once we have no work.
        self.owed: dict[str, int] = {}
        # Not yet told upwards: processes met, and the change in waiting nodes here and below.
        self.met: set[str] = {me}
        self.waiting_below = 0
        self.waiting_told = 0

    @property
    def idle(self) -> bool:
        """Whether this process owes nobody anything."""
        return self.parent is None and not self.owed

    # ---- events ------------------------------------------------------------------------------------------------------

    def engaged(self, sender: str) -> None:
        """A Start, Gradients, Mark or Resume came from `sender`."""
        if self.parent is None:
            self.parent = sender
        else:
            self.owed[sender] = self.owed.get(sender, 0) + 1

    def sent(self, count: int = 1) -> None:
        """That many engaging messages were sent."""
        self.deficit += count

    def acknowledged(self, count: int, waiting: int, met: Iterable[str]) -> None:
        """`count` of our messages are completed."""
        self.deficit -= count
        if self.deficit < 0:
            raise ValueError(f"{self.me} got {-self.deficit} acknowledgements more than it sent messages")
        self.waiting_below += waiting
        self.met.update(met)

    def worked(self, waiting: int) -> list[Action]:
        """There is no work here now, and `waiting` nodes wait: acknowledge what can be, and at rest decide how to go
        on."""
        actions: list[Action] = [Acknowledge(to, count) for to, count in self.owed.items()]
        self.owed.clear()
        if self.parent is None or self.deficit:
            return actions
        change = waiting - self.waiting_told + self.waiting_below
        if self.me == self.initiator:
            self.waiting_below = change
            self.waiting_told = waiting
            return [*actions, *self._rest(change)]
        actions.append(Acknowledge(self.parent, 1, change, tuple(sorted(self.met))))
        self.parent = None
        self.waiting_below = 0
        self.waiting_told = waiting
        self.met = set()
        return actions

    # ---- the initiator -----------------------------------------------------------------------------------------------

    def _rest(self, waiting: int) -> list[Action]:
        """All processes are idle and `waiting` nodes wait in all of them together."""
        met = tuple(sorted(self.met))
        if self.phase in (Phase.DONE, Phase.FAILED):
            return []
        if self.phase is Phase.MARK:
            self.phase = Phase.RESUME
            return [BeginResume(met)]
        if waiting == 0:
            self.phase = Phase.DONE
            return [Complete(met)]
        if self.phase is Phase.RUN:
            self.phase = Phase.MARK
            return [BeginMark(met)]
        self.phase = Phase.FAILED
        return [Broken(waiting)]

    def fail(self) -> None:
        """The pass was aborted: nothing is decided any more."""
        self.phase = Phase.FAILED

    def statistics(self) -> dict[str, Any]:
        return {
            "phase": self.phase.value,
            "parent": self.parent,
            "deficit": self.deficit,
            "owed": sum(self.owed.values()),
        }

    def __repr__(self) -> str:
        return f"<Participant {self.me} of {self.initiator}'s pass: {self.phase.value}, deficit {self.deficit}>"
