"""The protocol of a distributed backward pass, as a pure state machine: what one process of many must decide.

Here is decided; nothing is computed, sent or waited for. `part.py` adds the engine that computes, and is as pure;
`backward.py` adds threads and the wire. So every interleaving can be enumerated in a test without a socket.

1. **Start.** The initiator engages the processes that own roots. Every message that may be a process's first carries
   the whole table of roots. At first contact a process lists its sends and roots and counts, over that snapshot, the
   contributions each of its nodes will get. A node runs when it has them all; when a value that came from elsewhere is
   complete, its gradient (or None) goes to the process it came from. What nothing here leads to can get no gradient:
   it gives None at once.

2. **Rest** is detected by Dijkstra and Scholten's rule ("Termination detection for diffusing computations", 1980). The
   message that engages an idle process makes its sender the *parent*. Any other is acknowledged when the process has no
   work of its own, or with the next gradients that go there. The parent is acknowledged when there is no work and all
   that the process sent has been acknowledged; then the process is idle again, and may be engaged anew. When the
   initiator is idle, all are: the pass is at rest.
   Acknowledgements carry up the change in the number of waiting nodes and the names of the processes met. Nobody
   waiting: the pass is done. The usual graph ends here.
   Often the last that a process sends are gradients for its parent. Then they acknowledge the parent themselves, and
   need no acknowledgement: the parent is not idle before it has worked on them, for they came with what it waits for.

3. **Mark.** Nodes wait though all is at rest: some counted send will never deliver, because its value was unused,
   detached, or its call failed. All that will ever flow must come from a node that already holds a contribution, since
   the roots have run. So from each of these the mark follows inputs and edges: a send it reaches will deliver, any
   other never will. The mark is a diffusing computation like the first, and ends the same way; nothing runs meanwhile,
   not even in processes that the mark is the first to reach.

4. **Resume.** Every process met drops the sends the mark did not reach (they deliver None); so nobody need be told None
   over an edge that was not marked, and no process is met that was not met before. The counts are now exact: a node
   waits only for marked contributions; the marked part is finite and acyclic, so its first waiting node in graph order
   has all of them. The pass goes on to its second rest, where nobody waits. If somebody does, that is a bug here and is
   reported as one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from .edges import EdgeId


class Phase(Enum):
    """What a pass is doing, as its initiator knows."""

    RUN = "run"
    MARK = "mark"
    RESUME = "resume"
    DONE = "done"


# ---- messages between processes --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """Gives the receiver's roots their seeds, by position. The initiator gives itself those of the others too, to send
    on."""

    seeds: dict[int, Any]
    others: dict[str, dict[int, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mark:
    """Go on marking from sends of the receiver that the mark reached; `begin` from its own live nodes."""

    reached: list[EdgeId]
    begin: bool = False


@dataclass(frozen=True, slots=True)
class Resume:
    """The mark is complete: drop what it did not reach, and go on."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """`count` of the receiver's messages are completed, with what changed at the sender and below it since it last told
    anyone: the number of waiting nodes, the processes met, and those of them that have found gradients."""

    count: int
    waiting: int = 0
    met: tuple[str, ...] = ()
    finds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gradients:
    """Gradients, or None, for sends of the receiver, and what they acknowledge. `last`: with them the sender is idle;
    the receiver was its parent, and need not acknowledge them."""

    gradients: list[tuple[EdgeId, Any]]
    acknowledged: Acknowledgement | None = None
    last: bool = False


Message = Start | Gradients | Mark | Resume | Acknowledgement
Outgoing = tuple[str, Message]


# ---- decisions of the initiator --------------------------------------------------------------------------------------


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
    """The pass has ended everywhere; `met` are the processes that took part, `finds` those that found gradients."""

    met: tuple[str, ...]
    finds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Broken:
    """An invariant does not hold: nodes wait at the second rest."""

    waiting: int


Decision = BeginMark | BeginResume | Complete | Broken


class Participant:
    """The state of one process in one pass: whom it owes what, and, at the initiator, how far the pass is.

    `me` and `initiator` are names of processes.

    Events: `engaged` (a message came that must be acknowledged), `sent` (such messages were sent), `acknowledged`, and
    `worked` (there is no work here now), which says what to send and how to go on.
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
        # Not yet told upwards: processes met, those that found gradients, the change in waiting nodes here and below.
        self.met: set[str] = {me}
        self.finds: set[str] = set()
        self.waiting_below = 0
        self.waiting_told = 0

    # ---- events ------------------------------------------------------------------------------------------------------

    def engaged(self, sender: str) -> None:
        """A Start, Gradients, Mark or Resume came from `sender`."""
        if self.parent is None:
            self.parent = sender
        else:
            self.owed[sender] = self.owed.get(sender, 0) + 1

    def sent(self, count: int) -> None:
        """That many engaging messages were sent."""
        self.deficit += count

    def acknowledged(self, message: Acknowledgement) -> None:
        """Messages of ours are completed."""
        self.deficit -= message.count
        if self.deficit < 0:
            raise ValueError(f"{self.me} got {-self.deficit} acknowledgements more than it sent messages")
        self.waiting_below += message.waiting
        self.met.update(message.met)
        self.finds.update(message.finds)

    def found(self) -> None:
        """This process has found a gradient."""
        self.finds.add(self.me)

    def acknowledges(self, peer: str) -> Acknowledgement | None:
        """Gradients leave for `peer`: what they acknowledge. The process stays engaged, so it will still answer for
        what they have led to."""
        count = self.owed.pop(peer, 0)
        return Acknowledgement(count) if count else None

    def rests_with(self, peer: str, waiting: int) -> Acknowledgement | None:
        """The only gradients that are left to send leave for `peer`, and there will be no work here: what they
        acknowledge if they are the last. None when somebody else is owed an answer, or has one to give."""
        others = self.deficit or any(to != peer for to in self.owed)
        if peer != self.parent or peer == self.me or others:
            return None
        return self._tell(1 + self.owed.pop(peer, 0), waiting)

    def worked(self, waiting: int) -> tuple[list[tuple[str, Acknowledgement]], Decision | None]:
        """There is no work here now, and `waiting` nodes wait: acknowledges what can be. At rest, decides."""
        due = [(to, Acknowledgement(count)) for to, count in self.owed.items()]
        self.owed.clear()
        if self.parent is None or self.deficit:
            return due, None
        if self.me == self.initiator:
            self.waiting_below += waiting - self.waiting_told
            self.waiting_told = waiting
            return due, self._rest(self.waiting_below)
        parent = self.parent
        due.append((parent, self._tell(1, waiting)))
        return due, None

    def _tell(self, count: int, waiting: int) -> Acknowledgement:
        """The parent is acknowledged, and told all that it has not been told; this process is idle."""
        change = waiting - self.waiting_told + self.waiting_below
        told = Acknowledgement(count, change, tuple(sorted(self.met)), tuple(sorted(self.finds)))
        self.parent = None
        self.waiting_told, self.waiting_below = waiting, 0
        self.met, self.finds = set(), set()
        return told

    def _rest(self, waiting: int) -> Decision | None:
        """All processes are idle, and `waiting` nodes wait in all of them together. How does the pass go on?"""
        met = tuple(sorted(self.met))
        if self.phase is Phase.MARK:
            self.phase = Phase.RESUME
            return BeginResume(met)
        if self.phase is Phase.DONE:
            return None
        if waiting and self.phase is Phase.RUN:
            self.phase = Phase.MARK
            return BeginMark(met)
        self.phase = Phase.DONE
        return Broken(waiting) if waiting else Complete(met, tuple(sorted(self.finds)))

    def statistics(self) -> dict[str, Any]:
        """What operators see of a pass that does not end."""
        return {
            "phase": self.phase.value,
            "parent": self.parent,
            "deficit": self.deficit,
            "owed": sum(self.owed.values()),
        }

    def __repr__(self) -> str:
        return f"<Participant {self.me} of {self.initiator}'s pass: {self.phase.value}, deficit {self.deficit}>"
