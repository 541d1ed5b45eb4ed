"""Very many passes over three workers: what every process holds and uses stays the same.

Each pass is of one of the kinds below, in turn: the plain ones, and those after which something could stay behind. Now
and then every process is asked for its counts, the way `distgrad status` asks. The first quarter of the passes warms
up: buffers are made, threads started, tables of what has ended filled.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable

import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import RemoteError
from distgrad.observe import usage

from .gates import DEADLINE
from .world import HOLDINGS, PROGRAMS

WORKERS = ("w0", "w1", "w2")
SIZE = 4
X = np.arange(2.0 * SIZE).reshape(2, SIZE)
# Travels in shared memory.
LARGE = np.ones((2**14, SIZE))
# What must not grow by one, and by how many bytes memory may.
STEADY = ("links", "descriptors", "shared_blocks", "system_threads")
MEMORY_SLACK = 2 * 2**20

Counts = dict[str, dict[str, int]]


class Soak:
    """A cluster of three workers with shard `a` on w0, `b` on w1 and `c` on w2, and what it is put through."""

    def __init__(self, cluster: dg.LocalCluster) -> None:
        self.cluster = cluster
        config = {"size": SIZE, "gate": ""}
        self.a, self.b, self.c = (
            cluster.place(name, "gated.py:Gated", worker, config) for name, worker in zip("abc", WORKERS, strict=True)
        )
        self.optimizer = cluster.optimizer(dg.optim.SGD(lr=0.0), [self.a, self.b, self.c])
        self.x = dg.tensor(X, requires_grad=True)
        self.samples: list[Counts] = []

    # ---- passes ------------------------------------------------------------------------------------------------------

    def chain(self) -> None:
        with self.cluster.context() as context:
            context.backward(self.c.forward(self.b.forward(self.a.forward(self.x))), np.ones_like(X))
            np.testing.assert_array_equal(context.gradient(self.x), np.full_like(X, 8.0))

    def fan_out(self) -> None:
        with self.cluster.context() as context:
            h = self.a.forward(self.x)
            parts = [shard.forward(h).get() for shard in (self.b, self.c, self.a)]
            context.backward(sum(parts[1:], parts[0]).sum())
            np.testing.assert_array_equal(context.gradient(self.x), np.full_like(X, 12.0))

    def nested(self) -> None:
        with self.cluster.context() as context:
            context.backward(self.a.chain(self.x, self.b, "chain", self.c, "forward"), np.ones_like(X))
            np.testing.assert_array_equal(context.gradient(self.x), np.full_like(X, 8.0))

    def dead_branches(self) -> None:
        with self.cluster.context() as context:
            h = self.a.forward(self.x)
            self.c.forward(self.b.forward(h))  # never used
            context.backward(self.b.forward(h), np.ones_like(X))
            np.testing.assert_array_equal(context.gradient(self.x), np.full_like(X, 4.0))

    def failure(self) -> None:
        with self.cluster.context() as context:
            h = self.a.forward(self.x)
            with pytest.raises(RemoteError, match="as asked"):
                self.c.chain(h, self.b, "fail").get()
            context.backward(h, np.ones_like(X))

    def failing_backward(self) -> None:
        with self.cluster.context() as context, pytest.raises(RemoteError, match="as asked"):
            context.backward(self.c.forward(self.b.fail_backward(self.a.forward(self.x))), np.ones_like(X))

    def given_up(self) -> None:
        with pytest.raises(InterruptedError), self.cluster.context():
            self.c.forward(self.b.forward(self.a.forward(self.x)))
            raise InterruptedError

    def second_order(self) -> None:
        with self.cluster.context() as context:
            loss = (self.b.forward(self.a.forward(self.x)).get() ** 2).sum()
            gradient = context.grad(loss, self.x, create_graph=True)
            context.backward((gradient * gradient).sum())

    def transform(self) -> None:
        dg.grad(lambda x: (self.b.forward(self.a.forward(x)).get() ** 2).sum())(X)

    def inference(self) -> None:
        self.c.forward(self.b.forward(self.a.forward(X))).numpy()

    def large(self) -> None:
        with self.cluster.context() as context:
            context.backward(self.b.forward(self.a.forward(LARGE)), LARGE)

    def update(self) -> None:
        with self.cluster.context() as context:
            context.backward(self.b.forward(self.a.forward(self.x)), np.ones_like(X))
            self.optimizer.step(context)

    KINDS: tuple[Callable[[Soak], None], ...] = (
        *(chain, fan_out, nested, dead_branches, failure, failing_backward),
        *(given_up, second_order, transform, inference, large, update),
    )

    # ---- counting ----------------------------------------------------------------------------------------------------

    def run(self, passes: int, samples: int) -> None:
        for k in range(passes):
            self.KINDS[k % len(self.KINDS)](self)
            if (k + 1) % (passes // samples) == 0:
                self.samples.append(self.counts_at_rest())

    def counts_at_rest(self) -> Counts:
        """What every process holds and uses, once all holds nothing for any context, which must be soon."""
        deadline = time.monotonic() + DEADLINE
        while True:
            gc.collect()
            counts = {worker.name: dict(worker.counts) for worker in self.cluster.workers}
            counts["driver"] = {**self.cluster.process.counts(), **usage()}
            held = {name: {what: c[what] for what in HOLDINGS if c[what]} for name, c in counts.items()}
            if not any(held.values()):
                return counts
            assert time.monotonic() < deadline, f"still held after {len(self.samples)} samples: {held}"

    def assert_flat(self) -> None:
        """Nothing has grown since the first quarter."""
        warm = self.samples[len(self.samples) // 4 :]
        half = len(warm) // 2
        for process in warm[0]:
            for what in STEADY:
                early, late = (max(sample[process][what] for sample in part) for part in (warm[:half], warm[half:]))
                assert late <= early, f"{what} of {process} grew from {early} to {late}: {self.series(process, what)}"
            early, late = (
                statistics.median(sample[process]["memory_bytes"] for sample in part)
                for part in (warm[:half], warm[half:])
            )
            assert late <= early + MEMORY_SLACK, f"memory of {process} grew: {self.series(process, 'memory_bytes')}"

    def series(self, process: str, what: str) -> list[int]:
        return [sample[process][what] for sample in self.samples]


def soak(passes: int, samples: int) -> None:
    with dg.LocalCluster(WORKERS, PROGRAMS) as cluster:
        found = Soak(cluster)
        found.run(passes, samples)
    found.assert_flat()


@pytest.mark.slow
def test_nothing_grows_over_1500_passes() -> None:
    soak(1_500, samples=20)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_nothing_grows_over_100000_passes() -> None:
    soak(100_000, samples=200)
