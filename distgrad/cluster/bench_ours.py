"""What `distgrad bench` measures, done by a local cluster. `bench_torch` does the same with torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from distgrad.autograd.allocator import keep_freed_memory
from distgrad.autograd.tensor import tensor
from distgrad.coordinator.client import Client
from distgrad.graph.context import Context

from .bench import ROWS, WIDTH, seconds
from .local import LocalCluster


class Ours:
    """The driver of a cluster with a shard of each kind on every worker."""

    def __init__(self, cluster: Client, workers: int) -> None:
        self.cluster = cluster
        names = [f"w{k}" for k in range(workers)]
        self.scales = [cluster.place(f"scale-{name}", "bench_shards.py:Scale", worker=name) for name in names]
        config = {"width": WIDTH}
        self.layers = [
            cluster.place(f"layer-{name}", "bench_shards.py:Layer", worker=name, config=config) for name in names
        ]
        self.x = np.ones(4, np.float32)
        self.batch = np.ones((ROWS, WIDTH), np.float32)

    def call(self) -> float:
        """Seconds of a call with a small array that is returned."""
        return seconds(lambda: self.scales[0].echo(self.x).get())

    def one_way(self, mebibytes: int) -> Callable[[], float]:
        """Seconds of a call whose argument is a tensor of that size, as it is on the other side."""
        large = tensor(np.ones(mebibytes * 2**18, np.float32))
        return lambda: seconds(lambda: self.scales[0].sink(large).wait())

    def chain(self, length: int, bring_back: bool) -> float:
        """Seconds of the backward pass through calls each of which is given the result of the one before: its
        reference, so that values and gradients go from worker to worker; or, brought back, its value."""
        with self.cluster.context() as context:
            value: Any = tensor(self.x, requires_grad=True) * self.x
            for number in range(length):
                value = self.scales[0 if bring_back else number % 2].multiply(value, self.x)
                if bring_back:
                    value = value.get()
            if not bring_back:
                value.wait()
            return self._backward(context, value)

    def fan_out(self, calls: int) -> float:
        """Seconds of the backward pass through calls that are given the same tensor, and whose results are summed."""
        with self.cluster.context() as context:
            w = tensor(self.x, requires_grad=True)
            return self._backward(context, self._sum(w, [self.scales[0]] * calls))

    def unused(self, calls: int) -> float:
        """The same with another call, whose result nobody uses: the pass needs its exact fallback."""
        with self.cluster.context() as context:
            w = tensor(self.x, requires_grad=True)
            self.scales[0].multiply(w, self.x).wait()
            return self._backward(context, self._sum(w, [self.scales[0]] * calls))

    def workers(self, count: int) -> float:
        """Seconds of a call to each of some workers at once, and the backward pass of the sum of their results."""

        def run() -> None:
            with self.cluster.context() as context:
                w = tensor(self.x, requires_grad=True)
                self._backward(context, self._sum(w, self.scales[:count]))

        return seconds(run)

    def contexts(self, count: int) -> float:
        """Seconds of a call and its backward pass in each of some contexts, all in threads of their own."""
        return self._at_once(count, partial(self.fan_out, 1))

    def steps(self, stages: int, microbatches: int) -> float:
        """Seconds of forward and backward of some microbatches at once through a layer on each of some workers."""

        def microbatch() -> None:
            with self.cluster.context() as context:
                value: Any = self.batch
                for layer in self.layers[:stages]:
                    value = layer.forward(value)
                context.backward(value.get().sum())
                context.settle()

        return self._at_once(microbatches, microbatch)

    def _sum(self, w: Any, scales: list[Any]) -> Any:
        calls = [scale.multiply(w, self.x) for scale in scales]
        total = calls[0].get()
        for call in calls[1:]:
            total = total + call.get()
        return total

    def _backward(self, context: Context, root: Any) -> float:
        def run() -> None:
            context.backward(root, gradient=self.x)
            context.settle()

        return seconds(run)

    def _at_once(self, count: int, run: Callable[[], Any]) -> float:
        with ThreadPoolExecutor(count) as pool:
            return seconds(lambda: [future.result() for future in [pool.submit(run) for _ in range(count)]])


@contextmanager
def our_side(lane: str, workers: int) -> Iterator[Ours]:
    """A cluster whose links use one kind of lane."""
    keep_freed_memory()
    with LocalCluster(workers, Path(__file__).parent, lane=lane) as cluster:
        yield Ours(cluster, workers)
