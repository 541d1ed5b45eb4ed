"""A whole cluster in one Python process: coordinator, workers and clients over links in memory.

Nothing is faked but the wire: messages are delivered in an order that a seed decides. Workers can be ended at any
moment and started anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import distgrad as dg
from distgrad.coordinator.client import Client, PlacedShard
from distgrad.coordinator.optimizer import RemoteOptimizer
from distgrad.coordinator.server import Coordinator
from distgrad.transport.memory_lane import MemoryNetwork
from distgrad.transport.settings import TransportSettings
from distgrad.worker.member import Membership
from distgrad.worker.worker import Worker

PROGRAMS = Path(__file__).parent.parent / "worker" / "programs"
ADDRESS = "memory:coordinator"
TOKEN = "of-the-cluster"
CLIENT_TOKEN = "of-a-client"

# Of a `Layer`, and a batch for it.
SIZES = {"inputs": 3, "outputs": 2}
X = np.arange(12.0).reshape(4, 3)

# Seconds after which a test that waits for something has failed.
PATIENCE = 20.0


class Cluster:
    """A coordinator, and workers that load the programs of `programs`."""

    def __init__(self, programs: Path, journal: Path | None = None, seed: int = 0) -> None:
        self.programs = programs
        self.settings = TransportSettings(cluster="test", token=TOKEN, client_tokens=(CLIENT_TOKEN,))
        self.network = MemoryNetwork(seed)
        self.workers: dict[str, Worker] = {}
        self._clients: list[Client] = []
        self.coordinator = Coordinator(
            self.settings, ADDRESS, journal, checkpoints=Path("/"), lanes=self.network.lanes()
        )
        self.coordinator.start()

    def succeed(self, journal: Path) -> Coordinator:
        """Another coordinator takes the place of the one there is, which is not closed. Returns the old one."""
        old = self.coordinator
        self.coordinator = Coordinator(
            self.settings, ADDRESS, journal, checkpoints=Path("/"), lanes=self.network.lanes()
        )
        self.coordinator.start()
        return old

    def start(self, *names: str, programs: Path | None = None, patience: float = 0.0) -> None:
        """Starts workers, or starts them anew.

        Arguments:
            patience: seconds for which they wait for another coordinator.
        """
        for name in names:
            worker = Worker(
                name,
                ADDRESS,
                programs or self.programs,
                self.settings,
                f"memory:{name}",
                patience=patience,
                lanes=self.network.lanes(),
            )
            self.workers[name] = worker
            worker.start()

    def end(self, name: str) -> None:
        """Ends a worker, and returns when all others know."""
        worker = self.workers.pop(name)
        worker.close()
        incarnation = worker.process.identity.incarnation
        for membership in self.members():
            until_known(membership, name, lambda member: (member.incarnation, member.state) != (incarnation, "alive"))

    def members(self) -> list[Membership]:
        """What the workers and clients know of the others."""
        return [part.membership for part in [*self.workers.values(), *self._clients]]

    def client(self, name: str = "", token: str = TOKEN) -> Client:
        settings = TransportSettings(cluster="test", token=token)
        client = Client(ADDRESS, settings, name, lanes=self.network.lanes())
        self._clients.append(client)
        return client

    def leave(self, client: Client) -> None:
        """A client leaves."""
        self._clients.remove(client)
        client.close()

    def close(self) -> None:
        for client in self._clients:
            client.close()
        for worker in self.workers.values():
            worker.close()
        self.coordinator.close()
        self.network.close()


@contextmanager
def cluster(
    programs: Path, *workers: str, journal: Path | None = None, seed: int = 0
) -> Iterator[tuple[Cluster, Client]]:
    """A cluster with these workers and one client."""
    made = Cluster(programs, journal, seed)
    try:
        made.start(*workers)
        client = made.client("driver")
        client.wait_for_workers(workers, PATIENCE)
        yield made, client
    finally:
        made.close()


def until_known(membership: Membership, name: str, holds: Callable[[Any], bool]) -> None:
    """Returns when a process has been told of a member what should hold."""
    with membership._changed:
        told = membership._changed.wait_for(
            lambda: name in membership.members and holds(membership.members[name]), PATIENCE
        )
    assert told, f"{membership.process} was not told of {name}: {membership.members.get(name)}"


def place(client: Client, name: str, worker: str = "", **config: Any) -> PlacedShard:
    """A `Layer`."""
    return client.place(name, "parts.py:Layer", worker, {**SIZES, **config})


def trained(client: Client, *shards: Any, steps: int = 2) -> RemoteOptimizer:
    """The optimizer of layers that have taken some steps under it."""
    optimizer = client.optimizer(dg.optim.Adam(0.1), list(shards), "adam")
    for _ in range(steps):
        with client.context() as ctx:
            ctx.backward([shard.loss(X, 0.0) for shard in shards], [1.0] * len(shards))
            optimizer.step(ctx)
    return optimizer
