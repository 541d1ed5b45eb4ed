"""Adding up the gradients of twins, in the same order wherever they are: a reduce-scatter and an all-gather.

The parameters of a shard are dealt to its twins in turn. Each twin asks all others for their sums of its part, adds
them by the number of the twin, and the others ask it for the total. So each sends and receives 2 (R - 1) / R times the
size of the parameters (Patarasu & Yuan, "Bandwidth optimal all-reduce algorithms", 2009, has the bound), and no sum
depends on who was faster.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from distgrad.errors import ContextError, DistgradError
from distgrad.graph.process import Process, Reply
from distgrad.graph.waiting import Promise
from distgrad.transport.interfaces import Link
from distgrad.wire import decode_value, encode_value, pb

# Gradients by the name of the parameter in its shard; absent ones are none.
Gradients = dict[str, Any]


class _Key(NamedTuple):
    """What one owner asks another for."""

    optimizer: str
    version: int
    attempt: str
    shard: str
    complete: bool


class _Asked(NamedTuple):
    """Gradients of some parameters that were asked for, and the promise of them."""

    key: _Key
    names: Sequence[str]
    promise: Promise[Any]


class _Own(NamedTuple):
    """A shard of this worker: the names of its parameters, and the gradients of those that have some."""

    names: list[str]
    gradients: Gradients


class Reductions:
    """The sums of this worker's shards that others may ask for, and the sums it asks others for.

    Used in the compute slot, between calls; only `answer` runs on links' threads.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self._lock = threading.Lock()
        self._sums: dict[_Key, Promise[Gradients]] = {}
        self._attempts: list[_Attempt] = []  # that are under way here

    def reduce(self, body: pb.Prepare, names: Iterable[str], sums: Mapping[str, Any]) -> dict[str, Any]:
        """The totals over all twins, for shards that have some; other gradients as they are.

        Arguments:
            names: of this worker's parameters under the optimizer, as SHARD/PARAMETER.
            sums: their gradients here; absent ones are none.

        Raises:
            WorkerLost, ContextClosed, ...: another owner cannot say its part.
        """
        attempt = _Attempt(self, body, _by_shard(names, sums))
        self._attempts.append(attempt)
        try:
            return {**sums, **attempt.totals()}
        except BaseException as error:
            reason = error if isinstance(error, DistgradError) else ContextError(f"the update was given up: {error}")
            self._end(body.optimizer, body.version, reason)
            raise
        finally:
            self._attempts.remove(attempt)

    def drop(self, optimizer: str, version: int) -> None:
        """Nobody will ask for the sums of an update any more: it has been decided, or given up. Nor does anybody here
        go on asking: an owner that could not prepare will never say its part."""
        self._end(optimizer, version, ContextError(f"update {version} of {optimizer} was decided or given up"))

    def _end(self, optimizer: str, version: int, reason: DistgradError) -> None:
        """Lets go of the sums of updates up to this version. Who waits for one gets the reason."""
        for attempt in self._attempts:
            attempt.give_up(optimizer, version, reason)
        with self._lock:
            ended = [key for key in self._sums if key.optimizer == optimizer and key.version <= version]
            promises = [self._sums.pop(key) for key in ended]
        for promise in promises:
            promise.set_error(reason)

    @property
    def kept(self) -> int:
        """How many sums others may still ask for, or have asked for."""
        return len(self._sums)

    def promise(self, key: _Key) -> Promise[Gradients]:
        with self._lock:
            return self._sums.setdefault(key, Promise())

    def ask(self, worker: str, key: _Key, names: Sequence[str]) -> _Asked:
        """Asks the owner of a twin for the gradients of some of its parameters."""
        if worker == self._process.name:
            return _Asked(key, names, self.promise(key))
        request = pb.ReadSum(**key._asdict(), parameters=names)
        return _Asked(key, names, self._process.request(worker, request))

    def take(self, asked: _Asked) -> Gradients:
        """The gradients that were asked for, once they have come."""
        self._process.executor.wait(asked.promise, what=f"the gradients of {asked.key.shard}")
        found = asked.promise.result()
        if not isinstance(found, dict):  # it has travelled
            reply, arrays = found
            found = decode_value(reply.gradients, arrays)
        return {name: found[name] for name in asked.names if name in found}

    def answer(self, link: Link, body: pb.ReadSum, arrays: list[Any], reply: Reply) -> None:
        """Another owner asks."""
        key = _Key(body.optimizer, body.version, body.attempt, body.shard, body.complete)
        names = set(body.parameters)

        def send(promise: Promise[Gradients]) -> None:
            if promise.error is not None:
                reply(promise.error)
                return
            out: list[Any] = []
            chosen = {name: gradient for name, gradient in promise.result().items() if name in names}
            reply(pb.GradientsRead(gradients=encode_value(chosen, out, f"gradients of {body.shard}")), out)

        self.promise(key).add_callback(send)


