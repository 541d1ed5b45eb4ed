"""A coordinator and workers on hosts of their own, as the README tells to start them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.namespaces import needs_root

from .hosts import Hosts, hosts

pytestmark = [pytest.mark.slow, pytest.mark.network, needs_root, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^<!-- on: (?P<hosts>[\w ]+?)(?P<stays>, stays)? -->\n```sh\n(?P<code>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """Commands of the README.

    Attributes:
        stays: whether they run until somebody ends them.
    """

    hosts: tuple[str, ...]
    stays: bool
    code: str


def readme() -> list[Block]:
    found = BLOCK.finditer((ROOT / "README.md").read_text())
    return [Block(tuple(block["hosts"].split()), bool(block["stays"]), block["code"]) for block in found]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What a user has after `git clone`, of which all hosts see the same."""
    for name in ("deploy", "workers"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of every command: the `distgrad` that is tested, and no proxies, which gRPC would use off this machine."""
    installed = tmp_path / "bin" / "distgrad"
    installed.parent.mkdir()
    installed.write_text(f'#!/bin/sh\nexec {sys.executable} -m distgrad "$@"\n')
    installed.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**kept, "PATH": f"{installed.parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


@pytest.fixture
def network() -> Iterator[Hosts]:
    with hosts("node0", "node1", "node2", rate="200mbit", delay=0.001) as network:
        yield network


def end(processes: list[subprocess.Popen[str]]) -> None:
    """Ends what stays, as Ctrl-C does, and sees that it does end."""
    for process in processes:
        os.killpg(process.pid, signal.SIGINT)
    for process in processes:
        process.communicate(timeout=20)


def test_the_readme_followed_on_three_hosts_trains_to_the_bits_of_one_machine(
    clone: Path, environment: dict[str, str], network: Hosts
) -> None:
    staying: list[subprocess.Popen[str]] = []
    printed = ""
    try:
        for block in readme():
            for host in block.hosts:
                process = network.run(
                    host,
                    block.code,
                    cwd=clone,
                    env=environment,
                    start_new_session=True,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                )
                if block.stays:
                    staying.append(process)
                else:
                    printed, _ = process.communicate(timeout=180)
                    assert process.returncode == 0, printed
    finally:
        end(staying)
    assert re.search(r"^done: .*accuracy 9[89]\.\d%", printed, re.M), printed
    assert re.search(r"^w1 +alive ", printed, re.M)
    assert printed.endswith("no job runs\n")
    assert newest(clone / "runs" / "digits") == trained_here(clone, environment)


def trained_here(clone: Path, environment: dict[str, str]) -> dict[str, bytes]:
    directory = clone / "here"
    changes = ["--workers", "1", "--set", f"checkpoint.directory={directory}"]
    command = ["distgrad", "train", "deploy/jobs/digits.toml", "--quiet", *changes]
    subprocess.run(command, cwd=clone, env=environment, check=True, timeout=120)
    return newest(directory)


def newest(directory: Path) -> dict[str, bytes]:
    """The parameters of the newest checkpoint."""
    return {path.name: path.read_bytes() for path in sorted(directory.glob("step-*"))[-1].glob("*.safetensors")}
