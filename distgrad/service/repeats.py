"""Messages like earlier ones, recognised by their bytes.

Most messages differ from one before them in their id, their deadline and the contents of their arrays, and in nothing
else: what was found out about the earlier one holds for them too.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from distgrad.wire import pb
from distgrad.wire.exchanges import Exchange, heading

K = TypeVar("K")

# Kept at a time, by their lengths; and of messages of one length.
MAX_LENGTHS, MAX_ALIKE = 256, 4
# A longer heading is not worth keeping.
MAX_HEADING = 2048


class Recognised(NamedTuple, Generic[K]):
    """What is known of a message, and where its payload begins."""

    known: K
    start: int


class Repeats(Generic[K]):
    """What is known of messages. For one thread.

    Messages are given without id and deadline, as `split_stream` leaves them: a heading that says all but the contents
    of arrays, and the payload unless it is elsewhere.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, bool], list[tuple[bytes, K]]] = {}

    def find(self, rest: bytes, beside: bool) -> Recognised[K] | None:
        """What is known of a message like this one; None for nothing.

        Arguments:
            beside: its payload is elsewhere.
        """
        for known_heading, known in self._known.get((len(rest), beside), ()):
            if rest.startswith(known_heading):
                return Recognised(known, len(known_heading))
        return None

    def keep(self, rest: bytes, beside: bool, exchange: Exchange[pb.StreamRequest], known: K) -> None:
        """From now on messages like this one are recognised, if its fields are in the order in which we write them.

        Arguments:
            exchange: the message, taken apart.
        """
        found = heading(pb.StreamRequest, exchange.body, exchange.message, exchange.size)
        complete = len(rest) == len(found) + (0 if beside else exchange.size)
        if len(found) > MAX_HEADING or not complete or not rest.startswith(found):
            return
        if len(self._known) >= MAX_LENGTHS:
            self._known.clear()
        alike = self._known.setdefault((len(rest), beside), [])
        alike.insert(0, (found, known))
        del alike[MAX_ALIKE:]
