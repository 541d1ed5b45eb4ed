"""What callers give to the methods of a cluster, refused in a sentence when it is of a wrong kind: what comes after is
protobuf, whose errors name neither the method nor the argument, or a wait that NaN would make endless."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from numbers import Real
from os import PathLike

from distgrad.errors import ConfigError

Directory = str | PathLike[str]

# The largest number of the wire's fields.
_LARGEST = 2**64 - 1


def require_text(method: str, **given: object) -> None:
    """Raises ConfigError for what is not text."""
    for argument, value in given.items():
        if not isinstance(value, str):
            raise _refusal(method, argument, value, "text")


def require_mapping(method: str, **given: object) -> None:
    """Raises ConfigError for what is no dict."""
    for argument, value in given.items():
        if not isinstance(value, Mapping):
            raise _refusal(method, argument, value, "a dict")


def require_whole(method: str, least: int = 0, **given: object) -> None:
    """Raises ConfigError for what is not a whole number of at least so much."""
    for argument, value in given.items():
        try:
            fits = not isinstance(value, bool) and least <= operator.index(value) <= _LARGEST  # type: ignore[arg-type]
        except TypeError:
            fits = False
        if not fits:
            raise _refusal(method, argument, value, f"a whole number of at least {least}")


def require_number(method: str, **given: object) -> None:
    """Raises ConfigError for what is not a number of at least 0."""
    for argument, value in given.items():
        if isinstance(value, bool) or not isinstance(value, Real) or not float(value) >= 0:
            raise _refusal(method, argument, value, "a number of at least 0")


def path_text(method: str, directory: object) -> str:
    """A directory as text. Raises ConfigError for what names none."""
    if not isinstance(directory, str | PathLike) or not str(directory):
        raise _refusal(method, "directory", directory, "the path of a directory")
    return str(directory)


def _refusal(method: str, argument: str, value: object, expected: str) -> ConfigError:
    return ConfigError(f"{method}() got {argument}={value!r}, expected {expected}")
