"""Which members stand for the workers of a job."""

from __future__ import annotations

from pathlib import Path

import pytest

from distgrad.coordinator.assignment import assign_workers, on_members
from distgrad.coordinator.job import open_job

DIGITS = Path(__file__).parents[2] / "deploy" / "jobs" / "digits.toml"


@pytest.mark.parametrize(
    ("names", "members", "assigned"),
    [
        (["w0", "w1"], ["w0", "w1"], {"w0": "w0", "w1": "w1"}),
        (["w0", "w1"], ["w0", "w1", "w2"], {"w0": "w0", "w1": "w1"}),
        (["w0", "w1"], ["node10", "node9"], {"w0": "node9", "w1": "node10"}),
        (["a", "w1", "b"], ["w1", "w0", "w2"], {"a": "w0", "w1": "w1", "b": "w2"}),
        (["w0", "w1"], ["node1"], {"w0": "node1"}),
        (["w0", "w1"], ["w1"], {"w1": "w1"}),
        (["w0"], [], {}),
    ],
)
def test_members_of_the_same_name_come_first_then_the_others_in_order(
    names: list[str], members: list[str], assigned: dict[str, str]
) -> None:
    assert assign_workers(names, members) == assigned


def test_a_job_on_members_is_the_same_but_for_where_its_shards_live() -> None:
    job = open_job(DIGITS)
    moved = on_members(job, {"w0": "a", "w1": "b", "w2": "c"})
    assert moved.cluster.workers == ("a", "b", "c")
    assert [shard.worker for shard in moved.shards] == ["a", "b", "c"]
    assert on_members(moved, {"a": "w0", "b": "w1", "c": "w2"}) == job
