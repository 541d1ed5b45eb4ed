"""The coordinator: who is there, which shards there are, and what checkpoints bring back."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.coordinator.checkpoint import read_checkpoint
from distgrad.coordinator.client import Client
from distgrad.coordinator.membership import Member
from distgrad.coordinator.server import Coordinator
from distgrad.errors import (
    CheckpointError,
    ConfigError,
    DistgradError,
    LinkError,
    PermissionDenied,
    ProgramError,
    RemoteError,
    WorkerLost,
)
from distgrad.graph.process import Process
from distgrad.transport.interfaces import Identity
from distgrad.transport.settings import TransportSettings
from distgrad.wire import pb
from distgrad.worker.member import COORDINATOR
from tests.coordinator.cluster import ADDRESS, CLIENT_TOKEN, PATIENCE, TOKEN, Cluster, cluster, until_known

PROGRAMS = Path(__file__).parent.parent / "worker" / "programs"
SIZES = {"inputs": 3, "outputs": 2}
X = np.arange(12.0).reshape(4, 3)


@pytest.fixture
def pair() -> Iterator[tuple[Cluster, Client]]:
    with cluster(PROGRAMS, "w0", "w1") as made:
        yield made


def place(client: Client, name: str, worker: str = "", **config: Any) -> Any:
    return client.place(name, "parts.py:Layer", worker, {**SIZES, **config})


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


# ---- shards ----------------------------------------------------------------------------------------------------------


def test_a_shard_goes_to_the_worker_with_the_fewest(pair: tuple[Cluster, Client]) -> None:
    made, client = pair
    place(client, "a", "w0")
    place(client, "b")
    place(client, "c")
    place(client, "d")
    assert {placement.shard: placement.worker for placement in made.coordinator.shards} == {
        "a": "w0",
        "b": "w1",
        "c": "w0",
        "d": "w1",
    }
    assert list(made.workers["w1"].host.shards) == ["b", "d"]


def test_placing_a_shard_again_finds_it(pair: tuple[Cluster, Client]) -> None:
    made, client = pair
    first = place(client, "a", "w1")
    first.load_state_dict({"linear.weight": np.ones((2, 3)), "linear.bias": np.ones(2)})
    for worker in ("", "w1"):
        again = place(made.client(), "a", worker)
        assert again == first
        assert again.state_dict()["linear.bias"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"worker": "w0"}, "held by a shard of parts.py:Layer on w1 with config .*; asked for parts.py:Layer on w0"),
        ({"config": {"inputs": 4, "outputs": 2}}, "the name 'a' is held by"),
        ({"program": "parts.py:Sum"}, "the name 'a' is held by"),
        ({"seed": 3}, "the name 'a' is held by"),
    ],
)
def test_a_name_is_given_to_one_shard(pair: tuple[Cluster, Client], change: dict[str, Any], message: str) -> None:
    _, client = pair
    place(client, "a", "w1")
    wanted = {"program": "parts.py:Layer", "config": SIZES, "worker": "w1", **change}
    with pytest.raises(ConfigError, match=message):
        client.place("a", **wanted)


def test_a_config_may_hold_arrays(pair: tuple[Cluster, Client]) -> None:
    _, client = pair
    for values in (np.ones(3), np.ones(3)):
        client.place("a", "parts.py:Constant", config={"values": values})
    with pytest.raises(ConfigError, match="the name 'a' is held by"):
        client.place("a", "parts.py:Constant", config={"values": np.zeros(3)})
    assert client.shard("a").get_values().numpy().tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("name", "program", "worker", "error", "message"),
    [
        ("a", "parts.py:Failing", "", ProgramError, r"Failing\(\) failed on w0: ValueError: this one is never made"),
        ("a", "parts.py:Absent", "", ProgramError, "program parts.py has no 'Absent'"),
        ("a", "prats.py:Layer", "", ProgramError, r"there is no program 'prats.py' .*did you mean 'parts.py'"),
        ("a", "parts.py:Layer", "w7", ConfigError, "no living worker is named 'w7'; living workers: w0, w1"),
        ("a/b", "parts.py:Layer", "", ConfigError, "'a/b' cannot name a shard"),
        ("", "parts.py:Layer", "", ConfigError, "'' cannot name a shard"),
    ],
)
def test_a_shard_that_cannot_be_built_leaves_no_trace(
    pair: tuple[Cluster, Client], name: str, program: str, worker: str, error: type[Exception], message: str
) -> None:
    made, client = pair
    with pytest.raises(error, match=message):
        client.place(name, program, worker)
    assert len(made.coordinator.shards) == 0
    with pytest.raises(ConfigError, match="no shard is named"):
        client.shard(name)
    assert place(client, "a").loss(X, 0.0).item() > 0


def test_a_shard_that_is_not_there_is_named_with_the_one_meant(pair: tuple[Cluster, Client]) -> None:
    _, client = pair
    place(client, "encoder")
    with pytest.raises(ConfigError, match=r"no shard is named 'encodre'.*did you mean 'encoder'"):
        client.shard("encodre")


def test_two_clients_that_place_one_shard_at_once_get_one_shard(pair: tuple[Cluster, Client]) -> None:
    made, client = pair
    clients, built = [client, *(made.client() for _ in range(3))], []
    threads = [threading.Thread(target=lambda c=c: built.append(place(c, "a"))) for c in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(built) == 4
    assert sum(len(worker.host.shards) for worker in made.workers.values()) == 1


def test_who_asks_for_a_shard_while_it_is_built_is_answered_when_it_is(
    pair: tuple[Cluster, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, client = pair
    gate = client.place("gate", "parts.py:Gate", "w0")
    hold = type(made.workers["w0"].host.hosted("gate").shard)
    holding = gate.hold()
    assert hold.reached.wait(PATIENCE)  # from here on w0 has no time to build anything
    request, begun = made.coordinator.process.request, threading.Event()

    def note(peer: str, body: Any, arrays: Any = ()) -> Any:
        begun.set()
        return request(peer, body, arrays)

    monkeypatch.setattr(made.coordinator.process, "request", note)
    placing = threading.Thread(target=lambda: place(client, "late", "w0"))
    placing.start()
    assert begun.wait(PATIENCE)
    found = made.client("guest").membership.find_shard("late")
    assert not found.done
    hold.opened.set()
    assert found.result(PATIENCE)[0] == "w0"
    placing.join(PATIENCE)
    holding.wait(PATIENCE)


# ---- what is lost with a worker --------------------------------------------------------------------------------------


def test_shards_of_a_worker_that_is_gone_are_lost_and_the_others_stay(pair: tuple[Cluster, Client]) -> None:
    made, client = pair
    lost, stays = place(client, "lost", "w0"), place(client, "stays", "w1")
    made.end("w0")
    for use in (
        lambda: lost.loss(X, 0.0),
        lost.state_dict,
        lambda: client.shard("lost"),
        lambda: place(client, "lost"),
    ):
        with pytest.raises(WorkerLost, match=r"shard 'lost' was on w0, which is no longer there: .*restore a check"):
            use()
    assert stays.loss(X, 0.0).item() > 0
    assert place(client, "new").loss(X, 0.0).item() > 0  # on the worker that is left


def test_shards_of_a_worker_started_anew_are_lost_until_they_are_placed_again(pair: tuple[Cluster, Client]) -> None:
    made, client = pair
    shard = place(client, "a", "w0")
    first = shard.state_dict()
    made.end("w0")
    made.start("w0")
    client.wait_for_workers(["w0"], PATIENCE)
    with pytest.raises(WorkerLost, match="shard 'a' was lost when w0 was started anew: restore a checkpoint, or place"):
        shard.loss(X, 0.0).item()
    assert np.array_equal(place(client, "a", "w0").state_dict()["linear.weight"], first["linear.weight"])
    assert shard.loss(X, 0.0).item() > 0


def trained(client: Client, *shards: Any, steps: int = 2) -> Any:
    optimizer = client.optimizer(dg.optim.Adam(0.1), list(shards), "adam")
    for _ in range(steps):
        with client.context() as ctx:
            ctx.backward([shard.loss(X, 0.0) for shard in shards], [1.0] * len(shards))
            optimizer.step(ctx)
    return optimizer


def test_initial_weights_never_pass_for_trained_ones(pair: tuple[Cluster, Client]) -> None:
    """A shard placed again on a worker started anew cannot go on under an optimizer that has taken steps."""
    made, client = pair
    shards = [place(client, "a", "w0"), place(client, "b", "w1")]
    optimizer = trained(client, *shards)
    made.end("w0")
    made.start("w0")
    client.wait_for_workers(["w0"], PATIENCE)
    place(client, "a", "w0")
    with pytest.raises(DistgradError, match="adam' is at version 2, but w0 was started anew and holds initial weights"):
        client.optimizer(dg.optim.Adam(0.1), shards, "adam")
    with client.context() as ctx, pytest.raises(DistgradError, match="w0 owns no parameters under optimizer 'adam'"):
        ctx.backward(shards[1].loss(X, 0.0))
        optimizer.step(ctx)
    assert optimizer.version == 2


# ---- checkpoints -----------------------------------------------------------------------------------------------------


def everything(made: Cluster) -> dict[str, Any]:
    """All that checkpoints hold of a cluster, as bytes."""
    found: dict[str, Any] = {"versions": made.coordinator.updates.versions()}
    for worker in made.workers.values():
        for name in worker.host.shards:
            state, version = worker.host.state(name)
            found[f"{name} version"] = version
            for part, arrays in state.items():
                found |= {f"{name}/{part}/{key}": (array.dtype, array.tobytes()) for key, array in arrays.items()}
    return found


def test_a_checkpoint_holds_parameters_buffers_optimizers_and_what_it_was_given(
    pair: tuple[Cluster, Client], tmp_path: Path
) -> None:
    _, client = pair
    shards = [place(client, "a", "w0"), client.place("s", "parts.py:Statistics", "w1")]
    optimizer = client.optimizer(dg.optim.Adam(0.1), shards, "adam")
    with client.context() as ctx:
        ctx.backward([shards[0].loss(X, 0.0), shards[1].normalise(X)], [1.0, 1.0])
        optimizer.step(ctx)
    path = client.save(str(tmp_path), {"job": "mine", "step": 1, "nested": {"x": [1, 2.5, None]}})
    checkpoint = read_checkpoint(path)
    assert (checkpoint.job, checkpoint.version, Path(path).name) == ("mine", 1, "step-00000001")
    assert set(checkpoint.shards) == {"a", "s"}
    state = checkpoint.shards["s"]
    assert state["buffers"]["norm.running_mean"].tolist() == (0.1 * X.mean(axis=0)).tolist()
    assert "norm.weight/mean" in state["optimizer"]
    assert state["parameters"]["unused"].tolist() == [7, 7]
    assert client.restore(path) == {"job": "mine", "step": 1, "nested": {"x": [1, 2.5, None]}}


def test_a_restored_cluster_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """Also with another number of workers, and in a coordinator's next life."""

    def run(workers: list[str], first: int, last: int) -> dict[str, Any]:
        with cluster(PROGRAMS, *workers, seed=first + len(workers)) as (made, client):
            shards = [place(client, "a"), place(client, "b"), client.place("s", "parts.py:Statistics")]
            optimizer = client.optimizer(dg.optim.Adam(0.1), shards, "adam")
            if first:
                assert client.restore(str(tmp_path)) == {"at": first}
                assert optimizer.version == first
            for step in range(first, last):
                with client.context(step) as ctx:
                    x = np.random.default_rng(step).standard_normal((4, 3))
                    roots = [shards[0].loss(x, 0.0), shards[1].loss(x, 1.0), shards[2].normalise(shards[2].noise(x))]
                    ctx.backward(roots, [1.0, 1.0, 1.0])
                    optimizer.step(ctx, clip_norm=0.5)
                if not first and step == 2:
                    client.save(str(tmp_path), {"at": 3})
            return everything(made)

    undisturbed = run(["w0", "w1"], 0, 6)
    for workers in (["w0", "w1"], ["w0"], ["x", "y", "z"]):
        assert run(workers, 3, 6) == undisturbed


