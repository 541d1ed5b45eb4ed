"""The executor under load: deep nesting, thousands parked, random timeouts and cancellations. Seeded."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from distgrad import errors
from distgrad.graph.executor import Executor, Priority, Promise
from tests.transport.served import ServedLane

DEADLINE = 30.0  # seconds until something that should have happened counts as hung


def at_end(executor: Executor) -> None:
    """Nothing has been lost: no job runs, none is parked, and the executor still takes one."""
    done: Promise[None] = Promise()
    executor.submit(lambda: done.set_result(None), Priority.FILLER)
    done.result(DEADLINE)
    assert executor.failures == 0
    assert executor.close(timeout=DEADLINE)
    now = executor.statistics()
    assert (now.running, now.parked, now.threads, sum(now.queued.values())) == (0, 0, 0, 0)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_calls_nest_500_deep_among_processes_that_call_each_other(processes: int) -> None:
    executors = [Executor(name=f"process {number}") for number in range(processes)]

    def call(depth: int) -> Promise[int]:
        executor, promise = executors[depth % processes], Promise[int]()

        def job() -> None:
            if depth == 0:
                promise.set_result(0)
                return
            inner = call(depth - 1)
            executor.wait(inner, DEADLINE)
            promise.set_result(inner.result(0) + 1)

        executor.submit(job, Priority.CALL)
        return promise

    assert call(500).result(DEADLINE) == 500
    for executor in executors:
        at_end(executor)


def test_2000_jobs_park_and_resume_in_any_order() -> None:
    executor = Executor()
    gates: list[Promise[int]] = [Promise() for _ in range(2000)]
    results: list[Promise[int]] = [Promise() for _ in gates]

    def job(number: int) -> None:
        executor.wait(gates[number], DEADLINE)
        results[number].set_result(gates[number].result(0))

    for number in range(len(gates)):
        executor.submit(partial(job, number), Priority.CALL)
    parked: Promise[int] = Promise()
    executor.submit(lambda: parked.set_result(executor.statistics().parked), Priority.FILLER)
    assert parked.result(DEADLINE) == 2000
    numbers = list(range(2000))
    random.Random(3).shuffle(numbers)
    for number in numbers:
        gates[number].set_result(number)
    assert [result.result(DEADLINE) for result in results] == list(range(2000))
    at_end(executor)


@pytest.fixture
def lane() -> Iterator[ServedLane]:
    with ServedLane() as lane:
        yield lane


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_random_waits_timeouts_and_cancellations_lose_nothing(seed: int, slots: int, lane: ServedLane) -> None:
    """Every job ends or is dropped, no more compute at once than slots, a wait that returns has its result."""
    executor = Executor(slots=slots, idle_seconds=1e-3)
    generator = random.Random(seed)
    computing = 0
    counted = threading.Lock()
    violations: list[str] = []
    tally = {"ended": 0, "dropped": 0}

    def step(change: int) -> None:
        nonlocal computing
        with counted:
            computing += change
            if computing > slots:
                violations.append(f"{computing} compute at once")

    def job(gates: list[Promise[int]], timeouts: list[float]) -> None:
        step(+1)
        for gate, timeout in zip(gates, timeouts, strict=True):
            step(-1)
            try:
                executor.wait(gate, timeout)
                came = True
            except (errors.Timeout, errors.Cancelled):
                came = False
            step(+1)
            if came and not gate.done:
                violations.append("a wait returned before its promise was done")
        step(-1)
        with counted:
            tally["ended"] += 1

    def dropped(_: Any) -> None:
        with counted:
            tally["dropped"] += 1

    gates: list[Promise[int]] = [Promise() for _ in range(300)]
    tasks = []
    setters = [
        threading.Thread(target=lambda part=part: [gate.set_result(1) for gate in part])
        for part in (gates[:150], gates[150:])
    ]
    for number in range(400):
        chosen = generator.choices(gates, k=3)
        timeouts = [generator.choice([0, 1e-4, 1e-3, 1e-2, DEADLINE]) for _ in chosen]
        priority = generator.choice([Priority.GRADIENT, Priority.CALL, Priority.FILLER])
        submit = partial(executor.submit, partial(job, chosen, timeouts), priority, cancelled=dropped, kind="any")
        if generator.random() < 0.3:
            # As if it had turned out to be brief: it runs on the reader, which gives way when it waits.
            executor._brief.add("any")
            tasks.append(lane.serve(submit))
        else:
            tasks.append(submit())
        if generator.random() < 0.2:
            generator.choice(tasks).cancel()
        if number in (100, 250):
            setters.pop().start()
    for task in generator.sample(tasks, 100):
        task.cancel()
    at_end(executor)
    assert violations == []
    assert tally["ended"] + tally["dropped"] == 400


def test_waking_and_timing_out_at_the_same_moment_leaves_no_gate_open() -> None:
    """A promise set just as its wait times out: the job goes on exactly once, whichever came first."""
    executor = Executor()
    rounds = 300
    promises: list[Promise[int]] = [Promise() for _ in range(rounds)]
    reached: list[Promise[None]] = [Promise() for _ in range(rounds)]
    ended: Promise[list[bool]] = Promise()

    def job() -> None:
        outcomes = []
        for promise, mark in zip(promises, reached, strict=True):
            mark.set_result(None)
            try:
                executor.wait(promise, 5e-5)
                outcomes.append(promise.done)
            except errors.Timeout:
                outcomes.append(True)
        ended.set_result(outcomes)

    executor.submit(job, Priority.CALL)
    for promise, mark in zip(promises, reached, strict=True):
        mark.result(DEADLINE)
        promise.set_result(1)
    assert ended.result(DEADLINE) == [True] * rounds
    at_end(executor)


def test_threads_that_retire_while_work_arrives_lose_no_job() -> None:
    executor = Executor(idle_seconds=1e-6)
    ran = 0

    def job(done: Promise[None]) -> None:
        nonlocal ran
        ran += 1
        done.set_result(None)

    for _ in range(2000):
        done: Promise[None] = Promise()
        executor.submit(partial(job, done), Priority.CALL)
        done.result(DEADLINE)
    assert ran == 2000
    at_end(executor)
