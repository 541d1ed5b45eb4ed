"""A worker is killed in the middle of something, and started again under the same name."""

from __future__ import annotations

import signal
from contextlib import suppress

import numpy as np
import pytest

from distgrad.errors import WorkerLost

from .aftermath import assert_everyone_learned, assert_survivors_serve
from .moments import MOMENTS, Trouble, X
from .world import SIZE, world


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(moment, marks=[] if moment == "backward" else pytest.mark.slow)
        for moment in MOMENTS
        if moment != "commit"
    ],
)
def test_everyone_learns_which_worker_was_killed_and_lets_go_of_everything(moment: str) -> None:
    with world("w0", "w1", "w2") as found:
        trouble = Trouble(found, moment)
        victim = found.workers["w1"]
        victim.signal(signal.SIGKILL)
        assert_everyone_learned(found, trouble, victim, "nobody listens at")
        found.assert_nothing_is_held()
        assert_survivors_serve(found, "a", "c")


def test_an_update_that_was_decided_happens_although_an_owner_is_killed() -> None:
    with world("w0", "w1", "w2") as found:
        trouble = Trouble(found, "commit")
        found.workers["w1"].signal(signal.SIGKILL)
        _, error = trouble.outcome()
        assert error is None
        for shard in "ac":
            assert not np.array_equal(found.driver.shard(shard).state_dict()["weight"], np.eye(SIZE) * 2)
        found.assert_nothing_is_held()
        assert_survivors_serve(found, "a", "c")


def test_a_worker_started_again_under_its_name_serves() -> None:
    with world("w0", "w1") as found:
        a, b = found.place("a", "w0"), found.place("b", "w1")
        with found.driver.context():
            a.chain(X, b, "forward").get()
        first = found.workers["w1"]
        first.signal(signal.SIGKILL)
        found.loss(first)
        found.start("w1")
        again = found.place("b2", "w1")
        assert {w.name: w.incarnation for w in found.driver.workers if w.state == "alive"} == {
            name: worker.incarnation for name, worker in found.workers.items()
        }
        with found.driver.context():
            # w0, too, knows the new w1, and has forgotten that the old one is lost.
            np.testing.assert_array_equal(a.chain(X, again, "forward").numpy(), X * 4)
        assert_survivors_serve(found, "a", "b2")


def test_who_waited_for_whom_when_a_worker_was_killed_is_known() -> None:
    with world("w0", "w1") as found:
        a, b = found.place("a", "w0"), found.place("b", "w1")
        with suppress(WorkerLost), found.driver.context():
            hidden = a.stop_forward(X)
            b.forward(hidden)
            found.gate.reached()
            assert set(found.driver.process.caller.waits()) == {
                "driver waits for a.stop_forward on w0",
                "b.forward on w1 waits for a.stop_forward on w0",
            }
            found.wait_for(
                lambda: (
                    [line for worker in found.driver.workers for line in worker.waits]
                    == ["w1 waits for values of w0 (1)"]
                ),
                lambda: "w1's asking for the value",
            )
            found.workers["w0"].signal(signal.SIGKILL)
            hidden.get()
        waits = found.driver.process.caller.waits_at_loss
        assert waits[0] == "driver waits for a.stop_forward on w0"
