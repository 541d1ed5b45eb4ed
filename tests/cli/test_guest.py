"""`distgrad train --cluster` when the cluster's coordinator or the run's own processes are lost: real processes all."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.namespaces import Network, needs_root, without_proxies
from tests.processes import eventually

from .conftest import Start
from .standing import TOKEN, Standing
from .test_train import shards

pytestmark = pytest.mark.slow

STEPS = 100
SETTINGS = ("--json", "--set", f"steps={STEPS}", "--set", "evaluation.every=50")


@pytest.fixture
def standing(tmp_path: Path) -> Iterator[Standing]:
    with ExitStack() as stack:
        yield Standing(tmp_path, stack)


def test_a_run_survives_the_loss_of_the_coordinator_and_of_its_trainer(standing: Standing, start: Start) -> None:
    here = start(*SETTINGS, folder="here")
    run = start(*SETTINGS, "--cluster", standing.address, folder="there", environment=TOKEN)
    run.until("step", 5)
    standing.coordinator.kill()
    assert "waiting up to 30 s for the next coordinator" in run.until("notice")["text"]
    standing.start_coordinator()
    found = run.until("recovered")
    assert (found["source"], found["step"] >= 5) == ("what the workers hold", True)
    step = run.until("saved")["step"]
    os.kill(next(pid for name, pid in run.children().items() if name.startswith("trainer")), signal.SIGKILL)
    assert run.until("failure")["failures"] == 2
    found = run.until("recovered")
    assert (found["source"], found["step"] >= step) == ("a checkpoint", True)
    out, errors = run.end()
    assert (run.process.returncode, errors) == (0, "")
    assert json.loads(out.splitlines()[-1])["event"] == "done"
    here.end()
    assert shards(run, STEPS) == shards(here, STEPS)
    assert len(shards(run, STEPS)) == 3


def test_a_coordinator_that_does_not_come_back_ends_the_run_with_advice_and_the_next_resumes(
    standing: Standing, start: Start
) -> None:
    patience = ("--set", "recovery.patience_seconds=0.5")
    run = start(*SETTINGS, *patience, "--cluster", standing.address, environment=TOKEN)
    run.until("saved")
    standing.coordinator.kill()
    _, errors = run.end()
    assert run.process.returncode == 1
    assert f"the coordinator is lost, and no other came to {standing.address} within 0.5 s" in errors
    assert errors.endswith(": continue with --resume\n")
    standing.start_coordinator()
    again = start(*SETTINGS, "--resume", "--cluster", standing.address, environment=TOKEN)
    assert again.until("resumed")["step"] >= 4
    again.until("step")
    # And when all of a run is killed, its cluster is free for the next.
    again.signal(signal.SIGKILL)
    again.end()
    assert eventually(lambda: not again.children())
    last = start(*SETTINGS, "--resume", "--cluster", standing.address, environment=TOKEN)
    last.until("done")
    last.end()


@pytest.mark.network
@needs_root
def test_a_run_survives_a_worker_that_is_cut_off(tmp_path: Path, start: Start) -> None:
    """Whose machine nobody reaches any more, without a word; one without shards takes its place."""
    here = start(*SETTINGS, folder="here")
    with without_proxies(), ExitStack() as stack:
        network = Network(stack)
        standing = Standing(tmp_path, stack, workers=4, network=network)
        run = start(*SETTINGS, "--cluster", standing.address, folder="there", environment=TOKEN)
        run.until("step", 5)
        network.pull("w1")
        assert "w1 is lost: silent for 3 s" in run.until("failure")["reason"]
        assert run.until("recovered")["source"] == "a checkpoint"
        _, errors = run.end()
        assert (run.process.returncode, errors) == (0, "")
    here.end()
    assert shards(run, STEPS) == shards(here, STEPS)
