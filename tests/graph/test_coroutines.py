"""Methods that are coroutines, whose tasks run side by side."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.wire import pb

from .memory_cluster import memory_cluster
from .shards import Dense

X = np.array([0.3, -1.2, 0.7])


class Tasks:
    """Calls other shards, and others with what they returned, from a task for each."""

    def __init__(self, in_a_group: bool) -> None:
        self.in_a_group = in_a_group

    async def sum(self, x: Any, *shards: Any) -> Any:
        async def one(number: int) -> Any:
            h = await shards[number].forward(x * (number + 0.3))
            return await shards[number].forward(h * x) * x

        if self.in_a_group:
            async with asyncio.TaskGroup() as group:
                parts = [group.create_task(one(number)) for number in range(len(shards))]
            return sum(part.result() for part in parts)
        return sum(await asyncio.gather(*map(one, range(len(shards)))))


class Turned(Dense):
    """Computes when its turn has come."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.turn = threading.Event()

    def forward(self, x: Any) -> Any:
        assert self.turn.wait(10)
        return super().forward(x)


def observe(order: tuple[int, ...], in_a_group: bool) -> tuple[dict[tuple[int, ...], str], bytes]:
    """The calls by path, and the gradient's bits, when the first calls of the shards end in that order, the next one
    when the end of the one before is known."""
    shards = [Turned(seed) for seed in range(3)]
    shards[order[0]].turn.set()
    with memory_cluster(4) as cluster:
        tasks = cluster.place("tasks", Tasks(in_a_group), "w3")
        handles = [cluster.place(f"s{k}", shard, f"w{k}") for k, shard in enumerate(shards)]
        ended = cluster.workers["w3"].caller.ended
        turns = iter(order[1:])

        def ended_in_turn(*arguments: Any) -> None:
            ended(*arguments)
            shards[next(turns, 0)].turn.set()

        cluster.workers["w3"].messages[pb.Done] = ended_in_turn
        x = dg.tensor(X, requires_grad=True)
        with cluster.context() as ctx:
            ctx.backward(tasks.sum(x, *handles), np.array([1.0, -2.0, 0.5]))
            calls = {call.path: call.label for call in ctx.graph().calls}
            return calls, np.asarray(ctx.gradient(x)).tobytes()


@pytest.mark.parametrize("in_a_group", [False, True])
def test_tasks_give_the_same_bits_whichever_is_faster(in_a_group: bool) -> None:
    observed = [observe(order, in_a_group) for order in itertools.permutations(range(3))]
    assert all(one == observed[0] for one in observed)
