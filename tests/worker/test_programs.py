"""The programs of a folder: what may be loaded, and that it disturbs nobody else."""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path

import pytest

import distgrad as dg
from distgrad.errors import ConfigError, ProgramError
from distgrad.worker.programs import Programs

SHARD = """
import distgrad as dg

class Stage(dg.Shard):
    @dg.remote
    def forward(self, x):
        return x

class Plain:
    pass

@dg.remote
def double(x):
    return 2 * x

def unmarked(x):
    return x

_private = Stage
number = 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "programs"
    (made / "vision").mkdir(parents=True)
    (made / "mlp.py").write_text(SHARD)
    (made / "vision" / "net-2.py").write_text(SHARD)
    (made / ".hidden").mkdir()
    (made / ".hidden" / "trash.py").write_text(SHARD)
    return made


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)


# ---- what is found ---------------------------------------------------------------------------------------------------


def test_a_folder_says_what_it_has(folder: Path) -> None:
    assert Programs(folder).names() == ["mlp.py", "vision/net-2.py"]


@pytest.mark.parametrize("file", ["mlp.py", "vision/net-2.py", "vision/../mlp.py"])
def test_classes_of_shards_and_marked_functions_are_found(folder: Path, file: str) -> None:
    programs = Programs(folder)
    assert issubclass(programs.shard_class(f"{file}:Stage"), dg.Shard)
    assert programs.function(f"{file}:double")(4) == 8


def test_a_file_is_loaded_once_whatever_it_is_called(folder: Path) -> None:
    (folder / "alias.py").symlink_to(folder / "mlp.py")
    programs = Programs(folder)
    assert programs.find("mlp.py:Stage") is programs.find("vision/../mlp.py:Stage") is programs.find("alias.py:Stage")


def test_a_file_may_be_written_after_the_folder_was_opened(folder: Path) -> None:
    programs = Programs(folder)
    programs.find("mlp.py:Stage")
    write(folder, "later.py", SHARD)
    assert programs.shard_class("later.py:Stage")


def test_two_threads_that_load_one_file_get_one_module(folder: Path) -> None:
    write(folder, "slow.py", "import threading\nthreading.Event().wait(0.05)\nclass Plain: pass\n")
    programs, found = Programs(folder), []
    threads = [threading.Thread(target=lambda: found.append(programs.find("slow.py:Plain"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match=re.escape(f"the programs folder {tmp_path}/nowhere does not exist")):
        Programs(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("mlp.py", "'mlp.py' does not name a program; expected FILE.py:NAME within the programs folder"),
        ("mlp:Stage", "does not name a program"),
        ("mlp.py:Stage.forward", "does not name a program"),
        ("mlp.py:Stage\n", "does not name a program"),
        ("", "does not name a program"),
        ("../mlp.py:Stage", "does not name a program"),
        ("/etc/passwd.py:Stage", "does not name a program"),
        ("vision/../../secret.py:Stage", "'vision/../../secret.py' lies outside the programs folder"),
        ("out.py:Stage", "program 'out.py' lies outside the programs folder"),
        ("way/secret.py:Stage", "program 'way/secret.py' lies outside the programs folder"),
        ("mpl.py:Stage", r"no program 'mpl.py' in .*programs \(did you mean 'mlp.py'\?\); it has mlp.py, "),
        ("vision.py:Stage", "there is no program 'vision.py'"),
        ("mlp.py:Stge", r"program mlp.py has no 'Stge' \(did you mean 'Stage'\?\); it has Plain, Stage, double$"),
        ("mlp.py:_private", "program mlp.py has no '_private'"),
        ("mlp.py:__builtins__", "program mlp.py has no '__builtins__'"),
    ],
)
def test_what_is_not_a_program_of_the_folder_is_refused(folder: Path, target: str, message: str) -> None:
    write(folder.parent, "secret.py", SHARD)
    (folder / "out.py").symlink_to(folder.parent / "secret.py")
    (folder / "way").symlink_to(folder.parent)
    with pytest.raises(ProgramError, match=message):
        Programs(folder).find(target)


def test_an_empty_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="it has no programs"):
        Programs(tmp_path).find("mlp.py:Stage")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("Plain", "the class Plain"),
        ("double", "a function"),
        ("number", "a int"),
        ("dg", "a module"),
    ],
)
def test_only_subclasses_of_shard_are_shards(folder: Path, name: str, what: str) -> None:
    with pytest.raises(ProgramError, match=f"mlp.py:{name} is not a subclass of dg.Shard, but {what}"):
        Programs(folder).shard_class(f"mlp.py:{name}")


@pytest.mark.parametrize("name", ["Stage", "Plain", "unmarked", "number", "dg"])
def test_only_marked_functions_can_be_called(folder: Path, name: str) -> None:
    with pytest.raises(ProgramError, match=f"mlp.py:{name} may not be called: it is .*, not a function marked @dg"):
        Programs(folder).function(f"mlp.py:{name}")


# ---- imports that fail -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n\nx / 0\n", r"bad.py cannot be imported: ZeroDivisionError: division by zero \(bad.py, line 3\)"),
        ("def f(:\n", r"bad.py cannot be imported: SyntaxError: .*bad.py, line 1\)"),
        ("import sys\nsys.exit(3)\n", r"bad.py cannot be imported: SystemExit: 3 \(bad.py, line 2\)"),
        ("import absent_module\n", r"ModuleNotFoundError: No module named 'absent_module' \(bad.py, line 1\)"),
        ("from .mlp import Stge\n", r"ImportError: .*cannot import name 'Stge'.*\(bad.py, line 1\)"),
        ("from .mpl import Stage\n", r"ModuleNotFoundError: .*mpl.*\(bad.py, line 1\)"),
        ("import mlp\n", r"\(bad.py, line 1\); it lies in the same folder, so write: from . import mlp"),
        ("def f(): yield\nimport distgrad as dg\ndg.remote(f)", r"f: a generator's items cannot be called for"),
    ],
)
def test_a_file_that_fails_on_import_is_named_with_the_line(folder: Path, text: str, message: str) -> None:
    write(folder, "bad.py", text)
    with pytest.raises(ProgramError, match=message):
        Programs(folder).find("bad.py:Stage")


def test_a_file_that_failed_is_read_again_the_next_time(folder: Path) -> None:
    write(folder, "bad.py", "raise RuntimeError('not yet')")
    programs = Programs(folder)
    for _ in range(2):
        with pytest.raises(ProgramError, match="RuntimeError: not yet"):
            programs.find("bad.py:Stage")
    write(folder, "bad.py", SHARD + "# longer, lest Python take the file for unchanged\n")
    assert programs.shard_class("bad.py:Stage")


def test_a_name_that_python_cannot_import_is_refused(folder: Path) -> None:
    write(folder, "a.b.py", SHARD)
    with pytest.raises(ProgramError, match=r"'a\.b\.py' cannot be imported: Python takes the dots"):
        Programs(folder).find("a.b.py:Stage")


# ---- neighbours ------------------------------------------------------------------------------------------------------


def test_programs_of_two_folders_with_the_same_names_stay_apart(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        write(folder, "layers.py", f"WHO = {name!r}\n")
        write(folder, "mlp.py", "from .layers import WHO\nfrom . import layers\nclass Stage: who = WHO, layers.WHO\n")
        found.append(Programs(folder))
    # In both orders, as either might be loaded first.
    assert [programs.find("mlp.py:Stage").who for programs in found] == [("one", "one"), ("two", "two")]
    assert [programs.find("layers.py:WHO") for programs in reversed(found)] == ["two", "one"]


def test_a_program_is_no_stranger_to_itself(folder: Path) -> None:
    """What is imported from a neighbour is what the neighbour's own name finds; dataclasses find their module."""
    write(
        folder,
        "user.py",
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom .mlp import Stage\n"
        "from .vision import more\n@dataclass\nclass Settings:\n    size: int = 3\n",
    )
    write(folder / "vision", "more.py", "from ..mlp import Stage\n")
    programs = Programs(folder)
    assert programs.find("user.py:Settings")().size == 3
    assert programs.find("user.py:Stage") is programs.find("mlp.py:Stage") is programs.find("vision/more.py:Stage")


def test_loading_programs_leaves_the_path_alone_and_shadows_no_module(folder: Path) -> None:
    write(folder, "random.py", "class Stage: pass\n")
    write(folder, "user.py", "import random\nclass Stage: draw = random.random\n")
    before, standard = list(sys.path), sys.modules["random"]
    programs = Programs(folder)
    assert programs.find("user.py:Stage").draw is standard.random  # type: ignore[attr-defined]
    programs.find("random.py:Stage")
    assert sys.path == before
    assert sys.modules["random"] is standard


def test_a_program_error_is_a_config_error() -> None:
    assert issubclass(ProgramError, ConfigError)
