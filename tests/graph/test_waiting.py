"""Turns against a sorted list; promises from threads and coroutines."""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distgrad import errors
from distgrad.graph.waiting import Priority, Promise, Rank, Turns

DEADLINE = 20.0  # seconds until something that should have happened counts as hung
SOON = 0.01  # a timeout that a test waits out

# ---- Turns ----------------------------------------------------------------------------------------------------------

arrivals = st.tuples(st.sampled_from(Priority), st.lists(st.integers(0, 2), max_size=2).map(tuple))
withdrawals = st.integers(0, 30)
steps = st.lists(arrivals | withdrawals | st.sampled_from(["enter", "leave"]), max_size=60)


@given(st.integers(1, 3), steps)
def test_turns_agree_with_a_sorted_list(slots: int, steps: list[Any]) -> None:
    turns: Turns[int] = Turns(slots)
    line: list[tuple[Rank, int]] = []
    free = slots
    for number, step in enumerate(steps):
        if isinstance(step, tuple):
            rank = (*step, number)
            assert turns.arrive(number, rank) == (free > 0)
            if free:
                free -= 1
            else:
                line = sorted([*line, (rank, number)])
        elif step == "enter":
            assert turns.enter() == (free > 0)
            free = max(free - 1, 0)
        elif step == "leave" and free < slots:
            assert turns.leave() == (line[0][1] if line else None)
            free, line = (free, line[1:]) if line else (free + 1, [])
        elif isinstance(step, int):
            assert turns.withdraw(step) == any(item == step for _, item in line)
            line = [(rank, item) for rank, item in line if item != step]
        assert (turns.free, len(turns)) == (free, len(line))
        assert turns.in_line() == {item: rank for rank, item in line}


def test_withdrawn_entries_do_not_pile_up() -> None:
    turns: Turns[int] = Turns(1)
    assert turns.enter()
    for number in range(10_000):
        turns.arrive(number, (Priority.CALL, (), number))
        assert turns.withdraw(number)
    assert len(turns._line) < 100
    assert turns.leave() is None


def test_an_item_that_comes_back_with_another_rank_stands_once_in_line() -> None:
    turns: Turns[str] = Turns(1)
    assert turns.enter()
    turns.arrive("a", (Priority.GRADIENT, (), 1))
    turns.withdraw("a")
    turns.arrive("b", (Priority.CALL, (), 2))
    turns.arrive("a", (Priority.FILLER, (), 3))
    assert [turns.leave(), turns.leave(), turns.leave()] == ["b", "a", None]


# ---- Promise --------------------------------------------------------------------------------------------------------


def test_the_first_to_set_a_promise_wins() -> None:
    promise: Promise[int] = Promise()
    assert not promise.done
    assert promise.set_result(1)
    assert not promise.set_result(2)
    assert not promise.set_error(ValueError("late"))
    assert promise.done
    assert promise.error is None
    assert promise.result() == 1


@pytest.mark.parametrize("round_", range(20))
def test_of_many_threads_that_set_a_promise_one_wins(round_: int) -> None:
    promise: Promise[int] = Promise()
    calls: list[int] = []
    won: list[int] = []
    start = threading.Barrier(4)
    promise.add_callback(lambda done: calls.append(done.result()))

    def contend(number: int) -> None:
        start.wait(DEADLINE)
        if promise.set_result(number):
            won.append(number)

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert won == calls == [promise.result()]


def test_a_promised_error_is_raised_by_every_reader_without_growing() -> None:
    promise: Promise[int] = Promise()
    promise.set_error(ValueError("broken"))
    lengths = set()
    for _ in range(3):
        with pytest.raises(ValueError, match="broken") as caught:
            promise.result()
        lengths.add(len(traceback.extract_tb(caught.value.__traceback__)))
    assert len(lengths) == 1


def test_callbacks_run_once_in_order_and_at_once_when_done() -> None:
    promise: Promise[int] = Promise()
    calls: list[str] = []
    removed = lambda _: calls.append("removed")  # noqa: E731 - needs a name to be taken back
    promise.add_callback(lambda _: calls.append("first"))
    promise.add_callback(removed)
    promise.add_callback(lambda done: calls.append(f"second {done.result()}"))
    assert promise.remove_callback(removed)
    assert not promise.remove_callback(removed)
    promise.set_result(7)
    promise.add_callback(lambda _: calls.append("late"))
    assert calls == ["first", "second 7", "late"]


def test_a_callback_that_raises_is_logged_and_does_not_cost_others_their_call(caplog: pytest.LogCaptureFixture) -> None:
    promise: Promise[int] = Promise()
    calls: list[int] = []
    promise.add_callback(lambda _: 1 // 0)
    promise.add_callback(lambda done: calls.append(done.result()))
    promise.set_result(7)
    assert calls == [7]
    assert "ZeroDivisionError" in caplog.text


def test_result_times_out_and_leaves_no_callback_behind() -> None:
    promise: Promise[int] = Promise()
    for _ in range(3):
        with pytest.raises(errors.Timeout, match=r"within 0\.01 s"):
            promise.result(SOON)
    assert promise._callbacks == []


def test_a_promise_is_awaitable_from_a_coroutine() -> None:
    async def main() -> tuple[Any, ...]:
        later: Promise[int] = Promise()
        failed: Promise[int] = Promise()
        abandoned: Promise[int] = Promise()
        waiting = asyncio.gather(_await(later), _await(failed), return_exceptions=True)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(_await(abandoned), SOON)
        assert abandoned._callbacks == []
        setter = threading.Thread(target=lambda: (later.set_result(1), failed.set_error(KeyError("k"))))
        setter.start()
        answers = await asyncio.wait_for(waiting, DEADLINE)
        setter.join()
        return (*answers, await later)

    first, second, again = asyncio.run(main())
    assert (first, again) == (1, 1)
    assert isinstance(second, KeyError)


async def _await(promise: Promise[int]) -> int:
    return await promise


def test_a_promise_whose_event_loop_is_gone_can_still_be_set() -> None:
    promise: Promise[int] = Promise()
    loop = asyncio.new_event_loop()
    task = loop.create_task(_await(promise))
    loop.call_soon(loop.stop)
    loop.run_forever()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
    assert promise.set_result(1)


@pytest.mark.parametrize(
    ("settle", "expected"),
    [
        (lambda promise: None, "<Promise pending>"),
        (lambda promise: promise.set_result(3), "<Promise done>"),
        (lambda promise: promise.set_error(ValueError("x")), "<Promise failed: ValueError('x')>"),
    ],
)
def test_the_repr_of_a_promise_tells_its_state(settle: Callable[[Promise[int]], object], expected: str) -> None:
    promise: Promise[int] = Promise()
    settle(promise)
    assert repr(promise) == expected
