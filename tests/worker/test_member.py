"""What a process knows of the others in its cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from distgrad.coordinator.client import Client
from distgrad.errors import ConfigError, DistgradError, WorkerLost
from distgrad.wire import pb
from distgrad.worker.member import Membership
from tests.coordinator.cluster import PATIENCE, PROGRAMS, Cluster, cluster, place, until_known


@pytest.fixture
def pair() -> Iterator[tuple[Cluster, Client]]:
    with cluster(PROGRAMS, "w0", "w1") as made:
        yield made


def asked(membership: Membership, patch: pytest.MonkeyPatch) -> list[str]:
    """The shards that the coordinator is asked for from now on."""
    shards: list[str] = []
    request = membership.process.request

    def note(peer: str, body: Any, arrays: Any = ()) -> Any:
        if isinstance(body, pb.FindShard):
            shards.append(body.name)
        return request(peer, body, arrays)

    patch.setattr(membership.process, "request", note)
    return shards


def test_where_a_shard_is_is_asked_once(pair: tuple[Cluster, Client], monkeypatch: pytest.MonkeyPatch) -> None:
    made, client = pair
    place(client, "a", "w1")
    membership = made.workers["w0"].membership
    shards = asked(membership, monkeypatch)
    for _ in range(3):
        worker, methods = membership.find_shard("a").result(PATIENCE)
        assert worker == "w1"
        assert methods["both"] == 2
    assert shards == ["a"]


def test_where_a_shard_is_is_asked_again_when_members_have_changed(
    pair: tuple[Cluster, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, client = pair
    place(client, "a", "w1")
    client.membership.find_shard("a").result(PATIENCE)
    made.end("w1")
    shards = asked(client.membership, monkeypatch)
    for _ in range(2):
        with pytest.raises(WorkerLost, match="shard 'a' was on w1"):
            client.membership.find_shard("a").result(PATIENCE)
    assert shards == ["a", "a"]  # an error is not remembered


def test_a_shard_that_was_not_there_may_be_there_later(pair: tuple[Cluster, Client]) -> None:
    made, client = pair
    membership = made.workers["w0"].membership
    with pytest.raises(ConfigError, match="no shard is named 'a'"):
        membership.find_shard("a").result(PATIENCE)
    place(client, "a", "w1")
    assert membership.find_shard("a").result(PATIENCE)[0] == "w1"


def member(name: str, incarnation: int, state: str) -> pb.Member:
    return pb.Member(name=name, incarnation=incarnation, role="worker", address=f"memory:{name}", state=state)


def test_the_list_of_members_brings_nobody_back_of_whose_end_an_event_has_told(pair: tuple[Cluster, Client]) -> None:
    """Events may overtake the answer to a Join."""
    _, client = pair
    membership = client.membership
    membership._meet([member("w7", 7, "lost")])
    membership._meet([member("w7", 7, "alive")], listed=True)
    assert membership.members["w7"].state == "lost"
    membership._meet([member("w7", 8, "alive")])
    assert (membership.members["w7"].state, membership.process.peers.incarnation("w7")) == ("alive", 8)


def test_what_waits_for_a_member_that_is_lost_is_told_why(pair: tuple[Cluster, Client]) -> None:
    made, client = pair
    gate = client.place("gate", "parts.py:Gate", "w1")
    hold = type(made.workers["w1"].host.hosted("gate").shard)
    holding = gate.hold()
    assert hold.reached.wait(PATIENCE)
    made.coordinator.declare_lost("w1", made.workers["w1"].process.identity.incarnation, "killed by signal 9")
    with pytest.raises(WorkerLost, match=r"w1(#\w+)? is lost: killed by signal 9"):
        holding.item(timeout=PATIENCE)
    hold.opened.set()


def test_who_goes_is_known_to_the_others_by_its_own_word_or_by_the_coordinators(pair: tuple[Cluster, Client]) -> None:
    made, client = pair
    made.start("w2")
    for name in ("w1", "w2"):
        until_known(client.membership, name, lambda told: told.state == "alive")
    made.end("w2")
    with pytest.raises(WorkerLost, match="w2 has left: w2 ends"):
        client.counts("w2")
    made.coordinator.declare_lost("w1", made.workers["w1"].process.identity.incarnation, "its machine is gone")
    until_known(client.membership, "w1", lambda told: told.state == "lost")
    with pytest.raises(WorkerLost, match="w1 is lost: its machine is gone"):
        client.counts("w1")


def test_a_membership_ends_with_its_coordinator(pair: tuple[Cluster, Client]) -> None:
    made, client = pair
    made.coordinator.close()
    for membership in (client.membership, made.workers["w0"].membership):
        with pytest.raises(DistgradError, match="coordinator is lost: it closed the link: coordinator ends"):
            membership.ended.result(PATIENCE)
