"""Who belongs to the cluster. No network and no clock here: the server reports what happened and when.

A process is a member from its Join until it leaves or is lost, and both are final: an incarnation that was declared
lost never comes back, however alive it is, because others have acted on its loss. The process may be started again,
under the same name and with a new incarnation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from distgrad.errors import ConfigError, PermissionDenied

from .names import natural_order

Role = Literal["worker", "client", "coordinator"]
State = Literal["alive", "lost", "left"]

_PREFIX: dict[Role, str] = {"worker": "w", "client": "client", "coordinator": "coordinator"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")  # what a host name may be, and underscores


@dataclass(frozen=True)
class Member:
    """One process.

    Attributes:
        name: unique among the living.
        incarnation: drawn by the process at its start.
        address: where it listens; empty when it does not.
        programs: files it can load shards from.
        reason: why it is no longer alive.
        since: when its state began, in seconds of the caller's clock.
    """

    name: str
    incarnation: int
    role: Role
    address: str = ""
    pid: int = 0
    programs: tuple[str, ...] = ()
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

    def join(self, newcomer: Member, now: float) -> Member | None:
        """Admits `newcomer`. An empty name gets the next free one: w0, w1, ... for workers, client0, ... for clients.

        Returns None when this incarnation is a member already: its Join was repeated.

        Raises:
            ConfigError: the name is taken by a living process, or no name at all.
            PermissionDenied: this incarnation was lost or has left before.
        """
        for member in self._members.values():
            if member.incarnation == newcomer.incarnation:
                _check_alive(member)
                return None
        name = newcomer.name or self._free_name(_PREFIX[newcomer.role])
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{name!r} cannot name a {newcomer.role}: up to 63 letters, digits, '-', '_' and '.' are expected, "
                f"the first a letter or a digit"
            )
        holder = self._members.get(name)
        if holder is not None and holder.alive:
            raise ConfigError(
                f"the name {name} is taken by a living {holder.role}, process {holder.pid} {holder.address}".rstrip()
                + f"; end that one, wish for another name, or for none to be {self._free_name(_PREFIX[newcomer.role])}"
            )
        return self._set(replace(newcomer, name=name, state="alive", reason="", since=now))

    def lose(self, name: str, incarnation: int, reason: str, now: float) -> Member | None:
        """Declares that incarnation lost. News of an earlier incarnation changes nothing."""
        return self._end(name, incarnation, "lost", reason, now)

    def leave(self, name: str, incarnation: int, reason: str, now: float) -> Member | None:
        """Notes that the process said goodbye."""
        return self._end(name, incarnation, "left", reason, now)

    def forget(self, before: float) -> None:
        """Drops who ended before that time, so that short-lived clients do not pile up."""
        self._members = {
            name: member for name, member in self._members.items() if member.alive or member.since >= before
        }

    def get(self, name: str) -> Member | None:
        return self._members.get(name)

    def workers(self) -> list[Member]:
        """The living workers, w2 before w10."""
        return [member for member in self if member.alive and member.role == "worker"]

    def __iter__(self) -> Iterator[Member]:
        return iter(sorted(self._members.values(), key=lambda member: natural_order(member.name)))

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        return f"<Membership {', '.join(f'{member.name} {member.state}' for member in self) or 'empty'}>"

    def _free_name(self, prefix: str) -> str:
        number = 0
        while (member := self._members.get(f"{prefix}{number}")) and member.alive:
            number += 1
        return f"{prefix}{number}"

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
