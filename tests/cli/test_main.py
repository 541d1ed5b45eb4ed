"""The command line itself, and its errors that need no other process."""

from __future__ import annotations

import importlib.metadata
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import distgrad
from distgrad.cli import main
from distgrad.cli.commands import COMMANDS
from distgrad.coordinator.client import Client
from distgrad.coordinator.server import Coordinator
from distgrad.errors import PermissionDenied
from distgrad.transport.grpc_health import is_serving
from distgrad.transport.health import SERVES
from distgrad.transport.settings import TransportSettings
from distgrad.worker.worker import Worker
from tests.processes import eventually

from .points import JOB, PROGRAMS


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    """Runs a command line here; returns its exit code and what it printed, to both streams."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


# ---- help ------------------------------------------------------------------------------------------------------------


def test_help_lists_every_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert [line.split()[0] for line in out.partition("Commands:\n")[2].splitlines()] == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_subcommand_explains_itself(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert out.startswith(f"Usage: distgrad {command} ")


def test_the_version_is_known_where_distgrad_is_not_installed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_installed(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", not_installed)
    assert run(capsys, "--version") == (0, f"distgrad, version {distgrad.__version__}\n", "")


def test_an_unknown_subcommand_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, errors = run(capsys, "trian")
    assert code == 2
    assert "No such command 'trian'" in errors


def test_an_interrupted_command_exits_as_shells_expect(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("distgrad.cli.train.run", interrupted)
    code, _, errors = run(capsys, "train", "job.toml")
    assert code == 130
    assert errors.strip() == "interrupted"


def test_a_command_that_is_still_being_imported_can_be_interrupted() -> None:
    code = """
import sys

class Interrupts:
    def find_spec(self, name, *_):
        if name == "click":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupts())
from distgrad.cli import main
main(["certs"])
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (130, "interrupted\n")


# ---- jobs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps = 12\n", "", "points.toml  steps: missing; expected an integer"),
        ("steps = 12", "stepps = 12", "points.toml:3  stepps: unknown key; did you mean 'steps'?"),
        ("steps = 12", "steps = -1", "points.toml:3  steps = -1: expected an integer, at least 1"),
        ('worker = "w1"', 'worker = "w7"', "not a worker of the cluster; its workers: w0, w1, w2"),
        ("steps = 12", "steps = = 12", "points.toml is not TOML"),
    ],
)
def test_a_mistake_in_a_job_is_shown_with_its_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, old: str, new: str, message: str
) -> None:
    job = tmp_path / "points.toml"
    job.write_text(JOB.replace(old, new))
    code, out, errors = run(capsys, "train", str(job))
    assert (code, out) == (1, "")
    assert message in errors
    assert errors.startswith("error: ")


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--workers", "0"], 1, "--workers 0: expected at least 1"),
        (["--set", "steps"], 1, "--set  steps: "),
        (["--resume", "--fresh"], 2, "choose one"),
        (["--ray-cpus", "2"], 2, "it goes with --ray"),
        (["--cluster", ""], 2, "want to know where"),
        (["--ray", ""], 2, "want to know where"),
    ],
)
def test_a_mistake_in_the_options_is_explained(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, options: list[str], code: int, message: str
) -> None:
    job = tmp_path / "points.toml"
    job.write_text(JOB)
    found, _, errors = run(capsys, "train", str(job), *options)
    assert found == code
    assert message in errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", ""], "an empty path is no path"),
        (["coordinator", "--checkpoints", ""], "an empty path is no path"),
        (["worker", "--programs", ""], "an empty path is no path"),
        (["worker", "--programs", ".", "--patience", "nan"], "'nan' is no number of seconds"),
        (["bench", "--seconds", "nan"], "'nan' is no number of seconds"),
        (["health", "localhost:1", "--timeout", "0"], "0.0 is not in the range x>0"),
        (["call", "localhost:1", "f", "--timeout", "-1"], "-1.0 is not in the range x>0"),
        (["serve", "models.py:f", "--lease", "nan"], "'nan' is no number of seconds"),
        (["check", "localhost:1", "f", "--directions", "0"], "0 is not in the range x>=1"),
        (["check", "localhost:1", "f", "--seed", "-1"], "-1 is not in the range x>=0"),
    ],
)
def test_a_value_that_no_option_can_have_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    code, _, errors = run(capsys, *words)
    assert code == 2
    assert message in errors


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe"])
def test_a_file_without_a_token_lets_nobody_listen(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "token").write_bytes(content)
    code, _, errors = run(capsys, "coordinator", "--listen", "localhost:0", "--token-file", str(tmp_path / "token"))
    assert code == 1
    assert f"{tmp_path / 'token'} holds no token" in errors


