"""Lifetimes of contexts and references."""

from __future__ import annotations

import copy
import threading
from functools import partial
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import ContextClosed, ContextError, GradientError, RemoteError, Timeout
from tests.processes import eventually

from .memory_cluster import memory_cluster
from .shards import Dense, Gate, Router
from .test_side_by_side import in_threads
from .worlds import SPREAD, TOGETHER, ClusterWorld, agree, assert_empty, cluster_world

X = np.array([0.3, -1.2, 0.7])
Y = np.array([1.1, 0.4, -0.5])
TWO = {"a": partial(Dense, 1), "b": partial(Dense, 2), "r": Router}


@pytest.fixture
def world() -> Any:
    with cluster_world(TWO, SPREAD, seed=3) as world:
        yield world


# ---- what outlives a context -----------------------------------------------------------------------------------------


def test_an_exited_context_leaves_nothing_on_any_process(world: ClusterWorld) -> None:
    with world.context() as ctx:
        ctx.backward(world.shard("b").loss(world.shard("a").forward(world.variable("x", X))))
        counts = world.cluster.counts()
        assert counts["w0"]["sends"] == counts["w0"]["recvs"] == 1
    assert_empty(world.cluster)


def test_fetched_values_stay_usable_and_others_raise(world: ClusterWorld) -> None:
    with world.context():
        fetched = world.shard("a").tree(X)
        fetched.get()
        plain = world.shard("a").forward(X)
        plain.numpy()
        unfetched = world.shard("b").forward(plain)
    np.testing.assert_array_equal(fetched.get()["twice"].numpy(), X * 2.0)
    np.testing.assert_array_equal(fetched["twice"].numpy(), X * 2.0)
    np.testing.assert_array_equal(plain.get().numpy(), plain.numpy())
    for use in (unfetched.get, unfetched.numpy, unfetched.item, lambda: str(unfetched), unfetched["k"].get):
        with pytest.raises(ContextClosed, match="not fetched"):
            use()
    with pytest.raises(ContextClosed):
        world.shard("a").forward(unfetched)


def test_a_closed_context_refuses_everything(world: ClusterWorld) -> None:
    with world.context() as ctx:
        loss = world.shard("a").loss(X)
    assert ctx.closed
    for use in (lambda: ctx.backward(loss), ctx.__enter__, lambda: ctx.gradients("a")):
        with pytest.raises(ContextClosed):
            use()


def test_a_value_kept_from_a_released_context_is_named_when_its_gradient_would_leave(world: ClusterWorld) -> None:
    with world.context():
        x = world.shard("a").forward(world.variable("x", X))
        with pytest.raises(RemoteError, match="kept it"):
            world.shard("r").keep_and_fail(x).get()
    with world.context() as ctx:
        loss = world.shard("r").use_kept(Y)
        with pytest.raises(ContextClosed, match=r"argument 0 of call 1.*shape \(3,\).*from w0.*detach"):
            ctx.backward(loss)


def test_arguments_of_different_contexts_are_refused(world: ClusterWorld) -> None:
    a = world.shard("a")
    with world.context() as one:
        ref = a.forward(X)
        tensor = ref.get()
        with world.context():
            for mixed in (ref, tensor, ref["k"]):
                with pytest.raises(ContextError, match="detach"):
                    a.forward(mixed)
            a.forward(tensor.detach()).wait()
            with pytest.raises(ContextError, match="belongs to context"):
                one.__class__.backward(one, a.loss(X))


def test_a_context_records_nothing_of_another_cluster(world: ClusterWorld) -> None:
    with memory_cluster(1) as other:
        far, near, x = other.place("far", Dense(5), "w0"), world.shard("a"), world.variable("x", X)
        outside = near.forward(X)
        with world.context():
            assert not far.forward(X).get().requires_grad
            assert not far.forward(x.detach()).get().requires_grad
            with pytest.raises(ContextError, match="of another cluster, so nothing would be recorded"):
                far.forward(x)
            for argument in (near.forward(x), near.forward(x).get()):
                with pytest.raises(ContextError, match="of another cluster"):
                    far.forward(argument)
            with pytest.raises(ContextError, match="belongs to another cluster"):
                far.forward(outside)
            assert dg.grad(lambda y: far.loss(y).get())(x.detach()).shape == (3,)
            with other.context() as ctx:
                ctx.backward(far.loss(x))
                assert ctx.gradient(x) is not None
        assert_empty(other)


