"""Values of calls made outside any context: kept by their owners for as long as those who made the calls refer to them.

A context ends all its values with its release; these have none. So the process that made such a call tells the value's
owner when nobody there refers to it any more: with its next call to that owner, or within a second.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from distgrad.errors import DistgradError
from distgrad.transport.interfaces import Link
from distgrad.wire import RefName, pb, ref_to_pb

if TYPE_CHECKING:
    from .process import Process
    from .refs import Outcome


class References:
    """What one process refers to elsewhere, and what others refer to here."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._held: dict[weakref.ref[Outcome], RefName] = {}
        self._forgotten: dict[str, deque[RefName]] = {}

    # ---- to values elsewhere -----------------------------------------------------------------------------------------

    def hold(self, outcome: Outcome, name: RefName) -> None:
        """Remembers a value for as long as somebody here refers to it."""
        self._held[weakref.ref(outcome, self._forget)] = name

    def _forget(self, reference: weakref.ref[Outcome]) -> None:
        """Nobody here refers to a value any more. Called by the garbage collector, so it only takes a note."""
        name = self._held.pop(reference)
        self._forgotten.setdefault(name.owner, deque()).append(name)

    def forgotten(self, owner: str) -> list[pb.RefId]:
        """The values that nobody here refers to any more; each is named once, and must be told to its owner."""
        names, refs = self._forgotten.get(owner), []
        while names:
            try:
                refs.append(ref_to_pb(names.popleft()))
            except IndexError:  # another thread was faster
                break
        return refs

    def tell_forgotten(self) -> None:
        """Lets owners drop what no call to them has told yet."""
        for owner in list(self._forgotten):
            if refs := self.forgotten(owner):
                self._process.peers.send(owner, pb.Drop(refs=refs))

    def lost(self, owner: str, error: DistgradError) -> None:
        """The way to an owner is lost. Also if it lives on, it has dropped what was referred to from here."""
        for reference, held in self._held.copy().items():
            outcome = reference() if held.owner == owner else None
            if outcome is not None:
                outcome.lost = error

    # ---- to values here ----------------------------------------------------------------------------------------------

    def receive(self, link: Link, body: pb.Drop, arrays: list[Any]) -> None:
        self.drop(body.refs)

    def drop(self, refs: Iterable[pb.RefId]) -> None:
        """Forgets values that nobody refers to any more."""
        for ref in refs:
            share = self._process.shares.get(ref.context)
            if share is not None and not share.records:
                share.drop(tuple(ref.path))
