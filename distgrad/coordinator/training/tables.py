"""TOML tables into frozen dataclasses: every value checked, its origin known, and all mistakes reported at once.

Written here because no small library does the three together: msgspec and dacite stop at the first mistake, cattrs
reads "80" as 80, none suggests the key that was meant or knows the line it stands on. All it needs is the dataclass:

    @dataclass(frozen=True)
    class Shard:
        name: Annotated[str, Check("not empty", bool)]
        worker: str | None = None            # may be left out
        config: Mapping[str, object] = ...   # any plain data

A field whose key in the file differs says so: `field(metadata={"key": "shard"})`; with the key None it is not read.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from ..names import suggestion

T = TypeVar("T")

#: Keys from the top of the file to a value; a number is the position in a list.
Where = tuple[str | int, ...]

_WORDS = {bool: "true or false", int: "an integer", float: "a number", str: "text in quotes", Path: "a path in quotes"}


@dataclass(frozen=True)
class Check:
    """A condition on a value, and the words that complete "expected an integer, ..."."""

    words: str
    holds: Callable[[Any], object]


@dataclass(frozen=True)
class Parse:
    """How a value is written that TOML has no type for; `parse` raises ValueError when it is not written so."""

    words: str
    parse: Callable[[Any], Any]


class Wrong(Exception):
    """A value was refused, and `TableReader.problems` says why."""


class TableReader:
    """Reads the tables of one file.

    Attributes:
        file: name of the file, for messages.
        base: directory that relative paths start from.
        table: the file's content, as `tomllib` gives it.
        origins: where a value comes from ("digits.toml:12"), for as many as are known.
        problems: what is wrong, a line each.
        values: what was right, so that parts which refer to one another can be compared even when others are wrong.
    """

    def __init__(self, file: Path, table: Mapping[str, Any], origins: dict[Where, str]) -> None:
        self.file = file.name
        self.base = file.parent
        self.table = table
        self.origins = origins
        self.problems: list[str] = []
        self.values: dict[Where, Any] = {}

    def read(self, kind: type[T], table: object, where: Where = ()) -> T:
        """An instance of the dataclass `kind`.

        Raises:
            Wrong: something in the table is not as it should be.
        """
        before = len(self.problems)
        values = self.fields(kind, table, where)
        if len(self.problems) > before:
            raise Wrong
        return kind(**values)

    def fields(self, kind: type, table: object, where: Where = ()) -> dict[str, Any]:
        """The fields of `kind` that are given and right; what is missing, wrong or unknown becomes a problem."""
        if not isinstance(table, dict):
            self.refuse(where, "expected a table", table)
            return {}
        wanted = {key: field for field in dataclasses.fields(kind) if (key := field.metadata.get("key", field.name))}
        hints = typing.get_type_hints(kind, include_extras=True)
        values = {}
        for key, field in wanted.items():
            if key in table:
                try:
                    values[field.name] = self._value(hints[field.name], table[key], (*where, key))
                except Wrong:
                    continue
            elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                self.refuse((*where, key), f"missing; expected {_words(hints[field.name])}")
        for key in table.keys() - wanted.keys():
            hint = suggestion(key, wanted) or f"; allowed here: {', '.join(wanted)}"
            self.refuse((*where, key), f"unknown key{hint}")
        return values

    def refuse(self, where: Where, why: str, *found: object) -> None:
        """Notes a problem with the value at `where`, showing what was `found` there."""
        shown = f" = {toml_text(found[0])}" if found else ""
        self.problems.append(f"{self.origin(where)}  {self.dotted(where)}{shown}: {why}")

    def origin(self, where: Where) -> str:
        """Where the value comes from, or the innermost table around it that is known."""
        while where and where not in self.origins:
            where = where[:-1]
        return self.origins.get(where, self.file)

    def dotted(self, where: Where) -> str:
        """The path as people write it: tables of a list go by their `name`."""
        words, node = [], self.table
        for key in where:
            try:
                node = node[key]  # type: ignore[index]  # a list where the key is a number
            except (KeyError, IndexError, TypeError):
                node = {}
            name = names_in([node])[0] if isinstance(key, int) else None
            words.append(name or str(key))
        return ".".join(words)

    def _value(self, hint: Any, raw: object, where: Where) -> Any:
        try:
            value = self.values[where] = self._converted(hint, raw, where)
        except ValueError as error:
            self.refuse(where, f"expected {_words(hint)}", raw)
            raise Wrong from error
        return value

    def _converted(self, hint: Any, raw: object, where: Where) -> Any:
        """The value as the type asks for it. ValueError: it is no such thing. Wrong: something inside is not."""
        kind = typing.get_origin(hint) or hint
        if kind is Annotated:
            return self._annotated(hint, raw, where)
        if kind in (types.UnionType, typing.Union):  # X | None: TOML has no null, so a given value is an X
            return self._converted(_given(hint), raw, where)
        if dataclasses.is_dataclass(kind):
            return self.read(typing.cast(type, kind), raw, where)
        if kind is tuple and isinstance(raw, list):
            return self._items(typing.get_args(hint)[0], raw, where)
        if kind is Mapping and isinstance(raw, dict):
            return self._plain(raw, where)
        if kind is Path and isinstance(raw, str) and raw:  # "" would be the folder of the file
            return (self.base / raw).resolve()
        if kind is float and isinstance(raw, int | float) and not isinstance(raw, bool):
            return float(raw)
        if type(raw) is kind:
            return raw
        raise ValueError

    def _annotated(self, hint: Any, raw: object, where: Where) -> Any:
        """A type with a rule: one `Parse`, or any number of `Check`."""
        rules = hint.__metadata__
        if isinstance(rules[0], Parse):
            return rules[0].parse(raw)
        value = self._converted(hint.__origin__, raw, where)
        if not all(rule.holds(value) for rule in rules):
            raise ValueError
        return value

    def _items(self, hint: Any, raw: list[object], where: Where) -> tuple[Any, ...]:
        items = []
        for index, item in enumerate(raw):
            try:
                items.append(self._value(hint, item, (*where, index)))
            except Wrong:
                continue  # see whether the rest is right
        if len(items) < len(raw):
            raise Wrong
        return tuple(items)

    def _plain(self, raw: Any, where: Where) -> Any:
        """Data that can travel to a worker: no dates and times."""
        if isinstance(raw, dict):
            return {key: self._plain(value, (*where, key)) for key, value in raw.items()}
        if isinstance(raw, list):
            return [self._plain(value, (*where, index)) for index, value in enumerate(raw)]
        if not isinstance(raw, str | int | float):
            self.refuse(where, "expected text, a number, true, false, a list or a table", raw)
        return raw


def line_numbers(text: str) -> dict[Where, int]:
    """The line on which each table and key of a TOML text begins. The text must be one that `tomllib` reads.

    `tomllib` keeps no positions. But it reads every statement alone (a header, or `key = value`), and no beginning of a
    statement, so the statements are the shortest runs of lines that it reads.
    """
    lines: dict[Where, int] = {}
    lengths: dict[Where, int] = {}  # of lists of tables, so far
    table: Where = ()
    statement: list[str] = []
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        statement.append(line)
        try:
            read = tomllib.loads("\n".join(statement))
        except tomllib.TOMLDecodeError:
            continue  # its value goes on in the next line
        start = number - len(statement) + 1
        if statement[0].lstrip().startswith("["):
            table = _enter(read, lengths)
            lines.setdefault(table, start)
        else:
            for where in _paths(read):
                lines.setdefault(table + where, start)
        statement = []
    return lines


def set_value(table: dict[str, Any], assignment: str) -> list[Where]:
    """Carries out `a.b.c=VALUE` in a table that `tomllib` read; returns every place that was set.

    Tables in a list go by their `name`. VALUE is TOML; what is not is taken as text, so that quotes need not be quoted
    for the shell.

    Raises:
        ValueError: there is no such place.
    """
    dotted, equals, text = assignment.partition("=")
    keys = [key.strip() for key in dotted.split(".")]
    if not equals or not all(keys):
        raise ValueError("expected KEY.KEY=VALUE")
    where: list[str | int] = []
    node: Any = table
    for depth, key in enumerate(keys):
        if isinstance(node, list):
            names = names_in(node)
            if key not in names:
                raise ValueError(f"no {keys[depth - 1]} is named '{key}'{suggestion(key, filter(None, names))}")
            where.append(names.index(key))
        elif isinstance(node, dict):
            where.append(key)
            if depth < len(keys) - 1:
                node.setdefault(key, {})
        else:
            raise ValueError(f"{'.'.join(keys[:depth])} is {toml_text(node)}, not a table")
        if depth == len(keys) - 1:
            node[where[-1]] = _toml_value(text)
        node = node[where[-1]]
    return [tuple(where), *((*where, *inside) for inside in _paths(node))]


def names_in(tables: object) -> list[str | None]:
    """The `name` of each table of a list; None for what has none."""
    if not isinstance(tables, list):
        return []
    names = [table.get("name") if isinstance(table, dict) else None for table in tables]
    return [name if isinstance(name, str) else None for name in names]


def toml_text(value: object) -> str:
    """A value as it is written in TOML."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml_text(item)}" for key, item in value.items()) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_text, value))}]"
    if isinstance(value, bool | None):
        return str(value).lower()  # TOML has no none, but reports do
    return str(value) if isinstance(value, int | float) else json.dumps(str(value), ensure_ascii=False)


