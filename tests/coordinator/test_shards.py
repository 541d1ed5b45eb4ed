"""Shards: where they are built, how they are found, and what becomes of them when their worker is lost."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.coordinator.client import Client
from distgrad.errors import (
    ConfigError,
    DistgradError,
    ProgramError,
    WorkerLost,
)
from tests.coordinator.cluster import (
    PATIENCE,
    SIZES,
    Cluster,
    X,
    place,
    trained,
)

# ---- building --------------------------------------------------------------------------------------------------------


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
