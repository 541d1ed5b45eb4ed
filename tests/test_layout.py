"""The shape of the house: where things are, who imports whom, and what shipped code never does."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import distgrad

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "distgrad"
GENERATED = PACKAGE / "wire" / "v1"

REQUIRED = {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "distgrad", "proto", "pyproject.toml", "tests"}
TOP_LEVEL = REQUIRED | {"deploy", "workers"}

# Each folder imports only from lines below its own; folders of one line do not import one another.
ORDER = """
cli
service
cluster
show
coordinator
worker
graph
transport
wire
nn optim
autograd
observe
"""
LEVEL = {folder: level for level, line in enumerate(reversed(ORDER.split("\n"))) for folder in line.split()}

# Modules beside the folders: `errors` may be imported by all, `__init__` is the public surface, `__main__` starts the
# command line.
TOP_MODULES = {"__init__", "__main__", "errors"}

FORBIDDEN_MODULES = {"cloudpickle", "dill", "jsonpickle", "marshal", "pickle", "shelve"}
FORBIDDEN_CALLS = {"eval", "exec", "yaml.load", "yaml.unsafe_load", "torch.load"}

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if GENERATED not in path.parents)
SHIPPED = MODULES + sorted((ROOT / "workers").rglob("*.py"))


def named(paths: list[Path]) -> list:
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in paths]


# ---- the tree --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="an archive of the sources, which says nothing of other files")
def test_the_top_level_holds_what_the_design_lists_and_nothing_else() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    top_level = {line.split("/")[0] for line in tracked.splitlines() if not line.startswith(".")}
    assert top_level <= TOP_LEVEL
    assert top_level >= REQUIRED


def test_the_package_holds_only_the_folders_of_the_import_order() -> None:
    folders = {path.relative_to(PACKAGE).parts[0] for path in MODULES if path.parent != PACKAGE}
    modules = {path.stem for path in MODULES if path.parent == PACKAGE}
    assert folders <= LEVEL.keys()
    assert modules <= TOP_MODULES


def test_every_folder_says_what_it_is_for() -> None:
    folders = {path.parent for path in MODULES}
    silent = [
        str(folder.relative_to(ROOT))
        for folder in sorted(folders)
        if not (init := folder / "__init__.py").exists() or not ast.get_docstring(ast.parse(init.read_text()))
    ]
    assert silent == []


@pytest.mark.parametrize("path", named(MODULES))
def test_a_file_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 600


# ---- imports ---------------------------------------------------------------------------------------------------------


def imports(tree: ast.Module) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    """Every absolute dotted name a module imports, with the statement: at its top, in functions, for type checkers."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)


