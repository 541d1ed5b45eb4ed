"""Protocols that are wrong in one place each, to see that the searches of `model.py` and `open_graphs.py` notice."""

from __future__ import annotations

from typing import Any

from distgrad.graph.part import Part
from distgrad.graph.protocol import Acknowledgement, Participant

WORKED, ACKNOWLEDGED, RESTS_WITH = Participant.worked, Participant.acknowledged, Participant.rests_with
LEAVE, MARK, GIVE_UP = Part._leave, Part._mark, Part._give_up


def acknowledges_its_parent_too_early(self: Participant, waiting: int) -> Any:
    deficit, self.deficit = self.deficit, 0 if self.me != self.initiator else self.deficit
    try:
        return WORKED(self, waiting)
    finally:
        self.deficit = deficit


def forgets_who_was_met(self: Participant, message: Acknowledgement) -> None:
    ACKNOWLEDGED(self, Acknowledgement(message.count, message.waiting, (), message.finds))


def rests_though_others_have_not_answered(self: Participant, peer: str, waiting: int) -> Any:
    deficit, self.deficit = self.deficit, 0
    try:
        return RESTS_WITH(self, peer, waiting)
    finally:
        self.deficit = deficit


def tells_none_over_every_edge(self: Part, recv: Any, gradient: Any) -> None:
    marked, self._marked = self._marked, None
    LEAVE(self, recv, gradient)
    self._marked = marked


def marks_from_the_roots_down_only_here(self: Part, reached: Any, begin: bool) -> Any:
    return [] if not begin else MARK(self, reached, begin)


def drops_all_that_wait(self: Part, edges: Any) -> None:
    GIVE_UP(self, list(self._sends))


# Class, method, what takes its place.
MUTANTS: list[tuple[Any, str, Any]] = [
    (Participant, "worked", acknowledges_its_parent_too_early),
    (Participant, "acknowledged", forgets_who_was_met),
    (Participant, "rests_with", rests_though_others_have_not_answered),
    (Part, "_leave", tells_none_over_every_edge),
    (Part, "_mark", marks_from_the_roots_down_only_here),
    (Part, "_give_up", drops_all_that_wait),
]


def named(value: Any) -> str:
    """What a parametrised test is called after."""
    return value.__name__ if callable(value) else str(value)
