"""How long a program waits for other processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Real

from distgrad.errors import ConfigError


def seconds_of(timeout: float | None) -> float | None:
    """A timeout that a program gave.

    Raises:
        ConfigError: it is neither None nor a number.
    """
    if timeout is None:
        return None
    if not isinstance(timeout, Real) or timeout != timeout:
        raise ConfigError(f"a timeout is a number of seconds, or None to wait for ever, not {timeout!r}")
    return float(timeout)


class Deadline:
    """Seconds that are left of a timeout; None for ever.

    Raises:
        ConfigError: the timeout is neither None nor a number.
    """

    __slots__ = ("_end", "timeout")

    def __init__(self, timeout: float | None) -> None:
        self.timeout = seconds_of(timeout)
        self._end = None if self.timeout is None else time.monotonic() + self.timeout

    @property
    def left(self) -> float | None:
        return None if self._end is None else max(0.0, self._end - time.monotonic())


_FOR_EVER = Deadline(None)
# Of the block that the code here and now is in.
_current: ContextVar[Deadline] = ContextVar("distgrad_deadline", default=_FOR_EVER)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Nothing in the block waits for other processes when that many seconds have passed; then it raises Timeout.

        with dg.deadline(10):
            with cluster.context() as ctx:
                ctx.backward(b.loss(a.forward(x), y))
                optimizer.step(ctx)

    It bounds the waits of this thread (or asyncio task), also those that take no `timeout=` themselves. A pass that
    is given up is aborted everywhere; a call runs on; a context that ends in the block is released, if not awaited.
    Of deadlines within one another the first to pass counts. Coroutines also have `asyncio.timeout`.
    """
    mine, outer = Deadline(seconds), _current.get().left
    token = _current.set(mine if outer is None or seconds < outer else _current.get())
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Deadline:
    """The deadline of the innermost block."""
    return _current.get()
