"""Schedules: in what order tasks have their turn, and how many microbatches are alive."""

from __future__ import annotations

from itertools import product

import pytest

from distgrad.coordinator.training.schedule import SCHEDULES, Kind, Schedule, Shape, Task
from distgrad.graph.waiting import Priority

ROW = Shape(("w0", "w0", "w1", "w1"), microbatches=4, warm_up=0)
ROUNDS = Shape(("w0", "w1", "w0", "w1"), microbatches=4, warm_up=0)


def in_line(schedule: Schedule, shape: Shape, stages: list[int]) -> str:
    """All tasks of these stages, as they would have their turn if all were ready."""
    tasks = [Task(*what) for what in product(Kind, stages, range(shape.microbatches))]
    return " ".join(map(str, sorted(tasks, key=lambda task: schedule.urgency(shape, task))))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpipe", "F0.1 F1.1 F2.1 F3.1 B0 B1 B2 B3 W0 W1 W2 W3"),
        ("1f1b", "B0 B1 B2 B3 W0 W1 W2 W3 F0.1 F1.1 F2.1 F3.1"),
        ("zero-bubble", "B0 B1 B2 B3 F0.1 F1.1 F2.1 F3.1 W0 W1 W2 W3"),
    ],
)
def test_the_kind_of_a_task_counts_first_then_its_microbatch(name: str, expected: str) -> None:
    assert in_line(SCHEDULES[name], ROW, [1]) == expected


def test_interleaved_calls_go_in_groups_through_one_round_of_workers_after_the_other() -> None:
    line = in_line(SCHEDULES["interleaved"], ROUNDS, [0, 2])
    assert [task for task in line.split() if task[0] == "F"] == [
        *("F0.0", "F1.0", "F0.2", "F1.2"),
        *("F2.0", "F3.0", "F2.2", "F3.2"),
    ]


@pytest.mark.parametrize(
    ("workers", "depth", "runs"),
    [
        ("a", 1, [[0]]),
        ("aabb", 2, [[0, 1], [2, 3]]),
        ("abab", 4, [[0], [1], [2], [3]]),
        ("abbc", 3, [[0], [1, 2], [3]]),
    ],
)
def test_consecutive_stages_of_one_worker_count_once(workers: str, depth: int, runs: list[list[int]]) -> None:
    shape = Shape(tuple(workers), 8)
    assert (shape.depth, [list(run) for run in shape.runs], shape.width) == (depth, runs, len(set(workers)))


@pytest.mark.parametrize(
    ("name", "warm_up", "expected"),
    [
        ("gpipe", None, 32),
        ("1f1b", 0, 4),
        ("1f1b", 3, 7),
        ("1f1b", None, 8),
        ("1f1b", 100, 32),
        ("interleaved", 0, 4),
        ("interleaved", None, 8),
        ("zero-bubble", 0, 4),
        ("zero-bubble", None, 8),
    ],
)
def test_what_may_be_alive_fills_the_pipeline_and_warms_it_up(name: str, warm_up: int | None, expected: int) -> None:
    assert SCHEDULES[name].window(Shape(("a", "b", "a", "b"), 32, warm_up)) == expected


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=list(SCHEDULES))
def test_no_schedule_stops_work_that_has_begun_or_lets_weights_precede_gradients(schedule: Schedule) -> None:
    for shape, stage, microbatch in product([ROW, ROUNDS], range(4), range(4)):
        of = schedule.urgencies(shape, stage, microbatch)
        assert min(of).priority > Priority.RESUMED
        assert of.gradient < of.weight
