"""A coordinator is lost and another takes its place: workers wait for it, keep what they hold, and obey it alone."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.coordinator.client import Client, RemoteOptimizer
from distgrad.coordinator.journal import Decision, Journal
from distgrad.coordinator.server import Coordinator
from distgrad.errors import DistgradError, JournalError, WorkerLost
from distgrad.graph.process import Process
from distgrad.transport.interfaces import Identity, Link
from distgrad.wire import pb
from distgrad.worker import member
from tests.coordinator.cluster import PATIENCE, PROGRAMS, Cluster, cluster
from tests.processes import eventually

ONES = np.ones(2)


class Reign:
    """The cluster under one coordinator: the shards a and b, under plain gradient descent."""

    def __init__(self, made: Cluster, name: str, of_a: str = "w0", of_b: str = "w1", replicate: bool = False) -> None:
        self.cluster = made
        self.client: Client = made.client(name)
        self.client.wait_for_workers([of_a, of_b], PATIENCE)
        self.shards = [self.client.place(s, "parts.py:Sum", w) for s, w in (("a", of_a), ("b", of_b))]
        self.optimizer: RemoteOptimizer = self.client.optimizer(
            dg.optim.SGD(1.0), self.shards, "sgd", replicate=replicate
        )

    def step(self) -> None:
        with self.client.context() as context:
            context.backward([shard.dot(ONES) for shard in self.shards])
            self.optimizer.step(context)

    def values(self) -> list[list[float]]:
        return [shard.state_dict()["weight"].tolist() for shard in self.shards]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(PROGRAMS, journal=tmp_path / "journal") as (found, _):
        found.start("w0", "w1", patience=PATIENCE)
        yield found


def end(coordinator: Coordinator) -> None:
    """As by a kill: what it was about to do does not happen."""
    coordinator.close()


def test_workers_keep_what_they_hold_and_go_on_under_the_next_coordinator(made: Cluster, tmp_path: Path) -> None:
    first = Reign(made, "first")
    first.step()
    end(made.coordinator)
    made.succeed(tmp_path / "journal")
    second = Reign(made, "second")
    assert made.coordinator.term == 2
    assert second.optimizer.version == 1
    assert second.values() == [[-1, -1], [-1, -1]]
    second.step()
    assert second.values() == [[-2, -2], [-2, -2]]


def test_a_coordinator_that_takes_long_to_end_turns_nobody_away_who_waits_for_the_next(
    made: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took the links that it closed for losses, and told whoever came meanwhile that it was lost for good."""
    refused: Counter[str] = Counter()
    join = member.Membership._join

    def note(self: member.Membership, *seconds: float) -> None:
        try:
            join(self, *seconds)
        except DistgradError:
            refused[self.process.name] += 1
            raise

    def wait_for_two_more(peer: Identity, error: DistgradError) -> None:
        before = refused["w2"]
        assert peer.name != "w2" or eventually(lambda: refused["w2"] >= before + 2)

    monkeypatch.setattr(member.Membership, "_join", note)
    made.start("w2", patience=PATIENCE)
    made.coordinator.process.on_lost.append(wait_for_two_more)
    end(made.coordinator)
    made.succeed(tmp_path / "journal")
    made.client("second").wait_for_workers(["w2"], PATIENCE)


def die_deciding(coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch, written: bool) -> None:
    """The next decision is the last that a coordinator makes, or not even that."""
    journal = coordinator.journal
    assert journal is not None
    append = journal.append

    def die(decision: Decision) -> Decision:
        if written:
            append(decision)
        journal.close()
        raise JournalError("killed")

    monkeypatch.setattr(journal, "append", die)


