"""Stages: what a call in a job file means."""

from __future__ import annotations

from typing import Any

import pytest

from distgrad.coordinator.training.stages import Stage, parse_stage, run_stages


class Told:
    """A shard whose methods tell what they were given."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, method: str) -> Any:
        return lambda *given: f"{self.name}.{method}({', '.join(map(str, given))})"


SHARDS = {name: Told(name) for name in ("a", "b", "t-0")}


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        (["a.f"], "a.f(x, y)"),
        (["a.f", "b.g"], "b.g(a.f(x), y)"),
        (["a.f", "b.g(previous)"], "b.g(a.f(x))"),
        (["a.f()", "b.g(targets, inputs)"], "b.g(y, x)"),
        (["b.g(a.f, t-0.h(inputs), a.k())"], "b.g(a.f(), t-0.h(x), a.k())"),
        (["a.f", " b.g( a.f(t-0.h( previous )) ,targets ) "], "b.g(a.f(t-0.h(a.f(x))), y)"),
    ],
)
def test_a_stage_is_given_what_it_says_or_the_value_before_and_at_last_the_targets(
    stages: list[str], expected: str
) -> None:
    assert run_stages(SHARDS, [parse_stage(text) for text in stages], "x", "y") == expected


def test_without_targets_the_last_stage_is_given_the_value_before_alone() -> None:
    assert run_stages(SHARDS, [parse_stage("a.f"), parse_stage("b.g")], "x") == "b.g(a.f(x))"


@pytest.mark.parametrize(
    "text",
    ["", "a", "inputs", "a.", ".f", "a.f(", "a.f)", "a.f(,)", "a.f(x)", "a.f(inputs", "a.f(inputs inputs)", "a.f b.g",
     "a.f(inputs,)", "a.f.g", "a.f((inputs))", "1.f", 3, None],
)  # fmt: skip
def test_what_is_no_call_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        parse_stage(text)


@pytest.mark.parametrize("text", ["a.f", "a.f()", "head.loss(previous, table.all(), targets)"])
def test_a_stage_is_shown_as_it_is_written(text: str) -> None:
    stage = parse_stage(text)
    assert str(stage) == text
    assert parse_stage(str(stage)) == stage


def test_all_calls_of_a_stage_are_listed_in_the_order_in_which_they_are_made() -> None:
    stage = parse_stage("a.f(b.g(t-0.h), targets)")
    assert [str(call) for call in stage.calls()] == ["t-0.h()", "b.g(t-0.h())", "a.f(b.g(t-0.h()), targets)"]
    assert Stage("b", "g") == parse_stage("b.g")