def test_a_restore_brings_back_what_was_lost_with_a_worker(pair: tuple[Cluster, Client], tmp_path: Path) -> None:
    made, client = pair
    shards = [place(client, "a", "w0"), place(client, "b", "w1")]
    optimizer = trained(client, *shards)
    client.save(str(tmp_path))
    saved = everything(made)
    trained(client, *shards, steps=1)
    made.end("w0")
    with pytest.raises(WorkerLost, match="was on w0, which is no longer there"):
        client.restore(str(tmp_path))
    made.start("w0")
    client.wait_for_workers(["w0"], PATIENCE)
    client.restore(str(tmp_path))
    assert everything(made) == saved
    assert optimizer.version == 2
    trained(client, *shards, steps=1)


def test_parameters_can_be_restored_without_an_optimizer(pair: tuple[Cluster, Client], tmp_path: Path) -> None:
    _, client = pair
    shard = place(client, "a")
    trained(client, shard)
    weights = shard.state_dict()
    client.save(str(tmp_path))
    with cluster(PROGRAMS, "w0") as (_, other):
        other.place("a", "parts.py:Layer", config=SIZES, seed=5)
        other.restore(str(tmp_path))
        restored = other.shard("a").state_dict()
        assert all(np.array_equal(weights[name], restored[name]) for name in weights)
        assert trained(other, other.shard("a"), steps=1).version == 1  # an optimizer of its own begins anew


