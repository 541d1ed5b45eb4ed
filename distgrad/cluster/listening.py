"""What a process that supervises others hears, one thing after the other; and the silence of those that ought to say
that they live (`Parent.beat`)."""

from __future__ import annotations

import queue
import signal
import time

from distgrad.errors import DistgradError
from distgrad.worker.children import Child, Event

from .signals import Interrupted

Message = signal.Signals | DistgradError | tuple[Child, Event]

# Seconds that a wait may take longer than asked for; more means that this process was stopped.
_OWN_PAUSE = 0.5


class Listening:
    """Messages of children, of signals that ask this process to end, and errors found elsewhere.

    A child that has said once that it lives, and says nothing any more, was stopped or is stuck: it is ended.

    Arguments:
        silence: seconds of it that are borne.
    """

    def __init__(self, silence: float) -> None:
        self._silence = silence
        self._said: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._alive: dict[Child, float] = {}  # those that say that they live -> when they did last

    def put(self, message: Message) -> None:
        """From any thread."""
        self._said.put(message)

    def next(self) -> tuple[Child, Event]:
        """What a child says next.

        Raises:
            Interrupted: a signal came instead.
            DistgradError: the error that came instead.
        """
        while True:
            message = self._wait()
            if isinstance(message, signal.Signals):
                raise Interrupted(message.name)
            if isinstance(message, DistgradError):
                raise message
            if message is not None:
                self._note(*message)
                return message

    def _wait(self) -> Message | None:
        """The next message; None after having ended a child for its silence."""
        began = time.monotonic()
        child, last = min(self._alive.items(), key=lambda item: item[1], default=(None, 0.0))
        patience = None if child is None else max(last + self._silence - began, 0.0)
        try:
            return self._said.get(timeout=patience)
        except queue.Empty:
            assert child is not None
            assert patience is not None
        now = time.monotonic()
        if now > began + patience + _OWN_PAUSE:  # this process itself was stopped
            self._alive = dict.fromkeys(self._alive, now)
        else:
            del self._alive[child]
            child.end(f"silent for {self._silence:g} s")
        return None

    def _note(self, child: Child, event: Event) -> None:
        if event["event"] == "exited":
            self._alive.pop(child, None)
        elif event["event"] == "alive" or child in self._alive:
            self._alive[child] = time.monotonic()
