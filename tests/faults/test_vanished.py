"""A driver that is gone without a word: what it owned is released everywhere, also where it was never seen."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .aftermath import assert_survivors_serve
from .world import HOLDINGS, World, world


@contextmanager
def vanishing_driver(found: World) -> Iterator[subprocess.Popen[str]]:
    """A driver process that holds contexts on w0 and, unknowingly, on w1, where a backward of its stands still."""
    command = [sys.executable, "-m", "tests.faults.driver"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            process.stdin.write(found.coordinator_address + "\n")
            process.stdin.flush()
            found.gate.reached()
            process.stdin.write("reached\n")
            process.stdin.flush()
            assert process.stdout.readline() == "holding\n"
            yield process
        finally:
            process.kill()


def held(found: World, worker: str) -> dict[str, int]:
    counts = found.driver.counts(worker)
    return {what: counts[what] for what in HOLDINGS}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "reason"), [(signal.SIGKILL, "the connection broke"), (signal.SIGSTOP, "silent for 3 s")]
)
def test_everything_a_vanished_driver_owned_is_released_on_all_workers(how: signal.Signals, reason: str) -> None:
    with world("w0", "w1") as found:
        found.place("a", "w0"), found.place("b", "w1")
        with vanishing_driver(found) as process:
            for worker in ("w0", "w1"):
                now = held(found, worker)
                assert now["contexts"] == 4
                assert now["passes"] == 1
                assert now["sends"] + now["recvs"] >= 4
            process.send_signal(how)
            member = found.wait_for(
                lambda: next((m for _, m in found.events if m.name == "vanishing" and not m.alive), None),
                lambda: "the loss of the driver",
            )
            assert reason in member.reason
            # Contexts go at once, although a backward of one still stands at the gate.
            found.wait_for(lambda: not any("contexts" in h for h in found.holdings().values()), lambda: "the release")
            found.gate.let_all_go()
            found.assert_nothing_is_held()
            assert_survivors_serve(found, "a", "b")
