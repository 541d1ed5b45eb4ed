"""What a schedule says of the work that is issued here and now: when its turn is, in every process it comes to.

It travels: a call takes its urgency to the callee, which gives it to the calls it makes in turn; a backward pass takes
the urgency of its gradients to every process it meets. A schedule orders what is ready and nothing else, so it can
change no bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from distgrad.errors import WireError

from .waiting import Priority, Urgency


class Urgencies(NamedTuple):
    """Of the three kinds of work.

    Attributes:
        call: of calls.
        gradient: of gradients that other processes wait for.
        weight: of a process's gradients of its own variables, which nobody waits for.
    """

    call: Urgency = Urgency(Priority.CALL)
    gradient: Urgency = Urgency(Priority.GRADIENT)
    weight: Urgency = Urgency(Priority.FILLER)


USUAL = Urgencies()

# Of what is issued by the code that runs here and now.
urgencies: ContextVar[Urgencies] = ContextVar("distgrad_urgencies", default=USUAL)


@contextmanager
def urgent(of: Urgencies) -> Iterator[None]:
    """What is issued in the block has these urgencies."""
    token = urgencies.set(of)
    try:
        yield
    finally:
        urgencies.reset(token)


def urgency_to_wire(urgency: Urgency, usual: Urgency) -> list[int]:
    """A priority and an order; nothing for what is usual."""
    return [] if urgency == usual else [urgency.priority, *urgency.order]


def urgency_from_wire(numbers: Sequence[int], usual: Urgency) -> Urgency:
    """The urgency that these numbers mean.

    Raises:
        WireError: there is no such priority, or it is that of work which has begun.
    """
    if not numbers:
        return usual
    if not Priority.RESUMED < numbers[0] <= Priority.FILLER:
        raise WireError(f"an urgency begins with a priority from 1 to {Priority.FILLER:d}, not with {numbers[0]}")
    return Urgency(Priority(numbers[0]), tuple(numbers[1:]))
