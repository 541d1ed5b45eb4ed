"""Requests of a batchable function wait for others, but never longer than its author allows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import ConfigError
from distgrad.service.gathering import Gathering
from distgrad.service.settings import ServiceSettings
from distgrad.service.tasks import Task
from tests.processes import eventually
from tests.service.raw import DEADLINE, Failed, Local, Running, serving
from tests.service.test_tasks import task


class Clock:
    """Has `call_later`, and rings when the test says so."""

    def __init__(self) -> None:
        self.alarms: list[tuple[float, Callable[[], Any]]] = []

    def call_later(self, delay: float, ring: Callable[..., Any], *args: Any) -> Any:
        alarm = delay, lambda: ring(*args)
        self.alarms.append(alarm)
        clock = self

        class Handle:
            def cancel(self) -> None:
                if alarm in clock.alarms:
                    clock.alarms.remove(alarm)

        return Handle()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def released() -> list[list[int]]:
    return []


@pytest.fixture
def gathering(clock: Clock, released: list[list[int]]) -> Gathering:
    def ready(tasks: list[Task]) -> None:
        released.append([each.number for each in tasks])

    return Gathering(clock.call_later, 3, ready)


def test_enough_of_them_wait_no_longer(gathering: Gathering, clock: Clock, released: list[list[int]]) -> None:
    for number, key in enumerate("kmkk", 1):
        gathering.put(task(number, "a", batch=key), 0.5)
    assert (released, gathering.waiting, [each.number for each in gathering]) == ([[1, 3, 4]], 1, [2])
    assert [delay for delay, _ in clock.alarms] == [0.5]


def test_the_first_waits_so_long_and_those_after_it_less(
    gathering: Gathering, clock: Clock, released: list[list[int]]
) -> None:
    gathering.put(task(1, "a", batch="k"), 0.5)
    gathering.put(task(2, "b", batch="k"), 0.5)
    ((_, ring),) = clock.alarms
    ring()
    assert (released, gathering.waiting, clock.alarms) == ([[1, 2]], 0, [])


def test_one_that_is_given_up_is_waited_for_no_more(
    gathering: Gathering, clock: Clock, released: list[list[int]]
) -> None:
    first, second = task(1, "a", batch="k"), task(2, "b", batch="k")
    gathering.put(first, 0.5)
    gathering.put(second, 0.5)
    gathering.remove(first)
    assert first not in gathering
    assert second in gathering
    gathering.remove(second)
    assert (released, gathering.waiting, clock.alarms) == ([], 0, [])


def test_all_are_let_go_at_once(gathering: Gathering, clock: Clock, released: list[list[int]]) -> None:
    gathering.put(task(1, "a", batch="k"), 0.5)
    gathering.put(task(2, "a", batch="m"), 0.5)
    gathering.release_all()
    assert (released, clock.alarms) == ([[1], [2]], [])


# ---- by a server -----------------------------------------------------------------------------------------------------


SETTINGS = ServiceSettings(workers=1, max_batch=3)


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with serving(["soon", "late"], SETTINGS) as running:
        yield running


@pytest.fixture
def local(running: Running) -> Iterator[Local]:
    local = Local(running.address)
    yield local
    local.close()


def test_enough_requests_are_one_computation(local: Local) -> None:
    for _ in range(3):
        local.send("evaluate", function="late", arguments=[np.ones(2)])
    answers = [local.receive()[1] for _ in range(3)]
    calls = {tuple(found["value"]) for found in answers if not isinstance(found, Failed)}
    assert len(answers) == 3
    assert len(calls) == 1


def test_a_request_that_stays_alone_is_answered_after_its_delay(local: Local) -> None:
    first, second = (local.ask("evaluate", function="soon", arguments=[np.ones(1)])["value"] for _ in range(2))
    assert first < second


def test_who_has_less_time_than_the_delay_is_not_kept_waiting(local: Local) -> None:
    assert local.ask("evaluate", timeout=DEADLINE, function="late", arguments=[np.ones(1)])["value"] > 0


def test_requests_that_wait_count_and_are_answered_when_the_server_drains() -> None:
    with serving(["late"], SETTINGS) as running, ThreadPoolExecutor(1) as pool:
        local = Local(running.address)
        number = local.send("evaluate", function="late", arguments=[np.ones(1)])
        assert eventually(lambda: running.counts()["queued"] == 1)
        answer = pool.submit(local.receive)
        assert asyncio.run_coroutine_threadsafe(running.server.drain(), running.loop).result(DEADLINE)
        found, fields = answer.result(DEADLINE)
        assert (found, fields["value"]) == (number, [1])  # type: ignore[index]
        local.close()


def test_a_client_that_leaves_is_waited_for_no_more(running: Running) -> None:
    leaving = Local(running.address)
    leaving.send("evaluate", function="late", arguments=[np.ones(1)])
    assert eventually(lambda: running.counts()["queued"] == 1)
    leaving.close()
    assert eventually(lambda: running.counts()["queued"] == 0)


@pytest.mark.parametrize(("batchable", "delay"), [(True, -1.0), (False, 0.1)])
def test_a_delay_that_makes_no_sense_is_refused(batchable: bool, delay: float) -> None:
    with pytest.raises(ConfigError, match="max_delay is for batchable functions"):
        dg.served(batchable=batchable, max_delay=delay)
