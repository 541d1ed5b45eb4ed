"""Several contexts whose gradients are added up in one."""

from __future__ import annotations

import threading
from collections.abc import Callable

from .share import Share


class Gathering:
    """Contexts whose gradients are added to those of the first, in their order, as their passes end. So a process keeps
    one sum, however many they are, and it has the same bits as if all were kept and added at the end.

    Each of them makes one pass. When one fails, those after it keep theirs to themselves.

    Attributes:
        into: of the first.
    """

    def __init__(self, into: Share) -> None:
        self.into = into
        self._lock = threading.Lock()
        self._turn = 0
        self._waiting: dict[int, Callable[[], None]] = {}

    def take_turn(self, number: int, add: Callable[[], None]) -> None:
        """The pass of the context of that number has ended: `add` is called once those of all before it were."""
        with self._lock:
            self._waiting[number] = add
            while (turn := self._waiting.pop(self._turn, None)) is not None:
                self._turn += 1
                turn()
