"""Methods that are coroutines: while they await, others compute.

The tasks that a method makes run side by side, so what they do is numbered apart, each in a branch of its own named by
when the method made it: which of them is faster must not be seen.
"""

from __future__ import annotations

import asyncio
import contextvars
import selectors
from collections.abc import Coroutine
from typing import Any

from distgrad.autograd import tape
from distgrad.autograd.tape import Frame

from .executor import Executor


def run(coroutine: Coroutine[Any, Any, Any], executor: Executor) -> Any:
    """What the coroutine returns, run in an event loop of its own on the calling thread, which gives up the compute
    slot while the loop has nothing to do."""

    def new_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.SelectorEventLoop(_Parking(executor))
        loop.set_task_factory(_branched)
        return loop

    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(coroutine)


def _branched(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    """A task in a branch of its own. One that is made with a context, as that of the method is, stays in its frame."""
    if options.get("context") is None:
        options["context"] = contextvars.copy_context()
        options["context"].run(_enter_branch)
    return asyncio.Task(coroutine, loop=loop, **options)


def _enter_branch() -> None:
    mode = tape.mode.get()
    number = mode.frame.next_call()
    tape.mode.set(mode.but(frame=Frame((*mode.frame.path, -1 - number))))


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
