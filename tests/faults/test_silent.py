"""A worker that lives and says nothing: stopped by a signal, or by foreign code that holds its interpreter. And one
that says that it is busy."""

from __future__ import annotations

import re
import signal

import numpy as np
import pytest

from distgrad.errors import DistgradError

from .aftermath import assert_everyone_learned, assert_survivors_serve, silent
from .gates import DEADLINE
from .moments import MOMENTS, Trouble, X
from .world import World, world

# A commit that an owner cannot be told of is no error of the driver's.
OF_THE_DRIVER = [moment for moment in MOMENTS if moment != "commit"]


def assert_it_ends_when_it_goes_on(found: World, name: str) -> None:
    """A process that was declared lost learns that and ends; it does not come back."""
    victim = found.workers[name]
    assert "coordinator is lost" in victim.event("ended")["reason"]
    assert victim.event("exited")["code"] == 0
    assert name not in found.living()


@pytest.mark.parametrize(
    "moment", [pytest.param(m, marks=[] if m == "backward" else pytest.mark.slow) for m in OF_THE_DRIVER]
)
def test_a_stopped_worker_is_lost_by_its_silence(moment: str) -> None:
    with world("w0", "w1", "w2") as found:
        trouble = Trouble(found, moment)
        victim = found.workers["w1"]
        victim.signal(signal.SIGSTOP)
        assert_everyone_learned(found, trouble, victim, silent(victim))
        found.assert_nothing_is_held()
        assert_survivors_serve(found, "a", "c")
        victim.signal(signal.SIGCONT)
        trouble.visitor.let_go()
        assert_it_ends_when_it_goes_on(found, "w1")
        found.assert_nothing_is_held()
        assert_survivors_serve(found, "a", "c")


@pytest.mark.slow
@pytest.mark.parametrize("moment", OF_THE_DRIVER)
def test_a_worker_whose_interpreter_is_held_by_foreign_code_is_lost_by_its_silence(moment: str) -> None:
    with world("w0", "w1", "w2") as found:
        trouble = Trouble(found, moment, holding_interpreter=True)
        victim = found.workers["w1"]
        assert_everyone_learned(found, trouble, victim, silent(victim))
        found.assert_nothing_is_held()
        assert_survivors_serve(found, "a", "c")
        trouble.visitor.let_go()
        assert_it_ends_when_it_goes_on(found, "w1")


@pytest.mark.slow
def test_what_a_lost_incarnation_says_when_it_goes_on_is_refused() -> None:
    with world("w0", "w1", "w2") as found:
        trouble = Trouble(found, "backward")
        old = found.workers["w1"]
        old.signal(signal.SIGSTOP)
        found.loss(old)
        found.start("w1")
        again = found.place("b2", "w1")
        a = found.driver.shard("a")
        with found.driver.context() as context:
            value = again.forward(a.forward(X))
            # The old w1 goes on in the middle of its backward, with gradients for w0 and an answer for the driver.
            old.signal(signal.SIGCONT)
            trouble.visitor.let_go()
            assert old.event("exited")["code"] == 0
            context.backward(value, np.ones_like(X))
            np.testing.assert_array_equal(context.gradients(a)["weight"], X.T @ (np.ones_like(X) * 2))
        now = found.driver.membership.members["w1"]
        assert (now.state, now.incarnation) == ("alive", found.workers["w1"].incarnation)
        found.assert_nothing_is_held()


@pytest.mark.slow
def test_a_worker_that_computes_for_longer_than_silence_is_allowed_is_busy_and_not_lost() -> None:
    with world("w0", "w1") as found:
        found.place("a", "w0")
        slow = found.place("b", "w1").stop_forward(X)
        visitor = found.gate.reached()
        link = found.driver.process.endpoint.link("w1")
        assert link is not None
        settings = found.settings
        heartbeats = int(2 * settings.silence / settings.heartbeat)
        frames = link.statistics()["frames_received"]
        found.wait_for(
            lambda: link.statistics()["frames_received"] >= frames + heartbeats, lambda: f"{heartbeats} heartbeats"
        )
        assert link.statistics()["peer_busy"] == 1
        assert found.living() == ["w0", "w1"]
        visitor.let_go()
        np.testing.assert_array_equal(slow.get(DEADLINE).numpy(), X * 2)


@pytest.mark.slow
def test_every_other_worker_learns_of_the_loss_from_its_own_calls() -> None:
    with world("w0", "w1", "w2") as found:
        found.place("a", "w0"), found.place("b", "w1"), found.place("c", "w2")
        a, b, c = map(found.driver.shard, "abc")
        witnesses = [a.witness(b, "stop_forward"), c.witness(b, "stop_forward")]
        found.gate.reached()
        victim = found.workers["w1"]
        victim.signal(signal.SIGSTOP)
        for witness in witnesses:
            assert re.search(rf"WorkerLost: w1(#\w+)? is lost: {silent(victim)}", witness.get(DEADLINE)[1])


def test_an_operation_with_a_worker_lost_long_ago_fails_at_once() -> None:
    with world("w0", "w1") as found:
        a, b = found.place("a", "w0"), found.place("b", "w1")
        found.workers["w1"].signal(signal.SIGKILL)
        found.loss(found.workers["w1"])
        found.wait_for(lambda: found.driver.membership.members["w1"].state == "lost", lambda: "the driver's news")
        for operation in (lambda: b.forward(X).get(), lambda: a.chain(X, b, "forward").get(), lambda: b.state_dict()):
            with pytest.raises(DistgradError, match="w1"):
                operation()
        found.assert_nothing_is_held()
