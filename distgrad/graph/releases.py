"""The end of contexts: released by their owners everywhere, and where nobody releases them, by a lease.

A release goes along the links on which a context has been met: each process closes its share and asks those that it met
the context with. So a process that is lost may be the only one that knew of another: that one asks the owner to be told
by it from then on (`Enlist`). What is left, contexts whose owners nobody knows, ends a lease after it was met.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from distgrad.errors import ContextClosed, DistgradError
from distgrad.transport.interfaces import Link
from distgrad.wire import pb

from .share import Share, owner_tag
from .waiting import Promise, all_done, settled

if TYPE_CHECKING:
    from .process import Process

# Seconds that a context is kept whose owner is not known.
LEASE = 30.0


class Releases:
    """Ends the contexts of one process, and its shares of those of others."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def release(
        self, contexts: Iterable[str], told: Collection[str] = (), reason: DistgradError | None = None
    ) -> Promise[None]:
        """Closes contexts here and at all processes they were met with; done when they have. `told`: who need not be.

        Those that were met with the same processes end together, by one message to each of these."""
        done: Promise[None] = Promise()
        process = self._process
        if process.forked is not None:  # they live on
            done.set_result(None)
            return done
        together: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
        for context in contexts:
            share = process.shares.release(context, reason)
            if share is not None:
                process.caller.forget(share, share.closed or ContextClosed(context))
                together[tuple(sorted(share.peers.difference(told, (process.name,))))].append(context)
        # A peer that is lost has released everything; its error is none of ours.
        answers = [
            settled(process.request(peer, pb.Release(contexts=ended, told=[process.name, *peers, *told])))
            for peers, ended in together.items()
            for peer in peers
        ]
        all_done(answers, done)
        return done

    def answer(self, link: Link, body: pb.Release, arrays: list[Any], reply: Callable[..., None]) -> None:
        released = self.release(body.contexts, told={link.peer.name, *body.told})
        released.add_callback(lambda _: reply(pb.Empty()))

    # ---- contexts that nobody may release ----------------------------------------------------------------------------

    def enlist(self, share: Share) -> None:
        """A process that this one shares the context with is lost. It may have been the only one that knew of this one,
        and would have released it: so its owner is told."""
        owner = share.identity.owner
        with share.lock:
            if not share.records or owner == self._process.name or owner in share.peers:
                return
        enlisted = self._process.request(owner, pb.Enlist(context=share.id))
        enlisted.add_callback(lambda answer: self._orphaned(share) if answer.error is not None else None)

    def _orphaned(self, share: Share) -> None:
        self.release([share.id], reason=ContextClosed(f"context {share.id} has no owner that can be reached"))

    def enlisted(self, link: Link, body: pb.Enlist, arrays: list[Any], reply: Callable[..., None]) -> None:
        """A process will be released from here."""
        share = self._process.shares.require(body.context)
        with share.lock:
            share.meet_peer(link.peer.name)
        reply(pb.Empty())

    def release_orphans(self, now: float) -> None:
        """Releases contexts met a lease ago whose owners nobody knows: they were gone before, or never were."""
        process = self._process
        living = {owner_tag(identity) for identity in (process.identity, *process.peers.known())}
        living |= {owner_tag(link.peer) for link in process.endpoint.links()}
        for share in process.shares.orphans(living, met_before=now - LEASE):
            error = ContextClosed(f"context {share.id} is released: its owner is not known here")
            process.shares.release(share.id, error)
            process.caller.forget(share, error)