def spoil_file(path: Path) -> None:
    file = path / "b.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")


def spoil_manifest(path: Path) -> None:
    (path / "manifest.json").write_text("garbage")


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda path: shutil.rmtree(path), ConfigError, "there is no complete checkpoint in "),
        (spoil_manifest, CheckpointError, "manifest.json is no manifest"),
        (spoil_file, CheckpointError, "b.safetensors has SHA-256"),
        (lambda path: (path / "b.safetensors").unlink(), CheckpointError, "b.safetensors cannot be read"),
    ],
)
def test_a_checkpoint_that_is_missing_or_damaged_changes_nothing(
    pair: tuple[Cluster, Client], tmp_path: Path, spoil: Any, error: type[Exception], message: str
) -> None:
    made, client = pair
    shards = [place(client, "a", "w0"), place(client, "b", "w1")]
    trained(client, *shards)
    path = Path(client.save(str(tmp_path)))
    trained(client, *shards, steps=1)
    before = everything(made)
    spoil(path)
    with pytest.raises(error, match=message):
        client.restore(str(path))
    assert everything(made) == before
    trained(client, *shards, steps=1)


SAVED = {"a": ("Layer", SIZES), "b": ("Layer", SIZES), "s": ("Statistics", {})}


@pytest.mark.parametrize(
    ("job", "shards", "optimizer", "message"),
    [
        ("other", SAVED, dg.optim.Adam(0.1), "is of job 'mine', not of 'other'"),
        ("", {**SAVED, "c": ("Layer", SIZES)}, dg.optim.Adam(0.1), "has no state of shard 'c'; it has a, b, s"),
        ("", {**SAVED, "b": ("Layer", {"inputs": 3, "outputs": 5})}, dg.optim.Adam(0.1), "shard 'b' .* float64.5, 3"),
        (
            "",
            {**SAVED, "s": ("Statistics", {"width": 4})},
            dg.optim.Adam(0.1),
            "'buffers/norm.running_mean' is float64",
        ),
        (
            "",
            {**SAVED, "s": ("Layer", SIZES)},
            dg.optim.Adam(0.1),
            "shard 's' .* 'parameters/linear.weight' is missing",
        ),
        ("", SAVED, dg.optim.SGD(0.1), "'optimizer/linear.weight/mean' is not part of it"),
        ("", SAVED, dg.optim.SGD(0.1, momentum=0.9), "'optimizer/linear.weight/momentum' is missing"),
    ],
    ids=["job", "shard", "shape", "buffer", "class", "no slots", "other slots"],
)
def test_a_checkpoint_that_does_not_fit_changes_nothing_anywhere(
    tmp_path: Path, job: str, shards: dict[str, Any], optimizer: dg.optim.Optimizer, message: str
) -> None:
    def make(client: Client, shards: dict[str, Any], optimizer: dg.optim.Optimizer) -> None:
        placed = [client.place(name, f"parts.py:{kind}", config=config) for name, (kind, config) in shards.items()]
        client.optimizer(optimizer, placed, "only")

    with cluster(PROGRAMS, "w0") as (_, client):
        make(client, SAVED, dg.optim.Adam(0.1))
        client.save(str(tmp_path), {"job": "mine"})
    with cluster(PROGRAMS, "w0", "w1") as (made, client):
        make(client, shards, optimizer)
        before = everything(made)
        with pytest.raises(ConfigError, match=message):
            client.restore(str(tmp_path), job=job)
        assert everything(made) == before


