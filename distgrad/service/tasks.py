"""Requests on their way through the server, and the queue they wait in."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from distgrad.wire import pb

from .failures import Refused
from .requests import Request


def _always_welcome() -> None:
    """Where there are no tokens, none is taken away."""


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks. Limits and fairness are by name.

    Attributes:
        name: of the token or certificate, else where it connects from.
        role: "client", "worker" or "admin".
        peer: where it connects from.
        require_welcome: raises Refused when it may ask no longer. It is known by what it showed when its line was
            opened, and lines stay open.
    """

    name: str
    role: str
    peer: str
    require_welcome: Callable[[], None] = field(default=_always_welcome, repr=False, compare=False)

    def dismissal(self) -> Refused | None:
        """Why it may ask no longer; None when it may."""
        try:
            self.require_welcome()
        except Refused as refused:
            return refused
        return None


class OpenLine(Protocol):
    """What many requests of one client come over.

    Attributes:
        busy: there are some under way.
    """

    client: Client

    @property
    def busy(self) -> bool: ...

    def dismiss(self, refused: Refused) -> None:
        """Ends it, for that reason."""


class Payload(Protocol):
    """The arrays of a request."""

    size: int

    @property
    def inline(self) -> bytes | None:
        """The bytes, when they travel in the message."""

    @property
    def descriptor(self) -> int:
        """Of the memory they are in, otherwise."""

    def release(self) -> None:
        """The request has its response, and nobody looks at the memory any more."""


class Reply(NamedTuple):
    """A response as a process of the pool has sent it.

    Attributes:
        body: its name on a stream.
        encoded: the message on a stream behind its id.
        where: its payload is: INLINE, LENT, OWN.
        descriptor: of the payload's own memory, to be closed by whoever gets the reply; -1 when there is none.
    """

    body: str
    encoded: bytes
    where: int
    descriptor: int


Outcome = Reply | pb.Failure


@dataclass(eq=False, slots=True)
class Task:
    """A request that has been checked.

    Attributes:
        number: its id within the server.
        batch: equal for requests that can be computed as one; None for one that is computed alone.
        process: of the pool that must run it, as its session is there; None: any.
        done: called once with what became of it.
        attempts: how often it was started.
        given_up: the failure it ends with, once it was given up.
    """

    number: int
    client: Client
    function: str
    request: Request
    payload: Payload
    batch: Any
    process: Any
    session: str
    done: Callable[[Outcome], None]
    began: float
    attempts: int = 0
    given_up: pb.Failure | None = None
    deadline: asyncio.TimerHandle | None = None
    running: bool = False


@dataclass(eq=False, slots=True)
class _Line:
    """What one client waits for: requests that any process may run, and those that one must."""

    free: deque[Task] = field(default_factory=deque)
    bound: dict[Any, deque[Task]] = field(default_factory=dict)

    def candidates(self, process: Any) -> Iterator[deque[Task]]:
        if self.free:
            yield self.free
        if self.bound.get(process):
            yield self.bound[process]

    def empty(self) -> bool:
        return not self.free and not any(self.bound.values())


class FairQueue:
    """Requests that wait. Clients take turns, one request each; a client's own are served in order."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._turns: deque[str] = deque()
        self.waiting = 0

    def put(self, task: Task, first: bool = False) -> None:
        """Adds a request, behind its client's others or, when it has to be run again, before them."""
        name = task.client.name
        line = self._lines.get(name)
        if line is None:
            line = self._lines[name] = _Line()
            self._turns.append(name)
        tasks = line.free if task.process is None else line.bound.setdefault(task.process, deque())
        if first:
            tasks.appendleft(task)
        else:
            tasks.append(task)
        self.waiting += 1

    def take(self, process: Any) -> Task | None:
        """What a process runs next; None when nothing waits for it."""
        for _ in range(len(self._turns)):
            name = self._turns.popleft()
            self._turns.append(name)
            line = self._lines[name]
            tasks = min(line.candidates(process), key=lambda tasks: tasks[0].number, default=None)
            if tasks is not None:
                return self._taken(name, line, tasks)
        return None

    def take_alike(self, batch: Any, limit: int) -> list[Task]:
        """More requests that can be computed with one just taken: those in front of their lines."""
        found: list[Task] = []
        progress = True
        while progress and len(found) < limit:
            progress = False
            for name in list(self._turns):
                line = self._lines[name]
                if len(found) < limit and line.free and line.free[0].batch == batch:
                    found.append(self._taken(name, line, line.free))
                    progress = True
        return found

    def remove(self, task: Task) -> None:
        """A request that waits is given up."""
        name = task.client.name
        line = self._lines[name]
        tasks = line.free if task.process is None else line.bound[task.process]
        tasks.remove(task)
        self._left(name, line)

    def bound_to(self, process: Any) -> list[Task]:
        """Takes out what only this process could have run."""
        found = [task for line in self._lines.values() for task in line.bound.get(process, ())]
        for task in found:
            self.remove(task)
        for line in self._lines.values():
            line.bound.pop(process, None)
        return found

    def all(self) -> list[Task]:
        """Everything that waits."""
        return [task for line in self._lines.values() for tasks in (line.free, *line.bound.values()) for task in tasks]

    def _taken(self, name: str, line: _Line, tasks: deque[Task]) -> Task:
        task = tasks.popleft()
        self._left(name, line)
        return task

    def _left(self, name: str, line: _Line) -> None:
        self.waiting -= 1
        if line.empty():
            del self._lines[name]
            self._turns.remove(name)
