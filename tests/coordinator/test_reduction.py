"""Twins move together: by the sum of all their gradients, or not at all."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.coordinator.client import Client
from distgrad.coordinator.optimizer import Turn
from distgrad.errors import ContextClosed, ContextError, WorkerLost
from tests.coordinator.cluster import PATIENCE, PROGRAMS, SIZES, Cluster, X, cluster

PLACES = {"a": "w0", "a@1": "w1", "a@2": "w0"}


def weights(client: Client) -> list[bytes]:
    return [client.read_state(name)["parameters"]["linear.weight"].tobytes() for name in PLACES]


def placed(client: Client) -> list[Any]:
    return [client.place(name, "parts.py:Layer", worker, SIZES) for name, worker in PLACES.items()]


def test_twins_begin_alike_and_stay_so_whatever_their_data() -> None:
    with cluster(PROGRAMS, "w0", "w1") as (_, client):
        shards = placed(client)
        adam = client.optimizer(dg.optim.Adam(0.1), shards)
        assert len(set(weights(client))) == 1
        for step in range(3):
            one, other = client.context(), client.context()
            with ExitStack() as stack:
                for context, shard in zip((one, other), shards, strict=False):  # the third twin has no gradient at all
                    stack.enter_context(context)
                    with context:
                        context.backward(shard.loss(X + step, 0.0))
                assert adam.step(one, other, clip_norm=0.1).applied
        assert len(set(weights(client))) == 1


def test_the_norm_counts_each_parameter_once() -> None:
    with cluster(PROGRAMS, "w0", "w1") as (_, client):
        shards = placed(client)
        sgd = client.optimizer(dg.optim.SGD(0.0), shards)
        with client.context() as ctx:
            ctx.backward([shard.loss(X, 0.0) for shard in shards], [1.0] * 3)
            norm = sgd.step(ctx).norm
            gradients = [ctx.gradients(shard) for shard in shards]
        total = [np.ravel(sum(found[name] for found in gradients)) for name in ("linear.weight", "linear.bias")]
        assert norm == pytest.approx(np.linalg.norm(np.concatenate(total)))


def test_a_step_that_was_given_up_moves_nobody_and_the_next_uses_none_of_its_gradients() -> None:
    with cluster(PROGRAMS, "w0", "w1") as (made, client):
        shards = placed(client)
        sgd = client.optimizer(dg.optim.SGD(1.0), shards)
        before = weights(client)
        with client.context() as ctx:
            ctx.backward(shards[0].loss(X, 0.0))
            made.workers["w1"].process.releases.release([ctx.id]).result(timeout=20)
            with pytest.raises(ContextClosed):
                sgd.step(ctx)
        assert weights(client) == before
        with client.context() as ctx:
            ctx.backward(shards[1].loss(X, 0.0))
            expected = ctx.gradients(shards[1])["linear.weight"]
            sgd.step(ctx)
        assert len(set(weights(client))) == 1
        moved = np.frombuffer(before[0]) - np.frombuffer(weights(client)[0])
        np.testing.assert_allclose(moved, expected.ravel())
        assert_nothing_is_kept(made)


def test_a_lost_owner_of_a_twin_ends_the_step() -> None:
    with cluster(PROGRAMS, "w0", "w1") as (made, client):
        shards = placed(client)
        sgd = client.optimizer(dg.optim.SGD(1.0), shards)
        with client.context() as ctx:
            ctx.backward(shards[0].loss(X, 0.0))
            made.end("w1")
            with pytest.raises(WorkerLost, match="w1"):
                sgd.step(ctx)
        assert_nothing_is_kept(made)


def test_an_owner_of_a_twin_that_was_started_anew_ends_the_step_instead_of_being_waited_for() -> None:
    with cluster(PROGRAMS, "w0", "w1") as (made, client):
        shards = placed(client)
        sgd = client.optimizer(dg.optim.SGD(1.0), shards)
        with client.context() as ctx:
            ctx.backward(shards[0].loss(X, 0.0))
            made.end("w1")
            made.start("w1")
            deadline = time.monotonic() + PATIENCE

            def check() -> None:
                assert time.monotonic() < deadline, "w0 waits for what w1 does not have"

            with pytest.raises(ContextError, match="w1 owns no parameters"):
                sgd.step(ctx, turn=Turn(check=check))


def assert_nothing_is_kept(made: Cluster) -> None:
    for worker in made.workers.values():
        assert worker.reductions.kept == 0
