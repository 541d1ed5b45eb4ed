"""The copy of another worker's state that its buddy keeps, so that no committed update is lost with the owner."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from distgrad.errors import ContextError
from distgrad.optim import Optimizer, from_settings
from distgrad.wire import decode_value, encode_value, pb

from .holding import BufferChange, Holding, Pinned


class Replica(Holding):
    """What one worker owns under one optimizer, held by another.

    It is given every update that the owner prepares and every decision, so it is always where the owner is, or was.

    Arguments:
        owner: name of the worker.
        shards: shard -> {"parameters": ..., "buffers": ..., "optimizer": ...}, arrays by name.
        trainable: the parameters that updates change, as SHARD/PARAMETER.
    """

    def __init__(
        self,
        name: str,
        owner: str,
        optimizer: Optimizer,
        version: int,
        term: int,
        shards: Mapping[str, Mapping[str, Mapping[str, Any]]],
        trainable: Sequence[str],
    ) -> None:
        super().__init__(name, optimizer, version, term)
        self.owner = owner
        self.shards = list(shards)
        self._trainable = frozenset(trainable)
        self._parameters = _flat(shards, "parameters")
        self._buffers = _flat(shards, "buffers")
        self.state = _flat(shards, "optimizer")

    def trainable(self) -> dict[str, Any]:
        return {name: array for name, array in self._parameters.items() if name in self._trainable}

    def buffer(self, name: str) -> Any:
        return self._buffers[name]

    def shards_at_version(self) -> list[str]:
        return self.shards

    def _swap(self, parameters: Mapping[str, Any], buffers: Mapping[str, Any], version: int) -> None:
        self._parameters |= parameters
        self._buffers |= buffers
        self.version = version

    def shard(self, name: str) -> dict[str, dict[str, Any]]:
        """The state of one shard, as its owner would say it.

        Raises:
            ContextError: the owner has no such shard.
        """
        if name not in self.shards:
            raise ContextError(f"{self!r} has no shard {name!r}")
        parts = {"parameters": self._parameters, "buffers": self._buffers}
        found = {
            part: {key.removeprefix(f"{name}/"): a for key, a in arrays.items() if key.startswith(f"{name}/")}
            for part, arrays in parts.items()
        }
        return {**found, "optimizer": self.state_of(name)}

    def __repr__(self) -> str:
        shards = ", ".join(self.shards) or "nothing"
        return f"<Replica of {shards} on {self.owner} under {self.name} at version {self.version}>"


class Replicas:
    """The copies that a worker keeps for others. In the compute slot only."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], Replica] = {}

    def take(self, body: pb.Mirror, arrays: list[Any]) -> None:
        """Keeps a copy, instead of what was kept of the same owner before.

        Raises:
            PermissionDenied: the coordinator's term is over.
        """
        before = self._held.get((body.optimizer, body.owner))
        if before is not None:
            before.check_term(body.term)
        self._held[body.optimizer, body.owner] = Replica(
            body.optimizer,
            body.owner,
            from_settings(body.kind, decode_value(body.settings, arrays)),
            body.version,
            body.term,
            decode_value(body.shards, arrays),
            body.trainable,
        )

    def pin(self, body: pb.Pin, arrays: list[Any]) -> None:
        """Pins for a copy what its owner has pinned.

        Raises:
            ContextError: there is no such copy, or it is at another version.
            PermissionDenied: the coordinator's term is over.
        """
        changes = [BufferChange(*change) for change in decode_value(body.buffers, arrays)]
        pinned = Pinned(body.version, decode_value(body.gradients, arrays), changes)
        self.find(body.optimizer, body.owner).pin(body.term, pinned)

    def drop_stale(self, optimizer: str, version: int) -> None:
        """Forgets the copies that the update to `version` passes by: their owners have other buddies now."""
        for replica in self.of(optimizer):
            if version not in (replica.version, replica.prepared):
                del self._held[optimizer, replica.owner]

    def shards(self) -> set[str]:
        """The shards of which there are copies here."""
        return {shard for replica in self for shard in replica.shards}

    def forget(self, shards: Collection[str]) -> None:
        """Forgets the copies in which one of these shards is."""
        self._held = {key: it for key, it in self._held.items() if not any(shard in it.shards for shard in shards)}

    def find(self, optimizer: str, owner: str) -> Replica:
        found = self._held.get((optimizer, owner))
        if found is None:
            raise ContextError(f"there is no copy of what {owner} owns under optimizer {optimizer!r} here")
        return found

    def of(self, optimizer: str) -> list[Replica]:
        """The copies of one optimizer's state."""
        return [replica for replica in self if replica.name == optimizer]

    def __iter__(self) -> Iterator[Replica]:
        return iter(list(self._held.values()))

    def __repr__(self) -> str:
        return f"<Replicas {list(self) or 'none'}>"


def pin_request(owner: str, term: int, optimizer: str, pinned: Pinned) -> tuple[pb.Pin, list[Any]]:
    """What a buddy is told of a prepared update."""
    out: list[Any] = []
    gradients = encode_value(dict(pinned.gradients), out, "gradients")
    changes = [[change.name, change.keep, change.addend] for change in pinned.buffers]
    buffers = encode_value(changes, out, "changes of buffers")
    body = pb.Pin(
        term=term, optimizer=optimizer, owner=owner, version=pinned.version, gradients=gradients, buffers=buffers
    )
    return body, out


def _flat(shards: Mapping[str, Mapping[str, Mapping[str, Any]]], part: str) -> dict[str, Any]:
    return {f"{shard}/{name}": array for shard, state in shards.items() for name, array in state[part].items()}
