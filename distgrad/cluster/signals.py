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
    interrupt anything with, as `SimpleQueue.put` is. What whoever started us wants ignored (nohup) stays ignored.

    For the main thread.
    """
    before = {number: signal.getsignal(number) for number in ENDING}
    heeded = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    try:
        for number in heeded:
            signal.signal(number, lambda received, _: tell(signal.Signals(received)))
        yield
    finally:
        for number in heeded:
            signal.signal(number, before[number])
