"""Methods that are coroutines: while they await, others compute."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any

from .executor import Executor


def run(coroutine: Coroutine[Any, Any, Any], executor: Executor) -> Any:
    """What the coroutine returns, run in an event loop of its own on the calling thread, which gives up the compute
    slot while the loop has nothing to do."""
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(_Parking(executor))) as runner:
        return runner.run(coroutine)


class _Parking(selectors.DefaultSelector):
    """Waits for events as ever, but without the compute slot."""

    def __init__(self, executor: Executor) -> None:
        super().__init__()
        self._executor = executor

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return super().select(timeout)
        with self._executor.parked("what a coroutine awaits"):
            return super().select(timeout)
