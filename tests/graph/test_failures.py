"""Errors travel, and whatever fails, nobody hangs and nothing is left."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import (
    DistgradError,
    FreedGraphError,
    GradientError,
    ProgramError,
    RemoteError,
    WireError,
    WorkerLost,
)
from distgrad.graph.backward import LocalPass
from distgrad.graph.functional import next_path
from distgrad.transport.interfaces import Identity
from distgrad.wire import pb
from tests.processes import eventually

from .shards import Dense, Gate, Router
from .worlds import PLACEMENTS, SPREAD, ClusterWorld, LocalWorld, cluster_world, same

X = np.array([0.3, -1.2, 0.7])
Y = np.array([1.1, 0.4, -0.5])
SHARDS = {"a": partial(Dense, 1), "b": partial(Dense, 2), "r": Router, "q": partial(Router, 5)}


@pytest.fixture
def world() -> Any:
    with cluster_world(SHARDS, SPREAD, seed=1) as world:
        yield world


# ---- errors say what and where ---------------------------------------------------------------------------------------


def test_an_exception_names_worker_method_type_and_message(world: ClusterWorld) -> None:
    with world.context(), pytest.raises(RemoteError) as caught:
        world.shard("b").fail(X).get()
    error = caught.value
    assert (error.worker, error.method) == ("w1", "b.fail")
    assert (error.original, error.original_message) == ("ValueError", "no luck with shape (3,)")
    assert "raise ValueError" in error.traceback
    assert str(error).startswith("b.fail on w1 raised ValueError: no luck with shape (3,)")


def test_an_exception_keeps_its_name_through_three_hops(world: ClusterWorld) -> None:
    a, b, r, q = (world.shard(name) for name in "abrq")
    with world.context(), pytest.raises(RemoteError, match=r"^b\.fail on w1 raised ValueError: no luck with shape"):
        r.fails_below(a.forward(X), q, r, b).get()


def test_a_poisoned_reference_names_the_first_cause(world: ClusterWorld) -> None:
    a, b, r = (world.shard(name) for name in "abr")
    with world.context() as ctx:
        poisoned = b.of_tree({"items": [a.forward(a.fail(X)), (X, 1)]})
        further = r.through(poisoned, a, b)
        for use in (poisoned.get, further.get, further.wait, lambda: ctx.backward(further)):
            with pytest.raises(RemoteError, match=r"^a\.fail on w0 raised ValueError: no luck with shape"):
                use()


class Batched:
    """Looks into a call of another shard by vmap, which cannot be."""

    def forward(self, shard: Any, x: Any) -> Any:
        return dg.vmap(lambda row: shard.forward(row).get())(x)


def test_a_call_that_cannot_go_elsewhere_is_reported_though_nobody_looks_at_it() -> None:
    with (
        cluster_world({"a": partial(Dense, 1), "v": Batched}, SPREAD) as world,
        pytest.raises(GradientError, match="cannot look into a call to another process"),
        world.context(),
    ):
        world.shard("v").forward(world.shard("a"), np.stack([X, Y]))


def test_wrong_shapes_are_reported_by_the_method(world: ClusterWorld) -> None:
    with world.context(), pytest.raises(RemoteError, match=r"a\.matmul_wrong on w0 raised ValueError: .*matmul"):
        world.shard("a").matmul_wrong(X).get()


def test_an_unknown_method_is_refused_before_anything_is_sent(world: ClusterWorld) -> None:
    with world.context(), pytest.raises(AttributeError, match=r"'a' on w0 has no remote method 'forwrd'; it has add,"):
        world.shard("a").forwrd(X)


def test_an_unknown_shard_is_refused(world: ClusterWorld) -> None:
    with world.context(), pytest.raises(ProgramError, match="no shard 'z'"):
        world.shard("z").forward(X)


def test_a_shard_that_moved_is_reported(world: ClusterWorld) -> None:
    with world.context(), pytest.raises(ProgramError, match="'a' is on w0, not on w2"):
        world.cluster.driver.caller.issue("w2", "a", "forward", (X,), {}).get()


def test_wrong_arguments_are_reported_like_any_exception(world: ClusterWorld) -> None:
    with world.context():
        with pytest.raises(RemoteError, match=r"a\.forward on w0 raised TypeError: .*'z'"):
            world.shard("a").forward(X, z=1).get()
        with pytest.raises(DistgradError, match=r"a\.tree\[\"nowhere\"\]|no item \['nowhere'\]"):
            world.shard("a").tree(X)["nowhere"].get()


def test_what_cannot_travel_is_refused_where_it_is_passed(world: ClusterWorld) -> None:
    with world.context() as ctx:
        with pytest.raises(WireError, match=r"arguments of a\.forward\[0\]\[1\]: a builtins\.object cannot travel"):
            world.shard("a").forward([X, object()])
        with pytest.raises(WireError, match=r"value of call 1 on w0: a builtins\.set cannot travel"):
            world.shard("a").returns_a_set(X).get()
        ctx.backward(world.shard("a").loss(world.variable("x", X)))


def test_an_error_in_a_vjp_or_hook_is_raised_by_backward(world: ClusterWorld) -> None:
    x = world.variable("x", X)
    with world.context() as ctx:
        h = world.shard("a").forward(x)
        bad = world.shard("b").fails_backward(h)
        with pytest.raises(
            RemoteError, match=r"backward of context .* on w1 raised ArithmeticError: no gradient today"
        ):
            ctx.backward(world.shard("a").loss(bad))
        assert world.gradients(ctx) == {}
        ctx.backward(world.shard("a").loss(world.shard("a").forward(x)))
        assert world.gradients(ctx).keys() == {"x", "a.w", "a.b"}


def test_an_error_in_a_hook_of_the_driver_is_raised_by_backward(world: ClusterWorld) -> None:
    x = world.variable("x", X)

    def hook(gradient: Any) -> None:
        raise ArithmeticError("not here either")

    x.register_hook(hook)
    with world.context() as ctx:
        loss = world.shard("b").loss(world.shard("a").forward(x))
        with pytest.raises(RemoteError, match="on driver raised ArithmeticError: not here either"):
            ctx.backward(loss)
        assert world.gradients(ctx) == {}


def test_gradients_of_a_failed_pass_are_nowhere(world: ClusterWorld) -> None:
    x = world.variable("x", X)
    with world.context() as ctx:
        h = world.shard("a").forward(x)
        loss = world.shard("b").loss(h)
        ctx.backward(loss)
        before = world.gradients(ctx)
        with pytest.raises(FreedGraphError):
            ctx.backward([loss, world.shard("b").loss(x)])
        same(world.gradients(ctx), before, "after a failed pass", exact=True)


def test_gradients_that_could_not_be_kept_are_missed_whenever_they_are_asked_for(world: ClusterWorld) -> None:
    def refuse(*_: Any) -> None:
        raise MemoryError("no room")

    owner = world.cluster.workers[world.cluster.places["a"][0]]
    owner.requests[pb.Finish] = refuse
    with world.context() as ctx:
        ctx.backward(world.shard("a").loss(X))
        for _ in range(2):
            with pytest.raises(RemoteError, match="no room"):
                ctx.gradients("a")


def test_the_end_of_a_pass_that_has_not_begun_is_refused(world: ClusterWorld) -> None:
    """A stranger sends that; it was taken for an error of the process that hears it."""
    worker = world.cluster.workers["w0"]
    with world.context() as ctx:
        header = pb.Pass(context=ctx.share.identity, path=[7])
        with pytest.raises(WireError, match=r"the end of <pass 7 of .*, which has not begun"):
            LocalPass(worker, worker.shares.meet(header.context), header).finish()
        worker.releases.release([ctx.id])


def test_roots_that_are_none_are_refused_with_their_position(world: ClusterWorld) -> None:
    with world.context() as ctx:
        h = world.shard("a").forward(world.variable("x", X))
        loss = world.shard("a").loss(h)
        for root, message in [
            (h, r"shape \(3,\): only a scalar"),
            (world.shard("a").detached(X), "root 1 does not require grad"),
            (world.shard("a").tree(h), r"root 1 must be one tensor, but its value on w0 has"),
            (3.0, "root 1 must be a Ref or a tensor, not float"),
        ]:
            with pytest.raises(GradientError, match=message):
                ctx.backward([loss, root])
        with pytest.raises(GradientError, match=r"shape \(4,\)"):
            ctx.backward(h, np.ones(4))
        with pytest.raises(GradientError, match="2 roots came with 1 gradients"):
            ctx.backward([h, loss], [Y])


# ---- processes that are gone -----------------------------------------------------------------------------------------


def close(world: ClusterWorld, name: str) -> None:
    world.cluster.workers.pop(name).close()


def who_hears_of(world: ClusterWorld, name: str) -> set[str]:
    """Grows by each of the other processes that takes note of the loss of this one."""
    heard: set[str] = set()
    for process in world.cluster.processes:
        process.on_lost.append(lambda lost, *_, process=process: heard.add(process.name) if lost.name == name else None)
    return heard


def test_a_worker_that_ends_in_a_call_is_reported(world: ClusterWorld) -> None:
    gate = Gate()
    world.cluster.place("gate", gate, "w1")
    with pytest.raises(WorkerLost, match="w1"), world.context():
        h = world.shard("a").forward(X)
        stuck = world.shard("gate").wait(h)
        passed_on = world.shard("r").use(stuck)
        assert gate.entered.wait(10)
        gate.open.set()
        close(world, "w1")
        for ref in (stuck, passed_on):
            with pytest.raises(WorkerLost, match="w1"):
                ref.get()
        assert world.shard("a").forward(h).get().shape == (3,)
        world.shard("b").forward(X).wait()


def test_a_worker_that_ends_in_a_pass_ends_it_for_everybody(world: ClusterWorld) -> None:
    gate = Gate()
    world.cluster.place("gate", gate, "w1")
    x = world.variable("x", X)
    with world.context() as ctx:
        h = world.shard("a").forward(x)
        through_w1 = world.shard("r").use(world.shard("b").forward(h))
        loss = world.shard("r").use(world.shard("gate").slow_backward(h))
        through_w1.wait()
        loss.wait()
        heard = who_hears_of(world, "w1")
        # The pass is begun by hand, to end the worker in its middle.
        run = ctx._initiator.accumulate(
            next_path(ctx.share, world.cluster.driver), loss, Y, None, retain=False, record=False
        )
        with pytest.raises(WorkerLost, match="w1"), run:
            ended = run.begin()
            assert gate.entered.wait(10)
            gate.open.set()
            close(world, "w1")
            ended.result(timeout=10)
        assert eventually(lambda: all(counts["passes"] == 0 for counts in world.cluster.counts().values()))
        assert eventually(lambda: heard == {"driver", "w0", "w2"})  # whoever hears of it ends the passes under way
        with pytest.raises(WorkerLost, match="w1"):
            world.shard("b").forward(X)
        with pytest.raises((WorkerLost, FreedGraphError)):
            ctx.backward(loss, Y)
        retained = world.shard("r").use(h)
        with pytest.raises(WorkerLost, match="w1"):
            ctx.backward([retained, world.shard("r").use(world.shard("r").use(through_w1))], [Y, Y])
        bystanders = world.shard("a").loss(world.shard("r").use(x))
        ctx.backward(bystanders)
        assert ctx.gradient(x) is not None


class Forwarding:
    """A shard whose method returns what another will return."""

    def ask(self, x: Any, other: Any, method: str) -> Any:
        return getattr(other, method)(x)


@pytest.mark.parametrize(
    ("ends", "method", "error"),
    [("w0", "loss", "w0"), ("w1", "fails_backward", "no gradient today")],
    ids=["it is lost", "it cannot be differentiated"],
)
def test_a_pass_from_a_value_of_a_process_that_was_not_met_before_fails_when(
    ends: str, method: str, error: str
) -> None:
    with cluster_world({"far": partial(Dense, 1), "near": Forwarding}, SPREAD) as world:
        world.cluster.driver.ask("w0", pb.Statistics())  # the processes know one another, in the context they do not
        with pytest.raises(DistgradError, match=error), world.context() as ctx:
            value = world.shard("near").ask(X, world.shard("far"), method)
            value.wait()
            heard = who_hears_of(world, ends)
            close(world, ends)
            assert eventually(lambda: heard >= {"driver", "w0" if ends == "w1" else "w1"})
            ctx.backward(value, Y if method == "fails_backward" else None, timeout=10)


def test_a_context_whose_owner_is_gone_is_released_everywhere(world: ClusterWorld) -> None:
    ctx = world.context()
    ctx.__enter__()
    world.shard("r").through_waiting(world.shard("a").forward(X), world.shard("b"), world.shard("a")).wait()
    h = world.shard("b").forward(X)
    h.wait()
    world.cluster.driver.close()
    (driver,) = (process for process in world.cluster.processes if process.name == "driver")
    for worker in world.cluster.workers.values():
        worker.lost(driver.identity, "it was closed")
    assert all(counts["contexts"] == counts["values"] == 0 for counts in world.cluster.counts().values())
    assert ctx.closed
    ctx.__exit__(None, None, None)


def test_another_process_of_the_same_name_has_no_values_of_the_first(world: ClusterWorld) -> None:
    with pytest.raises(WorkerLost, match="w1"), world.context():
        h = world.shard("b").forward(X)
        h.wait()
        close(world, "w1")
        world.cluster.start("w1")
        with pytest.raises(WorkerLost, match="w1"):
            h.get()
        with pytest.raises(WorkerLost, match="w1"):
            world.shard("a").forward(h).get()
        world.shard("b").forward(X)
    with world.context():
        assert world.shard("b").forward(X).get().shape == (3,)


def test_a_worker_that_nobody_knows_is_reported(world: ClusterWorld) -> None:
    with world.context(), pytest.raises(WorkerLost, match="no way to 'w9'"):
        world.cluster.driver.caller.issue("w9", "a", "forward", (X,), {}).get()
    stranger = Identity.new("w8", "worker", "memory:nowhere")
    world.cluster.driver.peers.introduce(stranger)
    with world.context(), pytest.raises(WorkerLost, match="w8 cannot be reached at memory:nowhere"):
        world.cluster.driver.caller.issue("w8", "a", "forward", (X,), {}).get()


# ---- links that break ------------------------------------------------------------------------------------------------


def rough_weather(w: Any) -> dict[str, Any]:
    x, y = w.variable("x", X), w.variable("y", Y)
    a, b, r = w.shard("a"), w.shard("b"), w.shard("r")
    with w.context() as ctx:
        h = r.through(a.forward(x), a, b)
        k = b.ignores(h, y)
        back = r.rally(b.add(h, k, b.detached(k)), r, w.shard("q"), 3)
        ctx.backward([a.loss(back), h], [None, Y], retain_graph=True)
        ctx.backward(b.loss(k, h))
        return {"back": back.numpy(), "gradients": w.gradients(ctx)}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("placement", PLACEMENTS, ids=lambda placement: placement.name)
def test_links_that_break_and_repeat_frames_change_nothing(placement: Any, seed: int) -> None:
    expected = _run(rough_weather, placement, seed=0)
    found = _run(rough_weather, placement, seed=seed, breaks=0.05, duplicates=0.2)
    same(found, expected, placement.name, exact=True)
    same(found, rough_weather(LocalWorld(SHARDS)), placement.name, exact=False)


def _run(program: Any, placement: Any, **network: Any) -> dict[str, Any]:
    with cluster_world(SHARDS, placement, **network) as world:
        return program(world)