@pytest.mark.parametrize("written", [False, True], ids=["not decided", "decided"])
def test_an_update_in_doubt_is_what_the_journal_says(
    made: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    first = Reign(made, "first")
    first.step()
    die_deciding(made.coordinator, monkeypatch, written)
    with pytest.raises(DistgradError, match="killed"):
        first.step()
    assert [worker.host.owner("sgd").prepared for worker in made.workers.values()] == [2, 2]
    end(made.coordinator)
    made.succeed(tmp_path / "journal")
    second = Reign(made, "second")
    assert second.optimizer.version == (2 if written else 1)
    assert [worker.host.owner("sgd").prepared for worker in made.workers.values()] == [0, 0]
    second.step()
    final = -3.0 if written else -2.0
    assert second.values() == [[final, final], [final, final]]


def test_a_worker_that_keeps_a_copy_in_doubt_takes_the_place_of_its_owner(
    made: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.start("w2", patience=PATIENCE)
    first = Reign(made, "first", replicate=True)
    die_deciding(made.coordinator, monkeypatch, written=True)
    with pytest.raises(DistgradError, match="killed"):
        first.step()
    end(made.coordinator)
    made.workers.pop("w1").close()
    made.succeed(tmp_path / "journal")
    second = Reign(made, "second", of_b="w2", replicate=True)
    assert [copy.version for copy in made.workers["w2"].replicas] == [1]
    second.client.recover(patience=PATIENCE)
    assert second.optimizer.version == 1
    second.step()
    assert second.values() == [[-2, -2], [-2, -2]]


@pytest.mark.parametrize("keeper", ["w0", "w3"])
def test_a_worker_that_takes_the_place_of_a_lost_one_under_the_next_coordinator_is_given_its_copy(
    made: Cluster, tmp_path: Path, keeper: str
) -> None:
    made.start(*{"w2", keeper} - {"w0"}, patience=PATIENCE)
    first = Reign(made, "first", of_b="w1" if keeper == "w0" else "w2", replicate=True)
    lost, standby = ("w1", "w2") if keeper == "w0" else ("w2", "w1")
    first.step()
    end(made.coordinator)
    made.workers.pop(lost).close()
    made.succeed(tmp_path / "journal")
    second = Reign(made, "second", of_b=standby, replicate=True)
    second.client.recover(patience=PATIENCE)
    second.step()
    assert second.values() == [[-2, -2], [-2, -2]]


@pytest.mark.parametrize("replicate", [False, True])
def test_a_shard_that_comes_to_an_owner_of_trained_ones_is_not_taken_for_trained(
    made: Cluster, tmp_path: Path, replicate: bool
) -> None:
    first = Reign(made, "first", replicate=replicate)
    first.step()
    end(made.coordinator)
    made.workers.pop("w0").close()
    made.succeed(tmp_path / "journal")
    second = Reign(made, "second", of_a="w1", replicate=replicate)
    with pytest.raises(DistgradError, match="a came with initial weights when optimizer 'sgd' was at version 1"):
        second.step()
    second.client.recover(patience=PATIENCE)
    assert second.optimizer.version == (1 if replicate else 0)
    second.step()
    after = -2.0 if replicate else -1.0
    assert second.values() == [[after, after], [after, after]]


def old_life(made: Cluster, coordinator: Coordinator) -> Process:
    """A coordinator that wakes up after another has taken its place, with the links that it had gone."""
    process = Process(coordinator.process.identity, made.settings, lanes=made.network.lanes())
    process.peers.introduce(made.workers["w0"].process.identity)
    return process


def test_a_coordinator_that_wakes_up_after_its_successor_came_is_refused(made: Cluster, tmp_path: Path) -> None:
    Reign(made, "first").step()
    old = made.coordinator
    end(old)
    made.succeed(tmp_path / "journal")
    second = Reign(made, "second")
    before, w0 = old.process.identity, made.workers["w0"].process.endpoint
    assert eventually(lambda: (before.name, before.incarnation) in w0._banished)  # once it has joined the next
    process = old_life(made, old)
    try:
        with pytest.raises(WorkerLost, match="refused the link"):
            process.ask("w0", pb.Prepare(term=1, optimizer="sgd", version=2), timeout=PATIENCE)
    finally:
        process.close()
    second.step()
    assert second.values() == [[-2, -2], [-2, -2]]


def test_a_coordinator_of_a_lower_term_is_not_joined(made: Cluster, tmp_path: Path) -> None:
    """As when it was given an old copy of the journal."""
    Reign(made, "first").step()
    with Journal.open(tmp_path / "journal.copy"):
        pass
    end(made.coordinator)
    made.succeed(tmp_path / "journal")
    Reign(made, "second")
    end(made.coordinator)
    made.succeed(tmp_path / "another")  # of term 1
    for worker in made.workers.values():
        assert "of term 1, after one of 2" in worker.wait()


def test_a_coordinator_that_is_slow_to_answer_is_asked_once(
    made: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that gave up the answer would not know the term of the coordinator that has it as a member and gives it
    orders; if it lost it before it was told again, it would follow one of a lower term."""
    monkeypatch.setattr(member, "LONGEST_ATTEMPT", 0.1)
    join, joined = Coordinator._join, []

    def answer_late(self: Coordinator, link: Link, *asked: Any) -> None:
        joined.append(link.peer.name)
        threading.Timer(0.5, join, (self, link, *asked)).start()

    monkeypatch.setattr(Coordinator, "_join", answer_late)
    end(made.coordinator)
    made.succeed(tmp_path / "journal")
    made.client("second").wait_for_workers(["w0", "w1"], PATIENCE)
    assert sorted(joined) == ["second", "w0", "w1"]


def test_a_worker_whose_loss_others_have_acted_on_is_not_let_in_again(made: Cluster) -> None:
    Reign(made, "first")
    worker = made.workers["w0"]
    incarnation = worker.process.identity.incarnation
    made.coordinator.declare_lost("w0", incarnation, "it was cut off")
    assert "start the process again to join as a new one" in worker.wait()


def test_a_worker_that_waits_for_no_other_coordinator_ends_with_its_own(made: Cluster) -> None:
    made.start("w2")
    end(made.coordinator)
    assert "coordinator" in made.workers["w2"].wait()


def test_a_coordinator_that_does_not_come_is_not_waited_for_for_ever(made: Cluster) -> None:
    made.start("w2", patience=0.3)
    end(made.coordinator)
    assert "no other came within 0.3 s" in made.workers["w2"].wait()
