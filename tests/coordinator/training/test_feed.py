"""The batch of a step is the same, however often and from wherever a run returns to it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import pytest

from distgrad.coordinator.training.batches import Batches, Microbatch
from distgrad.coordinator.training.feed import Feed
from distgrad.errors import ConfigError


class Counted(Batches):
    """Data whose batches are numbers: of the step, or drawn one after the other."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._next = 0
        self.resumable = kind != "once"
        self.any_step = kind == "by step"
        self.drawn = 0

    def microbatches(self, step: int) -> Sequence[Microbatch]:
        self.drawn += 1
        number = step if self._kind == "by step" else self._next
        self._next += 1
        return [Microbatch(number, number, 1.0)]

    def held_out(self) -> Sequence[Microbatch]:
        return []

    def state(self) -> str:
        return str(self._next) if self._kind == "stateful" else ""

    def restore(self, state: str) -> None:
        if self._kind == "once":
            raise ConfigError("a plain iterable cannot go back")
        if self._kind == "stateful":
            self._next = int(state)


def take(feed: Feed, step: int) -> int:
    (piece,) = feed.take(step)
    return int(piece.inputs)


GOING_BACK = ["by step", "stateful"]


@pytest.mark.parametrize("kind", [*GOING_BACK, "once"])
def test_a_step_taken_again_has_the_same_batch(kind: str) -> None:
    data = Counted(kind)
    feed = Feed(data, 0)
    assert [take(feed, step) for step in (0, 1, 1, 1, 2)] == [0, 1, 1, 1, 2]
    assert data.drawn == 3


def test_steps_of_other_trainers_are_passed_over() -> None:
    data = Counted("by step")
    feed = Feed(data, 0)
    assert [take(feed, step) for step in (0, 3, 6)] == [0, 3, 6]
    assert feed.mark(9) == ""
    feed.go_to(3)
    assert [take(feed, step) for step in (3, 6, 9)] == [3, 6, 9]
    assert data.drawn == 6


@pytest.mark.parametrize("kind", GOING_BACK)
def test_a_run_that_goes_back_takes_the_same_batches_again(kind: str) -> None:
    feed = Feed(Counted(kind), 0)
    for step in range(4):
        take(feed, step)
    feed.mark(4)
    for step in range(4, 7):
        take(feed, step)
    feed.go_to(4)
    assert [take(feed, step) for step in range(4, 8)] == [4, 5, 6, 7]
    feed.go_to(0)
    assert [take(feed, step) for step in range(3)] == [0, 1, 2]
    feed.go_to(6)
    assert take(feed, 6) == 6


def test_data_that_cannot_go_back_says_so_when_it_must() -> None:
    feed = Feed(Counted("once"), 0)
    for step in range(3):
        take(feed, step)
    feed.go_to(2)
    assert take(feed, 2) == 2
    with pytest.raises(ConfigError, match="cannot go back"):
        feed.go_to(1)


@pytest.mark.parametrize(("kind", "drawn"), [("by step", 1), ("stateful", 3), ("once", 6)])
def test_a_new_process_goes_on_in_the_middle(kind: str, drawn: int) -> None:
    """Data with a state begins at the newest note of it; what has none is drawn from the first batch on."""
    data = Counted(kind)
    feed = Feed(data, 0)
    if kind != "once":
        feed.learn(3, "3")
    feed.go_to(5)
    assert take(feed, 5) == 5
    assert data.drawn == drawn


def test_a_checkpoint_that_is_written_again_notes_the_same_state() -> None:
    feed = Feed(Counted("stateful"), 0)
    take(feed, 0)
    assert feed.mark(1) == "1"
    take(feed, 1)  # the step fails, and so does the checkpoint, which is due again
    assert feed.mark(1) == "1"


def test_the_next_batch_is_drawn_while_a_step_is_taken() -> None:
    data = Counted("by step")
    with closing(Feed(data, 0)) as feed:
        assert take(feed, 0) == 0
        with feed.ahead(1):
            pass
        assert data.drawn == 2
        assert take(feed, 1) == 1
        assert take(feed, 1) == 1
        assert data.drawn == 2


def test_a_batch_that_was_drawn_ahead_is_not_taken_for_that_of_another_step() -> None:
    with closing(Feed(Counted("by step"), 0)) as feed:
        with feed.ahead(5):
            pass
        assert [take(feed, step) for step in (4, 5)] == [4, 5]


@pytest.mark.parametrize("kind", ["stateful", "once"])
def test_data_whose_batches_come_in_turn_is_not_asked_ahead(kind: str) -> None:
    data = Counted(kind)
    with closing(Feed(data, 0)) as feed:
        with feed.ahead(0):
            pass
        assert data.drawn == 0


def test_what_drawing_ahead_raises_is_raised_when_the_batch_is_taken() -> None:
    class Ending(Counted):
        def microbatches(self, step: int) -> Sequence[Microbatch]:
            if step == 1:
                raise ConfigError("there is no second batch")
            return super().microbatches(step)

    with closing(Feed(Ending("by step"), 0)) as feed:
        assert take(feed, 0) == 0
        with feed.ahead(1):
            pass
        with pytest.raises(ConfigError, match="no second batch"):
            feed.take(1)
