"""Values as they are written in a shell: `x=[1.2, 0.7]`, `x=@x.npy`; and answers as they are printed and saved."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distgrad.autograd import tree
from distgrad.errors import ConfigError


def parse_assignments(words: Sequence[str]) -> dict[str, Any]:
    """Values by name of words like `x=[1.2, 0.7]`. Raises ConfigError for others."""
    values = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not (equals and name.isidentifier()):
            raise ConfigError(f"{word!r} is not understood: expected NAME=VALUE or NAME=@FILE")
        if name in values:
            raise ConfigError(f"{name} is given twice")
        values[name] = parse_value(text, name)
    return values


def parse_value(text: str, name: str) -> Any:
    """The value of a text: JSON, a Python literal, or @FILE.npy, @FILE.npz (a dict of arrays), @FILE.json. Lists of
    numbers, and such lists in lists of equal length, become arrays.

    Raises:
        ConfigError: it is none of these.
    """
    if text.startswith("@"):
        return _from_file(Path(text[1:]), name)
    try:
        return _with_arrays(json.loads(text))
    except (ValueError, RecursionError):
        pass
    try:
        return _with_arrays(ast.literal_eval(text))
    except (ValueError, SyntaxError, RecursionError, MemoryError):  # the last two are for deep nesting
        raise ConfigError(f"{name}={text} is neither JSON nor a Python literal, nor @FILE") from None


def _from_file(path: Path, name: str) -> Any:
    try:
        if path.suffix == ".json":
            return _with_arrays(json.loads(path.read_text()))
        loaded = np.load(path, allow_pickle=False)
    except OSError as error:
        raise ConfigError(f"{name}=@{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        expected = "JSON" if path.suffix == ".json" else "arrays in NumPy's format (.npy, .npz), or JSON (.json)"
        raise ConfigError(f"{name}=@{path} cannot be read: expected {expected}") from None
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded:
        return dict(loaded)


def _with_arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _with_arrays(item) for key, item in value.items()}
    if not isinstance(value, list | tuple):
        return value
    if value and isinstance(value, list):
        try:
            array = np.asarray(value)
        except ValueError:  # lists of different lengths
            array = np.asarray(None)
        if array.dtype.kind in "biufc":
            return array
    return type(value)(_with_arrays(item) for item in value)


def printable(value: Any) -> str:
    """A value as JSON: arrays are lists, complex numbers [real, imaginary]."""
    return json.dumps(_jsonable(value))


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind == "c":
            return np.stack([value.real, value.imag], axis=-1).tolist()
        return value.astype(np.float64).tolist() if value.dtype.kind == "V" else value.tolist()
    return [value.real, value.imag] if isinstance(value, complex) else value


def save(path: Path, answer: Mapping[str, Any]) -> list[str]:
    """Writes the arrays of an answer into a file of NumPy's, each under its place: `gradient['weights'][0]`; returns
    these names."""
    arrays: dict[str, Any] = {}
    for name, value in answer.items():
        leaves, structure = tree.flatten(value)
        arrays |= zip(structure.paths(name), leaves, strict=True)
    with path.open("wb") as file:
        np.savez(file, **arrays)
    return list(arrays)
