"""What may be called from elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

import distgrad as dg
from distgrad.errors import ProgramError
from distgrad.worker.shard import outputs_of, remote_methods


class Base(dg.Shard):
    @dg.remote
    def forward(self, x: Any) -> Any:
        return x

    @dg.remote(outputs=3)
    def three(self, x: Any) -> Any:
        return x, x, x

    def local(self, x: Any) -> Any:
        return x

    @staticmethod
    @dg.remote
    def plain(x: Any) -> Any:
        return x


class Derived(Base):
    def forward(self, x: Any) -> Any:  # not marked: no longer remote
        return -x

    @dg.remote
    def more(self, x: Any) -> Any:
        return x


def test_the_marked_methods_of_a_class_are_remote_with_their_outputs() -> None:
    assert remote_methods(Base) == {"forward": 1, "plain": 1, "three": 3}


def test_a_method_that_is_overridden_without_a_mark_is_local() -> None:
    assert remote_methods(Derived) == {"more": 1, "plain": 1, "three": 3}


def test_a_shard_without_marked_methods_offers_nothing() -> None:
    assert remote_methods(dg.Shard) == {}


def test_a_marked_function_is_still_that_function() -> None:
    def double(x: int) -> int:
        return 2 * x

    assert dg.remote(double) is double
    assert double(4) == 8
    assert outputs_of(double) == 1
    assert outputs_of(len) == 0


def test_a_coroutine_can_be_marked() -> None:
    @dg.remote(outputs=2)
    async def both(x: int) -> tuple[int, int]:
        return x, x

    assert outputs_of(both) == 2


def yields() -> Any:
    yield 1


async def yields_later() -> Any:
    yield 1


def _private() -> None: ...


@pytest.mark.parametrize(
    ("marked", "message"),
    [
        (yields, "yields: a generator's items cannot be called for"),
        (yields_later, "yields_later: a generator's items"),
        (_private, "_private: a name that begins with an underscore is private"),
        (3, "@remote marks functions and methods, not a int"),
        (Base, "@remote marks functions and methods, not a type"),
        (staticmethod(yields), "not a staticmethod"),
        (classmethod(yields), "not a classmethod"),
        (property(yields), "not a property"),
    ],
)
def test_only_functions_can_be_marked(marked: Any, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        dg.remote(marked)


def test_a_method_has_at_least_one_output() -> None:
    with pytest.raises(ProgramError, match="f: outputs must be at least 1, not 0"):

        @dg.remote(outputs=0)
        def f() -> None: ...
