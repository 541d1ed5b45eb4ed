"""The check for leaks sees what it claims to see."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from tests.leaks import Leaks

pytest_plugins = ["pytester"]


@pytest.fixture
def leaks(tmp_path: Path) -> Leaks:
    return Leaks(tmp_path)


def test_nothing_is_found_when_nothing_happened(leaks: Leaks) -> None:
    assert leaks.found() == []


def test_a_thread_is_found_until_it_ends(leaks: Leaks) -> None:
    may_end = threading.Event()
    thread = threading.Thread(target=may_end.wait, name="forgotten")
    thread.start()
    assert leaks.found(grace=0) == ["thread 'forgotten'"]
    may_end.set()
    thread.join()
    assert leaks.found() == []


def test_a_thread_that_is_ending_gets_its_time(leaks: Leaks) -> None:
    looked_at = threading.Event()
    threading.Thread(target=lambda: looked_at.wait(0.05)).start()
    assert leaks.found() == []


def test_a_child_is_found_until_it_is_waited_for(leaks: Leaks) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        found = leaks.found(grace=0)
        assert any(line.startswith(f"process {child.pid} (") for line in found)
    assert leaks.found() == []


def test_a_socket_is_found_until_it_is_closed(leaks: Leaks) -> None:
    with socket.socket() as listener:
        (line,) = leaks.found(grace=0)
        assert line.startswith(f"descriptor {listener.fileno()} (socket:")
    assert leaks.found() == []


def test_a_file_left_in_the_temporary_directory_is_found(leaks: Leaks, tmp_path: Path) -> None:
    (tmp_path / "w0.sock").touch()
    assert leaks.found(grace=0) == [f"file {tmp_path / 'w0.sock'}"]


def test_temporary_files_of_a_run_lie_in_a_directory_of_its_own() -> None:
    assert Path(tempfile.gettempdir()).name.startswith("dg")


# ---- the fixtures, run in a small project of their own ---------------------------------------------------------------

LEAKING = """
import threading
import pytest

@pytest.fixture(scope="module")
def pool():
    threads = []
    yield threads
    for may_end, thread in threads:
        may_end.set()
        thread.join()

def grow():
    may_end = threading.Event()
    thread = threading.Thread(target=may_end.wait, daemon=True)
    thread.start()
    return may_end, thread
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """An empty project with our conftest."""
    here = Path(__file__).parent
    folder = pytester.mkpydir("tests")
    for name in ("conftest.py", "leaks.py"):
        (folder / name).write_text((here / name).read_text().replace("GRACE_SECONDS = 5.0", "GRACE_SECONDS = 0.0"))
    (folder / "worker").mkdir()
    (folder / "autograd").mkdir()
    return pytester


def run(project: pytest.Pytester, *options: str) -> pytest.RunResult:
    return project.runpytest_subprocess("-p", "no:cacheprovider", "--import-mode=importlib", *options)


def test_a_test_or_module_that_leaks_fails_once_in_the_checked_folders_only(project: pytest.Pytester) -> None:
    bodies = {
        "worker/test_leaks.py": "def test_it(): grow()",
        "worker/test_shares.py": "def test_it(pool): pool.append(grow())",
        "worker/test_shares_and_leaks.py": "def test_it(pool): grow()",
        "autograd/test_is_not_checked.py": "def test_it(): grow()",
    }
    for name, body in bodies.items():
        (project.path / "tests" / name).write_text(LEAKING + body)
    result = run(project)
    result.assert_outcomes(passed=4, errors=2)
    result.stdout.fnmatch_lines_random(
        [
            "ERROR tests/worker/test_leaks.py::test_it - Failed: left behind:",
            "ERROR tests/worker/test_shares_and_leaks.py::test_it - Failed: left behind:",
            "thread 'Thread-* (wait)'",
        ]
    )


@pytest.mark.parametrize(
    ("reason", "option", "code"),
    [
        ("no GPU here", "--no-unexpected-skips", pytest.ExitCode.OK),
        ("needs torch", "--no-unexpected-skips", pytest.ExitCode.TESTS_FAILED),
        ("needs torch", "-rs", pytest.ExitCode.OK),
    ],
)
def test_an_unexpected_skip_fails_the_full_check(
    project: pytest.Pytester, reason: str, option: str, code: pytest.ExitCode
) -> None:
    skip = f"pytest.skip({reason!r}, allow_module_level=True)"
    (project.path / "tests" / "test_passes.py").write_text("def test_it(): pass")
    (project.path / "tests" / "test_skips.py").write_text(f"import pytest\ndef test_it(): {skip}")
    (project.path / "tests" / "test_skips_all.py").write_text(f"import pytest\n{skip}")
    result = run(project, option)
    assert result.ret == code
    result.assert_outcomes(passed=1, skipped=2)
    if code == pytest.ExitCode.TESTS_FAILED:
        result.stdout.fnmatch_lines(
            ["*unexpected skips*", f"tests/test_skips_all.py: *{reason}", f"tests/test_skips.py::test_it: *{reason}"]
        )


def test_a_failure_shows_the_seed_of_its_random_numbers_which_is_always_the_same(project: pytest.Pytester) -> None:
    (project.path / "tests" / "test_it.py").write_text("def test_it(rng): assert rng.integers(10) > 10")
    run(project).stdout.fnmatch_lines(["np.random.default_rng(2601731899)"])
