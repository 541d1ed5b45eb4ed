"""The programs a worker can run: the Python files of one folder, loaded by name and by nothing else.

A folder is imported as a package of its own, under a name that no other has. So files of the same name in two folders
stay apart, nothing is added to `sys.path`, and a program imports its neighbours as within any package:

    from .layers import Block
"""

from __future__ import annotations

import importlib
import itertools
import re
import sys
import traceback
from difflib import get_close_matches
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from distgrad.errors import ProgramError

from .shard import Shard, outputs_of

_TARGET = re.compile(r"(?P<file>[A-Za-z0-9_][A-Za-z0-9_./-]*\.py):(?P<name>[A-Za-z_][A-Za-z0-9_]*)")

_numbers = itertools.count()


class Programs:
    """The programs of a folder.

    Raises:
        ProgramError: the folder does not exist.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder).resolve()
        if not self.folder.is_dir():
            why = "is a file, not a folder" if self.folder.exists() else "does not exist"
            raise ProgramError(f"the programs folder {self.folder} {why}")
        self._package = _make_package(self.folder)

    def names(self) -> list[str]:
        """The files, relative to the folder; hidden ones are left out."""
        found = (path.relative_to(self.folder) for path in self.folder.rglob("*.py"))
        return sorted(str(path) for path in found if not any(part.startswith(".") for part in path.parts))

    def shard_class(self, target: str) -> type[Shard]:
        """The class "FILE.py:CLASS" of shards."""
        found = self.find(target)
        if not (isinstance(found, type) and issubclass(found, Shard)):
            raise ProgramError(f"{target} is not a subclass of dg.Shard, but {_kind(found)}")
        return found

    def function(self, target: str) -> Any:
        """The function "FILE.py:FUNCTION", which must be marked `@dg.remote`."""
        found = self.find(target)
        if isinstance(found, type) or not outputs_of(found):
            raise ProgramError(f"{target} may not be called: it is {_kind(found)}, not a function marked @dg.remote")
        return found

    def find(self, target: str) -> Any:
        """What `target` ("FILE.py:NAME") names.

        Raises:
            ProgramError: malformed, outside the folder, no such file or name, or the file fails when it is imported.
        """
        match = _TARGET.fullmatch(target)
        if match is None:
            raise ProgramError(f"{target!r} does not name a program; expected FILE.py:NAME within the programs folder")
        file, name = match["file"], match["name"]
        module = self._load(file, self._locate(file))
        if name.startswith("_") or not hasattr(module, name):
            offered = sorted(name for name, value in vars(module).items() if _offered(module, name, value))
            has = ", ".join(offered) or "nothing to offer"
            raise ProgramError(f"program {file} has no {name!r}{_hint(name, offered)}; it has {has}")
        return getattr(module, name)

    def _locate(self, file: str) -> Path:
        """Where a program lies; relative to the folder, links followed."""
        path = (self.folder / file).resolve()
        if not path.is_relative_to(self.folder):
            raise ProgramError(f"program {file!r} lies outside the programs folder {self.folder}")
        if not path.is_file():
            known = self.names()
            raise ProgramError(
                f"there is no program {file!r} in {self.folder}{_hint(file, known)}; "
                f"it has {', '.join(known) or 'no programs'}"
            )
        return path.relative_to(self.folder)

    def _load(self, file: str, path: Path) -> ModuleType:
        parts = path.with_suffix("").parts
        if any("." in part for part in parts):
            raise ProgramError(f"program {file!r} cannot be imported: Python takes the dots in its name for folders")
        name = ".".join([self._package, *parts])
        if name not in sys.modules:
            importlib.invalidate_caches()  # the file may be younger than Python's last look into the folder
        try:
            return importlib.import_module(name)
        except (Exception, SystemExit) as error:
            raise ProgramError(
                f"program {file} cannot be imported: {type(error).__name__}: {error}{self._where(error)}"
            ) from error

    def _where(self, error: BaseException) -> str:
        """The line of the folder's files that an import failed on; for a neighbour not found, how to import it."""
        lines = [
            f"{Path(frame.filename).relative_to(self.folder)}, line {frame.lineno}"
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename).is_relative_to(self.folder)
        ]
        where = f" ({lines[-1]})" if lines else ""
        if isinstance(error, ModuleNotFoundError) and f"{error.name}.py" in self.names():
            where += f"; it lies in the same folder, so write: from . import {error.name}"
        return where


def _make_package(folder: Path) -> str:
    """Lets the files of a folder be imported as modules of a package; returns its name."""
    name = f"distgrad_programs_{next(_numbers)}"
    spec = ModuleSpec(name, loader=None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    sys.modules[name] = module_from_spec(spec)
    return name


def _offered(module: ModuleType, name: str, value: Any) -> bool:
    own = getattr(value, "__module__", None) == module.__name__
    return own and not name.startswith("_") and (isinstance(value, type) or bool(outputs_of(value)))


def _hint(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
