"""Every owner's state is kept by its buddy as well, and is the same there, whatever the optimizer and its gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.coordinator.client import Client
from distgrad.coordinator.copies import buddies
from distgrad.errors import ContextError, Timeout, WorkerLost
from distgrad.optim import SGD, Adam, Lion, Optimizer
from distgrad.worker.replica import Replica
from tests.coordinator.cluster import PROGRAMS, SIZES, Cluster, cluster

X = np.linspace(-1, 1, 12).reshape(4, 3)


@pytest.fixture
def made() -> Iterator[tuple[Cluster, Client]]:
    with cluster(PROGRAMS, "w0", "w1", "w2") as found:
        yield found


def replicated(client: Client, optimizer: Optimizer) -> tuple[list[Any], Any]:
    """Layers on w0, statistics and rows on w1; w2 owns nothing."""
    layer = client.place("layer", "parts.py:Layer", "w0", SIZES)
    mixed = client.place("mixed", "parts.py:Statistics", "w1")
    return [layer, mixed], client.optimizer(optimizer, [layer, mixed], "all", replicate=True)


def step(client: Client, shards: list[Any], optimizer: Any) -> None:
    layer, mixed = shards
    with client.context() as context:
        roots = [layer.loss(X, 0.0), mixed.normalise(X), mixed.rows(np.array([1, 3, 1]))]
        context.backward(roots)
        optimizer.step(context, clip_norm=0.5)


def replica(made: Cluster, keeper: str, owner: str) -> Replica:
    found = made.workers[keeper].replicas.find("all", owner)
    assert isinstance(found, Replica)
    return found


def flat(state: Any) -> dict[str, bytes]:
    return {f"{part}/{name}": np.asarray(a).tobytes() for part, arrays in state.items() for name, a in arrays.items()}


@pytest.mark.parametrize("optimizer", [SGD(0.1), SGD(0.1, momentum=0.9), Adam(0.1), Lion(0.01)], ids=repr)
def test_a_copy_holds_the_bits_of_its_owner_after_any_number_of_steps(
    made: tuple[Cluster, Client], optimizer: Optimizer
) -> None:
    found, client = made
    shards, bound = replicated(client, optimizer)
    for version in range(4):
        if version:
            step(client, shards, bound)
        for shard, owner, keeper in (("layer", "w0", "w1"), ("mixed", "w1", "w2")):
            copy = replica(found, keeper, owner)
            assert copy.version == version
            assert flat(copy.shard(shard)) == flat(client.read_state(shard)), (shard, version)


def test_what_is_written_to_a_shard_is_copied(made: tuple[Cluster, Client]) -> None:
    found, client = made
    shards, bound = replicated(client, SGD(0.1))
    step(client, shards, bound)
    shards[0].load_state_dict({name: array + 1 for name, array in shards[0].state_dict().items()})
    assert flat(replica(found, "w1", "w0").shard("layer")) == flat(client.read_state("layer"))


@pytest.mark.parametrize("lost", ["w0", "w1", "w2"])
def test_after_a_loss_nothing_is_missing_and_copies_are_kept_again(made: tuple[Cluster, Client], lost: str) -> None:
    found, client = made
    shards, bound = replicated(client, Adam(0.1))
    step(client, shards, bound)
    before = {name: flat(client.read_state(name)) for name in ("layer", "mixed")}
    found.end(lost)
    found.start(lost)
    client.wait_for_workers([lost], 20)
    client.recover()
    assert bound.version == 1
    assert {name: flat(client.read_state(name)) for name in ("layer", "mixed")} == before
    step(client, shards, bound)
    for shard, owner, keeper in (("layer", "w0", "w1"), ("mixed", "w1", "w2")):
        assert flat(replica(found, keeper, owner).shard(shard)) == flat(client.read_state(shard))


def test_an_owner_does_not_prepare_while_its_buddy_is_gone(made: tuple[Cluster, Client]) -> None:
    found, client = made
    shards, bound = replicated(client, SGD(0.1))
    found.end("w2")
    with pytest.raises(WorkerLost, match="w2"):
        step(client, shards, bound)
    assert bound.version == 0
    assert [found.workers[name].host.owner("all").version for name in ("w0", "w1")] == [0, 0]


def test_an_owner_that_is_left_alone_goes_on_without_a_copy(pair: tuple[Cluster, Client]) -> None:
    found, client = pair
    shards = [client.place("layer", "parts.py:Layer", "w0", SIZES), client.place("mixed", "parts.py:Statistics", "w0")]
    bound = client.optimizer(SGD(0.1), shards, "all", replicate=True)
    step(client, shards, bound)
    found.end("w1")
    with pytest.raises(WorkerLost, match="w1"):
        step(client, shards, bound)
    client.recover(patience=0.0)
    step(client, shards, bound)
    assert bound.version == 2


def test_a_program_of_ones_own_recovers_and_goes_on(made: tuple[Cluster, Client]) -> None:
    found, client = made
    shards, bound = replicated(client, dg.optim.SGD(0.1))
    step(client, shards, bound)
    found.end("w1")
    with pytest.raises(WorkerLost, match="w1"):
        step(client, shards, bound)
    recovered = client.recover(patience=5.0)  # w2 has no shards, and takes the place
    assert recovered.versions == {"all": 1}
    step(client, shards, bound)
    assert bound.version == 2
    assert client.worker_of("mixed") == "w2"


@pytest.mark.parametrize(("reason", "waits"), [("silent for 60 s; its process is cut off", False), ("killed", True)])
def test_a_worker_that_was_silent_is_not_waited_for_again_before_another_takes_its_place(
    made: tuple[Cluster, Client], monkeypatch: pytest.MonkeyPatch, reason: str, waits: bool
) -> None:
    found, client = made
    monkeypatch.setattr(found.coordinator, "_silence", 60.0)
    replicated(client, SGD(0.1))
    lost = found.workers["w1"].process.identity
    found.coordinator.declare_lost(lost.name, lost.incarnation, reason)
    if waits:
        with pytest.raises(Timeout, match="w1 is lost: killed; w1 did not come back within 0 s"):
            client.recover(patience=0.0, standby_after=60.0)
    else:
        client.recover(patience=0.0, standby_after=60.0)
        assert client.worker_of("mixed") == "w2"


def test_a_worker_that_is_alone_has_no_buddy() -> None:
    assert buddies(["w0"], ["w0"]) == {}
    assert buddies(["w10", "w2"], ["w10", "w2", "w0"]) == {"w10": "w0", "w2": "w10"}


def test_a_copy_that_nobody_keeps_is_named(made: tuple[Cluster, Client]) -> None:
    found, client = made
    replicated(client, SGD(0.1))
    with pytest.raises(ContextError, match="no copy of what w1 owns under optimizer 'all' here"):
        replica(found, "w0", "w1")
    with pytest.raises(ContextError, match="has no shard 'other'"):
        replica(found, "w2", "w1").shard("other")
    assert repr(replica(found, "w2", "w1")) == "<Replica of mixed on w1 under all at version 0>"
