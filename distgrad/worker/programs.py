"""The programs a worker can run: the Python files of one folder, loaded by name and by nothing else."""

from __future__ import annotations

import importlib.util
import re
import sys
import threading
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from distgrad.errors import ProgramError

from .shard import Shard, outputs_of

_TARGET = re.compile(r"(?P<file>[A-Za-z0-9_][A-Za-z0-9_./-]*\.py):(?P<name>[A-Za-z_][A-Za-z0-9_]*)")


class Programs:
    """The programs of a folder.

    Raises:
        ProgramError: the folder does not exist.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder).resolve()
        if not self.folder.is_dir():
            raise ProgramError(f"the programs folder {self.folder} does not exist")
        self._modules: dict[str, ModuleType] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """The files, relative to the folder."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*.py"))

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
        module = self._module(match["file"])
        if match["name"].startswith("_") or not hasattr(module, match["name"]):
            offered = sorted(name for name, value in vars(module).items() if _offered(module, name, value))
            raise ProgramError(
                f"program {match['file']} has no {match['name']!r}{_hint(match['name'], offered)}; "
                f"it has {', '.join(offered) or 'nothing to offer'}"
            )
        return getattr(module, match["name"])

    def _module(self, file: str) -> ModuleType:
        path = (self.folder / file).resolve()
        if not path.is_relative_to(self.folder):
            raise ProgramError(f"program {file!r} lies outside the programs folder {self.folder}")
        if not path.is_file():
            known = self.names()
            raise ProgramError(
                f"there is no program {file!r} in {self.folder}{_hint(file, known)}; "
                f"it has {', '.join(known) or 'no programs'}"
            )
        with self._lock:
            module = self._modules.get(str(path))
            if module is None:
                module = self._modules[str(path)] = _load(path)
            return module


def _load(path: Path) -> ModuleType:
    """Imports a file. Programs may import their neighbours in the folder."""
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ProgramError(f"program {path.name} cannot be imported: {type(error).__name__}: {error}") from error
    return module


def _offered(module: ModuleType, name: str, value: Any) -> bool:
    own = getattr(value, "__module__", None) == module.__name__
    return own and not name.startswith("_") and (isinstance(value, type) or bool(outputs_of(value)))


def _hint(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
