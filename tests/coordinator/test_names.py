"""Names: their order, and guesses at what was meant."""

from __future__ import annotations

import random

import pytest

from distgrad.coordinator.names import natural_order, suggestion


def test_numbers_in_names_count_as_numbers() -> None:
    names = ["head", "w", "w0", "w2", "w10", "w10a", "w10b2", "w10b10", "w11"]
    shuffled = random.Random(0).sample(names, len(names))
    assert sorted(shuffled, key=natural_order) == names


@pytest.mark.parametrize(
    ("word", "hint"), [("stm", "; did you mean 'stem'?"), ("xyz", ""), ("", ""), ("heads", "; did you mean 'head'?")]
)
def test_only_a_close_name_is_suggested(word: str, hint: str) -> None:
    assert suggestion(word, iter(["stem", "head"])) == hint