def test_a_call_outside_takes_the_context_of_its_arguments(world: ClusterWorld) -> None:
    a, b, x = world.shard("a"), world.shard("b"), world.variable("x", X)
    ctx = world.context()
    with ctx:
        h = a.forward(x)
        ctx.backward(b.loss(h))
        inside = world.gradients(ctx)
    ctx = world.context()
    made: list[Any] = []

    def enter_and_call() -> None:
        with ctx:
            made.append(a.forward(x))

    with ctx:
        in_threads(enter_and_call)
        in_threads(lambda: made.append(b.loss(made[0])))
        ctx.backward(made[1])
        assert world.gradients(ctx).keys() == inside.keys()


# ---- errors nobody looked at -----------------------------------------------------------------------------------------


def test_exit_raises_the_first_error_nobody_has_seen(world: ClusterWorld) -> None:
    with (
        pytest.raises(RemoteError, match=r"a\.fail on w0 raised ValueError: no luck with shape \(3,\)"),
        world.context(),
    ):
        world.shard("b").forward(X)
        world.shard("a").fail(X)
        world.shard("b").matmul_wrong(X)


def test_exit_does_not_raise_an_error_that_was_seen(world: ClusterWorld) -> None:
    with world.context():
        failed = world.shard("a").fail(X)
        with pytest.raises(RemoteError):
            failed.wait()
        world.shard("b").forward(failed)
    with world.context():
        poisoned = world.shard("b").forward(world.shard("a").fail(X))
        with pytest.raises(RemoteError, match=r"a\.fail on w0"):
            poisoned.get()


def test_an_error_in_a_call_that_a_method_did_not_wait_for_is_raised(world: ClusterWorld) -> None:
    with pytest.raises(RemoteError, match=r"a\.fail on w0"), world.context():
        value = world.shard("r").unused_failure(X, world.shard("a"))
        assert value.numpy().shape == (3,)


def test_an_exception_in_the_block_is_what_is_raised(world: ClusterWorld) -> None:
    gate = Gate()
    world.cluster.place("gate", gate, "w2")
    with pytest.raises(KeyError, match="mine"), world.context():
        world.shard("gate").wait(X)
        world.shard("a").fail(X)
        assert gate.entered.wait(10)
        raise KeyError("mine")
    gate.open.set()


def test_exit_waits_for_calls_that_nobody_waited_for(world: ClusterWorld) -> None:
    gate = Gate()
    world.cluster.place("gate", gate, "w2")
    with world.context():
        world.shard("r").calls_and_forgets(X, world.shard("gate"))
        assert gate.entered.wait(10)
        threading.Timer(0.05, gate.open.set).start()
    assert gate.left.is_set()


# ---- timeouts --------------------------------------------------------------------------------------------------------


def test_a_get_that_times_out_leaves_the_call_running(world: ClusterWorld) -> None:
    gate = Gate()
    world.cluster.place("gate", gate, "w0")
    with world.context():
        ref = world.shard("gate").wait(X)
        with pytest.raises(Timeout, match=r"gate\.wait on w0 did not come within 0\.01 s"):
            ref.get(timeout=0.01)
        with pytest.raises(Timeout):
            ref.wait(timeout=0.01)
        gate.open.set()
        np.testing.assert_array_equal(ref.get().numpy(), X)


@pytest.mark.parametrize("placement", [SPREAD, TOGETHER])
def test_a_backward_that_times_out_is_aborted_everywhere(placement: Any) -> None:
    gate = Gate()
    with cluster_world({**TWO, "gate": lambda: gate}, placement) as world:
        x = world.variable("x", X)
        with world.context() as ctx:
            h = world.shard("a").forward(x)
            loss = world.shard("b").loss(world.shard("gate").slow_backward(h))
            with pytest.raises(Timeout):
                ctx.backward(loss, timeout=0.05)
            gate.open.set()
            other = world.shard("b").loss(world.shard("a").forward(x))
            ctx.backward(other)
            gradients = world.gradients(ctx)
            assert eventually(lambda: all(counts["passes"] == 0 for counts in world.cluster.counts().values()))
        with world.context() as ctx:
            ctx.backward(world.shard("b").loss(world.shard("a").forward(x)))
            np.testing.assert_array_equal(gradients["x"], ctx.gradient(x))


