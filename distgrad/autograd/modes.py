"""Switches of the current mode, each a context manager and a decorator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from contextlib import ContextDecorator
from functools import partial, wraps
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from . import tape

F = TypeVar("F", bound=Callable[..., Any])


class Switch(ContextDecorator):
    """Changes some fields of the mode for a block or, as a decorator, for every call of a function: also of a coroutine
    function, and while a generator's own code runs.

    A switch has no state of its own, so one may be entered again within itself, and by several threads at once: what
    it changed is kept in the mode.
    """

    changes: ClassVar[dict[str, Any]]

    def __call__(self, f: F) -> F:
        if inspect.iscoroutinefunction(f):

            @wraps(f)
            async def switched(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return await f(*args, **kwargs)

            return switched  # type: ignore[return-value]
        if inspect.isgeneratorfunction(f):
            return wraps(f)(lambda *args, **kwargs: self._generator(f(*args, **kwargs)))  # type: ignore[return-value]
        if inspect.isasyncgenfunction(f):
            raise TypeError(f"dg.{type(self).__name__} cannot decorate the asynchronous generator {f.__name__}")
        return super().__call__(f)

    def _generator(self, inner: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """The same generator, which leaves the mode of who uses it alone between its steps."""
        step: Callable[[], Any] = partial(next, inner)
        while True:
            try:
                with self:
                    value = step()
            except StopIteration as end:
                return end.value
            try:
                step = partial(inner.send, (yield value))
            except GeneratorExit:
                with self:
                    inner.close()
                raise
            except BaseException as error:
                step = partial(inner.throw, error)

    def __enter__(self) -> None:
        outer = tape.mode.get()
        inner = outer.but(**self.changes)
        inner.outer = outer
        tape.mode.set(inner)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        outer = tape.mode.get().outer
        if outer is not None:
            tape.mode.set(outer)


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