class _Attempt:
    """One worker's part in one attempt at an update."""

    def __init__(self, reductions: Reductions, body: pb.Prepare, own: Mapping[str, _Own]) -> None:
        self._reductions = reductions
        self._body = body
        self._own = own
        self._families = [list(zip(it.shards, it.workers, strict=True)) for it in body.twins]
        # An update that was given up may be tried again, with other contexts.
        self._name = body.contexts[0] if body.contexts else ""
        self._asked: list[Promise[Any]] = []
        self._given_up: DistgradError | None = None

    def give_up(self, optimizer: str, version: int, reason: DistgradError) -> None:
        """Ends this attempt, if it is at an update up to this version."""
        if self._body.optimizer == optimizer and self._body.version <= version:
            self._given_up = reason
            for promise in self._asked:
                promise.set_error(reason)

    def _key(self, shard: str, complete: bool) -> _Key:
        return _Key(self._body.optimizer, self._body.version, self._name, shard, complete)

    def _mine(self) -> Iterable[tuple[list[tuple[str, str]], int, str]]:
        """This worker's twins, each with its family and its number."""
        for family in self._families:
            for number, (shard, _) in enumerate(family):
                if shard in self._own:
                    yield family, number, shard

    def totals(self) -> dict[str, Any]:
        """By SHARD/PARAMETER. Every round publishes or asks for everything before it waits for anything."""
        for _, _, shard in self._mine():
            self._reductions.promise(self._key(shard, False)).set_result(self._own[shard].gradients)
        parts = {shard: self._ask(family, self._dealt(family, number, shard)) for family, number, shard in self._mine()}
        for shard, asked in parts.items():
            self._reductions.promise(self._key(shard, True)).set_result(self._sum(asked))
        totals: dict[str, Any] = {}
        wholes = {shard: self._ask_totals(family, shard) for family, _, shard in self._mine()}
        for shard, asked in wholes.items():
            for one in asked:
                totals |= {f"{shard}/{name}": total for name, total in self._reductions.take(one).items()}
        return totals

    def _dealt(self, family: Sequence[Any], number: int, shard: str) -> list[str]:
        """The parameters that a twin adds up."""
        return sorted(self._own[shard].names)[number :: len(family)]

    def _ask(self, family: list[tuple[str, str]], names: list[str]) -> list[_Asked]:
        return [self._ask_one(worker, self._key(shard, False), names) for shard, worker in family]

    def _ask_totals(self, family: list[tuple[str, str]], shard: str) -> list[_Asked]:
        return [
            self._ask_one(worker, self._key(other, True), self._dealt(family, number, shard))
            for number, (other, worker) in enumerate(family)
        ]

    def _ask_one(self, worker: str, key: _Key, names: Sequence[str]) -> _Asked:
        if self._given_up is not None:
            raise self._given_up
        asked = self._reductions.ask(worker, key, names)
        self._asked.append(asked.promise)
        return asked

    def _sum(self, asked: Sequence[_Asked]) -> Gradients:
        """The sums over the twins, in the order of their numbers."""
        total: Gradients = {}
        for one in asked:
            for name, gradient in self._reductions.take(one).items():
                total[name] = total[name] + gradient if name in total else gradient
        return total


def _by_shard(names: Iterable[str], sums: Mapping[str, Any]) -> dict[str, _Own]:
    found: dict[str, _Own] = {}
    for name in names:
        shard, _, parameter = name.partition("/")
        own = found.setdefault(shard, _Own([], {}))
        own.names.append(parameter)
        if name in sums:
            own.gradients[parameter] = sums[name]
    return found
