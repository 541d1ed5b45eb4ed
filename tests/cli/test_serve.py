"""`distgrad serve` and `distgrad certs`, as users run them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from distgrad.errors import ConfigError
from distgrad.service.certificates import make_certificates
from distgrad.wire import pb
from tests.processes import DEADLINE, eventually, with_environment
from tests.service.raw import Failed, Streaming, Unary, answer

PROGRAM = """
import os
import time

def double(x):
    return 2 * x

def waits(x):
    while not os.path.exists("go"):
        time.sleep(0.01)
    return x
"""


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, and where it says that it serves."""
    (folder / "models.py").write_text(PROGRAM)
    command = [sys.executable, "-W", "error", "-m", "distgrad", "serve", "models.py:double", "models.py:waits"]
    process = subprocess.Popen(
        [*command, "--listen", "localhost:0", "--workers", "1", *options],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"DISTGRAD_TEST": str(folder)},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving double, waits at localhost:"), (line, process.stderr and process.stderr.read())
        yield process, line.split()[-1]
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=DEADLINE)
    assert not with_environment(f"DISTGRAD_TEST={folder}")


def running(address: str) -> int:
    """Requests that run."""
    client = Unary(address)
    counts = pb.GetStatisticsResponse.FromString(client.call("GetStatistics", b"")).counts
    client.close()
    return counts.counts["running"]


def test_it_serves_until_a_signal_and_then_drains(tmp_path: Path) -> None:
    with serving(tmp_path, "--audit", "audit.jsonl") as (process, address):
        client = Unary(address)
        assert client.ask("evaluate", function="double", arguments=[3.0])["value"] == 6.0
        with pytest.raises(Failed):
            client.ask("evaluate", function="triple", arguments=[3.0])
        stream = Streaming(address)
        stream.send("evaluate", function="waits", arguments=[1.0])
        assert eventually(lambda: running(address) == 1)
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        assert "SIGTERM: ending when requests under way have their answers" in process.stdout.readline()
        (tmp_path / "go").touch()
        exchange = stream.next()
        assert answer(exchange.message, exchange.payload)["value"] == 1.0
        client.close()
        stream.close()
        _, errors = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0, errors
    (line,) = map(json.loads, (tmp_path / "audit.jsonl").read_text().splitlines())
    assert (line["code"], line["method"]) == ("NOT_FOUND", "distgrad.v1.GradientService/Evaluate")


@pytest.mark.slow
def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with serving(tmp_path) as (process, address):
        stream = Streaming(address)
        stream.send("evaluate", function="waits", arguments=[1.0])
        assert eventually(lambda: running(address) == 1)
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        assert "a second one ends it now" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE)
        assert process.returncode == 130
        stream.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["models.py:nothing"], "program models.py has no 'nothing'"),
        (["models.py:double", "--listen", "0.0.0.0:0"], "distgrad certs DIR"),
        (["models.py:double", "--tokens", "models.py"], "is not TOML"),
        (["models.py:double", "--workers", "0"], "workers must be at least 1"),
        (["models.py:double", "--workers", "100000"], "workers must be at most 1000, found 100000"),
        (["no/such/models.py:double"], "does not exist"),
    ],
)
def test_what_cannot_be_served_is_said(tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "models.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "distgrad", "serve", "--listen", "localhost:0", *arguments]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE)
    assert ended.returncode == 1
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_certificates_are_made_for_a_server_and_named_clients(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    command = [sys.executable, "-m", "distgrad", "certs", "made", "--client", "alice", "--client", "bob"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE)
    names = ["ca", "server", "server-key", "alice", "alice-key", "bob", "bob-key"]
    assert ended.stdout.split() == [f"made/{name}.pem" for name in names]
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE)
    assert (again.returncode, "exists already" in again.stderr) == (1, True)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"days": 0}, "1 to 36500 days, found 0"),
        ({"days": 99999999}, "found 99999999"),
        ({"clients": ["../alice"]}, "'../alice' cannot name a client"),
        ({"clients": ["server"]}, "'server' cannot name a client"),
        ({"hosts": ["zürich"]}, "'zürich' is no name or address of a host"),
        ({"hosts": [""]}, "'' is no name or address of a host"),
    ],
)
def test_certificates_that_cannot_be_made_are_refused_before_any_is(tmp_path: Path, wrong: Any, said: str) -> None:
    pytest.importorskip("cryptography")
    with pytest.raises(ConfigError, match=said):
        make_certificates(tmp_path / "made", **wrong)
    assert not list(tmp_path.iterdir())
