"""Signals that ask this process to end, as entries of a queue: nothing is interrupted halfway."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """The user, or the system, asked this process to end. Not an error, so it is no DistgradError."""


@contextmanager
def ending_signals(tell: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Within the block Ctrl-C, SIGTERM and the loss of the terminal call `tell`, which must be quick and safe to
    interrupt anything with, as `SimpleQueue.put` is. For the main thread."""
    before = {number: signal.signal(number, lambda received, _: tell(signal.Signals(received))) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
