"""Linearisations that processes of the pool keep for clients, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .failures import Code, Refused
from .functions import Description
from .requests import Point
from .settings import ServiceSettings
from .tasks import Client


@dataclass(eq=False, slots=True)
class Session:
    """One of them.

    Attributes:
        client: whose it is.
        process: of the pool that has it.
        point: where the function was linearised; of its arguments only those to differentiate by.
        until: when its lease ends, unless it is used before.
        busy: requests under way, during which it does not end.
    """

    name: str
    client: Client
    process: Any
    function: Description
    point: Point
    until: float
    busy: int = 0


class Sessions:
    """All of them, bounded and leased.

    Arguments:
        forget: called with a session that has ended and whose process is to be told.
        now: a clock, in seconds.
    """

    def __init__(self, settings: ServiceSettings, forget: Callable[[Session], None], now: Callable[[], float]) -> None:
        self._settings = settings
        self._forget = forget
        self._now = now
        self._sessions: dict[str, Session] = {}
        self._opening: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def reserve(self, client: Client) -> None:
        """Room for one that is being made. Raises Refused when there is none; `opened` or `abandoned` follows."""
        held = sum(session.client.name == client.name for session in self._sessions.values())
        held += self._opening.get(client.name, 0)
        total = len(self._sessions) + sum(self._opening.values())
        for found, limit, whose in (
            (held, self._settings.max_sessions_per_client, "for one client"),
            (total, self._settings.max_sessions, "for all clients"),
        ):
            if found >= limit:
                raise Refused(
                    Code.RESOURCE_EXHAUSTED,
                    f"{found} sessions are open, and {limit} are allowed {whose}: close one with CloseSession",
                    retry_after=self._settings.lease,
                )
        self._opening[client.name] = self._opening.get(client.name, 0) + 1

    def abandoned(self, client: Client) -> None:
        """What room was reserved for did not come to be."""
        self._opening[client.name] -= 1
        if not self._opening[client.name]:
            del self._opening[client.name]

    def opened(self, name: str, client: Client, process: Any, function: Description, point: Point) -> None:
        """It did."""
        self.abandoned(client)
        until = self._now() + self._settings.lease
        self._sessions[name] = Session(name, client, process, function, point, until)

    def find(self, name: str, client: Client) -> Session:
        """Raises Refused when there is none, or it is another's, which is not told apart."""
        session = self._sessions.get(name)
        if session is None or session.client.name != client.name:
            raise Refused(Code.NOT_FOUND, "there is no such session: it was closed, or its lease has ended")
        return session

    def use(self, name: str, busy: int) -> None:
        """A request of a session begins (1) or has ended (-1)."""
        session = self._sessions.get(name)
        if session is not None:
            session.busy += busy
            session.until = self._now() + self._settings.lease

    def close(self, session: Session) -> None:
        del self._sessions[session.name]
        self._forget(session)

    def sweep(self) -> None:
        """Ends those whose lease is over, or whose client is no longer let in."""
        now = self._now()
        idle = [session for session in self._sessions.values() if not session.busy]
        for session in idle:
            if session.until < now or session.client.dismissal() is not None:
                self.close(session)

    def lost(self, process: Any) -> None:
        """A process is gone, and its sessions with it."""
        self._sessions = {name: session for name, session in self._sessions.items() if session.process is not process}
