"""Signals that ask this process to end, as entries of a queue: nothing is interrupted halfway."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """The user, or the system, asked this process to end. Not an error, so it is no DistgradError."""


@contextmanager
def ending_signals(tell: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Within the block Ctrl-C, SIGTERM and the loss of the terminal call `tell`, from a thread of its own. What whoever
    started us wants ignored (nohup) stays ignored.

    For the main thread. Python runs handlers there, between two instructions; one that comes just before the thread
    waits for something would be heard when the wait is over. So the number of the signal goes through a socket.
    """
    before = {number: signal.getsignal(number) for number in ENDING}
    heeded = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    ours, wakeup = socket.socketpair()
    wakeup.setblocking(False)

    def listen() -> None:
        while number := ours.recv(1):
            if number[0] in heeded:
                tell(signal.Signals(number[0]))

    thread = threading.Thread(target=listen, name="signals", daemon=True)
    with ours, wakeup:
        thread.start()
        former = signal.set_wakeup_fd(wakeup.fileno())
        try:
            for number in heeded:
                signal.signal(number, _noted)
            yield
        finally:
            for number in heeded:
                signal.signal(number, before[number])
            signal.set_wakeup_fd(former)
            wakeup.shutdown(socket.SHUT_WR)
            thread.join()


def _noted(number: int, frame: object) -> None:
    """The socket has told of it."""
