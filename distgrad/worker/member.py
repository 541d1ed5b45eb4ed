"""How a process joins a cluster and hears of the others."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from distgrad.errors import ConfigError, DistgradError, PermissionDenied, WorkerLost
from distgrad.graph.process import Process
from distgrad.graph.waiting import Promise
from distgrad.transport.interfaces import Identity, Link
from distgrad.transport.settings import TransportSettings
from distgrad.wire import pb

# What the coordinator is called in its own cluster; its incarnation tells one life of it from the next.
COORDINATOR = "coordinator"
# Seconds to wait, when the link to a member broke, for the coordinator's word on what became of it.
FOR_THE_REASON = 0.3
# Seconds between two attempts to join another coordinator, and for one of them to reach it.
BETWEEN_ATTEMPTS = 0.05
LONGEST_ATTEMPT = 1.0


@dataclass(frozen=True)
class Whereabouts:
    """Where a process is to be found once it has ended.

    Attributes:
        host: name of its machine; empty when whoever has started it knows, and tells the others.
        log: the file there that its standard error goes to; empty when it goes to none.
    """

    host: str = ""
    log: str = ""

    @classmethod
    def of_this_process(cls) -> Whereabouts:
        try:
            output = os.readlink("/proc/self/fd/2")
        except OSError:
            output = ""
        return cls(socket.gethostname(), output if os.path.isfile(output) else "")


def choose_name(address: str, settings: TransportSettings, timeout: float = 5.0) -> str:
    """The name that the coordinator at `address` would give a worker that nobody has named; keeps it for a while.

    Raises:
        LinkError, PermissionDenied: it cannot be reached, or does not want us.
    """
    process = Process(Identity.new(f"nameless-{secrets.token_hex(4)}", "worker"), settings)
    try:
        process.endpoint.connect(COORDINATOR, address, timeout=timeout)
        reply, _ = process.ask(COORDINATOR, pb.ChooseName(), timeout=timeout)
    finally:
        process.close()
    name: str = reply.name
    return name


class Membership:
    """A process's part in a cluster: it has joined at the coordinator, and follows who else is there.

    Arguments:
        process: whose membership this is.
        on_event: told of every change of another member.
        patience: seconds to wait for another coordinator when the one there was is lost.
        whereabouts: told to the others, for their errors.

    Attributes:
        term: of the coordinator.
        ended: set when the coordinator is gone for good, to the error that says why.
    """

    def __init__(
        self,
        process: Process,
        on_event: Callable[[pb.Member], None] | None = None,
        patience: float = 0.0,
        whereabouts: Whereabouts = Whereabouts(),
    ) -> None:
        self.process = process
        self.term = 0
        self.members: dict[str, pb.Member] = {}
        self.ended: Promise[None] = Promise()
        self._on_event = on_event
        self._patience = patience
        self._whereabouts = whereabouts
        self._joined_at: tuple[str, list[str]] = "", []
        self._closing = threading.Event()
        self._coordinator = 0  # its incarnation
        self._seeking = False
        self._shards: dict[str, Promise[tuple[str, dict[str, int]]]] = {}
        self._lock = threading.Lock()
        self._changed = threading.Condition()
        process.messages[pb.MemberEvents] = self._events
        process.accept({"coordinator"}, [pb.MemberEvents])
        process.endpoint.explain = self._explain
        process.on_lost.append(self._lost)
        process.find_shard = self.find_shard

    def join(self, address: str, programs: list[str], timeout: float = 5.0) -> None:
        """Opens the link to the coordinator at `address` and becomes a member.

        Raises:
            LinkError, PermissionDenied, ConfigError: it cannot be reached, or does not want us.
        """
        self._joined_at = address, programs
        self._join(timeout, timeout)

    def _join(self, reach: float, timeout: float) -> None:
        """Reaches the coordinator within so many seconds, and has its answer within so many more. Whoever gave up an
        answer that is on its way would not know the term under which it is already a member."""
        address, programs = self._joined_at
        try:
            link = self.process.endpoint.connect(COORDINATOR, address, timeout=reach)
        except WorkerLost as error:  # it has been told that this incarnation is lost, and acted on it
            raise PermissionDenied(f"{error}; start the process again to join as a new one") from error
        with self._lock:
            self._coordinator = link.peer.incarnation
        where = self._whereabouts
        join = pb.Join(name=self.process.name, programs=programs, host=where.host, log=where.log)
        reply, _ = self.process.ask(COORDINATOR, join, timeout=timeout)
        if reply.term < self.term:
            raise PermissionDenied(f"the coordinator at {address} is of term {reply.term}, after one of {self.term}")
        self.term = reply.term
        self._meet(reply.members, listed=True)

    def _seek(self, lost: Identity, error: DistgradError) -> None:
        """In a thread of its own: joins the next coordinator at the same address, or gives up. What this process holds
        stays; only the one that is lost is never listened to again."""
        deadline = time.monotonic() + self._patience
        reason = ""
        while (left := deadline - time.monotonic()) > 0 and not self._closing.wait(BETWEEN_ATTEMPTS):
            with self._changed:
                self.members.clear()
            try:
                self._join(min(left, LONGEST_ATTEMPT), left)
            except (PermissionDenied, ConfigError) as refusal:
                self.ended.set_error(refusal)
                return
            except (DistgradError, OSError) as failure:
                reason = str(failure)
                continue
            with self._lock:
                link = self.process.endpoint.link(COORDINATOR)
                self._seeking = link is None or link.peer.incarnation != self._coordinator
            if not self._seeking:
                self.process.gone(lost, error)
                return
        self.ended.set_error(WorkerLost(f"{error}, and no other came within {self._patience:g} s: {reason}"))

    def close(self) -> None:
        """Waits for no coordinator any more."""
        self._closing.set()

    # ---- who is there ------------------------------------------------------------------------------------------------

    def _events(self, link: Link, body: pb.MemberEvents, arrays: list[Any]) -> None:
        self._meet(body.members)

    def _meet(self, members: Iterable[pb.Member], listed: bool = False) -> None:
        """Takes note of the states of others, in this order; of those that are alive, of many at once. `listed`: on
        joining, when events may have told newer things of some already."""
        others = [member for member in members if member.name != self.process.name]
        for alive, some in groupby(others, key=lambda member: member.state == "alive"):
            with self._lock:  # before anybody learns from the members that one of them is lost
                self._shards.clear()
            with self._changed:
                group = [member for member in some if not (listed and member.name in self.members)]
                identities = [Identity(it.name, it.incarnation, it.role, it.address, it.pid) for it in group]
                self.members.update((member.name, member) for member in group)
                self._changed.notify_all()
                if alive:
                    self.process.peers.introduce(*identities)
            for member, identity in zip(group, identities, strict=True):
                if not alive:
                    how = "has left" if member.state == "left" else "is lost"
                    self.process.gone(identity, WorkerLost(f"{member.name} {how}: {member.reason}"))
                if self._on_event is not None:
                    self._on_event(member)

    def _lost(self, peer: Identity, error: DistgradError) -> None:
        if peer.name != COORDINATOR:
            return
        with self._lock:
            if peer.incarnation != self._coordinator or self._seeking:
                return
            self._seeking = self._patience > 0 and self.term > 0 and not self._closing.is_set()
        if self._seeking:
            threading.Thread(target=self._seek, args=(peer, error), name="distgrad-seek", daemon=True).start()
        else:
            self.ended.set_error(error)

    def _explain(self, peer: Identity, reason: str) -> str:
        """Why a member is gone: the coordinator's word, which may be that of whoever started the process."""

        def told() -> bool:
            member = self.members.get(peer.name)
            return member is not None and (member.incarnation, member.state) != (peer.incarnation, "alive")

        with self._changed:
            if peer.name == COORDINATOR or not self._changed.wait_for(told, FOR_THE_REASON):
                return reason
            member = self.members[peer.name]
            return member.reason if member.incarnation == peer.incarnation else reason

    # ---- where shards are --------------------------------------------------------------------------------------------

    def find_shard(self, name: str) -> Promise[tuple[str, dict[str, int]]]:
        """The worker a shard is on and its remote methods with their numbers of outputs; asked once, then
        remembered."""
        with self._lock:
            found = self._shards.get(name)
            if found is not None and found.error is None:
                return found
            found = self._shards[name] = Promise()
        self.process.request(COORDINATOR, pb.FindShard(name=name)).add_callback(lambda p: _learn(p, found))
        return found


def _learn(reply: Promise[Any], found: Promise[tuple[str, dict[str, int]]]) -> None:
    if reply.error is not None:
        found.set_error(reply.error)
        return
    shard, _ = reply.result()
    found.set_result((shard.worker, {method.name: method.outputs for method in shard.methods}))
