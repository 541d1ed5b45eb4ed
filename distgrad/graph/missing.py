"""Calls that have not come, although others have asked for their values: are they still on their way?

A Ref may overtake the call that makes its value, and whoever got it asks the call's owner, who waits for the call. When
the link that the call was on is lost for good, its issuer knows that the call has failed; the owner, and those who ask
it, do not. So the owner asks the issuer, who answers when the call has ended there: if it has not come by then, it
never will.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from distgrad.autograd.tape import Path
from distgrad.errors import WorkerLost
from distgrad.wire import RefName, pb, ref_to_pb

from .peers import OPEN_TIMEOUT
from .share import Share

if TYPE_CHECKING:
    from .process import Process

# Seconds after which a call is no longer taken for one that its value's Ref has overtaken.
OVERTAKEN = 1.0
# Seconds within which an issuer that cannot be reached from here makes its own link, or has failed to.
LINKED = 2 * OPEN_TIMEOUT


class MissingCalls:
    """The calls that a process waits for because their values were asked for."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._lock = threading.Lock()
        self._calls: dict[tuple[str, Path], _Missing] = {}

    def expect(self, share: Share, name: RefName, now: float) -> None:
        """The value of a call has been asked for. Values that no call makes have no issuer, and are not waited for."""
        key = name.context, name.path
        if name.issuer and not _has_come(share, name) and key not in self._calls:
            with self._lock:
                self._calls[key] = _Missing(share, name, now)

    def look(self, now: float) -> None:
        """Asks for those that are missing for too long. Called every second or so."""
        for key, missing in list(self._calls.items()):
            if _has_come(missing.share, missing.name):
                self._end(key)
            elif not missing.asked and now - missing.since > OVERTAKEN:
                self._ask(key, missing, now)

    def _ask(self, key: tuple[str, Path], missing: _Missing, now: float) -> None:
        issuer = missing.name.issuer
        if self._process.peers.reaches(issuer):
            missing.asked = True
            ended = self._process.request(issuer, pb.AwaitCall(ref=ref_to_pb(missing.name)))
            ended.add_callback(lambda answer: self._give_up(key, missing, answer.error))
        elif now - missing.since > LINKED:
            self._give_up(key, missing, WorkerLost(f"{issuer}, which made it, cannot be reached"))

    def _give_up(self, key: tuple[str, Path], missing: _Missing, error: BaseException | None) -> None:
        """The call has ended at its issuer, or its issuer is lost: it does not come any more."""
        self._end(key)
        share, name = missing.share, missing.name
        if not _has_come(share, name):
            share.value(name.path).set_error(error or _gone(name))
            if not share.records:
                share.drop(name.path)

    def _end(self, key: tuple[str, Path]) -> None:
        with self._lock:
            self._calls.pop(key, None)

    def __len__(self) -> int:
        return len(self._calls)


class _Missing:
    """A call that has not come, and when it was missed first."""

    __slots__ = ("asked", "name", "share", "since")

    def __init__(self, share: Share, name: RefName, since: float) -> None:
        self.share = share
        self.name = name
        self.since = since
        self.asked = False


def _has_come(share: Share, name: RefName) -> bool:
    """Whether it has come, or its context has ended."""
    return name.path in share.calls or share.closed is not None


def _gone(name: RefName) -> WorkerLost:
    call = "/".join(map(str, name.path))
    return WorkerLost(f"call {call} of {name.issuer} has not come to {name.owner}: it was lost with a link")
