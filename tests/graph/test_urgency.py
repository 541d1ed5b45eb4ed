"""Urgencies: how they travel, and that who is more urgent goes first where they arrive."""

from __future__ import annotations

import pytest

from distgrad.errors import WireError
from distgrad.graph.urgency import USUAL, Urgencies, urgencies, urgency_from_wire, urgency_to_wire, urgent
from distgrad.graph.waiting import Priority, Urgency
from tests.coordinator.cluster import PATIENCE, PROGRAMS, SIZES, X, cluster


@pytest.mark.parametrize(
    ("urgency", "numbers"),
    [
        (USUAL.call, []),
        (USUAL.gradient, [1]),
        (Urgency(Priority.CALL, (0,)), [2, 0]),
        (Urgency(Priority.FILLER, (3, -1)), [3, 3, -1]),
    ],
)
def test_an_urgency_comes_as_it_went_and_the_usual_one_takes_no_room(urgency: Urgency, numbers: list[int]) -> None:
    assert urgency_to_wire(urgency, USUAL.call) == numbers
    assert urgency_from_wire(numbers, USUAL.call) == urgency


@pytest.mark.parametrize("numbers", [[0], [4], [-1, 1]])
def test_nobody_can_claim_to_have_begun(numbers: list[int]) -> None:
    with pytest.raises(WireError, match="an urgency begins with a priority from 1 to 3"):
        urgency_from_wire(numbers, USUAL.call)


def test_urgencies_hold_in_their_block() -> None:
    hurried = Urgencies(call=Urgency(Priority.GRADIENT))
    with urgent(hurried):
        assert urgencies.get() is hurried
    assert urgencies.get() is USUAL


def test_calls_that_wait_for_their_turn_run_by_urgency() -> None:
    order: list[int] = []
    with cluster(PROGRAMS, "w0") as (made, client):
        gate = client.place("gate", "parts.py:Gate", "w0")
        layers = [client.place(f"layer{number}", "parts.py:Layer", "w0", SIZES) for number in range(4)]
        for layer in layers:
            layer.forward(X).wait()
        kind = type(made.workers["w0"].host.shards["gate"].shard)
        kind.opened.clear()
        held = gate.hold()
        assert kind.reached.wait(PATIENCE)
        refs = []
        for number, urgency in enumerate([(3, 1), (2, 5), (3, 0), (1,)]):
            with urgent(Urgencies(call=Urgency(Priority(urgency[0]), urgency[1:]))):
                refs.append(layers[number].forward(X))
            refs[-1].outcome.done.add_callback(lambda _, number=number: order.append(number))
        executor = made.workers["w0"].process.executor
        while sum(executor.statistics().queued.values()) < 4:
            held.outcome.done.wait(0.001)
        kind.opened.set()
        for ref in refs:
            ref.wait(PATIENCE)
    assert order == [3, 1, 2, 0]
