"""Schedules as values: composed, compared, written down."""

from __future__ import annotations

import json
import math

import pytest

from distgrad.errors import ConfigError
from distgrad.optim import schedules

ALL = [
    schedules.Constant(0.5),
    schedules.Step(every=3),
    schedules.Cosine(total=10, final=0.1),
    schedules.LinearWarmup(steps=4),
    schedules.OneCycle(total=10),
    schedules.Product((schedules.LinearWarmup(steps=4), schedules.Cosine(total=10))),
    schedules.Sequence((schedules.Constant(), schedules.Step(every=2)), (5,)),
]


def test_every_kind_is_tried_here() -> None:
    assert {type(schedule).__name__ for schedule in ALL} == schedules.KINDS.keys()


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_a_schedule_survives_the_wire(schedule: schedules.Schedule) -> None:
    assert schedules.from_settings(json.loads(json.dumps(schedule.to_settings()))) == schedule


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_a_schedule_is_a_function_of_the_step_alone(schedule: schedules.Schedule) -> None:
    forward = [schedule(step) for step in range(30)]
    assert forward == [schedule(step) for step in reversed(range(30))][::-1]
    assert all(0 <= factor <= 1 for factor in forward)


def test_a_product_multiplies_and_a_sequence_follows() -> None:
    warm = schedules.Product((schedules.LinearWarmup(steps=4), schedules.Constant(0.5)))
    assert [warm(step) for step in range(6)] == [0.0, 0.125, 0.25, 0.375, 0.5, 0.5]
    parts = schedules.Sequence((schedules.Constant(0.25), schedules.Step(every=2, factor=0.5)), (3,))
    assert [parts(step) for step in range(7)] == [0.25, 0.25, 0.25, 1.0, 1.0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "Cosinus"}, "no schedule 'Cosinus'; there are Constant, Cosine"),
        ({"kind": "Step", "evry": 3}, "no setting 'evry'; it has every, factor"),
        ({"kind": "Step", "every": 0}, r"Step\(every=0\) must be a whole number, at least 1"),
        ({"kind": "Step", "every": 1.5}, r"Step\(every=1.5\) must be a whole number"),
        ({"kind": "Cosine", "total": "9"}, r"Cosine\(total='9'\) must be a whole number"),
        ({"kind": "Cosine", "total": math.nan}, r"Cosine\(total=nan\) must be a whole number"),
        ({"kind": "Constant", "factor": math.inf}, r"Constant\(factor=inf\) must be a finite number"),
        ({"kind": "OneCycle", "total": 5, "rise": 0}, "must be positive"),
        ({"kind": "OneCycle", "total": 5, "peak": 1.5}, "between 0 and 1"),
        ({"kind": "Sequence", "schedules": [{"kind": "Constant"}], "boundaries": [3]}, "rising boundary"),
    ],
)
def test_wrong_settings_are_named(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        schedules.from_settings(settings)
