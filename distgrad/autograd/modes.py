"""Switches of the current mode, each a context manager and a decorator."""

from __future__ import annotations

from contextlib import ContextDecorator
from contextvars import Token
from types import TracebackType
from typing import Any, ClassVar

from . import tape


class Switch(ContextDecorator):
    """Changes some fields of the mode for a block or, as a decorator, for every call of a function."""

    changes: ClassVar[dict[str, Any]]

    def __init__(self) -> None:
        self._token: Token[tape.Mode] | None = None

    def _recreate_cm(self) -> Switch:
        # Each call of a decorated function enters a switch of its own, so such functions may recurse and run in
        # threads.
        return type(self)()

    def __enter__(self) -> None:
        self._token = tape.mode.set(tape.mode.get().but(**self.changes))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._token is not None
        tape.mode.reset(self._token)


class no_grad(Switch):  # noqa: N801  (used like a keyword)
    """Operations in the block are not recorded and carry no tangents: their results are constants to every derivative.

    >>> import distgrad as dg
    >>> x = dg.tensor(2.0, requires_grad=True)
    >>> with dg.no_grad():
    ...     y = x * x
    >>> y.requires_grad
    False
    """

    changes: ClassVar[dict[str, Any]] = {"record": False}


class enable_grad(Switch):  # noqa: N801  (used like a keyword)
    """Operations in the block are recorded again, inside a `no_grad`."""

    changes: ClassVar[dict[str, Any]] = {"record": True}


class detect_anomaly(Switch):  # noqa: N801  (used like a keyword)
    """Finds where a gradient goes wrong: a backward pass in the block raises at the first nan or infinity, and its
    error names the operation and, if that was recorded in the block too, the user's line. Slow; for debugging.
    """

    changes: ClassVar[dict[str, Any]] = {"anomaly": True}
