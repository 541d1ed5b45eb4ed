"""One request to a server and how to read its answer; methods that ask one, for threads and for coroutines."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from distgrad.wire.dtypes import Array

R = TypeVar("R")
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Question(Generic[R]):
    """A request to a server.

    Attributes:
        function: whose product it asks for, for messages.
        kind: name of the request in pb.StreamRequest: "vjp".
        body: the request, without its arrays.
        arrays: what the request's values refer to.
        read: turns the response and its arrays into what the caller wants.
        timeout: seconds until the answer must be there, all attempts together; None: as long as it takes.
    """

    function: str
    kind: str
    body: Any
    arrays: list[Array]
    read: Callable[[Any, list[Array]], R]
    timeout: float | None = None


class Asker(Protocol):
    """Gets questions answered."""

    def ask(self, question: Question[R]) -> R:
        """Waits for the answer."""

    async def ask_async(self, question: Question[R]) -> R:
        """The same, for coroutines."""


def asked(
    question: Callable[P, Question[R]],
) -> tuple[Callable[P, R], Callable[P, Coroutine[Any, Any, R]]]:
    """Two methods from one that makes a question: the first waits for the answer, the second is for coroutines.

    The object they belong to has an attribute `asker`, an `Asker`; and, for questions with respect to arguments, an
    attribute `signature`, a `Signature`: what it must ask first has the question's deadline, and keeps no event loop.
    """
    by_arguments = "wrt" in inspect.signature(question).parameters

    def first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[], None] | None:
        """What must be asked before the question can be made."""
        if not by_arguments or not args[0].signature.missing(kwargs.get("wrt", 0)):
            return None
        return functools.partial(args[0].signature.learn, kwargs.get("timeout"))

    @functools.wraps(question)
    def ask(*args: P.args, **kwargs: P.kwargs) -> R:
        if learn := first(args, kwargs):
            learn()
        return _asker(args).ask(question(*args, **kwargs))

    @functools.wraps(question)
    async def ask_async(*args: P.args, **kwargs: P.kwargs) -> R:
        if learn := first(args, kwargs):
            await asyncio.to_thread(learn)
        return await _asker(args).ask_async(question(*args, **kwargs))

    for method, suffix in ((ask, ""), (ask_async, "_async")):
        method.__name__ = question.__name__.strip("_") + suffix
        method.__qualname__ = f"{question.__qualname__.rpartition('.')[0]}.{method.__name__}"
    return ask, ask_async


def _asker(args: tuple[Any, ...]) -> Asker:
    asker: Asker = args[0].asker
    return asker
