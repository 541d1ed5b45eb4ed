"""`distgrad train --cluster`: a job on workers that have joined a coordinator of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from distgrad.coordinator.server import Coordinator
from distgrad.show.members import job_line
from distgrad.transport.settings import TransportSettings
from distgrad.worker.member import Whereabouts
from distgrad.worker.worker import Worker
from tests.faults.namespaces import needs_root
from tests.processes import eventually

from .conftest import Start
from .points import PROGRAMS

TOKEN = {"DISTGRAD_TOKEN": "of the cluster"}
FOR_EVER = ("--json", "--set", "steps=100000")


class Standing:
    """A coordinator with workers in this process.

    Attributes:
        options: of the command that trains there.
    """

    def __init__(self) -> None:
        self._settings = TransportSettings(token=TOKEN["DISTGRAD_TOKEN"])
        self.coordinator = Coordinator(self._settings, "127.0.0.1:0")
        address = self.coordinator.start()
        self.options = ("--cluster", address)
        self.workers: dict[str, Worker] = {}

    def start(self, *names: str) -> None:
        interval = sys.getswitchinterval()
        for name in names:
            where = Whereabouts("machine7", f"/var/log/{name}.log" if name == "w1" else "")
            worker = Worker(name, self.options[1], PROGRAMS, self._settings, "127.0.0.1:0", whereabouts=where)
            self.workers[name] = worker
            worker.start()
        sys.setswitchinterval(interval)

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()
        self.coordinator.close()


@pytest.fixture
def standing() -> Iterator[Standing]:
    made = Standing()
    yield made
    made.close()


def newest(directory: Path) -> dict[str, bytes]:
    """The files of the newest checkpoint."""
    return {path.name: path.read_bytes() for path in sorted(directory.glob("step-*"))[-1].iterdir()}


def test_a_job_comes_to_the_same_bits_on_a_cluster_as_on_this_machine(standing: Standing, start: Start) -> None:
    here = start("--json", folder="here")
    standing.start("node9", "node10", "w1")
    there = start("--json", *standing.options, folder="there", environment=TOKEN)
    out, errors = there.end()
    assert (there.process.returncode, errors) == (0, "")
    here.end()
    assert newest(there.directory) == newest(here.directory)
    events = [json.loads(line) for line in out.splitlines()]
    ready = {event["worker"]: event["member"] for event in events if event["event"] == "ready"}
    assert ready == {"w0": "node9", "w1": "w1", "w2": "node10"}
    assert eventually(lambda: len(standing.coordinator.shards) == 0)  # and nothing is left of it there


@needs_root
@pytest.mark.slow
def test_the_machine_that_trains_need_not_see_the_coordinators_checkpoints(standing: Standing, start: Start) -> None:
    """The command sees an empty file system where the coordinator keeps them."""
    standing.start("w0", "w1", "w2")
    kept = Path(tempfile.mkdtemp())
    try:
        hidden = ["unshare", "--mount", "bash", "-c", f'mount -t tmpfs none {kept} && exec "$@"', "train"]
        options = [
            *standing.options,
            "--json",
            "--set",
            f"checkpoint.directory={kept}",
            "--set",
            "metrics.directory=run",
        ]
        first = start(*options, "--set", "steps=4", environment=TOKEN, prefix=hidden)
        first.end()
        assert [path.name for path in kept.glob("step-*")] == ["step-00000004"]
        assert (first.process.returncode, first.errors) == (0, "")
        refused = start(*options, environment=TOKEN, prefix=hidden)
        assert "there are checkpoints of an earlier run" in refused.end()[1]
        again = start("--resume", *options, environment=TOKEN, prefix=hidden)
        assert again.until("resumed")["step"] == 4
        assert again.end()[1] == ""
        assert sorted(path.name for path in kept.glob("step-*")) == [f"step-{step:08}" for step in (4, 8, 12)]
        fresh = start("--fresh", *options, "--set", "steps=4", environment=TOKEN, prefix=hidden)
        assert fresh.end()[1] == ""
        assert [path.name for path in kept.glob("step-*")] == ["step-00000004"]
    finally:
        shutil.rmtree(kept)


def test_a_missing_worker_is_named_after_the_deadline(standing: Standing, start: Start) -> None:
    standing.start("w0", "w2")
    run = start("--set", "limits.join_seconds=0.2", *standing.options, environment=TOKEN)
    _, errors = run.end()
    assert run.process.returncode == 1
    assert errors == "error: w1 did not join within 0.2 s; workers that are here: w0, w2\n"


@pytest.mark.slow
def test_without_failures_to_spare_a_lost_worker_ends_the_run_with_advice_and_it_goes_on_when_one_is_back(
    standing: Standing, start: Start
) -> None:
    standing.start("w0", "w1", "w2")
    run = start(*FOR_EVER, *standing.options, "--set", "recovery.max_failures=0", environment=TOKEN)
    checkpoint = run.until("saved")["checkpoint"]
    standing.workers["w1"].close("the machine is taken down")
    _, errors = run.end()
    assert run.process.returncode == 1
    assert "w1 is lost: the machine is taken down" in errors
    assert f"w1 was process {os.getpid()} on machine7: see its log there, /var/log/w1.log\n" in errors
    assert f"{os.path.dirname(checkpoint)}/step-" in errors
    assert errors.endswith(": continue with --resume\n")
    standing.start("w1")
    again = start("--resume", *standing.options, "--json", "--set", "steps=100000", environment=TOKEN)
    assert again.until("resumed")["step"] >= 4
    again.until("step")
    again.signal(signal.SIGINT)
    again.end()


@pytest.mark.slow
def test_a_run_goes_on_when_a_lost_worker_is_back_or_another_takes_its_place(standing: Standing, start: Start) -> None:
    standing.start("w0", "w1", "w2")
    run = start(*FOR_EVER, *standing.options, "--set", "recovery.replicate=true", environment=TOKEN)
    run.until("step", 3)
    standing.workers["w1"].close()
    standing.start("w1")
    assert run.until("recovered")["source"] == "the copies of other workers"
    standing.start("spare")
    standing.workers["w2"].close()
    taken = run.until("recovered")["step"]
    assert run.until("step")["step"] == taken + 1
    run.signal(signal.SIGINT)
    run.end()


@pytest.mark.slow
def test_ctrl_c_ends_the_run_and_frees_the_cluster(standing: Standing, start: Start) -> None:
    standing.start("w0", "w1", "w2")
    run = start(*FOR_EVER, *standing.options, environment=TOKEN)
    run.until("step", 2)
    status = standing.coordinator.running.status()
    assert status.step >= 2
    assert job_line(status).startswith(f"job points: step {status.step} of 100000 after ")
    assert job_line(status).endswith("; shards: head on w2, middle on w1, stem on w0")
    run.signal(signal.SIGINT)
    _, errors = run.end()
    assert (run.process.returncode, errors) == (130, "interrupted\n")
    assert not run.left_behind
    assert eventually(lambda: standing.coordinator.running.status() is None)
    assert job_line(None) == "no job runs"
