"""A receiver that remembers what happened and lets a test wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from distgrad.transport import Endpoint, Identity
from distgrad.wire import pb

# Far above anything a slow machine needs: only a test that fails waits so long.
DEADLINE = 30.0


def wait_until(condition: Callable[[], Any]) -> None:
    """For what no callback tells: asks again and again, up to the deadline."""
    for _ in range(int(DEADLINE / 0.01)):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("never came")


def end_stale_handshakes(endpoint: Endpoint) -> None:
    """What an endpoint does when the handshakes under way have taken far too long."""
    endpoint._pulse._tick(time.monotonic() + 1000, own_pause=0.0, beats=False)


def lose_by_silence(endpoint: Endpoint, link: Any) -> None:
    """Waits until an endpoint has noticed at a heartbeat that a link, so it seems, has heard nothing for very long."""
    wait_until(lambda: link.excuse(-1000.0) or endpoint.receiver.losses)


class Recorder:
    """Answers a Fetch with its own arrays and a ListMembers with an error; never answers a Statistics."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.arrays: list[list[np.ndarray]] = []
        self.links: list[Any] = []
        self.losses: list[tuple[Identity, str]] = []
        self.unanswered: list[Callable[..., None]] = []
        self._changed = threading.Condition()

    def wait_for(self, condition: Callable[[], Any]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, DEADLINE), f"never came: {self.messages[-3:]} {self.losses}"

    def received(self, count: int) -> list[Any]:
        """Waits for `count` messages."""
        self.wait_for(lambda: len(self.messages) >= count)
        return self.messages

    def loss(self, count: int = 1) -> tuple[Identity, str]:
        """Waits for the loss of a peer; returns the last one."""
        self.wait_for(lambda: len(self.losses) >= count)
        return self.losses[-1]

    # ---- Receiver

    def receive(self, link: Any, body: Any, arrays: list[np.ndarray]) -> None:
        with self._changed:
            self.messages.append(body)
            self.arrays.append(arrays)
            self._changed.notify_all()

    def answer(self, link: Any, body: Any, arrays: list[np.ndarray], reply: Callable[..., None]) -> None:
        if isinstance(body, pb.Fetch):
            reply(pb.Fetched(), arrays)
        elif isinstance(body, pb.ListMembers):
            reply(ValueError("there are no members"))
        elif isinstance(body, pb.Place):
            raise LookupError("the handler itself failed")
        else:
            with self._changed:
                self.unanswered.append(reply)
                self._changed.notify_all()

    def linked(self, link: Any) -> None:
        with self._changed:
            self.links.append(link)
            self._changed.notify_all()

    def lost(self, peer: Identity, reason: str) -> None:
        with self._changed:
            self.losses.append((peer, reason))
            self._changed.notify_all()

    def progress(self) -> tuple[int, int]:
        return len(self.messages), 1