def _toml_value(text: str) -> Any:
    try:
        read = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return read["value"] if read.keys() == {"value"} else text


def _enter(header: Any, lengths: dict[Where, int]) -> Where:
    """The place that `[a.b]` or `[[a.b]]` opens: of a list of tables, the last."""
    where: Where = ()
    while header:
        ((key, header),) = header.items()
        where += (key,)
        if isinstance(header, list):
            lengths[where] = lengths.get(where, 0) + 1
            header = header[0]
        if where in lengths:
            where += (lengths[where] - 1,)
    return where


def _paths(value: object) -> Iterator[Where]:
    """The places inside a value, outer before inner."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (key,)
        yield from ((key, *rest) for rest in _paths(item))


def _given(hint: Any) -> Any:
    return next(kind for kind in typing.get_args(hint) if kind is not type(None))


def _words(hint: Any) -> str:
    """What a value of this type looks like, for "expected ..."."""
    kind = typing.get_origin(hint) or hint
    if kind is Annotated:
        rules = hint.__metadata__
        own = [] if isinstance(rules[0], Parse) else [_words(hint.__origin__)]
        return ", ".join([*own, *(rule.words for rule in rules)])
    if kind in (types.UnionType, typing.Union):
        return _words(_given(hint))
    if kind is tuple:
        return f"a list, each item {_words(typing.get_args(hint)[0])}"
    return _WORDS.get(kind, "a table")
