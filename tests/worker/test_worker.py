"""A worker in a cluster: how calls run on it, whom it obeys, and how it ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.coordinator.client import Client
from distgrad.errors import ContextClosed, ContextError, DistgradError, PermissionDenied, RemoteError
from distgrad.graph.context import Context
from distgrad.wire import encode_value, pb
from distgrad.worker.member import COORDINATOR
from distgrad.worker.worker import Worker
from tests.coordinator.cluster import ADDRESS, CLIENT_TOKEN, PATIENCE, PROGRAMS, SIZES, Cluster, X, cluster


@pytest.fixture
def pair() -> Iterator[tuple[Cluster, Client]]:
    with cluster(PROGRAMS, "w0", "w1") as made:
        yield made


def place(client: Client, name: str, kind: str, worker: str = "", seed: int = 0, **config: Any) -> Any:
    return client.place(name, f"parts.py:{kind}", worker, config, seed)


# ---- how calls run ---------------------------------------------------------------------------------------------------


def test_random_numbers_of_a_call_depend_on_its_place_in_the_program_and_not_on_the_worker(
    pair: tuple[Cluster, Client],
) -> None:
    _, client = pair

    def masks(worker: str, name: str, seed: int = 0, step: int = 3, microbatch: int = 1) -> list[bytes]:
        shard = place(client, name, "Statistics", worker, seed)
        with client.context(step, microbatch):
            return [shard.noise(np.ones(64)).numpy().tobytes() for _ in range(2)]

    with cluster(PROGRAMS, "other", seed=9) as (_, second):
        elsewhere = place(second, "a", "Statistics")
        with second.context(3, 1):
            reference = [elsewhere.noise(np.ones(64)).numpy().tobytes() for _ in range(2)]
    assert masks("w1", "a") == reference
    assert reference[0] != reference[1]  # the second call of the program
    different = [masks("w1", "a", step=4), masks("w1", "a", microbatch=0), masks("w0", "b"), masks("w0", "c", seed=5)]
    everything = [mask for pair in [reference, *different] for mask in pair]
    assert len(set(everything)) == len(everything)


def test_buffers_change_with_the_update_that_uses_the_context_once_and_in_program_order(
    pair: tuple[Cluster, Client],
) -> None:
    _, client = pair
    shard = place(client, "s", "Statistics")
    optimizer = client.optimizer(dg.optim.SGD(0.1), [shard])
    batches = [np.random.default_rng(k).standard_normal((5, 3)) for k in range(3)]
    start = shard.state_dict()["norm.running_mean"]
    with client.context() as dropped:
        dropped.backward(shard.normalise(batches[0]))
    with client.context() as ctx0, client.context(0, 1) as ctx1:
        with ctx0:
            ctx0.backward([shard.normalise(batches[0]), shard.normalise(batches[1])], [1.0, 1.0])
        with ctx1:
            ctx1.backward(shard.normalise(batches[2]))
        assert np.array_equal(shard.state_dict()["norm.running_mean"], start)
        optimizer.step(ctx1, ctx0)
    expected = start
    for batch in (batches[2], batches[0], batches[1]):
        expected = expected * 0.9 + 0.1 * batch.mean(axis=0)
    assert np.array_equal(shard.state_dict()["norm.running_mean"], expected)


def test_a_method_that_is_a_coroutine_has_what_others_have(pair: tuple[Cluster, Client]) -> None:
    """Random numbers of its own, staged buffers, a place in the graph, a version: also after it has waited."""
    _, client = pair
    shard, other = place(client, "s", "Statistics", "w0"), place(client, "o", "Statistics", "w1")
    optimizer = client.optimizer(dg.optim.SGD(0.1), [shard, other])
    batch = np.random.default_rng(0).standard_normal((5, 3))
    start = shard.state_dict()["norm.running_mean"]
    x = dg.tensor(batch, requires_grad=True)
    drawn = []
    for step in (0, 0, 1):
        with client.context(step) as context:
            total, noise = shard.wait_and_normalise(x, other)
            context.backward([total, noise], [1.0, np.ones_like(batch)])
            drawn.append(noise.numpy())
            assert np.array_equal(context.gradient(x) > 1, drawn[-1] != 0)
            assert np.array_equal(shard.state_dict()["norm.running_mean"], start)
            if step:
                optimizer.step(context)
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    assert np.array_equal(shard.state_dict()["norm.running_mean"], start * 0.9 + 0.1 * batch.mean(axis=0))


def test_calls_outside_any_context_are_inference(pair: tuple[Cluster, Client]) -> None:
    made, client = pair
    shard = place(client, "s", "Statistics")
    before = shard.state_dict()
    assert np.array_equal(shard.noise(X).numpy(), X)
    assert shard.normalise(X).item() == pytest.approx((X / np.sqrt(1 + 1e-5)).sum())
    after = shard.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    counter = place(client, "c", "Sum", "w0")
    counter.dot(np.ones(2)).wait()
    assert counter.state_dict()["calls"] == 0
    assert not any(share.staged for share in made.workers["w0"].process.shares)
    with client.context():
        assert not np.array_equal(shard.noise(X).numpy(), X)


@pytest.mark.parametrize("count", [1, 3])
def test_the_number_of_outputs_is_checked(pair: tuple[Cluster, Client], count: int) -> None:
    _, client = pair
    shard = place(client, "a", "Layer", **SIZES)
    first, second = shard.both(X)
    assert np.array_equal(first.numpy(), second.numpy())
    with pytest.raises(DistgradError, match=f"both is declared with outputs=2 but returned a tuple of {count}"):
        shard.both(X, count=count)[0].numpy()


def test_a_function_runs_on_the_worker_it_is_called_on(pair: tuple[Cluster, Client]) -> None:
    _, client = pair
    assert client.call("w1", "parts.py:double", 4.0).item() == 8.0
    with pytest.raises(DistgradError, match=r"parts.py:unmarked may not be called"):
        client.call("w0", "parts.py:unmarked", 4.0).item()
    with pytest.raises(DistgradError, match=r"no 'duble' \(did you mean 'double'\?\)"):
        client.call("w0", "parts.py:duble", 4.0).item()


# ---- versions --------------------------------------------------------------------------------------------------------


def context_at(client: Client, version: int) -> Context:
    return Context(client.process, {"sgd0": version}, 0, 0)


def test_a_call_bound_to_a_version_yet_to_come_waits_for_the_commit(pair: tuple[Cluster, Client]) -> None:
    _, client = pair
    shard = place(client, "a", "Layer", **SIZES)
    optimizer = client.optimizer(dg.optim.SGD(0.1), [shard])
    with context_at(client, 1):
        early = shard.loss(X, 0.0)
        with client.context() as ctx:
            ctx.backward(shard.loss(X, 0.0))
            assert not early.done
            optimizer.step(ctx)
        value = early.item(timeout=PATIENCE)
    with client.context():
        assert value == shard.loss(X, 0.0).item()


def test_a_call_bound_to_a_version_that_was_passed_is_a_context_error(pair: tuple[Cluster, Client]) -> None:
    _, client = pair
    shard = place(client, "a", "Layer", **SIZES)
    optimizer = client.optimizer(dg.optim.SGD(0.1), [shard])
    with client.context() as late, client.context() as ctx:
        ctx.backward(shard.loss(X, 0.0))
        optimizer.step(ctx)
        with late, pytest.raises(ContextError, match="began at version 0 of optimizer 'sgd0', which is at 1 now"):
            shard.loss(X, 0.0).item()


def test_a_call_that_waited_in_line_while_the_version_passed_does_not_run(pair: tuple[Cluster, Client]) -> None:
    """It came at the right version, but its argument came after the commit."""
    made, client = pair
    shard = place(client, "a", "Layer", **SIZES)
    client.optimizer(dg.optim.SGD(0.1), [shard])
    worker = made.workers["w0"]
    owner = worker.host.owner("sgd0")
    call = pb.Call(context=pb.ContextId(id="c", versions={"sgd0": 0}), shard="a", method="loss")
    function = worker.host.resolve(call)
    owner.prepare(1, 1, [])
    owner.commit(1, 1, 1.0, 0.1)
    assert callable(function)
    with pytest.raises(ContextError, match="began at version 0 of optimizer 'sgd0', which is at 1 now"):
        function(X, 0.0)


def test_a_call_during_whose_wait_the_version_passed_is_a_context_error(pair: tuple[Cluster, Client]) -> None:
    """Its first lines saw the old parameters and its last the new ones."""
    made, client = pair
    shard, gate = place(client, "a", "Gate", worker="w0"), place(client, "gate", "Gate", worker="w1")
    optimizer = client.optimizer(dg.optim.SGD(0.1), [shard])
    hold = type(made.workers["w1"].host.hosted("gate").shard)
    with client.context() as late, client.context() as ctx:
        with late:
            waiting = shard.wait_for(gate)
        assert hold.reached.wait(PATIENCE)
        optimizer.step(ctx)
        hold.opened.set()
        with pytest.raises(ContextError, match="began at version 0 of optimizer 'sgd0', which is at 1 now"):
            waiting.item(timeout=PATIENCE)


# ---- an update at the worker -----------------------------------------------------------------------------------------


def test_a_context_that_was_released_cannot_be_prepared(pair: tuple[Cluster, Client]) -> None:
    """Else an owner that released it earlier than the others would pass for one without gradients."""
    made, client = pair
    shard = place(client, "a", "Layer", **SIZES)
    client.optimizer(dg.optim.SGD(0.1), [shard])
    with client.context() as ctx:
        ctx.backward(shard.loss(X, 0.0))
    with pytest.raises(ContextClosed, match=f"context {ctx.id} has been released, and its gradients with it"):
        made.coordinator.updates.step("sgd0", 1, [ctx.id])
    assert made.coordinator.updates.versions() == {"sgd0": 0}
    assert not made.workers["w0"].host.owner("sgd0").pinned


def test_an_owner_that_cannot_apply_a_decided_update_ends(
    pair: tuple[Cluster, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, client = pair
    shard = place(client, "a", "Layer", **SIZES)
    optimizer = client.optimizer(dg.optim.SGD(0.1), [shard])
    rule = made.workers["w0"].host.owner("sgd0").optimizer

    def fail(*_: Any) -> None:
        raise MemoryError("no more")

    with client.context() as ctx:
        ctx.backward(shard.loss(X, 0.0))
        monkeypatch.setattr(type(rule), "update", fail)
        assert optimizer.step(ctx).applied
    assert made.workers["w0"].wait() == "update 1 of sgd0 could not be applied: no more"


# ---- whom it obeys ---------------------------------------------------------------------------------------------------

ORDERS = [
    pb.LoadShard(name="mine", program="parts.py:Layer"),
    pb.Adopt(optimizer="mine", kind="SGD"),
    pb.Prepare(optimizer="sgd0", version=1, term=9),
    pb.Commit(optimizer="sgd0", version=1, term=9),
    pb.Withdraw(optimizer="sgd0", version=1, term=9),
    pb.ReadState(shard="a"),
    pb.CheckState(shard="a"),
    pb.WriteState(shard="a", state=encode_value({"parameters": {}, "buffers": {}}, [])),
    pb.Shutdown(reason="because I say so"),
]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: type(order).__name__)
def test_clients_and_workers_give_a_worker_no_orders(pair: tuple[Cluster, Client], order: Any) -> None:
    made, client = pair
    shard = place(client, "a", "Layer", worker="w0", **SIZES)
    client.optimizer(dg.optim.SGD(0.1), [shard])
    guest = made.client("guest", CLIENT_TOKEN)
    for process in (client.process, guest.process, made.workers["w1"].process):
        with pytest.raises(PermissionDenied, match=f"w0 takes {type(order).__name__} from a coordinator only; "):
            process.ask("w0", order, timeout=PATIENCE)
    owner = made.workers["w0"].host.owner("sgd0")
    assert (owner.term, owner.version, owner.pinned) == (1, 0, False)
    assert shard.loss(X, 0.0).item() > 0


def test_nobody_but_the_coordinator_can_say_that_a_member_is_lost(pair: tuple[Cluster, Client]) -> None:
    made, _ = pair
    guest = made.client("guest", CLIENT_TOKEN)
    lie = pb.Member(name="w1", incarnation=1, role="worker", state="lost", reason="a lie")
    guest.process.send("w0", pb.MemberEvents(members=[lie]))
    guest.counts("w0")  # w0 has received what came before
    assert made.workers["w0"].membership.members["w1"].state == "alive"


def test_a_guest_may_call_shards_and_nothing_of_the_coordinators_is_closed_to_it(pair: tuple[Cluster, Client]) -> None:
    made, client = pair
    place(client, "a", "Layer", **SIZES)
    guest = made.client("guest", CLIENT_TOKEN)
    shard = guest.shard("a")
    assert shard.loss(X, 0.0).item() > 0
    assert shard.state_dict().keys() == {"linear.weight", "linear.bias"}


def test_a_worker_asks_the_coordinator_for_nothing_a_client_decides(pair: tuple[Cluster, Client]) -> None:
    made, _ = pair
    with pytest.raises(PermissionDenied, match=r"coordinator takes UpdateStep from a client only; w0#.* is a worker"):
        made.workers["w0"].process.ask(COORDINATOR, pb.UpdateStep(optimizer="sgd0"), timeout=PATIENCE)


# ---- its end ---------------------------------------------------------------------------------------------------------


def test_a_worker_ends_when_the_coordinator_says_so(pair: tuple[Cluster, Client]) -> None:
    made, _ = pair
    made.coordinator.process.ask("w0", pb.Shutdown(reason="enough"), timeout=PATIENCE)
    assert made.workers["w0"].wait() == "enough"


def test_a_worker_ends_with_its_coordinator(pair: tuple[Cluster, Client]) -> None:
    made, _ = pair
    made.coordinator.close()
    assert "coordinator is lost: it closed the link: coordinator ends" in made.workers["w0"].wait()


def test_a_worker_that_cannot_listen_or_is_not_let_in_says_why(pair: tuple[Cluster, Client]) -> None:
    made, _ = pair
    wrong = replace(made.settings, token="stolen")
    for settings, listen, message in (
        (made.settings, "memory:w0", "cannot listen at memory:w0"),
        (wrong, "memory:w2", "coordinator at memory:coordinator refused the link: the token is not accepted there"),
    ):
        worker = Worker("w2", ADDRESS, PROGRAMS, settings, listen, lanes=made.network.lanes())
        with pytest.raises(DistgradError, match=message):
            worker.start()
        worker.close()
    assert [member.name for member in made.coordinator.workers()] == ["w0", "w1"]


def test_a_workers_error_names_worker_method_and_cause(pair: tuple[Cluster, Client]) -> None:
    _, client = pair
    shard = place(client, "a", "Layer", worker="w1", **SIZES)
    with pytest.raises(RemoteError, match=r"a\.fail on w1 raised ValueError: no luck"):
        shard.fail().item()


def test_what_it_is_shows(pair: tuple[Cluster, Client]) -> None:
    made, client = pair
    place(client, "a", "Layer", worker="w0", **SIZES)
    assert repr(made.workers["w0"]).endswith(": 1 shards>")
