"""What changes among the members, told to all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from distgrad.wire import pb


class News:
    """Tells all members of every change, in one order. Changes that come while others are being told are told together:
    when a thousand processes join at once, each hears of some dozens of lots and not of a thousand joins.

    No thread of its own: who has something to tell tells it, unless another thread is at it, which then tells that as
    well.

    Arguments:
        lock: of the table of members.
        recipients: names of those who are to be told now; called with the lock held.
        send: sends a message to one of them, without waiting.
    """

    def __init__(
        self,
        lock: threading.RLock,
        recipients: Callable[[], Iterable[str]],
        send: Callable[[str, pb.MemberEvents], None],
    ) -> None:
        self._lock = lock
        self._recipients = recipients
        self._send = send
        self._changes: list[pb.Member] = []  # that nobody has been told of; guarded by the lock
        self._telling = threading.Lock()

    def add(self, change: pb.Member) -> None:
        """Notes a change, to be told by the next `tell`. Called with the lock held."""
        self._changes.append(change)

    def tell(self) -> None:
        """Tells what has been noted, or leaves it to the thread that tells already. Not with the lock held."""
        while self._changes and self._telling.acquire(blocking=False):
            try:
                self._tell()
            finally:
                self._telling.release()

    def settle(self) -> None:
        """Returns when all that was noted before has been told: what is sent to members from now on comes after it."""
        with self._telling:
            self._tell()
        self.tell()

    def _tell(self) -> None:
        with self._lock:
            changes, self._changes = self._changes, []
            recipients = list(self._recipients()) if changes else []
        message = pb.MemberEvents(members=changes)
        for name in recipients:
            self._send(name, message)
