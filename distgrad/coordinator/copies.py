"""Which worker keeps a copy of which owner's state, and what there is a copy of when an owner has lost it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from distgrad.graph.process import Process
from distgrad.graph.waiting import Promise, all_done
from distgrad.wire import pb

from .doubt import Held, living_workers
from .names import natural_order


class Copies:
    """The copies of what one optimizer's owners hold: none until `make`.

    From then on an owner answers Prepare only when its buddy has pinned the same, and the buddy is told every decision.
    """

    def __init__(self, optimizer: str) -> None:
        self._optimizer = optimizer
        # Owner -> its incarnation, its buddy and that one's incarnation. Another life of either has no copy.
        self._made: dict[str, tuple[int, str, int]] = {}

    def make(self, process: Process, term: int, owners: Iterable[str]) -> None:
        """Has the state of every owner copied to its buddy, where it is not. No step may be under way.

        Raises:
            WorkerLost: one of them is gone.
        """
        incarnation = process.peers.incarnation
        wanted = {
            owner: (incarnation(owner), buddy, incarnation(buddy))
            for owner, buddy in buddies(owners, living_workers(process)).items()
        }
        missing = [owner for owner, copy in wanted.items() if self._made.get(owner) != copy]
        self._made = {owner: copy for owner, copy in self._made.items() if wanted.get(owner) == copy}
        orders = [pb.Replicate(term=term, optimizer=self._optimizer, buddy=wanted[owner][1]) for owner in missing]
        ready: Promise[None] = Promise()
        all_done([process.request(owner, order) for owner, order in zip(missing, orders, strict=True)], ready)
        process.executor.wait(ready, what=f"the copies of optimizer {self._optimizer}")
        ready.result()
        self._made |= {owner: wanted[owner] for owner in missing}

    def forget(self, owner: str = "") -> None:
        """The copy of an owner's state, or of everybody's, is not right any more."""
        self._made = {other: copy for other, copy in self._made.items() if owner and other != owner}

    def buddies(self) -> dict[str, str]:
        """Owner -> the worker that keeps its copy."""
        return {owner: buddy for owner, (_, buddy, _) in self._made.items()}

    def __repr__(self) -> str:
        kept = ", ".join(f"{owner} on {buddy}" for owner, buddy in self.buddies().items())
        return f"<Copies under {self._optimizer}: {kept or 'none'}>"


def buddies(owners: Iterable[str], workers: Sequence[str]) -> dict[str, str]:
    """The worker that keeps a copy of each owner's state: the next of all workers around a ring. A worker that is alone
    has no buddy.

    Example:
        >>> buddies(["w0", "w2"], ["w0", "w1", "w2"])
        {'w0': 'w1', 'w2': 'w0'}
    """
    ring = sorted(workers, key=natural_order)
    places = {worker: place for place, worker in enumerate(ring)}
    return {owner: ring[(places[owner] + 1) % len(ring)] for owner in owners if owner in places and len(ring) > 1}


@dataclass(frozen=True)
class Missing:
    """A shard whose state its owner lacks.

    Attributes:
        kept: the copy of it that a worker keeps of what was lost, whoever that was of; None when nobody does.
    """

    shard: str
    kept: Held | None


def missing_state(
    optimizer: str, version: int, owners: Mapping[str, Sequence[str]], held: Sequence[Held]
) -> list[Missing]:
    """The shards of an optimizer that are not at its version at their owners (worker -> shards), and copies of them.

    Example, in which w2 has taken the place of w1, whose copy w0 keeps:
        >>> held = [
        ...     Held("w0", "adam", owner="w0", version=7, shards=["a"]),
        ...     Held("w0", "adam", owner="w1", version=7, shards=["b"]),
        ...     Held("w2", "adam", owner="w2", version=0, shards=["b"]),
        ... ]
        >>> [missing] = missing_state("adam", 7, {"w0": ["a"], "w2": ["b"]}, held)
        >>> missing.shard, missing.kept == held[1]
        ('b', True)
    """
    current = [it for it in held if it.optimizer == optimizer and it.version == version]
    there = {(it.owner, shard) for it in current if it.worker == it.owner for shard in it.shards}
    copies = {shard: it for it in current if it.worker != it.owner for shard in it.shards}
    placed = [(owner, shard) for owner, shards in sorted(owners.items()) for shard in shards]
    return [Missing(shard, copies.get(shard)) for owner, shard in placed if (owner, shard) not in there]
