"""What every test gets: one BLAS thread, seeded random numbers, its own temporary directory, and a check for leaks."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

# Before anything imports numpy: bits and timings must not depend on the number of cores.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import hypothesis
import numpy as np
import pytest

from tests.leaks import Leaks

# Folders whose tests make threads, processes, sockets or files. The others are spared the price of looking.
CHECKED_FOR_LEAKS = {"transport", "graph", "worker", "cluster", "coordinator", "cli", "service", "faults"}

# Reasons for which a test may be skipped even in the full check: the machine lacks something no package brings.
EXPECTED_SKIPS = ("no GPU", "needs root", "no wheel of atheris", "no Node.js")

# A slow machine is not a failure, and a failing example must be reproducible from its report.
hypothesis.settings.register_profile("distgrad", deadline=None, print_blob=True)
hypothesis.settings.load_profile("distgrad")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-unexpected-skips",
        action="store_true",
        help=f"fail when a test is skipped for a reason other than: {', '.join(EXPECTED_SKIPS)}",
    )


# ---- the run: a directory of its own for temporary files, short enough for the path of a Unix socket -----------------


def pytest_configure(config: pytest.Config) -> None:
    # pytest keeps its own directories where it always does.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    directory = tempfile.mkdtemp(prefix="dg", dir=os.environ["PYTEST_DEBUG_TEMPROOT"])
    os.environ["TMPDIR"] = os.environ["XDG_RUNTIME_DIR"] = tempfile.tempdir = directory
    # Shells let what they start in the background ignore Ctrl-C, and its children with it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(tempfile.gettempdir())
    tempfile.tempdir = None


# ---- skips -----------------------------------------------------------------------------------------------------------


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        _note_skip(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        _note_skip(report)


_unexpected_skips: list[str] = []


def _note_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not any(expected in reason for expected in EXPECTED_SKIPS):
        _unexpected_skips.append(f"{report.nodeid}: {reason}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.getoption("--no-unexpected-skips") and _unexpected_skips and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("--no-unexpected-skips") and _unexpected_skips:
        terminalreporter.section("unexpected skips")
        for line in _unexpected_skips:
            terminalreporter.line(line)


# ---- fixtures --------------------------------------------------------------------------------------------------------


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that are the same at every run of the same test; a failure's report shows the seed."""
    seed = zlib.crc32(request.node.nodeid.encode())
    request.node.add_report_section("setup", "rng", f"np.random.default_rng({seed})")
    return np.random.default_rng(seed)


@pytest.fixture(autouse=True, scope="module")
def _what_outlives_a_module_is_not_looked_through() -> None:
    """Ten thousand tests, their reports and the libraries they import are there to the end. To look through them takes
    half a second, in which no thread of this process runs: others, in tests of silence, take it for stopped."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _test_leaves_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves a thread, a process, a descriptor or a temporary file.

    A test that shares a wider fixture (a cluster of its module, say) may make things grow that belong to the fixture;
    those tests are checked together, at the end of their module.
    """
    if not _is_checked(request) or _shares_a_fixture(request):
        yield
        return
    leaks = Leaks(Path(tempfile.gettempdir()))
    yield
    _fail_on(leaks)


@pytest.fixture(autouse=True, scope="module")
def _module_leaves_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    if not _is_checked(request):
        yield
        return
    leaks = Leaks(Path(tempfile.gettempdir()))
    yield
    _fail_on(leaks)


def _is_checked(request: pytest.FixtureRequest) -> bool:
    below = request.path.relative_to(Path(__file__).parent).parts
    # Ray keeps its logs open, and on the disk, for as long as this process lives.
    return below[0] in CHECKED_FOR_LEAKS and request.node.get_closest_marker("ray") is None


def _shares_a_fixture(request: pytest.FixtureRequest) -> bool:
    """Whether the test uses a fixture of the checked folders that outlives it."""
    definitions = request.node._fixtureinfo.name2fixturedefs.values()
    return any(
        definition[-1].scope != "function" and definition[-1].baseid.count("/") > 0 for definition in definitions
    )


_blamed: set[str] = set()


def _fail_on(leaks: Leaks) -> None:
    # What a test was blamed for is still there at the end of its module.
    found = [line for line in leaks.found() if line not in _blamed]
    _blamed.update(found)
    if found:
        pytest.fail("left behind:\n" + "\n".join(found), pytrace=False)


# ---- certificates ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """authority.pem, and for "server", "client", "expired" and "stranger" (of another authority) a .pem and a .key;
    locked.key is that of "server" with a passphrase."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("pki")

    def run(command: str) -> None:
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)

    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    for authority in ("authority", "other"):
        run(f"req -x509 {key} -keyout {authority}.key -out {authority}.pem -days 2 -subj /CN={authority}")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for name, authority, days in (
        ("server", "authority", 2),
        ("client", "authority", 2),
        ("expired", "authority", -1),
        ("stranger", "other", 2),
    ):
        run(f"req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}")
        issue = f"x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -CAcreateserial"
        run(f"{issue} -out {name}.pem -days {days} -extfile names")
    run("pkey -in server.key -out locked.key -aes128 -passout pass:phrase")
    return folder
