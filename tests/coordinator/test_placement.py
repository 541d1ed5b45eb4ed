"""Placement: which worker gets a shard."""

from __future__ import annotations

import pytest

from distgrad.coordinator.placement import Placement, Placements, choose_worker
from distgrad.errors import ConfigError


@pytest.mark.parametrize(
    ("workers", "counts", "wanted", "chosen"),
    [
        (["w1", "w0"], {}, "", "w0"),
        (["w0", "w1"], {"w0": 1}, "", "w1"),
        (["w10", "w2"], {"w2": 3, "w10": 3}, "", "w2"),
        (["w0", "w1"], {"w1": 5}, "w1", "w1"),
        (["w0", "w1"], {"w0": 1, "gone": 0}, "", "w1"),
    ],
)
def test_the_wanted_worker_else_the_emptiest_else_the_first_by_name(
    workers: list[str], counts: dict[str, int], wanted: str, chosen: str
) -> None:
    assert choose_worker(workers, counts, wanted) == chosen


@pytest.mark.parametrize(
    ("workers", "wanted", "message"),
    [
        ([], "", "no living worker to place a shard on; start one"),
        (["w10", "w2"], "w1", "no living worker is named 'w1'; living workers: w2, w10"),
        ([], "w1", "living workers: none"),
    ],
)
def test_without_a_worker_the_message_says_which_there_are(workers: list[str], wanted: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_worker(workers, {}, wanted)


def test_shards_spread_evenly_and_are_found_by_name_and_worker() -> None:
    table = Placements()
    for name in "abcde":
        table.place(name, "mlp.py:Stage", {"inputs": 4}, 7, ["w0", "w1"])
    assert [it.worker for it in table] == ["w0", "w1", "w0", "w1", "w0"]
    assert [it.shard for it in table.on("w1")] == ["b", "d"]
    assert table["b"] == Placement("b", "mlp.py:Stage", "w1", {"inputs": 4}, 7)
    assert dict(table.counts()) == {"w0": 3, "w1": 2}
    assert ("b" in table, "z" in table, len(table)) == (True, False, 5)


def test_a_repeated_request_changes_nothing_even_when_its_worker_is_gone() -> None:
    table = Placements()
    first = table.place("a", "mlp.py:Stage", {"inputs": 4}, 7, ["w0"])
    assert table.place("a", "mlp.py:Stage", {"inputs": 4}, 7, ["w1"]) is first
    assert table.place("a", "mlp.py:Stage", {"inputs": 4}, 7, ["w1"], wanted="w0") is first
    assert len(table) == 1


@pytest.mark.parametrize(
    "change", [{"program": "mlp.py:Classifier"}, {"config": {"inputs": 5}}, {"seed": 8}, {"wanted": "w1"}], ids=str
)
def test_a_name_is_not_given_to_two_different_shards(change: dict[str, object]) -> None:
    table = Placements()
    request = {"program": "mlp.py:Stage", "config": {"inputs": 4}, "seed": 7, "workers": ["w0", "w1"]}
    table.place("a", **request)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"'a' is held by a shard of mlp\.py:Stage on w0 .*Choose another name"):
        table.place("a", **{**request, **change})  # type: ignore[arg-type]


def test_an_unknown_shard_is_an_error_that_guesses_the_name() -> None:
    table = Placements()
    table.place("stem", "mlp.py:Stage", {}, 0, ["w0"])
    with pytest.raises(ConfigError, match="no shard is named 'stm'; did you mean 'stem'"):
        table["stm"]
    with pytest.raises(ConfigError, match="no shard is named 'head'; placed are: stem"):
        table["head"]


def test_a_shard_that_could_not_be_built_frees_its_name() -> None:
    table = Placements()
    table.place("a", "mlp.py:Stge", {}, 0, ["w0"])
    table.remove("a")
    assert table.place("a", "mlp.py:Stage", {}, 0, ["w0"]).program == "mlp.py:Stage"
    assert repr(table) == "<Placements a on w0>"
