"""The jobs of `deploy/jobs`: each comes to the same bits on any number of workers, and after a kill."""

from __future__ import annotations

import hashlib
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

from distgrad.coordinator.training.job import Job, describe
from tests.processes import DEADLINE

JOBS = Path(__file__).parents[2] / "deploy" / "jobs"
NAMES = sorted(path.stem for path in JOBS.glob("*.toml"))

# Twelve steps, looked at and saved after six and at the end.
SHORT = ["steps=12", "evaluation.every=6", "checkpoint.every=6"]
# What makes a job small besides.
SMALLER = {
    "gpt": ["data.config.batch=8", "shard.lower.config.count=1", "shard.upper.config.count=1", "pipeline.sample=[]"]
}


def test_the_jobs_are_those_of_the_readme() -> None:
    assert NAMES == ["conv", "digits", "embedding", "gpt", "split"]


@pytest.mark.parametrize("name", NAMES)
def test_a_job_file_is_read_and_each_of_its_values_has_an_origin(name: str) -> None:
    job = Job.load(JOBS / f"{name}.toml", [*SHORT, *SMALLER.get(name, [])])
    assert job.name == name
    assert f"# {name}.toml:" in describe(job)
    assert "# --set" in describe(job)


class Run:
    """`distgrad train` on a shortened job, in a process of its own, from another folder."""

    def __init__(self, name: str, folder: Path, *options: str) -> None:
        self.directory = folder / "run"
        settings = [*SHORT, *SMALLER.get(name, []), f'checkpoint.directory="{self.directory}"']
        command = [sys.executable, "-m", "distgrad", "train", str(JOBS / f"{name}.toml"), "--json", *options]
        self.process = subprocess.Popen(
            [*command, *(word for setting in settings for word in ("--set", setting))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
        )
        self.events: list[dict[str, Any]] = []

    def until(self, kind: str, step: int = 0) -> None:
        """Returns after an event of that kind, of that step at the earliest, or at the end."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))
            if self.events[-1]["event"] == kind and self.events[-1].get("step", 0) >= step:
                return

    def kill_worker(self) -> None:
        """Ends one of the workers at once."""
        worker = next(event for event in self.events if event["event"] == "ready")
        os.kill(worker["process"], signal.SIGKILL)

    def end(self) -> str:
        """Waits for the end; returns what was said about errors."""
        self.until("end")
        return self.process.communicate(timeout=DEADLINE)[1]

    def bits(self) -> dict[str, str]:
        """Digests of all that the last checkpoint holds."""
        files = (self.directory / "step-00000012").glob("*.safetensors")
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    def told(self) -> dict[str, Any]:
        """Losses by step, and the last evaluation."""
        losses = {event["step"]: event["loss"] for event in self.events if event["event"] == "step"}
        evaluated = [event for event in self.events if event["event"] == "evaluated"]
        return {"losses": losses, "evaluated": evaluated[-1]}


@contextmanager
def run(name: str, folder: Path, *options: str) -> Iterator[Run]:
    folder.mkdir(exist_ok=True)
    made = Run(name, folder, *options)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
        made.process.communicate()


@pytest.mark.slow
@pytest.mark.timeout(300)  # four runs of a job
@pytest.mark.parametrize("name", [name for name in NAMES if name != "digits"])
def test_a_job_comes_to_the_same_bits_on_any_workers_and_after_a_loss_and_when_resumed(
    name: str, tmp_path: Path
) -> None:
    with run(name, tmp_path / "alone", "--workers", "1") as alone:
        assert alone.end() == ""
    assert len(alone.bits()) == len(Job.load(JOBS / f"{name}.toml").shards)
    with run(name, tmp_path / "survived") as survived:
        survived.until("step", 7)
        survived.kill_worker()
        assert survived.end() == ""
    assert survived.bits() == alone.bits()
    assert survived.told() == alone.told()
    with run(name, tmp_path / "resumed") as stopped:
        stopped.until("saved")
        stopped.process.kill()
    with run(name, tmp_path / "resumed", "--resume") as resumed:
        assert resumed.end() == ""
    assert resumed.bits() == alone.bits()
    assert resumed.told()["evaluated"] == alone.told()["evaluated"]
