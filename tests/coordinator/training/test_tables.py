"""Tables: TOML into dataclasses, with lines and with every mistake at once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pytest

from distgrad.coordinator.training.tables import (
    Check,
    Parse,
    TableReader,
    Where,
    Wrong,
    line_numbers,
    set_value,
    toml_text,
)

TEXT = '''\
# a comment, then [no header]
a = 1

[table]
"quoted key" = "[not.a.header]"
long = """
[also.no.header]
b = 2
"""
items = [
  1,   # one
  2,
]
inline = { x = 1, y = { z = 2 } }
dotted.key = 3

[[list]]
name = "first"

  [list.sub]
  x = 1

[[list]]
name = "second"
[list.sub]
x = 2
[[list.inner]]
y = 1
[[list.inner]]
y = 2
'''


@pytest.mark.parametrize(
    ("where", "line"),
    [
        (("a",), 2),
        (("table",), 4),
        (("table", "quoted key"), 5),
        (("table", "long"), 6),
        (("table", "items"), 10),
        (("table", "inline", "y", "z"), 14),
        (("table", "dotted", "key"), 15),
        (("list", 0), 17),
        (("list", 0, "sub"), 20),
        (("list", 0, "sub", "x"), 21),
        (("list", 1, "name"), 24),
        (("list", 1, "sub", "x"), 26),
        (("list", 1, "inner", 1, "y"), 30),
    ],
    ids=str,
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_every_statement_is_found_on_the_line_where_it_begins(where: Where, line: int, newline: str) -> None:
    assert line_numbers(TEXT.replace("\n", newline))[where] == line


def test_every_table_and_key_has_a_line_and_nothing_else_has() -> None:
    def places(value: Any, where: Where = ()) -> set[Where]:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
        return {where}.union(*(places(item, (*where, key)) for key, item in items))

    table = tomllib.loads(TEXT)
    # A list of tables begins with its first table.
    assert set(line_numbers(TEXT)) == places(table) - {(), ("list",), ("list", 1, "inner")}


@pytest.mark.parametrize(
    ("assignment", "where", "value"),
    [
        ("a=2", ("a",), 2),
        ("a = 2.5e-3", ("a",), 2.5e-3),
        ("a=true", ("a",), True),
        ("a=words and = signs", ("a",), "words and = signs"),
        ('a="7"', ("a",), "7"),
        ("a=", ("a",), ""),
        ("a=1\nb=2", ("a",), "1\nb=2"),
        ("new.table.x=[1, 2]", ("new", "table", "x"), [1, 2]),
        ("list.second.sub.x=9", ("list", 1, "sub", "x"), 9),
        ("list.first.config={ k = 1 }", ("list", 0, "config"), {"k": 1}),
    ],
)
def test_one_value_is_set_as_toml_or_as_text(assignment: str, where: Where, value: object) -> None:
    table = tomllib.loads(TEXT)
    assert set_value(table, assignment)[0] == where
    found: Any = table
    for key in where:
        found = found[key]
    assert (type(found), found) == (type(value), value)


def test_everything_inside_a_value_is_set_with_it() -> None:
    assert set_value({}, "a={ b = { c = 1 }, d = [2] }") == [
        ("a",),
        ("a", "b"),
        ("a", "b", "c"),
        ("a", "d"),
        ("a", "d", 0),
    ]


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("a", "expected KEY.KEY=VALUE"),
        ("=1", "expected KEY.KEY=VALUE"),
        ("a..b=1", "expected KEY.KEY=VALUE"),
        ("a.b=1", "a is 1, not a table"),
        ("list.secnd.x=1", "no list is named 'secnd'; did you mean 'second'?"),
    ],
)
def test_a_place_that_is_not_there_is_explained(assignment: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        set_value(tomllib.loads(TEXT), assignment)


def _pair(raw: object) -> tuple[str, str]:
    left, right = str(raw).split("-")
    return left, right


@dataclass(frozen=True)
class Inner:
    name: str
    size: Annotated[int, Check("at least 1", lambda value: value >= 1)] = 1


@dataclass(frozen=True)
class Outer:
    flag: bool
    rate: float
    folder: Path
    pair: Annotated[tuple[str, str], Parse('"LEFT-RIGHT"', _pair)]
    inners: tuple[Inner, ...] = field(default=(), metadata={"key": "inner"})
    config: Mapping[str, Any] = field(default_factory=dict)
    maybe: Inner | None = None
    hidden: int = field(default=0, metadata={"key": None})


GOOD: dict[str, Any] = {"flag": True, "rate": 1, "folder": "../data", "pair": "a-b"}


def reader(table: dict[str, Any]) -> TableReader:
    return TableReader(Path("/jobs/x.toml"), table, {("rate",): "x.toml:2", ("inner", 0): "x.toml:5"})


def test_a_good_table_becomes_the_dataclass() -> None:
    table = {
        **GOOD,
        "inner": [{"name": "a"}, {"name": "b", "size": 2}],
        "config": {"k": [1, {"j": 2.5}]},
        "maybe": {"name": "m"},
    }
    read = reader(table).read(Outer, table)
    expected = Outer(
        True, 1.0, Path("/data"), ("a", "b"), (Inner("a"), Inner("b", 2)), {"k": [1, {"j": 2.5}]}, Inner("m")
    )
    assert read == expected
    assert type(read.rate) is float


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"flag": 1}, "x.toml  flag = 1: expected true or false"),
        ({"rate": True}, "x.toml:2  rate = true: expected a number"),
        ({"rate": "1"}, 'x.toml:2  rate = "1": expected a number'),
        ({"folder": 1}, "x.toml  folder = 1: expected a path in quotes"),
        ({"folder": ""}, 'x.toml  folder = "": expected a path in quotes'),
        ({"pair": "ab"}, 'x.toml  pair = "ab": expected "LEFT-RIGHT"'),
        ({"inner": {"name": "a"}}, 'x.toml  inner = { name = "a" }: expected a list, each item a table'),
        ({"inner": [{"name": "a", "size": 0}]}, "x.toml:5  inner.a.size = 0: expected an integer, at least 1"),
        ({"inner": [{"name": "a", "size": True}]}, "x.toml:5  inner.a.size = true: expected an integer, at least 1"),
        ({"inner": [{"size": 1}]}, "x.toml:5  inner.0.name: missing; expected text in quotes"),
        ({"inner": [3]}, "x.toml:5  inner.0 = 3: expected a table"),
        ({"maybe": 3}, "x.toml  maybe = 3: expected a table"),
        ({"maybe": {"name": 3}}, "x.toml  maybe.name = 3: expected text in quotes"),
        ({"config": 3}, "x.toml  config = 3: expected a table"),
        ({"flagg": 1}, "x.toml  flagg: unknown key; did you mean 'flag'?"),
        ({"hidden": 1}, "x.toml  hidden: unknown key; allowed here: flag, rate, folder, pair, inner, config, maybe"),
    ],
    ids=str,
)
def test_a_mistake_names_place_value_and_what_is_expected(change: dict[str, Any], problem: str) -> None:
    table = {**GOOD, **change}
    tables = reader(table)
    with pytest.raises(Wrong):
        tables.read(Outer, table)
    assert tables.problems == [problem]


def test_dates_cannot_travel_to_a_worker_wherever_they_stand() -> None:
    table = {**GOOD, **tomllib.loads("config = { a = { b = [1979-05-27] } }")}
    tables = reader(table)
    with pytest.raises(Wrong):
        tables.read(Outer, table)
    (problem,) = tables.problems
    assert problem.startswith('x.toml  config.a.b.0 = "1979-05-27": expected text, a number')


def test_all_mistakes_are_found_at_once_and_what_is_right_is_kept() -> None:
    table = {"flag": 3, "rate": 0.5, "inner": [{"name": 1}, {"name": "b"}, {}], "extra": 1}
    tables = reader(table)
    values = tables.fields(Outer, table)
    assert len(tables.problems) == 6  # flag, folder, pair, two inners, extra
    assert values == {"rate": 0.5}
    assert tables.values["inner", 1] == Inner("b")


@pytest.mark.parametrize("text", ['"a\\"b\\\\é"', "1", "-0.5", "true", '[1, "a"]', "{ a = 1, b = [2] }", "{}", "inf"])
def test_values_are_shown_as_toml_reads_them(text: str) -> None:
    assert toml_text(tomllib.loads(f"x = {text}")["x"]) == text
