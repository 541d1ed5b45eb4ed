"""Kinds of values that options take: those of click, but for values that a shell's mistakes make of them.

An option given an empty variable is a mistake, which as a path would be the current folder. NaN is in every range.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click


class _Path(click.Path):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("an empty path is no path", param, ctx)
        return super().convert(value, param, ctx)


class _Seconds(click.FloatRange):
    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        return seconds


def _path(**kind: Any) -> click.Path:
    return _Path(path_type=Path, **kind)


PATH = _path()
FILE = _path(exists=True, dir_okay=False)
NEW_FILE = _path(dir_okay=False)
FOLDER = _path(file_okay=False)
SECONDS = _Seconds(min=0)
SOME_SECONDS = _Seconds(min=0, min_open=True)
COUNT = click.IntRange(min=1)
