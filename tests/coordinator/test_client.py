"""The client: everything a user of a cluster asks of it, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.coordinator.client import Client
from distgrad.coordinator.optimizer import StepResult
from distgrad.errors import (
    ConfigError,
    ContextClosed,
    DistgradError,
    LinkError,
    RemoteError,
    Timeout,
    WireError,
    WorkerLost,
)
from tests.coordinator.cluster import ADDRESS, PATIENCE, SIZES, Cluster, X, until_known


def layer(client: Client, name: str = "a", worker: str = "", seed: int = 0) -> Any:
    return client.place(name, "parts.py:Layer", worker, SIZES, seed)


# ---- joining and looking around --------------------------------------------------------------------------------------


def test_where_nobody_listens_there_is_nothing_to_join(pair: tuple[Cluster, Client]) -> None:
    made, _ = pair
    with pytest.raises(LinkError, match="nobody listens at memory:nowhere, where coordinator should be"):
        Client("memory:nowhere", made.settings, lanes=made.network.lanes())


def test_where_another_process_listens_one_is_told(pair: tuple[Cluster, Client]) -> None:
    made, _ = pair
    with pytest.raises(LinkError, match=r"w0#.* is at memory:w0, expected coordinator"):
        Client("memory:w0", made.settings, lanes=made.network.lanes())


def test_clients_have_names_of_their_own(pair: tuple[Cluster, Client]) -> None:
    made, client = pair
    names = {made.client().process.name for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("client-") for name in names)
    assert client.process.name == "driver"


def test_workers_are_listed_with_what_they_hold(pair: tuple[Cluster, Client]) -> None:
    made, client = pair
    shard = layer(client, worker="w0")
    with client.context():
        shard.loss(X, 0.0).wait()
        found = {worker.name: worker for worker in client.workers}
        assert found["w0"].counts["contexts"] == 1
        assert found["w1"].counts["contexts"] == 0
        assert client.counts("w0").keys() == found["w0"].counts.keys()
    identity = made.workers["w0"].process.identity
    assert (found["w0"].address, found["w0"].incarnation) == (identity.address, identity.incarnation)
    assert (found["w0"].state, found["w0"].reason, found["w0"].pid) == ("alive", "", identity.pid)
    assert client.counts("w0")["contexts"] == 0


def test_a_worker_that_is_gone_is_listed_with_the_reason(pair: tuple[Cluster, Client]) -> None:
    made, client = pair
    made.end("w1")
    gone = next(worker for worker in client.workers if worker.name == "w1")
    assert (gone.state, gone.reason, gone.counts) == ("left", "w1 ends", {})
    with pytest.raises(WorkerLost, match="w1 has left: w1 ends"):
        client.counts("w1")


def test_workers_can_be_waited_for(pair: tuple[Cluster, Client]) -> None:
    made, client = pair
    client.wait_for_workers(["w0", "w1"], PATIENCE)
    waiting = threading.Thread(target=lambda: client.wait_for_workers(["w0", "late"], PATIENCE))
    waiting.start()
    made.start("late")
    waiting.join(PATIENCE)
    assert not waiting.is_alive()


def test_workers_that_do_not_come_are_named(pair: tuple[Cluster, Client]) -> None:
    _, client = pair
    with pytest.raises(Timeout, match=r"w7, w9 did not join within 0\.01 s"):
        client.wait_for_workers(["w0", "w7", "w9"], 0.01)


def test_waiting_ends_with_the_error_of_a_check(pair: tuple[Cluster, Client]) -> None:
    _, client = pair

    def check() -> None:
        raise WorkerLost("w7 could not be started")

    with pytest.raises(WorkerLost, match="w7 could not be started"):
        client.wait_for_workers(["w7"], PATIENCE, check)


# ---- shards ----------------------------------------------------------------------------------------------------------


def test_a_shard_placed_by_one_client_is_found_by_another(pair: tuple[Cluster, Client]) -> None:
    made, client = pair
    shard = layer(client, seed=3)
    found = made.client().shard("a")
    assert found == shard
    assert np.array_equal(found.state_dict()["linear.weight"], shard.state_dict()["linear.weight"])
    with pytest.raises(AttributeError, match="shard 'a' on w0 has no remote method 'secret'; it has both, error"):
        found.secret()


@pytest.mark.parametrize("config", [{"inputs": object()}, {"inputs": 2**70}])
def test_a_config_that_cannot_travel_says_where(pair: tuple[Cluster, Client], config: dict[str, Any]) -> None:
    _, client = pair
    with pytest.raises(WireError, match=r"""config\["inputs"\]: """):
        client.place("a", "parts.py:Layer", config=config)


def test_the_state_of_a_shard_can_be_read_and_written(pair: tuple[Cluster, Client]) -> None:
    _, client = pair
    shard = client.place("s", "parts.py:Statistics")
    state = shard.state_dict()
    assert state.keys() == {
        *("norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"),
        *("table.weight", "unused"),
    }
    changed = {name: array + 1.0 for name, array in state.items()}
    changed["unused"] = dg.tensor(changed["unused"])
    shard.load_state_dict(changed)
    assert all(np.array_equal(array, state[name] + 1.0) for name, array in shard.state_dict().items())


def test_what_was_read_stays_as_it_was(pair: tuple[Cluster, Client]) -> None:
    _, client = pair
    shard = layer(client)
    before = shard.state_dict()
    copies = {name: array.copy() for name, array in before.items()}
    shard.load_state_dict({name: array * 2 for name, array in before.items()})
    assert all(np.array_equal(before[name], copies[name]) for name in before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"linear.bais": np.ones(2)}, "'linear.bais' is not part of the module"),
        ({"linear.bias": None}, "'linear.bias' is missing"),
        ({"linear.bias": np.ones(3)}, r"'linear.bias' is float64\[3\], the module's is float64\[2\]"),
        ({"linear.bias": np.ones(2, "f4")}, r"'linear.bias' is float32\[2\]"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(
    pair: tuple[Cluster, Client], change: dict[str, Any], message: str
) -> None:
    _, client = pair
    shard = layer(client)
    before = shard.state_dict()
    state = {name: array + 1.0 for name, array in before.items()} | change
    with pytest.raises(ConfigError, match=message):
        shard.load_state_dict({name: array for name, array in state.items() if array is not None})
    assert all(np.array_equal(array, before[name]) for name, array in shard.state_dict().items())


@pytest.mark.parametrize(
    "wrong",
    [{"name": 3}, {"program": None}, {"worker": 0}, {"config": [("inputs", 3)]}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_arguments_of_a_placement_that_are_of_a_wrong_type_are_named(
    pair: tuple[Cluster, Client], wrong: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=rf"place\(\) got {next(iter(wrong))}="):
        pair[1].place(**{"name": "a", "program": "shards.py:Layer", **wrong})


def test_an_optimizer_is_made_of_settings_and_a_list_of_handles_and_stepped_with_contexts(
    pair: tuple[Cluster, Client],
) -> None:
    _, client = pair
    shard = layer(client)
    for settings in ("Adam", dg.optim.Adam):
        with pytest.raises(ConfigError, match=r"expected an optimizer, like dg\.optim\.Adam"):
            client.optimizer(settings, [shard])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"expected contexts: step\(ctx\), or step\(\*contexts\) for a list"):
        client.optimizer(dg.optim.Adam(0.1), [shard]).step([client.context()])  # type: ignore[arg-type]
    for shards in (shard, ["a"], "a"):
        with pytest.raises(ConfigError, match="expected a list of the handles that place"):
            client.optimizer(dg.optim.Adam(0.1), shards)  # type: ignore[arg-type]


def test_writing_parameters_leaves_the_optimizer_where_it_is(pair: tuple[Cluster, Client]) -> None:
    _, client = pair
    shard = layer(client)
    optimizer = client.optimizer(dg.optim.Adam(0.1), [shard])
    step(client, optimizer, shard)
    moments = client.read_state("a")["optimizer"]
    shard.load_state_dict({name: array + 1.0 for name, array in shard.state_dict().items()})
    after = client.read_state("a")["optimizer"]
    assert moments.keys() == after.keys() != set()
    assert all(np.array_equal(moments[name], after[name]) for name in moments)
    step(client, optimizer, shard)
    assert optimizer.version == 2


def step(client: Client, optimizer: Any, shard: Any, **how: Any) -> StepResult:
    with client.context() as ctx:
        ctx.backward(shard.loss(X, 0.0))
        result: StepResult = optimizer.step(ctx, **how)
        return result


# ---- functions -------------------------------------------------------------------------------------------------------


def test_a_function_is_called_where_one_says(pair: tuple[Cluster, Client]) -> None:
    _, client = pair
    ref = client.call("w1", "parts.py:double", x=np.ones(2))
    assert ref.owner == "w1"
    assert ref.numpy().tolist() == [2, 2]
    with pytest.raises(WorkerLost, match="no way to 'w9': it is not a member"):
        client.call("w9", "parts.py:double", 1.0).item()


def test_gradients_flow_through_functions(pair: tuple[Cluster, Client]) -> None:
    _, client = pair
    x = dg.tensor(np.ones(3), requires_grad=True)
    with client.context() as ctx:
        ctx.backward(client.call("w0", "parts.py:double", x), gradient=np.arange(3.0))
        assert ctx.gradient(x).tolist() == [0, 2, 4]


# ---- contexts --------------------------------------------------------------------------------------------------------


def test_contexts_count_up_unless_one_says_the_step(pair: tuple[Cluster, Client]) -> None:
    _, client = pair
    shard = client.place("s", "parts.py:Statistics")

    def noise(*where: int) -> bytes:
        with client.context(*where):
            return bytes(shard.noise(np.ones(64)).numpy().tobytes())

    first, second = noise(), noise()
    assert first != second
    assert (noise(0), noise(1), noise(1, 0)) == (first, second, second)
    assert noise(1, 1) not in (first, second)
    assert noise() == noise(2)


def test_a_context_is_bound_to_the_versions_it_began_with(pair: tuple[Cluster, Client]) -> None:
    _, client = pair
    shard = layer(client)
    assert client.context().versions == {}
    optimizer = client.optimizer(dg.optim.SGD(0.1), [shard], "mine")
    assert client.context().versions == {"mine": 0}
    step(client, optimizer, shard)
    assert client.context().versions == {"mine": 1}


def test_what_a_client_held_is_released_when_it_leaves(pair: tuple[Cluster, Client]) -> None:
    made, client = pair
    layer(client, worker="w0")
    guest = made.client("guest")
    context = guest.context()
    with context:
        guest.shard("a").loss(X, 0.0).wait()
        assert client.counts("w0")["contexts"] == 1
        made.leave(guest)
    until_gone(made, "guest")
    assert client.counts("w0")["contexts"] == 0


def until_gone(made: Cluster, name: str) -> None:
    for membership in made.members():
        until_known(membership, name, lambda member: member.state != "alive")


# ---- steps -----------------------------------------------------------------------------------------------------------


def test_optimizers_are_named_by_kind_and_number_unless_one_says(pair: tuple[Cluster, Client]) -> None:
    _, client = pair
    shards = [layer(client, name) for name in "abc"]
    names = [
        client.optimizer(dg.optim.Adam(0.1), shards[:1]).name,
        client.optimizer(dg.optim.SGD(0.1), shards[1:2]).name,
        client.optimizer(dg.optim.SGD(0.1), shards[2:], "mine").name,
    ]
    assert names == ["adam0", "sgd1", "mine"]


def test_shards_under_several_optimizers_move_one_by_one(pair: tuple[Cluster, Client]) -> None:
    """As the two networks of a generative adversarial pair do, from one context."""
    _, client = pair
    first, second = layer(client, "a"), layer(client, "b")
    fast, slow = client.optimizer(dg.optim.SGD(0.5), [first]), client.optimizer(dg.optim.SGD(0.1), [second])
    before = [shard.state_dict()["linear.bias"] for shard in (first, second)]
    with client.context() as ctx:
        ctx.backward([first.loss(X, 0.0), second.loss(X, 0.0)])
        gradients = [ctx.gradients(shard)["linear.bias"] for shard in (first, second)]
        fast.step(ctx)
        assert np.array_equal(second.state_dict()["linear.bias"], before[1])
        slow.step(ctx)
    after = [shard.state_dict()["linear.bias"] for shard in (first, second)]
    assert np.array_equal(after[0], before[0] - 0.5 * gradients[0])
    assert np.array_equal(after[1], before[1] - 0.1 * gradients[1])
    assert (fast.version, slow.version) == (1, 1)


def test_a_step_needs_contexts_that_are_open(pair: tuple[Cluster, Client]) -> None:
    _, client = pair
    shard = layer(client)
    optimizer = client.optimizer(dg.optim.SGD(0.1), [shard])
    with pytest.raises(ConfigError, match=r"step\(\) needs the contexts whose gradients to apply: step\(ctx\)"):
        optimizer.step()
    with client.context() as ctx:
        ctx.backward(shard.loss(X, 0.0))
    with pytest.raises(ContextClosed, match="has released its gradients; call step"):
        optimizer.step(ctx)
    assert optimizer.version == 0


def test_a_call_that_failed_unseen_stops_the_step(pair: tuple[Cluster, Client]) -> None:
    _, client = pair
    shard = layer(client)
    optimizer = client.optimizer(dg.optim.SGD(0.1), [shard])
    with client.context() as ctx:
        shard.fail()
        ctx.backward(shard.loss(X, 0.0))
        with pytest.raises(RemoteError, match=r"a\.fail on w0 raised ValueError: no luck"):
            optimizer.step(ctx)
        assert optimizer.step(ctx).applied  # now somebody has seen it
    assert optimizer.version == 1


def test_a_step_waits_for_the_calls_of_its_contexts(pair: tuple[Cluster, Client]) -> None:
    """Else it would depend on timing whether what they do to buffers belongs to the step."""
    made, client = pair
    gate, counter = client.place("gate", "parts.py:Gate", "w0"), client.place("s", "parts.py:Sum", "w0")
    hold = type(made.workers["w0"].host.hosted("gate").shard)
    optimizer = client.optimizer(dg.optim.SGD(0.1), [counter])
    stepped: list[StepResult] = []
    with client.context() as ctx:
        ctx.backward(counter.dot(np.ones(2)))
        gate.hold()
        counter.dot(np.ones(2))
        assert hold.reached.wait(PATIENCE)
        stepping = threading.Thread(target=lambda: stepped.append(optimizer.step(ctx)))
        stepping.start()
        hold.opened.set()
        stepping.join(PATIENCE)
    assert stepped[0].applied
    assert counter.state_dict()["calls"] == 2


def test_a_clip_and_a_rate_are_of_one_step(pair: tuple[Cluster, Client]) -> None:
    _, client = pair
    shard = layer(client)
    optimizer = client.optimizer(dg.optim.SGD(0.1), [shard])
    before = shard.state_dict()
    norm = step(client, optimizer, shard, clip_norm=1e-3, learning_rate=2.0).norm
    moved = np.concatenate([(array - before[name]).ravel() for name, array in shard.state_dict().items()])
    assert norm > 1
    assert np.linalg.norm(moved) == pytest.approx(2e-3)


def test_a_lost_owner_stops_the_next_step_and_the_version_stays(pair: tuple[Cluster, Client]) -> None:
    made, client = pair
    shards = [layer(client, "a", "w0"), layer(client, "b", "w1")]
    optimizer = client.optimizer(dg.optim.SGD(0.1), shards)
    step(client, optimizer, shards[0])
    made.end("w1")
    before = shards[0].state_dict()
    with pytest.raises(WorkerLost, match="w1"):
        step(client, optimizer, shards[0])
    assert optimizer.version == 1
    assert np.array_equal(shards[0].state_dict()["linear.bias"], before["linear.bias"])


# ---- for coroutines --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_gathered_gradients_are_added_up_in_the_first_context_in_their_order(
    pair: tuple[Cluster, Client], order: tuple[int, ...]
) -> None:
    _, client = pair
    a, b = layer(client, "a", "w0"), client.place("b", "parts.py:Layer", "w1", {"inputs": 2, "outputs": 2})
    apart = []
    for number in range(3):
        with client.context() as ctx:
            ctx.backward(b.loss(a.forward(X + number), 0.1))
            apart.append(ctx.gradients(a)["linear.weight"])
    contexts = [client.context() for _ in range(3)]
    contexts[0].gather(*contexts[1:])
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        for number in order:
            with contexts[number] as context:
                context.backward(b.loss(a.forward(X + number), 0.1))
        for context in contexts:
            context.settle()
        expected = apart[0] + apart[1] + apart[2]
        np.testing.assert_array_equal(contexts[0].gradients(a)["linear.weight"], expected, strict=True)
        assert [context.gradients(a) for context in contexts[1:]] == [{}, {}]


def test_whatever_waits_can_be_awaited(pair: tuple[Cluster, Client], tmp_path: Path) -> None:
    made, _ = pair

    async def use() -> None:
        async with made.client("guest") as client:
            await client.wait_for_workers_async(["w0", "w1"], PATIENCE)
            await client.place_async("a", "parts.py:Layer", config=SIZES)
            shard = await client.shard_async("a")
            optimizer = await client.optimizer_async(dg.optim.SGD(0.1), [shard])
            before = await shard.state_dict_async()
            async with client.context() as ctx:
                await ctx.backward_async(shard.loss(X, 0.0))
                assert (await optimizer.step_async(ctx, clip_norm=1.0)).applied
            await client.save_async(str(tmp_path), {"at": 1})
            await shard.load_state_dict_async(before)
            assert await client.restore_async(str(tmp_path)) == {"at": 1}
            assert not np.array_equal((await shard.state_dict_async())["linear.bias"], before["linear.bias"])
            with pytest.raises(ConfigError, match="no shard is named 'b'"):
                await client.shard_async("b")

    asyncio.run(use())


# ---- the end ---------------------------------------------------------------------------------------------------------


def test_after_the_coordinator_is_gone_everything_says_so(pair: tuple[Cluster, Client]) -> None:
    made, client = pair
    layer(client)
    made.coordinator.close()
    for use in (lambda: client.workers, lambda: client.save("/nowhere"), lambda: layer(client, "b")):
        with pytest.raises(DistgradError, match="coordinator"):
            use()
    with pytest.raises(DistgradError, match="coordinator"):
        client.membership.ended.result(PATIENCE)


def test_a_client_closes_twice_without_harm_and_leaves_with_its_block(pair: tuple[Cluster, Client]) -> None:
    made, _ = pair
    with Client(ADDRESS, made.settings, "guest", lanes=made.network.lanes()) as guest:
        pass
    guest.close()
    until_gone(made, "guest")


def test_what_it_is_shows(pair: tuple[Cluster, Client]) -> None:
    _, client = pair
    shard = layer(client)
    optimizer = client.optimizer(dg.optim.SGD(0.1), [shard])
    assert repr(client).startswith("<Client driver#")
    assert repr(client).endswith(" of term 1>")
    assert repr(shard) == "<shard a>"
    assert repr(optimizer) == f"<RemoteOptimizer sgd0: {dg.optim.SGD(0.1)}, version 0>"
    assert repr(step(client, optimizer, shard)).startswith("StepResult(applied=True, norm=")
