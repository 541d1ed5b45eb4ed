"""Machines that cannot reach one another, and nobody is told: packets are lost without a word."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import DistgradError, WorkerLost

from .aftermath import assert_everyone_learned, assert_survivors_serve, silent
from .gates import DEADLINE
from .moments import Trouble, X
from .namespaces import NetworkWorld, needs_root, without_proxies
from .world import quick_settings, world

pytestmark = [pytest.mark.slow, pytest.mark.network, needs_root]


GRPC: tuple[str, ...] = ()
TCP = ("tcp",)
# Silence is heard by heartbeats, which know nothing of lanes: where nothing else is shown, one kind is enough.
over_grpc = pytest.mark.parametrize("found", [GRPC], indirect=True, ids=["grpc"])
over_tcp = pytest.mark.parametrize("found", [TCP], indirect=True, ids=["tcp"])
over_both = pytest.mark.parametrize("found", [GRPC, TCP], indirect=True, ids=["grpc", "tcp"])


@pytest.fixture
def found(request: pytest.FixtureRequest) -> Iterator[NetworkWorld]:
    """Three workers on a machine each, linked by lanes of one kind."""
    settings = quick_settings(insecure=True, fast_lanes=request.param)
    with without_proxies(), world("w0", "w1", "w2", settings=settings, kind=NetworkWorld) as found:
        yield found


@pytest.mark.parametrize(
    ("found", "moment"),
    [(GRPC, "forward"), (TCP, "nested forward"), (GRPC, "backward"), (TCP, "backward"), (TCP, "prepare")],
    indirect=["found"],
    ids=lambda value: value if isinstance(value, str) else "-".join(value) or "grpc",
)
def test_a_machine_that_is_cut_off_is_lost_by_its_silence(found: NetworkWorld, moment: str) -> None:
    trouble = Trouble(found, moment)
    victim = found.workers["w1"]
    found.network.pull("w1")
    assert_everyone_learned(found, trouble, victim, silent(victim))
    found.assert_nothing_is_held()
    assert_survivors_serve(found, "a", "c")
    # It has found out as well, and has ended: nobody would listen to it any more.
    assert re.search("coordinator is lost: silent for 3 s", victim.event("ended")["reason"])
    trouble.visitor.let_go()
    assert victim.event("exited")["code"] == 0
    found.network.put_back("w1")
    found.assert_nothing_is_held()


@over_grpc
def test_a_machine_whose_network_goes_down_is_lost_by_its_silence(found: NetworkWorld) -> None:
    trouble = Trouble(found, "backward")
    victim = found.workers["w1"]
    found.network.take_down("w1")
    assert_everyone_learned(found, trouble, victim, silent(victim))
    trouble.visitor.let_go()
    assert "coordinator is lost" in victim.event("ended")["reason"]
    found.assert_nothing_is_held()
    assert_survivors_serve(found, "a", "c")


@over_tcp
def test_a_machine_that_hears_and_is_not_heard_is_lost_and_learns_it(found: NetworkWorld) -> None:
    trouble = Trouble(found, "forward")
    victim = found.workers["w1"]
    found.network.mute("w1")
    assert_everyone_learned(found, trouble, victim, silent(victim))
    trouble.visitor.let_go()
    assert "coordinator is lost" in victim.event("ended")["reason"]
    found.assert_nothing_is_held()
    assert_survivors_serve(found, "a", "c")


@over_both
def test_two_workers_that_do_not_reach_each_other_are_no_loss_to_the_rest(found: NetworkWorld) -> None:
    for shard, worker in zip("abc", ("w0", "w1", "w2"), strict=True):
        found.place(shard, worker)
    a, b = map(found.driver.shard, "ab")
    with found.driver.context():
        a.chain(X, b, "forward").get()
    found.network.separate(["w0", "w1"])
    with pytest.raises(DistgradError, match=r"w1(#\w+)? (is lost|cannot be reached)"), found.driver.context():
        a.chain(X, b, "forward").get(DEADLINE)
    # Each of them goes on with everybody else.
    assert found.living() == ["w0", "w1", "w2"]
    assert_survivors_serve(found, "a", "c")
    assert_survivors_serve(found, "b", "c")
    found.network.separate(["w0", "w1"], False)
    with found.driver.context():
        np.testing.assert_array_equal(a.chain(X, b, "forward").get(DEADLINE).numpy(), X * 4)
    assert_survivors_serve(found, "a", "b", "c")


@over_both
def test_a_cable_that_is_soon_put_back_goes_unnoticed(found: NetworkWorld) -> None:
    found.place("a", "w0")
    a = found.driver.shard("a")
    assert_survivors_serve(found, "a")
    found.network.pull("w0")
    waits = a.forward(X)
    found.network.put_back("w0")
    np.testing.assert_array_equal(waits.numpy(DEADLINE), X * 2)
    del waits
    assert found.living() == ["w0", "w1", "w2"]
    assert_survivors_serve(found, "a")


@over_tcp
def test_training_goes_on_without_a_machine_that_is_cut_off_and_never_listens_to_it_again(found: NetworkWorld) -> None:
    """A worker without shards takes its place, with the copy of its state; when it is back, it is refused."""
    shards = [found.place(shard, worker) for shard, worker in (("a", "w0"), ("b", "w1"))]
    optimizer = found.driver.optimizer(dg.optim.SGD(lr=0.5), shards, replicate=True)

    def step() -> None:
        with found.driver.context() as context:
            context.backward(shards[1].forward(shards[0].forward(X)), np.ones_like(X))
            optimizer.step(context)

    step()
    before = shards[1].state_dict()["weight"]
    victim = found.workers["w1"]
    found.network.pull("w1")
    with pytest.raises(WorkerLost, match="w1"):
        step()
    found.loss(victim)
    found.driver.recover(patience=DEADLINE)
    assert found.driver.worker_of("b") == "w2"
    assert optimizer.version == 1
    np.testing.assert_array_equal(shards[1].state_dict()["weight"], before)
    found.network.put_back("w1")
    step()
    assert victim.event("exited")["code"] == 0
    assert found.living() == ["w0", "w2"]
    assert optimizer.version == 2
