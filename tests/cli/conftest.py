"""The command line run on a job that is over in a second, as users do: in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.processes import DEADLINE, eventually, with_environment

from .points import JOB


def held(steps: int) -> tuple[str, ...]:
    """Options with which a run takes so many steps, and the others after `Run.go_on`: it cannot be over before."""
    return ("--set", 'data.program="net.py:Held"', "--set", f"data.config.at_once={steps}")


class Run:
    """`distgrad train` in a process of its own; `prefix` is what its command begins with.

    Attributes:
        directory: the job's checkpoints.
        temporary: where it and its children make temporary files.
        out, errors: what it has printed, once it has ended.
    """

    def __init__(
        self, folder: Path, *options: str, environment: dict[str, str] | None = None, prefix: Sequence[str] = ()
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.directory = folder / "checkpoints"
        # A short name of its own: it has to leave room for the path of a socket, and finds all that belongs to the run.
        self.temporary = Path(tempfile.mkdtemp(prefix="t"))
        self._go = folder / "go"
        job = folder / "points.toml"
        if not job.exists():
            job.write_text(JOB)
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-W", "error", "-m", "distgrad", "train", str(job), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"TMPDIR": str(self.temporary), "DISTGRAD_GO": str(self._go)} | (environment or {}),
        )

    def until(self, kind: str, step: int = 0) -> dict[str, Any]:
        """The first event of that kind (of that step, at the earliest) that `--json` shows."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event: dict[str, Any] = json.loads(line)
            if event["event"] == kind and event.get("step", 0) >= step:
                return event
        raise AssertionError(f"the run ended before {kind}:\n{self.end()[1]}")

    def go_on(self) -> None:
        """Takes the steps that are `held`."""
        self._go.touch()

    def children(self) -> dict[str, int]:
        """Name -> process of the run's children."""
        found = with_environment(f"TMPDIR={self.temporary}")
        return {command.split()[-1]: pid for pid, command in found.items() if pid != self.process.pid}

    def end(self, within: float = DEADLINE) -> tuple[str, str]:
        """Waits for the end, so many seconds at most; returns what was printed, to both streams."""
        self.out, self.errors = self.process.communicate(timeout=within)
        return self.out, self.errors

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    @property
    def left_behind(self) -> list[object]:
        """Processes and temporary files that are still there."""
        return [*with_environment(f"TMPDIR={self.temporary}").items(), *os.listdir(self.temporary)]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        if self.temporary.exists():
            assert eventually(lambda: not self.left_behind), self.left_behind
            self.temporary.rmdir()


Start = Callable[..., Run]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts runs of the job in this test's folder, or in one below it. After the test nothing is left of them."""
    runs: list[Run] = []

    def start(*options: str, folder: str = ".", **more: Any) -> Run:
        runs.append(Run(tmp_path / folder, *options, **more))
        return runs[-1]

    yield start
    for run in runs:
        run.close()