def test_a_backward_can_time_out_before_its_root_has_come(world: ClusterWorld) -> None:
    gate = Gate()
    world.cluster.place("gate", gate, "w0")
    with world.context() as ctx:
        x = world.variable("x", X)
        root = world.shard("gate").wait(x)
        with pytest.raises(Timeout):
            ctx.backward(root, Y, timeout=0.01)
        gate.open.set()
        ctx.backward(root, Y)
        np.testing.assert_array_equal(ctx.gradient(x), Y)


# ---- references ------------------------------------------------------------------------------------------------------


def test_a_reference_cannot_be_unpacked(world: ClusterWorld) -> None:
    with world.context(), pytest.raises(TypeError, match=r"outputs=N"):
        _one, _two = world.shard("a").forward(X)


def test_a_reference_is_neither_true_nor_false_and_does_not_leave_its_process(world: ClusterWorld) -> None:
    shard = world.shard("a")
    with world.context():
        ref = shard.total(np.zeros(3))
        with pytest.raises(TypeError, match=r"if ref\.item\(\)"):
            bool(ref)
        for thing, message in ((ref, r"bring its value here by \.get\(\)"), (shard, r"cluster\.shard\('a'\)")):
            for copied in (copy.copy, copy.deepcopy):
                with pytest.raises(TypeError, match=message):
                    copied(thing)


def test_a_reference_shows_what_it_stands_for(world: ClusterWorld) -> None:
    with world.context():
        ref = world.shard("a").total(np.ones(3))
        assert f"{ref}" == str(ref.numpy())
        assert f"{ref:.3f}" == f"{ref.item():.3f}"
        assert float(ref) == ref.item()
        ref.wait()  # the value may come before the news that its call has ended
        assert repr(ref["k"][1]) == "<Ref a.total on w0 0['k'][1], done>"
        with pytest.raises(TypeError, match="slice"):
            ref[1:2]


def test_values_of_inference_are_dropped_when_nobody_refers_to_them(world: ClusterWorld) -> None:
    h = world.shard("a").forward(X)
    for _ in range(20):
        h = world.shard("b").forward(h)
    forwarded = world.shard("r").through(h, world.shard("a"), world.shard("b"))
    assert forwarded.numpy().shape == h.numpy().shape == (3,)
    world.cluster.settle()
    kept = {name: counts["values"] for name, counts in world.cluster.counts().items()}
    assert sum(kept.values()) == 3  # h, what `through` returned, and the value of the call it returned
    del h, forwarded


# ---- gradients -------------------------------------------------------------------------------------------------------


def test_a_gradient_is_asked_for_by_a_tensor(world: ClusterWorld) -> None:
    with world.context() as ctx:
        for other in (X, world.shard("a").bias()):
            with pytest.raises(GradientError, match=rf"takes a variable of the caller, not {type(other).__name__}"):
                ctx.gradient(other)


def test_a_gradient_that_was_read_stays_as_it_is_when_passes_add_to_it(world: ClusterWorld) -> None:
    x = world.variable("x", X)
    with world.context() as ctx:
        loss = world.shard("b").loss(world.shard("a").forward(x), 1.0)
        read = []
        for _ in range(4):
            ctx.backward(loss, retain_graph=True)
            read.append(ctx.gradient(x))
        for times, gradient in enumerate(read, 1):
            np.testing.assert_allclose(gradient, times * np.asarray(read[0]), rtol=1e-12)


# ---- depth -----------------------------------------------------------------------------------------------------------


def test_calls_nest_hundreds_deep_through_two_workers() -> None:
    def program(w: Any) -> dict[str, Any]:
        x, r, q = w.variable("x", X), w.shard("r"), w.shard("q")
        with w.context() as ctx:
            h = r.rally(x, r, q, 150)
            ctx.backward(h, Y)
            return {"h": h.numpy(), "gradients": w.gradients(ctx)}

    agree({"r": Router, "q": partial(Router, 5)}, program, seeds=range(1))


def test_calls_that_nest_too_deep_say_so() -> None:
    with cluster_world({"r": Router}, TOGETHER) as world:
        r = world.shard("r")
        world.cluster.workers["w0"].callee.max_depth = 20
        with world.context():
            with pytest.raises(dg.DistgradError, match=r"21 deep, more than max_depth=20"):
                r.itself(X, r, 100).get()
            assert r.itself(X, r, 18).get().shape == (3,)
