"""The picture of a context's graph: every call where it ran, every edge between the calls it joins."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import ContextClosed
from distgrad.graph.stitched import Graph, GraphEdge

from .memory_cluster import memory_cluster
from .shards import Dense, Router

X = np.array([0.3, -1.2, 0.7])


class Keeper:
    """Hands out its parameter."""

    def __init__(self) -> None:
        self.b = dg.tensor(X, requires_grad=True)

    def weights(self) -> dg.Tensor:
        return self.b


def two_layers() -> Graph:
    with memory_cluster(2) as cluster:
        a, b = cluster.place("a", Dense(1), "w0"), cluster.place("b", Dense(2), "w1")
        with cluster.context() as ctx:
            x = dg.tensor(X, requires_grad=True)
            ctx.backward(b.loss(a.forward(x)))
            return ctx.graph(timeout=10)


GRAPH = two_layers()


def test_every_call_is_shown_where_it_ran() -> None:
    assert [(call.path, call.process, call.label) for call in GRAPH.calls] == [
        ((), "driver", "program"),
        ((0,), "w0", "a.forward"),
        ((1,), "w1", "b.loss"),
    ]
    assert GRAPH.processes == ("driver", "w0", "w1")


def test_calls_tell_how_long_they_ran_and_what_they_recorded() -> None:
    program, forward, loss = GRAPH.calls
    assert program.seconds == 0
    assert forward.seconds > 0
    assert dict(forward.operations) == {"add": 1, "matmul": 1, "tanh": 1}
    assert "sum" in loss.operations


def test_edges_join_the_calls_they_cross_between() -> None:
    ends = [(edge.source, edge.target, edge.sender, edge.receiver) for edge in GRAPH.edges]
    assert ends == [((), (0,), "driver", "w0"), ((0,), (1,), "w0", "w1")]
    assert all((edge.dtype, edge.shape, edge.bytes) == ("float64", (3,), 24) for edge in GRAPH.edges)
    assert GRAPH.bytes_crossing == 48


def test_a_value_that_nobody_has_fetched_yet_has_no_edge() -> None:
    with memory_cluster(1) as cluster:
        a = cluster.place("a", Dense(1), "w0")
        with cluster.context() as ctx:
            a.forward(X).wait()
            graph = ctx.graph()
    assert len(graph.calls) == 2
    assert graph.edges == ()


def test_calls_that_shards_make_are_shown_under_their_callers() -> None:
    with memory_cluster(2) as cluster:
        a, router = cluster.place("a", Dense(1), "w0"), cluster.place("r", Router(), "w1")
        with cluster.context() as ctx:
            router.through(dg.tensor(X, requires_grad=True), a).wait()
            graph = ctx.graph()
    assert [(call.path, call.process) for call in graph.calls] == [((), "driver"), ((0,), "w1"), ((0, 0), "w0")]


def test_a_parameter_that_a_call_returns_leaves_from_that_call() -> None:
    with memory_cluster(2) as cluster:
        a, b = cluster.place("a", Keeper(), "w0"), cluster.place("b", Dense(2), "w1")
        with cluster.context() as ctx:
            b.total(a.weights()).wait()
            graph = ctx.graph()
    assert [(edge.source, edge.target) for edge in graph.edges] == [((0,), (1,))]


class Tasks:
    """Calls another shard from a task."""

    async def call(self, x: Any, other: Any) -> Any:
        return await asyncio.create_task(self._twice(x, other))

    async def _twice(self, x: Any, other: Any) -> Any:
        return await other.forward(x * 2.0)


def test_what_branches_and_tasks_do_belongs_to_the_program_and_the_call_they_are_in() -> None:
    with memory_cluster(2) as cluster:
        a, tasks = cluster.place("a", Dense(1), "w0"), cluster.place("t", Tasks(), "w1")
        with cluster.context() as ctx, ctx.branch(3):
            h = a.forward(dg.tensor(X, requires_grad=True) * 2.0).get()
            tasks.call(h, a).wait()
            graph = ctx.graph()
    program, forward, call, inner = (call.path for call in graph.calls)
    ends = {(edge.source, edge.target) for edge in graph.edges}
    assert ends == {(program, forward), (forward, program), (program, call), (call, inner), (inner, call)}
    assert [call.operations.get("multiply") for call in graph.calls] == [1, None, 1, None]


def test_the_list_names_calls_operations_and_arrays() -> None:
    text = str(GRAPH)
    assert "3 calls on 3 processes, 2 edges" in text
    assert "w0  a.forward  (3 operations, " in text
    assert "-> 1 on w1  float64[3]" in text


def test_an_edge_with_one_end_is_listed_all_the_same() -> None:
    edge = GraphEdge("e", (0,), None, "w0", "", "float32", (2,), 8)
    assert "-> nobody yet  float32[2]" in str(Graph("c", GRAPH.calls, (edge,)))


def test_the_picture_has_a_box_for_each_process_and_an_arrow_for_each_edge() -> None:
    dot = GRAPH.dot()
    assert [f'label="{name}"' in dot for name in GRAPH.processes] == [True] * 3
    assert '"()" -> "0" [label="float64[3]"];' in dot
    assert dot.count(" -> ") == len(GRAPH.edges)


def test_coroutines_may_ask_too() -> None:
    async def ask() -> Graph:
        async with cluster.context() as ctx:
            await cluster.driver.handle("a").forward(X)
            return await ctx.graph_async(timeout=10)

    with memory_cluster(1) as cluster:
        cluster.place("a", Dense(1), "w0")
        assert [call.label for call in asyncio.run(ask()).calls] == ["program", "a.forward"]


def test_a_closed_context_has_no_graph() -> None:
    with memory_cluster(1) as cluster:
        with cluster.context() as ctx:
            pass
        with pytest.raises(ContextClosed):
            ctx.graph()
