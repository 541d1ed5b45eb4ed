"""Who may touch something next: whoever has asked first."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from distgrad.graph.executor import Executor
from distgrad.graph.waiting import Promise


@dataclass(frozen=True, eq=False)
class _Place:
    """A place in line.

    Attributes:
        names: what it is for; none: everything.
        first: kept when nobody before it is there for any of that.
    """

    names: frozenset[str]
    first: Promise[None] = field(default_factory=Promise)

    def is_in_the_way_of(self, later: _Place) -> bool:
        return not self.names or not later.names or not self.names.isdisjoint(later.names)


class Line:
    """Those who each want some things for themselves, in the order of their coming. With a lock it would be a matter of
    chance who of those that wait is next.

    Arguments:
        executor: of those who wait.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._places: list[_Place] = []
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, what: str, *names: str) -> Iterator[None]:
        """In the block, nobody else has a turn for any of these names; without names, nobody at all. The place in line
        is taken at once, for all of them, so that no two wait for each other; whoever is first in it keeps the compute
        slot.

        Arguments:
            what: is waited for, in messages.

        Raises:
            Cancelled, ResourceExhausted: as `Executor.wait` does.
        """
        place = _Place(frozenset(names))
        with self._lock:
            self._places.append(place)
        self._look()
        try:
            self._executor.wait(place.first, what=what)
            yield
        finally:
            with self._lock:
                self._places.remove(place)
            self._look()

    def _look(self) -> None:
        """Tells those whom nobody is in the way of any more."""
        with self._lock:
            first = [
                place
                for number, place in enumerate(self._places)
                if not any(before.is_in_the_way_of(place) for before in self._places[:number])
            ]
        for place in first:
            place.first.set_result(None)

    def __repr__(self) -> str:
        wanted = ["+".join(sorted(place.names)) or "everything" for place in self._places]
        return f"<Line: {', '.join(wanted) or 'nobody'}>"
