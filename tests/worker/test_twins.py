"""The names of twins."""

from __future__ import annotations

from distgrad.worker.twins import families, original, twin


def test_a_twin_is_named_after_its_original_and_number_0_is_the_original() -> None:
    assert [twin("a.b", number) for number in range(3)] == ["a.b", "a.b@1", "a.b@2"]
    assert {original(twin("a.b", number)) for number in range(3)} == {"a.b"}


def test_families_are_shards_with_twins_by_number() -> None:
    assert families(["b@1", "a", "c@2", "b", "c", "c@1", "a.1"]) == [["b", "b@1"], ["c", "c@1", "c@2"]]
