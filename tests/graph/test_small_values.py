"""Small values come with the news that their call has ended; nobody need ask for them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import RemoteError
from distgrad.wire import pb

from .shards import Dense, Gate, Router
from .worlds import SPREAD, ClusterWorld, cluster_world

X = np.array([0.3, -1.2, 0.7])
SHARDS = {"a": partial(Dense, 1), "r": Router, "gate": Gate}


@pytest.fixture
def world() -> Iterator[ClusterWorld]:
    with cluster_world(SHARDS, SPREAD, seed=5) as world:
        yield world


@pytest.fixture
def fetches(world: ClusterWorld) -> list[pb.Fetch]:
    """What the workers were asked for."""
    asked: list[pb.Fetch] = []

    def note(link: Any, body: pb.Fetch, *rest: Any, answer: Any) -> None:
        asked.append(body)
        answer(link, body, *rest)

    for worker in world.cluster.workers.values():
        worker.requests[pb.Fetch] = partial(note, answer=worker.requests[pb.Fetch])
    return asked


def test_after_the_first_call_of_a_method_its_small_values_come_by_themselves(
    world: ClusterWorld, fetches: list[pb.Fetch]
) -> None:
    a = world.shard("a")
    first = a.forward(X)
    first.wait()  # else its value may be fetched before the news of its end have come
    expected = first.get()
    asked = len(fetches)
    for _ in range(5):
        value = a.forward(X).get()
        assert isinstance(value, dg.Tensor)
        assert not value.requires_grad
        np.testing.assert_array_equal(value.data, expected.data, strict=True)
    assert len(fetches) == asked


@pytest.mark.parametrize("value", [X, np.float32(2.5), 7, 2.5, True, None, np.zeros((0, 3)), np.arange(3) > 1])
def test_a_value_is_the_same_whether_it_comes_or_is_fetched(
    world: ClusterWorld, fetches: list[pb.Fetch], value: Any
) -> None:
    a = world.shard("a")
    first = a.identity(value)
    first.wait()
    seen = [first.get(), *(a.identity(value).get() for _ in range(2))]
    assert len(fetches) <= 1
    for other in seen[1:]:
        assert type(other) is type(seen[0])
        assert getattr(other, "dtype", None) == getattr(seen[0], "dtype", None)
        np.testing.assert_array_equal(np.asarray(other), np.asarray(seen[0]), strict=True)


@pytest.mark.parametrize("waits", [True, False], ids=["has come", "is fetched"])
def test_a_number_that_a_method_computes_is_a_tensor_however_it_comes(world: ClusterWorld, waits: bool) -> None:
    for _ in range(3):
        total = world.shard("a").total(X)
        if waits:
            total.wait()
        assert isinstance(total.get(), dg.Tensor)
        assert isinstance(total.numpy(), np.ndarray)


@pytest.mark.parametrize("large", [np.zeros(5000), [X, X], "text", 3j])
def test_other_values_are_fetched_also_when_those_before_them_came(
    world: ClusterWorld, fetches: list[pb.Fetch], large: Any
) -> None:
    a = world.shard("a")
    for value in (X, X, large, large, X, X):
        asked = len(fetches)
        got = a.identity(value).get()
        np.testing.assert_array_equal(np.asarray(got), np.asarray(value))
        assert len(fetches) > asked or value is X


def test_a_value_comes_when_its_method_returns_even_if_calls_it_made_go_on(world: ClusterWorld) -> None:
    router, gate = world.shard("r"), world.shard("gate")
    shard = world.cluster.places["gate"][1]
    shard.open.set()
    first = router.calls_and_forgets(X, gate)
    expected = first.get()
    first.wait()
    shard.open.clear()
    shard.left.clear()
    second = router.calls_and_forgets(X, gate)
    np.testing.assert_array_equal(second.get(timeout=10).data, expected.data)
    assert not second.done
    assert not shard.left.is_set()
    shard.open.set()
    second.wait(timeout=10)


def test_an_error_comes_as_the_value_would(world: ClusterWorld, fetches: list[pb.Fetch]) -> None:
    a = world.shard("a")
    for _ in range(3):
        a.identity(X).get()
    with pytest.raises(RemoteError, match="no luck with shape"):
        a.fail(X).get()
    with pytest.raises(RemoteError, match="RuntimeError: kept it, though"):
        world.shard("r").keep_and_fail(X).get()


def test_a_loss_read_as_a_number_leaves_no_edge_and_one_that_is_got_does(
    world: ClusterWorld, fetches: list[pb.Fetch]
) -> None:
    a = world.shard("a")
    for _ in range(2):
        with world.context() as ctx:
            x = world.variable("x", X)
            loss = a.loss(x)
            number = loss.item()
            ctx.backward(loss.get() * 2.0)
            gradient = ctx.gradient(x)
        with world.context() as ctx:
            y = world.variable("y", X)
            again = a.loss(y)
            ctx.backward(again)
            np.testing.assert_array_equal(2 * ctx.gradient(y), gradient)
            assert again.item() == number
    # Only `get` asked, and the first `item`.
    assert len(fetches) <= 4


def test_what_the_caller_forgets_the_callee_drops_with_the_next_call(world: ClusterWorld) -> None:
    a = world.shard("a")
    for _ in range(50):
        a.forward(X).get()
    assert world.cluster.workers["w0"].counts()["values"] <= 2


# ---- values that are fetched after every call come with its news -----------------------------------------------------


def test_values_that_are_got_in_a_context_come_with_their_calls_and_leave_the_same_edges(
    world: ClusterWorld, fetches: list[pb.Fetch]
) -> None:
    a = world.shard("a")
    gradients = []
    for _ in range(4):
        with world.context() as ctx:
            x = world.variable("x", X)
            y = a.forward(x).get()
            ctx.backward((a.forward(y).get() * y).sum())
            gradients.append(ctx.gradient(x))
    assert len(fetches) == 1  # of the first call
    assert len({gradient.tobytes() for gradient in gradients}) == 1


def test_no_more_values_are_asked_for_than_were_fetched(world: ClusterWorld, fetches: list[pb.Fetch]) -> None:
    a = world.shard("a")
    with world.context():
        calls = [a.forward(world.variable("x", X)) for _ in range(3)]
        calls[0].get()
        more = [a.forward(world.variable("x", X)) for _ in range(3)]
        brought = [call.outcome.brings for call in [*calls, *more]]
        assert brought == [False, False, False, True, False, False]
        values = [call.get().numpy() for call in more]
    assert len(fetches) == 3
    assert all(np.array_equal(value, values[0]) for value in values)


def test_a_value_that_nobody_takes_is_no_root_of_anything(world: ClusterWorld) -> None:
    a = world.shard("a")
    with world.context() as ctx:
        x = world.variable("x", X)
        a.forward(x).get()
        unused = a.forward(x)
        assert unused.outcome.brings
        unused.wait()
        ctx.backward(x.sum())
        np.testing.assert_array_equal(ctx.gradient(x), np.ones_like(X))
        assert ctx.gradients("a") == {}


@pytest.mark.parametrize("large", [np.zeros(2**14), [np.zeros(2**13), np.zeros(2**13)]])
def test_large_values_are_fetched_all_the_same(world: ClusterWorld, fetches: list[pb.Fetch], large: Any) -> None:
    a = world.shard("a")
    for expected in (1, 2, 3):
        with world.context():
            got = a.identity(large).get()
        np.testing.assert_array_equal(np.asarray(got), np.asarray(large))
        assert len(fetches) == expected


def test_the_error_of_a_call_whose_value_was_asked_for_is_raised_by_get(world: ClusterWorld) -> None:
    a = world.shard("a")
    with world.context():
        a.forward(X).get()
        failing = a.forward(np.zeros((2, 2, 2, 7)))
        assert failing.outcome.brings
        with pytest.raises(RemoteError):
            failing.get()