def import_mistakes(path: Path, source: str) -> list[str]:
    """What is wrong with the imports of one module of the package; empty when nothing is."""
    tree = ast.parse(source)
    inside = path.relative_to(PACKAGE).with_suffix("").parts
    folder = inside[0]
    mistakes = []
    for node, name in imports(tree):
        package, *rest = name.split(".")
        if package == "distgrad":
            mistakes += [f"line {node.lineno}: {name}: {why}" for why in _import_from_package(folder, rest)]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level >= len(inside) and len(inside) > 1:
            mistakes.append(f"line {node.lineno}: a relative import leaves {folder}/; write it as distgrad.<folder>")
    neighbours = _names_of_neighbours(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _is_private(node.attr) and ast.unparse(node.value) in neighbours:
            mistakes.append(f"line {node.lineno}: {ast.unparse(node)} is private to its folder")
    return mistakes


def _import_from_package(folder: str, rest: list[str]) -> Iterator[str]:
    """What is wrong with an import of `distgrad.<rest>` by a module of the folder."""
    if rest == ["__version__"]:  # which no folder has, and is there before any other name
        return
    if not rest or rest[0] not in LEVEL.keys() | {"errors"}:
        yield "the package itself stands above every folder; import from the folder that defines the name"
    elif rest[0] == "errors":
        return
    elif rest[0] == folder:
        yield "within a folder imports are relative"
    else:
        if folder in LEVEL and LEVEL[rest[0]] >= LEVEL[folder]:
            yield f"{folder} stands below or beside {rest[0]}"
        if any(_is_private(part) for part in rest[1:]):
            yield f"private to {rest[0]}/"


def _names_of_neighbours(tree: ast.Module) -> set[str]:
    """The names under which a module knows other folders of distgrad, their modules, and what these define."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] == "distgrad":
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@pytest.mark.parametrize("path", named([path for path in MODULES if path.parent != PACKAGE]))
def test_imports_point_downward_and_stop_at_private_names(path: Path) -> None:
    assert import_mistakes(path, path.read_text()) == []


@pytest.mark.parametrize(
    ("source", "mistake"),
    [
        ("from distgrad.coordinator.steps import Step", "graph stands below or beside coordinator"),
        ("def f():\n    import distgrad.worker", "graph stands below or beside worker"),
        ("if TYPE_CHECKING:\n    from distgrad.cli import main", "graph stands below or beside cli"),
        ("from distgrad import cluster", "graph stands below or beside cluster"),
        ("from distgrad.graph.context import Context", "within a folder imports are relative"),
        ("from distgrad import grad", "the package itself stands above every folder"),
        ("import distgrad", "the package itself stands above every folder"),
        ("from ..wire import encode", "a relative import leaves graph/"),
        ("from distgrad.wire import _encode", "private to wire/"),
        ("from distgrad.wire._codec import encode", "private to wire/"),
        ("from distgrad.wire import codec\ncodec._table", "codec._table is private to its folder"),
    ],
)
def test_a_wrong_import_is_noticed(source: str, mistake: str) -> None:
    (found,) = import_mistakes(PACKAGE / "graph" / "backward.py", source)
    assert mistake in found


@pytest.mark.parametrize(
    "source",
    [
        "from distgrad.wire import encode",
        "from distgrad.errors import ContextError",
        "from distgrad import errors, observe",
        "from distgrad import __version__",
        "from . import _edges\n_edges._table",
        "from .context import Context",
        "import numpy as np",
    ],
)
def test_a_right_import_is_accepted(source: str) -> None:
    assert import_mistakes(PACKAGE / "graph" / "backward.py", source) == []


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("module", ["distgrad", "distgrad.cli"])
def test_importing_distgrad_or_starting_its_command_brings_nothing_yet(module: str) -> None:
    loaded = loaded_by(f"import {module}")
    assert module in loaded
    assert {"numpy", "click", "grpc"}.isdisjoint(loaded)


def test_the_local_engine_comes_alone() -> None:
    loaded = loaded_by("import distgrad as dg; dg.grad(lambda x: x * x)(1.0)")
    assert "distgrad.autograd.tensor" in loaded
    later = {"asyncio", "click", "google.protobuf", "grpc", "multiprocessing", "ray", "rich", "safetensors", "scipy"}
    assert later.isdisjoint(loaded)


def test_type_checkers_see_every_name_where_it_is() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.asname: (node.module, alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    names = {name: tuple(where.replace(":", ".").rsplit(".", 1)) for name, where in distgrad.NAMES.items()}
    assert seen == names


# ---- data, never code ------------------------------------------------------------------------------------------------


def code_from_data(source: str) -> list[str]:
    """The places of a module that could turn data into code."""
    tree = ast.parse(source)
    found = []
    for node, name in imports(tree):
        if name.split(".")[0] in FORBIDDEN_MODULES:
            found.append(f"line {node.lineno}: import of {name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if (called := ast.unparse(node.func)) in FORBIDDEN_CALLS:
                found.append(f"line {node.lineno}: {called}()")
            for keyword in node.keywords:
                if keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False":
                    found.append(f"line {node.lineno}: allow_pickle")
    return found


@pytest.mark.parametrize("path", named(SHIPPED))
def test_shipped_code_never_unpickles_or_evaluates(path: Path) -> None:
    assert code_from_data(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import cloudpickle as c",
        "eval('1')",
        "exec(text)",
        "yaml.load(text)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_code_from_data_is_noticed(source: str) -> None:
    assert len(code_from_data(source)) == 1


@pytest.mark.parametrize(
    "source", ["retrieval('1')", "spec.loader.exec_module(module)", "np.load(f, allow_pickle=False)"]
)
def test_harmless_code_is_accepted(source: str) -> None:
    assert code_from_data(source) == []
