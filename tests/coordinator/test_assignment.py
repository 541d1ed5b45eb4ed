"""Which members stand for the workers of a job."""

from __future__ import annotations

import pytest

from distgrad.coordinator.assignment import assign_workers


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
