"""Lines of those who wait for their turn."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from distgrad.coordinator.lines import Line
from distgrad.graph.executor import Executor
from distgrad.graph.waiting import Priority
from tests.processes import eventually

EVERYTHING = ()


@pytest.mark.parametrize(
    ("held", "asked", "order"),
    [
        (["a"], [["a"], ["b"], ["a"]], [1, 0, 2]),
        (["a"], [EVERYTHING, ["b"]], [0, 1]),  # nobody goes past one who waits for everything
        (EVERYTHING, [["a"], EVERYTHING, ["a"]], [0, 1, 2]),
        (["a"], [["a", "b"], ["b"], ["c"]], [2, 0, 1]),
    ],
)
def test_turns_come_in_the_order_of_asking_among_those_who_want_the_same(
    held: Sequence[str], asked: Sequence[Sequence[str]], order: Sequence[int]
) -> None:
    came: list[int] = []
    with Executor(slots=1) as executor:
        line = Line(executor)

        def ask(number: int) -> None:
            def take() -> None:
                with line.turn("its turn", *asked[number]):
                    came.append(number)

            before = repr(line)
            executor.submit(take, Priority.CALL)
            assert eventually(lambda: repr(line) != before or number in came)

        with line.turn("nobody", *held):
            for number in range(len(asked)):
                ask(number)
        assert eventually(lambda: len(came) == len(asked))
    assert came == order
    assert repr(line) == "<Line: nobody>"


def test_whoever_gives_up_waiting_is_in_nobodys_way() -> None:
    entered, told = threading.Event(), threading.Event()
    with Executor(slots=1) as executor:
        line = Line(executor)

        def take() -> None:
            try:
                with line.turn("its turn", "a"):
                    entered.set()
            finally:
                told.set()

        with line.turn("nobody", "a"):
            task = executor.submit(take, Priority.CALL)
            assert eventually(lambda: repr(line) == "<Line: a, a>")
            task.cancel()
            assert told.wait(20.0)
        assert repr(line) == "<Line: nobody>"
    assert not entered.is_set()
