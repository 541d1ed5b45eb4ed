"""Kinds of data: each is drawn from in turn, and a run goes on where it stood, or says that it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from distgrad.coordinator.training.data import source
from distgrad.errors import ConfigError


class Counted:
    """An iterable of five batches that knows how many it has given."""

    def __init__(self, state: Any = None) -> None:
        self.given = 0
        self.extra = state

    def __iter__(self) -> Iterator[int]:
        while self.given < 5:
            self.given += 1
            yield self.given
        self.given = 0

    def state_dict(self) -> dict[str, Any]:
        return {"given": self.given, "extra": self.extra}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.given = state["given"]
        self.extra = state["extra"]


class ByStep:
    def batch(self, step: int) -> int:
        return step * 10

    def __iter__(self) -> Iterator[int]:
        raise AssertionError("batch(step) comes first")


def drawn(found: Any, count: int, first: int = 0) -> list[Any]:
    return [found.batch(step) for step in range(first, first + count)]


def test_data_by_step_can_be_had_in_any_order() -> None:
    found = source(ByStep(), "data")
    assert (found.resumable, found.any_step, found.batch(3), found.batch(1)) == (True, True, 30, 10)
    found.restore(found.state())
    assert found.batch(3) == 30


def test_an_iterable_is_iterated_once_more_when_it_has_ended() -> None:
    found = source([1, 2, 3], "data")
    assert (found.resumable, found.any_step) == (False, False)
    assert drawn(found, 7) == [1, 2, 3, 1, 2, 3, 1]


def test_an_iterable_that_ends_for_good_says_at_which_step() -> None:
    found = source(iter([1, 2]), "generator")
    assert drawn(found, 2) == [1, 2]
    with pytest.raises(ConfigError, match="data generator has ended before step 3, and is empty when iterated again"):
        found.batch(2)


def test_a_plain_iterable_cannot_go_back() -> None:
    found = source([1, 2], "list")
    assert found.state() == ""
    with pytest.raises(ConfigError, match=r"data list is a plain iterable: .* Give it batch\(step\), or state_dict"):
        found.restore("")


@pytest.mark.parametrize("before", range(8))
def test_an_iterable_with_a_state_goes_on_where_it_stood(before: int) -> None:
    first = source(Counted(), "data")
    drawn(first, before)
    again = source(Counted(), "data")
    again.restore(first.state())
    assert drawn(again, 9) == drawn(first, 9, before)
    assert (first.resumable, first.any_step) == (True, False)


def test_the_state_of_a_random_generator_is_plain_enough() -> None:
    """Its integers are wider than any machine's."""
    state = np.random.default_rng(3).bit_generator.state
    first, again = source(Counted(state), "data"), Counted()
    source(again, "data").restore(first.state())
    assert again.extra == state


def test_a_state_that_is_not_plain_data_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data Counted: state_dict\(\) must give plain data for checkpoints"):
        source(Counted(object()), "Counted").state()


def test_a_checkpoint_of_a_run_on_other_data_holds_no_state() -> None:
    with pytest.raises(ConfigError, match="holds no state of data Counted: it was written by a run on other data"):
        source(Counted(), "Counted").restore("")


def test_what_is_no_data_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data int has neither batch\(step\), nor can it be iterated: expected"):
        source(3, "int")
