"""Rounds: steps of several trainers from one version are taken in turn, whoever asks first."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.coordinator.client import Client
from distgrad.coordinator.optimizer import RemoteOptimizer, StepResult, Turn
from distgrad.errors import ContextError, DistgradError
from tests.coordinator.cluster import PATIENCE, PROGRAMS, Cluster, cluster
from tests.processes import eventually

TRAINERS = 3
# Each trainer's gradient of a `Sum`, and the limit it is clipped to by the length of 1: steps do not commute.
GRADIENTS = [np.array([3.0, 0.0]), np.array([0.0, 2.0]), np.array([1.0, 1.0])]


def ask(client: Client, optimizer: RemoteOptimizer, number: int, gradient: Any, scale: float = 1.0) -> StepResult:
    shard = client.shard("sum")
    with client.context() as ctx:
        ctx.backward(shard.dot(gradient), gradient=np.asarray(scale))
        return optimizer.step(ctx, clip_norm=1.0, turn=Turn(number, TRAINERS, loss=float(number)))


def alone(*gradients: Any) -> np.ndarray:
    """The weight after these steps of momentum, one after the other, from gradients that do not depend on it."""
    weight = velocity = np.zeros(2)
    for gradient in gradients:
        velocity = 0.5 * velocity + gradient / max(float(np.linalg.norm(gradient)), 1.0)
        weight = weight - 0.1 * velocity
    return weight


def together(made: Cluster, first: Client) -> list[tuple[Client, RemoteOptimizer]]:
    """Trainers of one shard under one optimizer."""
    first.place("sum", "parts.py:Sum")
    clients = [first, *(made.client() for _ in range(TRAINERS - 1))]
    rule = dg.optim.SGD(0.1, momentum=0.5)
    return [(client, client.optimizer(rule, [client.shard("sum")], "sgd")) for client in clients]


@pytest.fixture
def made() -> Iterator[tuple[Cluster, Client]]:
    with cluster(PROGRAMS, "w0") as found:
        yield found


@pytest.fixture
def trainers(made: tuple[Cluster, Client]) -> list[tuple[Client, RemoteOptimizer]]:
    return together(*made)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_steps_are_taken_in_the_order_of_turns_and_answered_when_all_are(trainers: Any, order: tuple[int, ...]) -> None:
    asked: list[threading.Event] = [threading.Event() for _ in range(TRAINERS + 1)]
    asked[0].set()

    def train(position: int) -> StepResult:
        number = order[position]
        client, optimizer = trainers[number]
        with client.context() as ctx:
            ctx.backward(client.shard("sum").dot(GRADIENTS[number]))
            assert asked[position].wait(PATIENCE)
            turn = Turn(number, TRAINERS, loss=float(number), check=asked[position + 1].set)
            return optimizer.step(ctx, clip_norm=1.0, turn=turn)

    with ThreadPoolExecutor(TRAINERS) as pool:
        results = list(pool.map(train, range(TRAINERS)))
    assert [result.losses for result in results] == [(0.0, 1.0, 2.0)] * TRAINERS
    assert [optimizer.version for _, optimizer in trainers] == [TRAINERS] * TRAINERS
    np.testing.assert_allclose(trainers[0][0].shard("sum").state_dict()["weight"], alone(*GRADIENTS), rtol=1e-12)


def test_rounds_follow_one_another(trainers: Any) -> None:
    def train(number: int) -> None:
        for _ in range(4):
            ask(*trainers[number], number, GRADIENTS[number])

    with ThreadPoolExecutor(TRAINERS) as pool:
        list(pool.map(train, range(TRAINERS)))
    np.testing.assert_allclose(trainers[0][0].shard("sum").state_dict()["weight"], alone(*GRADIENTS * 4), rtol=1e-12)


def test_a_step_that_is_given_up_ends_its_round(trainers: Any) -> None:
    scales = [3.0, np.inf, 1.0]
    with ThreadPoolExecutor(TRAINERS) as pool:
        numbers = range(TRAINERS)
        results = list(pool.map(lambda number: ask(*trainers[number], number, np.ones(2), scales[number]), numbers))
    assert [result.applied for result in results] == [True, False, False]
    np.testing.assert_allclose(trainers[0][0].shard("sum").state_dict()["weight"], alone(np.full(2, 3.0)), rtol=1e-12)


def test_an_error_in_a_round_reaches_all_its_trainers(trainers: Any) -> None:
    for _, stale in trainers:
        stale.version = 7

    def train(number: int) -> str:
        client, optimizer = trainers[number]
        with client.context() as ctx, pytest.raises(DistgradError) as caught:
            optimizer.step(ctx, turn=Turn(number, TRAINERS))
        return str(caught.value)

    with ThreadPoolExecutor(TRAINERS) as pool:
        errors = list(pool.map(train, range(TRAINERS)))
    assert all("optimizer 'sgd' is at version 0; asked for 8" in error for error in errors)


@pytest.mark.parametrize("turn", [Turn(0, TRAINERS), Turn(3, TRAINERS)])
def test_a_turn_is_taken_by_one_trainer_alone(made: tuple[Cluster, Client], trainers: Any, turn: Turn) -> None:
    refused = threading.Event()

    def gives_up() -> None:
        if refused.is_set():
            raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(_step, *trainers[0], Turn(0, TRAINERS, check=gives_up))
        assert eventually(lambda: repr(made[0].coordinator.rounds) == "<Rounds: {'sgd@1': 1}>")  # its request is there
        with pytest.raises(ContextError, match=rf"turn {turn.number} of 3 was asked for twice, or there is no such"):
            _step(*trainers[1], turn)
        refused.set()
        assert isinstance(first.exception(), KeyboardInterrupt)


def _step(client: Client, optimizer: RemoteOptimizer, turn: Turn) -> StepResult:
    with client.context() as ctx:
        return optimizer.step(ctx, turn=turn)
