"""What a process takes for gone: a link, or for good a process. Without processes or sockets."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from distgrad.errors import ContextClosed, LinkError, WorkerLost
from distgrad.graph.peers import OwnLink, Peers
from distgrad.graph.process import Process
from distgrad.graph.releases import LEASE
from distgrad.graph.share import REMEMBERED, Shares, owner_tag
from distgrad.graph.waiting import Promise
from distgrad.transport.interfaces import Identity
from distgrad.wire import RefName, pb, ref_to_pb
from tests.graph.memory_cluster import MemoryCluster, memory_cluster
from tests.processes import eventually

from .gates import DEADLINE

LOST = WorkerLost("w1 is lost: so the cluster says")


class Doubler:
    def double(self, x: np.ndarray) -> np.ndarray:
        return x * 2


@pytest.fixture
def cluster() -> Iterator[MemoryCluster]:
    with memory_cluster(2) as found:
        yield found


def next_loss(process: Process) -> threading.Event:
    """Set when `process` has lost a link, or heard of a process that is gone, after now."""
    happened = threading.Event()
    process.on_lost.append(lambda peer, error: happened.set())
    return happened


# ---- a link is lost --------------------------------------------------------------------------------------------------


def test_a_process_whose_link_is_lost_can_be_called_again_in_and_outside_contexts(cluster: MemoryCluster) -> None:
    doubler = cluster.place("doubler", Doubler(), "w0")
    with cluster.context() as before:
        doubler.double(1.0).wait()
        doubler_of_before = doubler.double(1.0)
        assert doubler.double(2.0).numpy() == 4
        cluster.driver.endpoint.link("w0").close("cut")
        # What the context had there is lost with the link.
        with pytest.raises(WorkerLost, match="cut"):
            doubler.double(doubler_of_before).get()
        before.close()
    with cluster.context():
        assert doubler.double(3.0).numpy() == 6
    assert doubler.double(4.0).numpy() == 8


def test_two_workers_whose_link_is_lost_reach_each_other_again(cluster: MemoryCluster) -> None:
    w0, w1 = cluster.workers.values()
    w0.ask("w1", pb.Statistics(), timeout=DEADLINE)
    w0.endpoint.link("w1").close("cut")
    w0.ask("w1", pb.Statistics(), timeout=DEADLINE)
    lost = next_loss(w0)
    w1.endpoint.link("w0").close("cut")
    assert lost.wait(DEADLINE)
    w0.ask("w1", pb.Statistics(), timeout=DEADLINE)


# ---- a process is gone for good --------------------------------------------------------------------------------------


def test_contexts_of_an_owner_that_is_gone_are_not_met_again(cluster: MemoryCluster) -> None:
    driver, (w0, w1) = cluster.driver, cluster.workers.values()
    identity = driver.new_context_id({})
    w0.gone(driver.identity, LOST)
    late = pb.Fetch(ref=ref_to_pb(RefName("w0", identity.id, (0,))))
    with pytest.raises(ContextClosed, match="so the cluster says"):
        w1.ask("w0", late, timeout=DEADLINE)
    w1.send("w0", pb.Call(context=identity, path=[0], shard="a", method="b"))
    with pytest.raises(ContextClosed, match="so the cluster says"):
        w1.ask("w0", late, timeout=DEADLINE)
    assert w0.counts()["contexts"] == w0.counts()["values"] == 0


def test_a_value_asked_for_in_a_context_whose_call_never_came_goes_with_the_owner(cluster: MemoryCluster) -> None:
    driver, (w0, w1) = cluster.driver, cluster.workers.values()
    never = w1.request("w0", pb.Fetch(ref=ref_to_pb(RefName("w0", driver.new_context_id({}).id, (0,)))))
    w1.ask("w0", pb.Statistics(), timeout=DEADLINE)
    assert w0.counts()["contexts"] == 1
    w0.gone(driver.identity, LOST)
    assert w0.counts()["contexts"] == 0
    with pytest.raises(WorkerLost, match="so the cluster says"):
        never.result(DEADLINE)


def test_a_context_of_an_owner_nobody_knows_is_kept_for_a_lease(cluster: MemoryCluster) -> None:
    w0, w1 = cluster.workers.values()
    ghost = Identity.new("ghost", "client")
    contexts = [pb.ContextId(id=f"{owner_tag(owner)}/0") for owner in (ghost, w1.identity, cluster.driver.identity)]
    for context in contexts:
        w0.shares.meet(context)
    cluster.driver.ask("w0", pb.Statistics(), timeout=DEADLINE)
    now = time.monotonic()
    w0.releases.release_orphans(now)
    assert w0.counts()["contexts"] == 3
    w0.releases.release_orphans(now + 2 * LEASE)
    # w1 is known by name, the driver has a link.
    assert w0.counts()["contexts"] == 2
    with pytest.raises(ContextClosed):
        w0.shares.meet(contexts[0])


def test_a_process_known_by_its_link_alone_is_forgotten_with_it(cluster: MemoryCluster) -> None:
    w0 = cluster.workers["w0"]
    passing, member = (Identity.new(name, "worker", f"memory:{name}") for name in ("passing", "member"))
    w0.peers.introduce(member)
    for identity in (passing, member):
        w0.peers.greet(identity)
        w0.lost(identity, "so the test says")
    assert passing not in w0.peers.known()
    assert member in w0.peers.known()


def test_no_link_is_made_with_a_process_that_is_gone(cluster: MemoryCluster) -> None:
    w0, w1 = cluster.workers.values()
    w1.ask("w0", pb.Statistics(), timeout=DEADLINE)
    lost = next_loss(w1)
    w0.gone(w1.identity, LOST)
    assert w0.endpoint.links() == []
    assert lost.wait(DEADLINE)
    with pytest.raises(LinkError, match=r"w0 at memory:w0 refused the link: .*so the cluster says"):
        w1.ask("w0", pb.Statistics(), timeout=DEADLINE)
    with pytest.raises(WorkerLost, match="so the cluster says"):
        w0.ask("w1", pb.Statistics(), timeout=DEADLINE)


def test_the_contexts_and_names_that_are_remembered_are_bounded() -> None:
    shares = Shares()
    owners = [Identity.new(f"client{k}", "client") for k in range(REMEMBERED + 1)]
    for owner in owners:
        shares.meet(pb.ContextId(id=f"{owner_tag(owner)}/0"))
        assert [share.id for share in shares.release_owned(owner, LOST)] == [f"{owner_tag(owner)}/0"]
        shares.end_owner(owner, LOST)
    with pytest.raises(ContextClosed):
        shares.meet(pb.ContextId(id=f"{owner_tag(owners[-1])}/1"))
    shares.meet(pb.ContextId(id=f"{owner_tag(owners[0])}/1"))
    assert len(shares) == 1


# ---- messages that wait for a link -----------------------------------------------------------------------------------


class StuckOpener:
    """Links that are never made."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.tried: list[int] = []

    def connect(self, name: str, address: str, expected_incarnation: int = 0, timeout: float = 0.0) -> None:
        self.tried.append(expected_incarnation)
        self.released.wait(DEADLINE)
        raise LinkError("nobody answers")

    def link(self, name: str) -> None:
        return None


def test_what_waits_for_a_link_to_a_process_that_is_gone_waits_no_longer() -> None:
    opener = StuckOpener()
    own = OwnLink(Identity.new("me", "worker"), None)
    peers = Peers(opener, own, lambda name, error: None, lambda body, error: None)
    old, new = (Identity.new("w1", "worker", "memory:w1") for _ in range(2))
    peers.introduce(old)
    waiting = peers.request("w1", pb.Statistics())
    assert eventually(lambda: opener.tried)  # in a thread of its own
    peers.dismiss(old, LOST)
    assert waiting.error is LOST
    refused: Promise[object] = peers.request("w1", pb.Statistics())
    refused.wait(DEADLINE)
    assert refused.error is LOST
    # The next to have the name is opened to although the attempt for the old one has not ended.
    peers.introduce(new)
    again = peers.request("w1", pb.Statistics())
    assert not again.done
    opener.released.set()
    again.wait(DEADLINE)
    assert "nobody answers" in str(again.error)
    assert opener.tried == [old.incarnation, new.incarnation]