def test_a_job_that_is_not_there_suggests_one_that_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "points.toml").write_text(JOB)
    code, _, errors = run(capsys, "train", str(tmp_path / "point.toml"))
    assert code == 1
    assert "did you mean 'points.toml'?" in errors


# ---- clusters over several machines ----------------------------------------------------------------------------------


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("let me in\n")
    return path


@pytest.fixture
def coordinator() -> Iterator[str]:
    """The address of a coordinator with one worker, w0."""
    settings = TransportSettings(token="let me in")
    with Coordinator(settings, "127.0.0.1:0") as coordinator:
        address = coordinator.process.identity.address
        worker = Worker("w0", address, PROGRAMS, settings, "127.0.0.1:0")
        worker.start()
        yield address
        worker.close()


def test_status_shows_the_workers(capsys: pytest.CaptureFixture[str], coordinator: str, token: Path) -> None:
    code, out, errors = run(capsys, "status", coordinator, "--token-file", str(token))
    assert (code, errors) == (0, "")
    heading, worker, job = (line.split() for line in out.splitlines())
    assert heading[:4] == ["worker", "state", "process", "address"]
    assert worker[:2] == ["w0", "alive"]
    assert " ".join(job) == "no job runs"


@pytest.mark.parametrize(
    "arguments", [["status", "{address}"], ["worker", "--programs", str(PROGRAMS), "--join", "{address}"]]
)
def test_a_stranger_without_the_token_is_not_let_in(
    capsys: pytest.CaptureFixture[str], coordinator: str, arguments: list[str]
) -> None:
    code, _, errors = run(capsys, *(argument.format(address=coordinator) for argument in arguments))
    assert code == 1
    assert errors == f"error: coordinator at {coordinator} refused the link: the token is not accepted there\n"


def test_a_clients_token_lets_a_client_in_and_no_worker(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, token: Path, said: list[str]
) -> None:
    (tmp_path / "guests").write_text("a guest\nanother\n")
    refused: list[str] = []

    def come_as_a_guest() -> None:
        assert eventually(lambda: said)
        address = said[0].split()[-1]
        with Client(address, TransportSettings(token="a guest")) as guest:
            assert guest.workers == []
        with pytest.raises(PermissionDenied):
            Client(address, TransportSettings(token="guest"))
        worker = Worker("w0", address, PROGRAMS, TransportSettings(token="another"), "127.0.0.1:0")
        try:
            worker.start()
        except PermissionDenied as error:
            refused.append(str(error))
        worker.close()

    coming = threading.Thread(target=come_as_a_guest)
    coming.start()
    ending = end_when(lambda: refused)
    options = ["--token-file", str(token), "--client-tokens", str(tmp_path / "guests")]
    run(capsys, "coordinator", "--listen", "127.0.0.1:0", *options)
    coming.join()
    ending.join()
    assert "the token is not accepted there" in refused[0]


