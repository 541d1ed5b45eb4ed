"""The coordinator: who is there, and whom it lets in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from distgrad.coordinator.client import Client, FoundCheckpoint
from distgrad.coordinator.membership import Member
from distgrad.coordinator.server import Coordinator
from distgrad.errors import (
    CheckpointError,
    ConfigError,
    DistgradError,
    LinkError,
    PermissionDenied,
    RemoteError,
    WorkerLost,
)
from distgrad.graph.process import Process
from distgrad.transport.interfaces import Identity
from distgrad.transport.settings import TransportSettings
from distgrad.wire import pb
from distgrad.worker.member import COORDINATOR
from tests.coordinator.cluster import (
    ADDRESS,
    CLIENT_TOKEN,
    PATIENCE,
    PROGRAMS,
    TOKEN,
    Cluster,
    X,
    cluster,
    place,
    until_known,
)

# ---- members ---------------------------------------------------------------------------------------------------------


def states(client: Client) -> dict[str, str]:
    return {name: member.state for name, member in client.membership.members.items()}


def test_everybody_hears_of_everybody_who_joins_and_leaves(pair: tuple[Cluster, Client]) -> None:
    made, client = pair
    heard: list[Member] = []
    made.coordinator.on_event.append(heard.append)
    made.start("w2")
    guest = made.client("guest")
    for membership in made.members():
        for name in {"w0", "w1", "w2", "guest", "driver"} - {membership.process.name}:
            until_known(membership, name, lambda member: member.state == "alive")
    made.leave(guest)
    for membership in made.members():
        until_known(membership, "guest", lambda member: (member.state, member.reason) == ("left", "guest ends"))
    made.end("w2")
    assert [(member.name, member.state) for member in heard] == [
        ("w2", "alive"),
        ("guest", "alive"),
        ("guest", "left"),
        ("w2", "left"),
    ]
    assert [member.name for member in made.coordinator.workers()] == ["w0", "w1"]
    assert states(client) == {"w0": "alive", "w1": "alive", "w2": "left", "guest": "left"}


def test_a_worker_that_is_declared_lost_is_lost_to_all_with_the_reason(pair: tuple[Cluster, Client]) -> None:
    made, client = pair
    shard = place(client, "a", "w1")
    incarnation = made.workers["w1"].process.identity.incarnation
    made.coordinator.declare_lost("w1", incarnation + 1, "news of another life")
    made.coordinator.declare_lost("w1", incarnation, "killed by signal 9")
    made.coordinator.declare_lost("w1", incarnation, "and again")
    for membership in (client.membership, made.workers["w0"].membership):
        until_known(membership, "w1", lambda m: (m.state, m.reason) == ("lost", "killed by signal 9"))
    with pytest.raises(WorkerLost, match="killed by signal 9"):
        shard.loss(X, 0.0).item()


def test_a_newcomer_is_told_of_all_who_are_there_and_of_those_who_were(pair: tuple[Cluster, Client]) -> None:
    made, _ = pair
    made.end("w1")
    guest = made.client("guest")
    assert states(guest) == {"w0": "alive", "w1": "left", "driver": "alive"}
    assert {worker.name: worker.state for worker in guest.workers} == {"w0": "alive", "w1": "left"}


def test_a_worker_started_anew_takes_its_name_from_its_earlier_life(pair: tuple[Cluster, Client]) -> None:
    made, client = pair
    made.end("w1")
    made.start("w1")
    incarnation = made.workers["w1"].process.identity.incarnation
    until_known(client.membership, "w1", lambda m: (m.incarnation, m.state) == (incarnation, "alive"))
    assert client.call("w1", "parts.py:double", 2.0).item() == 4.0


@pytest.mark.parametrize("name", ["two words", "a/b", "-x", "x" * 64])
def test_a_name_that_cannot_be_is_refused(pair: tuple[Cluster, Client], name: str) -> None:
    made, client = pair
    with pytest.raises(ConfigError, match="cannot name a client: up to 63 letters, digits"):
        made.client(name)
    assert name not in client.membership.members


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (TransportSettings(cluster="test", token="wrong"), PermissionDenied, "the token is not accepted there"),
        (TransportSettings(cluster="other", token=TOKEN), LinkError, "belongs to cluster 'test', not to 'other'"),
    ],
)
def test_strangers_are_refused(
    pair: tuple[Cluster, Client], settings: TransportSettings, error: type[Exception], message: str
) -> None:
    made, client = pair
    with pytest.raises(error, match=message):
        Client(ADDRESS, settings, "stranger", lanes=made.network.lanes())
    assert "stranger" not in states(client)


def test_who_has_a_clients_token_cannot_be_a_worker_or_take_the_name_of_one(pair: tuple[Cluster, Client]) -> None:
    made, client = pair
    shard = place(client, "a", "w0")
    with pytest.raises(PermissionDenied, match="w0 is the name of another, and not for a client"):
        made.client("w0", CLIENT_TOKEN)
    with pytest.raises(ConfigError, match="coordinator tried to open a link to itself"):
        made.client(COORDINATOR, CLIENT_TOKEN)
    assert states(client)["w0"] == "alive"
    assert shard.loss(X, 0.0).item() > 0


@pytest.mark.parametrize("name", [COORDINATOR, "w1", "w0"])
def test_a_stranger_under_anothers_name_is_refused_or_gets_nothing_of_the_others(
    pair: tuple[Cluster, Client], name: str
) -> None:
    """It goes to a worker at once, without asking the coordinator."""
    made, client = pair
    settings = TransportSettings(cluster="test", token=CLIENT_TOKEN)
    false = Process(Identity.new(name, "client", "memory:false"), settings, lanes=made.network.lanes())
    try:
        with suppress(DistgradError):
            false.endpoint.connect("w0" if name != "w0" else "w1", "memory:w0" if name != "w0" else "memory:w1")
        first, second = place(client, "a", "w0"), place(client, "b", "w1", inputs=2)
        with client.context():
            assert second.loss(first.forward(X), 0.0).item() > 0
        assert [share.records for share in false.shares] == [False]  # that of its own calls
        assert all(member.alive for member in made.coordinator.workers())
    finally:
        false.close()


# ---- the rest --------------------------------------------------------------------------------------------------------


def test_what_nobody_knows_is_refused(pair: tuple[Cluster, Client]) -> None:
    _, client = pair
    for body in (pb.Prepare(), pb.CheckState(), pb.LoadShard()):
        with pytest.raises((DistgradError, RemoteError)):
            client.process.ask(COORDINATOR, body, timeout=PATIENCE)
    assert client.workers


def test_two_coordinators_cannot_share_a_journal(tmp_path: Path) -> None:
    with cluster(PROGRAMS, journal=tmp_path / "journal") as (made, _):
        assert made.coordinator.term == 1
        with pytest.raises(DistgradError, match="is in use by another coordinator"):
            Coordinator(made.settings, "memory:other", tmp_path / "journal", lanes=made.network.lanes())
    with cluster(PROGRAMS, journal=tmp_path / "journal") as (made, client):
        assert made.coordinator.term == client.membership.term == 2


def test_what_it_is_shows(pair: tuple[Cluster, Client]) -> None:
    made, client = pair
    place(client, "a", "w0")
    assert repr(made.coordinator) == "<Coordinator of term 1: <Membership driver alive, w0 alive, w1 alive>>"
    assert repr(made.coordinator.shards) == "<Shards a on w0>"


# ---- where checkpoints lie -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "act",
    [
        lambda c, d: c.save(d),
        lambda c, d: c.restore(d),
        lambda c, d: c.recover(d),
        lambda c, d: c.find_checkpoint(d),
        lambda c, d: c.remove_checkpoints(d),
    ],
)
def test_clients_save_and_restore_below_one_directory_only(
    pair: tuple[Cluster, Client], tmp_path: Path, act: Callable[[Client, str], object]
) -> None:
    made, client = pair
    place(client, "a", "w0")
    made.coordinator._checkpoints = tmp_path / "allowed"
    outside = tmp_path / "elsewhere"
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed" / "link").symlink_to(tmp_path)
    for directory in (str(outside), "../elsewhere", "link/elsewhere"):
        with pytest.raises(PermissionDenied, match="checkpoints of this cluster lie below"):
            act(client, directory)
    assert not outside.exists()
    assert client.save("mine/first").startswith(str(tmp_path / "allowed" / "mine" / "first"))
    assert client.restore("mine/first") == {}


def test_a_client_on_any_machine_sees_the_coordinators_checkpoints(
    pair: tuple[Cluster, Client], tmp_path: Path
) -> None:
    made, client = pair
    made.coordinator._checkpoints = tmp_path
    place(client, "a", "w0")
    assert client.find_checkpoint("run") == FoundCheckpoint()
    path = client.save("run", {"step": 3})
    (tmp_path / "run" / "step-00000009").mkdir()
    assert client.find_checkpoint("run") == FoundCheckpoint(path, {"step": 3}, ("step-00000009",))
    client.remove_checkpoints("run")
    assert list((tmp_path / "run").iterdir()) == []


def test_a_place_where_no_checkpoint_can_be_written_is_known_at_once(
    pair: tuple[Cluster, Client], tmp_path: Path
) -> None:
    made, client = pair
    made.coordinator._checkpoints = tmp_path
    (tmp_path / "file").write_text("")
    with pytest.raises(
        CheckpointError, match=rf"cannot be written to {tmp_path}/file/run on .*: {tmp_path}/file is no"
    ):
        client.find_checkpoint("file/run")


def test_clients_with_tokens_of_their_own_save_nowhere_unless_there_is_a_directory_for_it(
    pair: tuple[Cluster, Client], tmp_path: Path
) -> None:
    made, client = pair
    made.coordinator._checkpoints = None
    with pytest.raises(PermissionDenied, match="--checkpoints DIR"):
        client.save(str(tmp_path))
