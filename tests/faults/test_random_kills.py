"""Processes of a run are killed at random, again and again: the finished bits are those of an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.cli.conftest import Run, start  # noqa: F401 - a fixture
from tests.cli.test_train import shards
from tests.processes import is_gone

PROCESSES = ("w0", "w1", "w2", "coordinator")
# Events of a run between two kills, at most: steps, checkpoints, and those of a recovery.
MOST_EVENTS = 12
# Steps for each kill: enough that the run is not over before the last.
STEPS = 8
# Seconds that a run may take.
LONGEST = 600.0


@pytest.mark.parametrize("replicate", [False, True], ids=["from checkpoints", "from copies"])
@pytest.mark.parametrize(
    "kills",
    [pytest.param(8, marks=pytest.mark.slow), pytest.param(100, marks=[pytest.mark.slow, pytest.mark.long])],
)
@pytest.mark.timeout(1800)
def test_no_number_of_kills_changes_the_bits(
    start: Callable[..., Run],  # noqa: F811
    kills: int,
    replicate: bool,
) -> None:
    seed = int(os.environ.get("DISTGRAD_TEST_SEED") or random.randrange(2**32))
    print(f"DISTGRAD_TEST_SEED={seed}")
    steps = kills * STEPS
    settings = ["--set", f"steps={steps}", "--set", "checkpoint.every=5", "--set", "evaluation.every=7"]
    undisturbed = start("--quiet", *settings, folder="undisturbed")
    undisturbed.end(LONGEST)
    survival = ["--set", "recovery.max_failures=100000", "--set", f"recovery.replicate={str(replicate).lower()}"]
    run = start("--json", *settings, *survival, folder="killed")
    killed = Killer(run, random.Random(seed)).kill(kills)
    run.end(LONGEST)
    print(f"killed: {dict(killed)}")
    assert run.process.returncode == 0, run.errors
    assert sum(killed.values()) == kills
    assert shards(run, steps) == shards(undisturbed, steps)
    assert len(shards(run, steps)) == 3
    assert "came out differently" not in (run.directory / "logs" / "coordinator.log").read_text()
    assert run.left_behind == []


class Killer:
    """Kills processes of a run after random numbers of its events."""

    def __init__(self, run: Run, rng: random.Random) -> None:
        self._run = run
        self._rng = rng

    def kill(self, times: int) -> Counter[str]:
        """Kills so often, and says whom. Fewer, when the run ends before."""
        killed: Counter[str] = Counter()
        events = self._events()
        for _ in range(times):
            for _ in range(self._rng.randint(1, MOST_EVENTS)):
                if next(events, None) in (None, "done"):
                    return killed
            while not self._hit(victim := self._rng.choice(PROCESSES)):
                pass  # it was killed a moment ago, and its successor is not there yet
            killed[victim] += 1
        return killed

    def _hit(self, victim: str) -> bool:
        pid = self._run.children().get(victim)
        if pid is None or is_gone(pid):
            return False
        os.kill(pid, signal.SIGKILL)
        return True

    def _events(self) -> Iterator[str]:
        assert self._run.process.stdout is not None
        for line in self._run.process.stdout:
            yield json.loads(line)["event"]