@pytest.mark.parametrize("content", [b"", b"\n \n", b"guest\n\xff\n"])
def test_a_file_of_clients_tokens_without_any_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "guests").write_bytes(content)
    options = ["--listen", "127.0.0.1:0", "--client-tokens", str(tmp_path / "guests")]
    code, _, errors = run(capsys, "coordinator", *options)
    assert code == 1
    assert f"{tmp_path / 'guests'} holds no tokens" in errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--listen", "here"], "'here' is no address"),
        (["--insecure-health", "80"], "'80' is no address"),
        (["--name", "a b"], "'a b' cannot name a worker"),
    ],
)
def test_a_worker_that_could_not_join_does_not_wait_for_its_coordinator(
    capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    code, _, errors = run(capsys, "worker", "--programs", str(PROGRAMS), "--join", "localhost:1", *options)
    assert code == 1
    assert message in errors


def test_a_busy_port_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, _, errors = run(capsys, "coordinator", "--listen", address)
    assert code == 1
    assert f"cannot listen at {address}: " in errors


@pytest.mark.parametrize(
    "command",
    [["coordinator"], ["worker", "--join", "{address}", "--programs", str(PROGRAMS), "--token-file", "{token}"]],
)
def test_listening_to_other_machines_in_the_clear_has_to_be_asked_for(
    capsys: pytest.CaptureFixture[str], coordinator: str, token: Path, command: list[str]
) -> None:
    words = [word.format(address=coordinator, token=token) for word in command]
    code, _, errors = run(capsys, *words, "--listen", "0.0.0.0:0")
    assert code == 1
    assert "set tls, or insecure=True (--insecure)" in errors


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a command has said so far."""
    lines: list[str] = []
    monkeypatch.setattr("click.echo", lambda text="", **_: lines.append(str(text)))
    return lines


def end_when(condition: Callable[[], object]) -> threading.Thread:
    """Ends the command that runs in the main thread as `kill` does, once the condition is true."""

    def end() -> None:
        eventually(condition)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=end)
    thread.start()
    return thread


def test_a_worker_says_where_it_is_and_runs_until_it_is_told_to_end(
    capsys: pytest.CaptureFixture[str], coordinator: str, token: Path, said: list[str]
) -> None:
    thread = end_when(lambda: said)
    options = ["--name", "w1", "--programs", str(PROGRAMS), "--token-file", str(token)]
    code, _, _ = run(capsys, "worker", "--join", coordinator, *options)
    thread.join()
    assert code == 130
    assert re.fullmatch(rf"worker w1 at 127.0.0.1:\d+, joined to {coordinator}", said[0])
    with Client(coordinator, TransportSettings(token="let me in")) as client:
        (gone,) = [worker for worker in client.workers if worker.name == "w1"]
        assert (gone.state, gone.reason) == ("left", "it was told to end by SIGTERM")
        assert client.membership.members["w1"].host == socket.gethostname()


@pytest.mark.parametrize(
    ("options", "environment", "said_first"),
    [
        (["--name", "left"], {}, r"worker left at 127.0.0.1:\d+,"),
        ([], {}, r"worker w1 at 127.0.0.1:\d+,"),
        ([], {"RANK": "7", "MASTER_ADDR": "unused"}, r"worker w7 at 127.0.0.1:\d+,"),
        ([], {"SLURM_PROCID": "3"}, r"worker w3 at 127.0.0.1:\d+,"),
        (["--name", "left"], {"RANK": "7"}, r"worker left at 127.0.0.1:\d+,"),
        (["--advertise", "gateway"], {}, r"worker w1 at gateway:\d+,"),
        (["--advertise", "gateway:7"], {}, r"worker w1 at gateway:7,"),
        (["--listen", "0.0.0.0:0", "--insecure"], {}, r"worker w1 at 127.0.0.1:\d+,"),
    ],
)
def test_a_worker_is_named_and_reached_as_options_and_environment_say(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    coordinator: str,
    said: list[str],
    options: list[str],
    environment: dict[str, str],
    said_first: str,
) -> None:
    for name, value in {"DISTGRAD_TOKEN": "let me in", "DISTGRAD_JOIN": coordinator, **environment}.items():
        monkeypatch.setenv(name, value)
    thread = end_when(lambda: said)
    run(capsys, "worker", "--programs", str(PROGRAMS), *options)
    thread.join()
    assert re.match(said_first, said[0])


@pytest.fixture
def unused() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_a_worker_waits_for_its_coordinator_and_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, unused: str, said: list[str]
) -> None:
    monkeypatch.setenv("DISTGRAD_TOKEN", "let me in")
    coordinator = Coordinator(TransportSettings(token="let me in"), unused)

    def come_late() -> None:
        assert eventually(lambda: said)
        coordinator.start()

    coming = threading.Thread(target=come_late)
    coming.start()
    ending = end_when(lambda: len(said) >= 2)
    run(capsys, "worker", "--programs", str(PROGRAMS), "--join", unused)
    coming.join()
    ending.join()
    coordinator.close()
    assert said[0].startswith(f"waiting up to 60 s for the coordinator at {unused}: ")
    assert said[1].startswith("worker w0 at ")


def test_a_coordinator_that_does_not_come_is_named(capsys: pytest.CaptureFixture[str], unused: str) -> None:
    code, _, errors = run(capsys, "worker", "--programs", str(PROGRAMS), "--join", unused, "--patience", "0")
    assert code == 1
    assert f"no coordinator is at {unused}, after 0 s: " in errors


def test_a_worker_without_its_folder_of_programs_does_not_wait_for_a_coordinator(
    capsys: pytest.CaptureFixture[str], unused: str
) -> None:
    code, output, errors = run(capsys, "worker", "--programs", "/no/folder", "--join", unused)
    assert code == 1
    assert "/no/folder" in errors
    assert "waiting" not in output


def test_a_worker_that_nobody_tells_where_to_join_says_what_it_looked_for(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, errors = run(capsys, "worker", "--programs", str(PROGRAMS))
    assert code == 1
    assert "say --join HOST:PORT, or set DISTGRAD_JOIN; and neither MASTER_ADDR nor SLURM_JOB_NODELIST" in errors


def test_a_coordinator_counts_the_workers_that_the_launcher_announces(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")

    def join() -> None:
        assert eventually(lambda: said)
        worker = Worker("w0", said[0].split()[-1], PROGRAMS, TransportSettings(), "127.0.0.1:0")
        worker.start()
        assert eventually(lambda: len(said) >= 2)
        worker.close()

    joining = threading.Thread(target=join)
    joining.start()
    ending = end_when(lambda: len(said) >= 3)
    run(capsys, "coordinator", "--listen", "127.0.0.1:0")
    joining.join()
    ending.join()
    assert said[1].endswith(" joined; 1 of 2 workers are here")
    assert said[2].endswith("; 0 of 2 workers are here")


@pytest.mark.parametrize(("service", "code"), [("distgrad.v1.LinkService", 0), ("", 0)])
def test_health_tells_by_its_exit_code(
    capsys: pytest.CaptureFixture[str], coordinator: str, service: str, code: int
) -> None:
    found, out, errors = run(capsys, "health", coordinator, "--service", service)
    assert (found, out, errors) == (code, "serving\n", "")


def test_health_can_be_told_in_the_clear_at_an_address_of_its_own(
    capsys: pytest.CaptureFixture[str], unused: str, said: list[str]
) -> None:
    answers: list[bool] = []

    def ask() -> None:
        assert eventually(lambda: said)
        answers.append(is_serving(unused, TransportSettings(), SERVES, 5.0))

    asking = threading.Thread(target=ask)
    asking.start()
    ending = end_when(lambda: answers)
    run(capsys, "coordinator", "--listen", "127.0.0.1:0", "--insecure-health", unused)
    asking.join()
    ending.join()
    assert answers == [True]


def test_nobody_is_not_healthy(capsys: pytest.CaptureFixture[str], unused: str) -> None:
    code, _, errors = run(capsys, "health", unused)
    assert code == 1
    assert f"{unused} says nothing of its health: UNAVAILABLE" in errors


def test_a_coordinator_says_where_it_is_and_who_comes_and_goes(
    capsys: pytest.CaptureFixture[str], token: Path, tmp_path: Path, said: list[str]
) -> None:
    def join_and_leave() -> None:
        assert eventually(lambda: said)
        address = said[0].split()[-1]
        worker = Worker("w0", address, PROGRAMS, TransportSettings(token="let me in"), "127.0.0.1:0")
        worker.start()
        worker.close()

    joining = threading.Thread(target=join_and_leave)
    joining.start()
    ending = end_when(lambda: len(said) >= 3)
    journal = tmp_path / "journal"
    options = ["--token-file", str(token), "--journal", str(journal)]
    code, _, _ = run(capsys, "coordinator", "--listen", "127.0.0.1:0", *options)
    joining.join()
    ending.join()
    assert code == 130
    assert journal.exists()
    assert re.fullmatch(r"coordinator of cluster distgrad at 127.0.0.1:\d+", said[0])
    assert re.fullmatch(r"worker w0 \(process \d+ at 127.0.0.1:\d+\) joined", said[1])
    assert re.match(r"worker w0 \(process \d+ at 127.0.0.1:\d+\) (left|lost): ", said[2])
