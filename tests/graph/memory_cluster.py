"""Several processes of the graph in one Python process, over links in memory: no sockets, no start-up time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from distgrad.autograd.tensor import Tensor
from distgrad.errors import ProgramError, WorkerLost
from distgrad.graph.context import Context
from distgrad.graph.process import Process
from distgrad.graph.waiting import Promise
from distgrad.transport.interfaces import Identity
from distgrad.transport.memory_lane import MemoryNetwork
from distgrad.transport.settings import LOSSLESS, Lossy, TransportSettings
from distgrad.wire import encode_value, pb


class MemoryCluster:
    """A driver and workers; `shards` are plain objects whose methods can all be called."""

    def __init__(self, workers: int, network: MemoryNetwork, lossy: Lossy = LOSSLESS) -> None:
        self.network = network
        self.places: dict[str, tuple[str, Any]] = {}
        self.settings = TransportSettings(cluster="test", token="t", lossy=lossy)
        self.driver = self._process("driver", "client")
        self.workers: dict[str, Process] = {}
        for k in range(workers):
            self.start(f"w{k}")

    def start(self, name: str) -> None:
        """Starts a worker, and tells everybody; also one of a name that was there before."""
        worker = self._process(name, "worker")
        for other in self.processes:
            other.peers.introduce(worker.identity)
            worker.peers.introduce(other.identity)
        self.workers[name] = worker

    @property
    def processes(self) -> list[Process]:
        return [self.driver, *self.workers.values()]

    def _process(self, name: str, role: str) -> Process:
        address = "" if role == "client" else f"memory:{name}"
        process = Process(
            Identity.new(name, role, address),
            self.settings,
            resolve=lambda call: self._resolve(name, call),
            lanes=self.network.lanes(),
        )
        process.find_shard = self._find
        process.find_parameters = self._parameters
        process.requests[pb.ReadGradients] = lambda link, body, arrays, reply: self._gradients(process, body, reply)
        if address:
            process.listen(address)
        return process

    def place(self, name: str, shard: Any, worker: str) -> Any:
        """Puts an object on a worker and returns a handle for the driver."""
        self.places[name] = (worker, shard)
        return self.driver.handle(name)

    def context(self) -> Context:
        return Context(self.driver)

    def _find(self, name: str) -> Promise[tuple[str, dict[str, int]]]:
        found: Promise[tuple[str, dict[str, int]]] = Promise()
        if name not in self.places:
            raise ProgramError(f"there is no shard {name!r}")
        worker, shard = self.places[name]
        outputs = getattr(shard, "outputs", {})
        methods = {m: outputs.get(m, 1) for m in dir(shard) if not m.startswith("_") and callable(getattr(shard, m))}
        found.set_result((worker, methods))
        return found

    def _resolve(self, worker: str, call: pb.Call) -> Callable[..., Any]:
        where, shard = self.places[call.shard]
        if where != worker:
            raise ProgramError(f"shard {call.shard!r} is on {where}, not on {worker}")
        method: Callable[..., Any] = getattr(shard, call.method)
        return method

    def _parameters(self, shard: str) -> dict[str, Tensor]:
        return {name: value for name, value in vars(self.places[shard][1]).items() if isinstance(value, Tensor)}

    def _gradients(self, process: Process, body: pb.ReadGradients, reply: Callable[..., None]) -> None:
        share = process.shares.get(body.context)
        tensors = self._parameters(body.shard)
        found = {name: share.gradient(value.node) for name, value in tensors.items()} if share is not None else {}
        arrays: list[Any] = []
        present = {name: _plain(gradient) for name, gradient in found.items() if gradient is not None}
        reply(pb.GradientsRead(gradients=encode_value(present, arrays)), arrays)

    def counts(self) -> dict[str, dict[str, int]]:
        return {process.name: process.counts() for process in self.processes}

    def settle(self) -> None:
        """Lets values that nobody refers to be dropped: every link answers after its drops. A dropped value may have
        held the last reference to another."""
        before = -1
        while before != (before := sum(counts["values"] for counts in self.counts().values())):
            for process in self.processes:
                process.references.tell_forgotten()
            for process in self.processes:
                for link in process.endpoint.links():
                    with suppress(WorkerLost):  # which has nothing of ours any more
                        process.ask(link.peer.name, pb.Statistics())

    def close(self) -> None:
        for process in self.processes:
            process.close()


def _plain(gradient: Any) -> Any:
    return gradient.data if isinstance(gradient, Tensor) else gradient


@contextmanager
def memory_cluster(
    workers: int, seed: int = 0, lossy: Lossy = LOSSLESS, **network_settings: float
) -> Iterator[MemoryCluster]:
    """A cluster whose messages are delivered in an order that `seed` decides."""
    with MemoryNetwork(seed, **network_settings) as network:
        cluster = MemoryCluster(workers, network, lossy)
        try:
            yield cluster
        finally:
            cluster.close()
