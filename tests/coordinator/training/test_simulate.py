"""A simulated step: who computes what when, and what that comes to."""

from __future__ import annotations

import itertools

import pytest

from distgrad.coordinator.training.job import Job
from distgrad.coordinator.training.predict import Measured, costs_of, latency_for, predictions
from distgrad.coordinator.training.schedule import SCHEDULES, Kind, Shape
from distgrad.coordinator.training.simulate import Costs, Timeline, simulate
from distgrad.graph.backward import GRADIENTS, WEIGHTS
from distgrad.graph.timesheet import Work

FOUR = Shape(("a", "b", "c", "d"), microbatches=16, warm_up=0)
EVEN = Costs(forward=(1.0,) * 4, gradient=(1.0,) * 4, weight=(1.0,) * 4)
ROUNDS = Shape(("a", "b", "a", "b"), microbatches=8, warm_up=0)


def step(name: str, shape: Shape = FOUR, costs: Costs = EVEN) -> Timeline:
    return simulate(SCHEDULES[name], shape, costs)


@pytest.mark.parametrize("shape", [FOUR, ROUNDS, Shape(("a", "a", "b", "b"), 5), Shape(("a",), 3)])
@pytest.mark.parametrize("name", SCHEDULES)
def test_every_task_is_computed_whole_and_no_worker_computes_two(name: str, shape: Shape) -> None:
    runs = len(shape.runs)
    costs = Costs((1.0, 2.0, 3.0, 4.0)[: len(shape.workers)], (0.5,) * runs, (2.5,) * runs, latency=0.25)
    timeline = step(name, shape, costs)
    spent: dict[tuple[Kind, int], float] = {}
    for span in timeline.spans:
        key = (span.task.kind, span.task.stage)
        spent[key] = spent.get(key, 0.0) + span.end - span.start
    for stage, seconds in enumerate(costs.forward[: len(shape.workers)]):
        assert spent[Kind.FORWARD, stage] == pytest.approx(seconds * shape.microbatches)
    for number, stages in enumerate(shape.runs):
        assert spent[Kind.GRADIENT, stages[0]] == pytest.approx(costs.gradient[number] * shape.microbatches)
        assert spent[Kind.WEIGHT, stages[0]] == pytest.approx(costs.weight[number] * shape.microbatches)
    for worker in set(shape.workers):
        own = sorted((span.start, span.end) for span in timeline.spans if span.worker == worker)
        assert all(before[1] <= after[0] + 1e-9 for before, after in itertools.pairwise(own))


@pytest.mark.parametrize("name", SCHEDULES)
def test_no_more_are_alive_than_the_schedule_allows(name: str) -> None:
    assert step(name).alive == SCHEDULES[name].window(FOUR)


def test_zero_bubble_wastes_least_where_messages_take_no_time() -> None:
    """48 s of work; a bubble of three times F + B, unless gradients of parameters fill it."""
    assert step("zero-bubble").seconds < min(step("gpipe").seconds, step("1f1b").seconds) < 48 + 3 * 3
    warm = Shape(FOUR.workers, FOUR.microbatches, warm_up=4)
    assert step("zero-bubble", warm).seconds == 51


def test_latency_hurts_a_schedule_without_warm_up_most_and_warm_up_hides_it() -> None:
    slow = Costs(EVEN.forward, EVEN.gradient, EVEN.weight, latency=1.0)
    warm = Shape(FOUR.workers, FOUR.microbatches, warm_up=4)
    assert step("1f1b", FOUR, slow).seconds > step("gpipe", FOUR, slow).seconds
    assert step("1f1b", warm, slow).seconds < 0.85 * step("1f1b", FOUR, slow).seconds


def test_a_single_microbatch_takes_the_way_there_and_back() -> None:
    lone = Shape(("a", "b"), microbatches=1)
    costs = Costs((1.0, 2.0), (4.0, 8.0), (16.0, 32.0), latency=0.5, update=64.0)
    # There, to b, loss to the driver and start from it; back to a. W of b ends last, and is told.
    assert simulate(SCHEDULES["1f1b"], lone, costs).seconds == 0.5 + 1 + 0.5 + 2 + 1 + 8 + 32 + 0.5 + 64
    found = latency_for(lone, costs, simulate(SCHEDULES["1f1b"], lone, costs).seconds)
    assert found == pytest.approx(0.5)


def test_a_step_that_is_faster_than_its_tasks_has_no_latency() -> None:
    assert latency_for(FOUR, EVEN, 1.0) == 0.0


@pytest.mark.parametrize(
    ("places", "gradient", "weight"),
    [
        ("aabb", (4.0, 6.0), (8.0, 10.0)),  # each worker has one run of stages
        ("abab", (0.0, 2.0, 4.0, 4.0), (2.0, 10 / 3, 6.0, 20 / 3)),  # what others wait for on a is of its second one
    ],
)
def test_what_a_worker_spends_on_gradients_is_ascribed_to_its_stages(
    places: str, gradient: tuple[float, ...], weight: tuple[float, ...]
) -> None:
    calls = (1.0, 2.0, 3.0, 4.0)
    job = Job.of(
        name="ascribed",
        steps=1,
        microbatches=2,
        shard=[{"name": f"s{k}", "program": "p.py:S", "worker": place} for k, place in enumerate(places)],
        pipeline={"forward": [f"s{k}.forward" for k in range(4)]},
        optimizer={"kind": "SGD", "settings": {"lr": 0.1}},
    )
    work = {
        "a": {GRADIENTS: Work(2, 8.0), WEIGHTS: Work(2, 16.0)},
        "b": {GRADIENTS: Work(2, 12.0), WEIGHTS: Work(2, 20.0)},
    }
    for k, place in enumerate(places):
        work[place][f"s{k}.forward"] = Work(2, 2 * calls[k])
    costs = costs_of(job, Shape(tuple(places), 2), work, microbatches=2)
    assert costs.forward == calls
    assert costs.gradient == pytest.approx(gradient)
    assert costs.weight == pytest.approx(weight)


def test_the_prediction_to_pick_is_the_fastest_or_the_smaller_of_those_that_are_as_fast() -> None:
    alone = Measured(Shape(("a",), 8), Costs((1.0,), (0.0,), (2.0,)), seconds=24.0, idle={"a": 0.0})
    found = predictions(alone)
    assert {one.schedule.name for one in found} == set(SCHEDULES)
    assert {one.timeline.seconds for one in found} == {24.0}
    assert found[0].timeline.alive == min(one.timeline.alive for one in found)
    bubbly = predictions(Measured(FOUR, EVEN, seconds=1.0, idle={}))
    assert bubbly[0].timeline.seconds == min(one.timeline.seconds for one in bubbly)


def test_a_chart_has_a_row_for_each_worker() -> None:
    chart = simulate(SCHEDULES["gpipe"], Shape(("a", "b"), 2), Costs((1.0, 1.0), (1.0, 1.0), (1.0, 1.0))).chart(8)
    assert chart.splitlines() == ["a FF··BBWW", "b ·FFBBWW·"]
