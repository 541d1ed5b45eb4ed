"""Who belongs to the cluster. No network and no clock here: the server reports what happened and when.

A process is a member from its Join until it leaves or is lost, and both are final: an incarnation that was declared
lost never comes back, however alive it is, because others have acted on its loss. The process may be started again,
under the same name and with a new incarnation.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from distgrad.errors import ConfigError, PermissionDenied

from .names import natural_order

Role = Literal["worker", "client", "coordinator"]
State = Literal["alive", "lost", "left"]

_PREFIX: dict[Role, str] = {"worker": "w", "client": "client", "coordinator": "coordinator"}
# Seconds for which a name that was chosen for somebody is not given to others.
_PROMISED = 30.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")  # what a host name may be, and underscores


@dataclass(frozen=True)
class Member:
    """One process.

    Attributes:
        name: unique among the living.
        incarnation: drawn by the process at its start.
        address: where it listens; empty when it does not.
        programs: files it can load shards from.
        host, log: its machine, and the file there that its standard error goes to; empty when it does not tell.
        reason: why it is no longer alive.
        since: when its state began, or it was heard of last, in seconds of the caller's clock.
    """

    name: str
    incarnation: int
    role: Role
    address: str = ""
    pid: int = 0
    programs: tuple[str, ...] = ()
    host: str = ""
    log: str = ""
    state: State = "alive"
    reason: str = ""
    since: float = 0.0

    @property
    def alive(self) -> bool:
        return self.state == "alive"


class Membership:
    """The table of members.

    Every change returns the member as it is now, or None when there was nothing to change: what is returned is the
    event to tell the others.
    """

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._promised: dict[str, float] = {}  # name -> when it was promised

    def choose_name(self, now: float) -> str:
        """The next free name for a worker, w0, w1, ...; kept from others that ask, until it has had time to join."""
        self._promised = {name: since for name, since in self._promised.items() if since >= now - _PROMISED}
        name = self._free_name("worker")
        self._promised[name] = now
        return name

    def join(self, newcomer: Member, now: float) -> Member | None:
        """Admits `newcomer`.

        Returns None when this incarnation is a member already: its Join was repeated.

        Raises:
            ConfigError: the name is taken by a living process, or no name at all.
            PermissionDenied: this incarnation was lost or has left before.
        """
        for member in self._members.values():
            if member.incarnation == newcomer.incarnation:
                _check_alive(member)
                return None
        name = newcomer.name
        require_name(name, newcomer.role)
        holder = self._members.get(name)
        if holder is not None and holder.alive:
            raise ConfigError(
                f"the name {name} is taken by a living {holder.role}, process {holder.pid} {holder.address}".rstrip()
                + f"; end that one, or choose another name: {self._free_name(newcomer.role)}"
            )
        self._promised.pop(name, None)
        return self._set(replace(newcomer, state="alive", reason="", since=now))

    def lose(self, name: str, incarnation: int, reason: str, now: float) -> Member | None:
        """Declares that incarnation lost, heard of last at `now`. News of an earlier incarnation changes nothing."""
        return self._end(name, incarnation, "lost", reason, now)

    def leave(self, name: str, incarnation: int, reason: str, now: float) -> Member | None:
        """Notes that the process said goodbye."""
        return self._end(name, incarnation, "left", reason, now)

    def give_up(self, name: str, reason: str) -> Member | None:
        """Notes why nobody comes in the place of one that was lost."""
        member = self._members.get(name)
        if member is None or member.alive:
            return None
        return self._set(replace(member, reason=f"{member.reason}; {reason}"))

    def forget(self, before: float) -> list[str]:
        """Drops who ended before that time, so that short-lived clients do not pile up; returns their names."""
        old = [name for name, member in self._members.items() if not member.alive and member.since < before]
        for name in old:
            del self._members[name]
        return old

    def get(self, name: str) -> Member | None:
        return self._members.get(name)

    def living(self) -> list[Member]:
        """Who is alive: the workers, then all others."""
        alive = [member for member in self._members.values() if member.alive]
        return sorted(alive, key=lambda member: member.role != "worker")

    def workers(self) -> list[Member]:
        """The living workers, w2 before w10."""
        return [member for member in self if member.alive and member.role == "worker"]

    def __iter__(self) -> Iterator[Member]:
        return iter(sorted(self._members.values(), key=lambda member: natural_order(member.name)))

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        return f"<Membership {', '.join(f'{member.name} {member.state}' for member in self) or 'empty'}>"

    def _free_name(self, role: Role) -> str:
        names = (f"{_PREFIX[role]}{number}" for number in itertools.count())
        return next(name for name in names if name not in self._promised and not self._is_alive(name))

    def _is_alive(self, name: str) -> bool:
        member = self._members.get(name)
        return member is not None and member.alive

    def _end(self, name: str, incarnation: int, state: State, reason: str, now: float) -> Member | None:
        member = self._members.get(name)
        if member is None or member.incarnation != incarnation or not member.alive:
            return None
        return self._set(replace(member, state=state, reason=reason, since=now))

    def _set(self, member: Member) -> Member:
        self._members[member.name] = member
        return member


def _check_alive(member: Member) -> None:
    if not member.alive:
        raise PermissionDenied(
            f"{member.name}, process {member.pid}, was declared {member.state} ({member.reason}) and others have acted "
            f"on it; start the process again to join as a new one"
        )


def require_name(name: str, role: str) -> None:
    """Raises ConfigError for what cannot name a process."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot name a {role}: up to 63 letters, digits, '-', '_' and '.' are expected, "
            f"the first a letter or a digit"
        )
