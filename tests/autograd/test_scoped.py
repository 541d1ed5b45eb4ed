from __future__ import annotations

from contextvars import ContextVar

import pytest

from distgrad.autograd.scoped import Scoped

COLOUR: ContextVar[str] = ContextVar("colour", default="none")


def test_a_variable_has_its_value_within_the_block_and_the_one_before_afterwards() -> None:
    with Scoped(COLOUR, "red") as red:
        assert red == COLOUR.get() == "red"
        with Scoped(COLOUR, "blue"):
            assert COLOUR.get() == "blue"
        assert COLOUR.get() == "red"
    assert COLOUR.get() == "none"


def test_an_exception_leaves_the_block_and_ends_it() -> None:
    with pytest.raises(KeyError), Scoped(COLOUR, "red"):
        raise KeyError
    assert COLOUR.get() == "none"
