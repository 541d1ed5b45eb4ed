"""Exactly-once, in-order delivery over lanes that break. Pure bookkeeping: no I/O, no clock, no lock.

Each direction numbers its frames from 1. The receiver takes only the next number, drops what it has seen, and says how
far it got, on whatever it sends next. The sender keeps a frame until then. After a reconnect each side tells the other
how far it got, and the other sends the rest again. (The window of TCP, above connections instead of packets.)

Invariant: the frames kept are those after the last acknowledged number, without gaps.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from distgrad.errors import WireError

T = TypeVar("T")

# So many frames without arrays (nothing else is unbounded) kept for a peer that does not answer mean it is beyond help.
MAX_KEPT = 1_000_000


class Session(Generic[T]):
    """The state of one side. `T` is a frame as its sender keeps it.

    Attributes:
        sent, received, acknowledged: the highest numbers of frames that were.
        behind: how many of those kept are yet to be sent again, after a reconnect.
        duplicates, sent_again: counts of frames.
    """

    def __init__(self, acknowledge_after: int) -> None:
        """
        Arguments:
            acknowledge_after: bytes received since the last acknowledgement that make one urgent.
        """
        self.received = 0
        self.sent = 0
        self.acknowledged = 0
        self.duplicates = 0
        self.sent_again = 0
        self.behind = 0
        self._acknowledge_after = acknowledge_after
        self._kept: deque[tuple[T, int]] = deque()
        self._told = 0
        self._bytes_since_told = 0

    # ---- sending

    def keep(self, frame: T, weight: int) -> None:
        """A frame was given number `sent + 1` and leaves now. `weight` comes back when it is acknowledged."""
        self.sent += 1
        self._kept.append((frame, weight))

    @property
    def kept(self) -> int:
        """Frames not yet acknowledged."""
        return len(self._kept)

    def take_again(self) -> T | None:
        """The next frame to send again after a reconnect; these go before new ones."""
        if not self.behind:
            return None
        frame = self._kept[-self.behind][0]
        self.behind -= 1
        self.sent_again += 1
        return frame

    def acknowledge(self, number: int) -> int:
        """The peer has all up to `number`. Returns the weight let go. Raises WireError for a number never sent."""
        if number > self.sent:
            raise WireError(f"frame {number} was acknowledged, only {self.sent} were sent")
        weight = 0
        while self.acknowledged < number:
            weight += self._kept.popleft()[1]
            self.acknowledged += 1
        self.behind = min(self.behind, len(self._kept))
        return weight

    def resume(self, received: int) -> int:
        """A new lane, over which the peer says it has all up to `received`: what follows is sent again.

        What it said before still holds: over the lane before, more may have arrived after it began this handshake.
        Returns the weight let go. Raises WireError for a number never sent.
        """
        weight = self.acknowledge(max(received, self.acknowledged))
        self.behind = len(self._kept)
        return weight

    # ---- receiving

    def accept(self, number: int, size: int) -> bool:
        """True when frame `number`, of `size` bytes, is the next, False for a duplicate. Raises WireError on a gap."""
        if number <= self.received:
            self.duplicates += 1
            return False
        if number != self.received + 1:
            raise WireError(f"frame {number} arrived after frame {self.received}")
        self.received = number
        self._bytes_since_told += size
        return True

    @property
    def owes_acknowledgement(self) -> bool:
        return self.received > self._told

    @property
    def acknowledgement_is_urgent(self) -> bool:
        return self._bytes_since_told >= self._acknowledge_after

    def tell(self) -> int:
        """How far this side got, to be written on a frame that leaves now."""
        self._told = self.received
        self._bytes_since_told = 0
        return self.received