def test_a_checkpoint_without_ones_optimizer_says_how_to_begin_anew(
    pair: tuple[Cluster, Client], tmp_path: Path
) -> None:
    made, client = pair
    shard = place(client, "a")
    client.save(str(tmp_path))
    client.optimizer(dg.optim.SGD(0.1), [shard], "sgd")
    before = everything(made)
    with pytest.raises(ConfigError, match=r"no state of optimizer 'sgd'; it has none. To begin anew .*, restore first"):
        client.restore(str(tmp_path))
    assert everything(made) == before


def test_a_checkpoint_that_cannot_be_written_says_so_and_leaves_the_earlier_ones(
    pair: tuple[Cluster, Client], tmp_path: Path
) -> None:
    made, client = pair
    shards = [place(client, "a", "w0"), place(client, "b", "w1")]
    trained(client, *shards)
    earlier = client.save(str(tmp_path))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="could not be written"):
        client.save(str(tmp_path / "file"))
    trained(client, *shards, steps=1)
    made.end("w1")
    with pytest.raises(WorkerLost, match="shard 'b' was on w1"):
        client.save(str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "step-00000002"]
    assert json.loads((Path(earlier) / "manifest.json").read_text())["version"] == 2


def test_a_step_and_a_checkpoint_at_once_take_turns(pair: tuple[Cluster, Client], tmp_path: Path) -> None:
    """Every checkpoint holds all shards at one version, though steps are taken all the while."""
    made, client = pair
    shards = [client.place(name, "parts.py:Sum", worker) for name, worker in (("a", "w0"), ("b", "w1"))]
    optimizer = client.optimizer(dg.optim.SGD(1.0), shards, "sgd")
    saver, stop = made.client("saver"), threading.Event()
    saved: list[str] = []

    def save() -> None:
        while not stop.is_set():
            saved.append(saver.save(str(tmp_path / str(len(saved)))))

    thread = threading.Thread(target=save)
    thread.start()
    while len(saved) < 5:
        with client.context() as ctx:
            ctx.backward([shard.dot(np.ones(2)) for shard in shards])
            optimizer.step(ctx)
    stop.set()
    thread.join(PATIENCE)
    for path in saved:
        checkpoint = read_checkpoint(path)
        for name in ("a", "b"):
            assert checkpoint.shards[name]["parameters"]["weight"].tolist() == [-checkpoint.version] * 2


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
