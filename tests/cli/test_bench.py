"""`distgrad bench`"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from distgrad.cli import main
from distgrad.cluster.bench import MEASURES
from tests.processes import eventually, is_gone


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["bench", *arguments])
    return int(ended.value.code or 0)


@pytest.mark.slow
def test_what_is_chosen_is_measured_on_the_lanes_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["--lane", "unix", "--lane", "grpc", "--measure", "call", "--measure", "fallback"]
    assert run(*chosen, "--seconds", "0.01", "--no-torch", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    names = [(figure["lane"], figure["name"]) for figure in found["figures"]]
    assert names == [("unix", "call"), ("unix", "fallback"), ("grpc", "call"), ("grpc", "fallback")]
    assert all(figure["ours"] > 0 for figure in found["figures"])
    assert [figure["peer"] for figure in found["figures"]] == ["", "plain pass"] * 2
    assert found["machine"]["cores"] > 0


def test_what_can_be_measured_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--list") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(MEASURES)


def test_an_unknown_measure_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--measure", "cal") == 1
    assert "there is no measure cal; there are call, chain-1" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code", "said"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGKILL, -9, "")])
def test_what_it_has_started_ends_with_it(number: signal.Signals, code: int, said: str) -> None:
    command = [sys.executable, "-m", "distgrad", "bench", "--lane", "unix", "--no-torch", "--seconds", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0) as bench:
        children = Path(f"/proc/{bench.pid}/task/{bench.pid}/children")
        assert eventually(children.read_text)
        child = int(children.read_text())
        os.killpg(bench.pid, number)
        assert bench.communicate(timeout=20)[1].strip() == said
    assert bench.returncode == code
    assert eventually(lambda: is_gone(child))


@pytest.mark.slow
@pytest.mark.skipif(find_spec("torch") is None, reason="the peer is not installed")
def test_torch_is_measured_beside_in_turns(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--lane", "tcp", "--measure", "call", "--measure", "chain-4", "--seconds", "0.01", "--json") == 0
    figures = json.loads(capsys.readouterr().out)["figures"]
    assert [figure["peer"] for figure in figures] == ["torch", "torch"]
    assert all(figure["ratio"] == pytest.approx(figure["theirs"] / figure["ours"]) for figure in figures)
