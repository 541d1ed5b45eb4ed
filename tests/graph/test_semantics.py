"""Programs mean the same in one process and on a cluster: values, gradients, and which tensors have one.

Every program also gives the same bits wherever its shards are and in whatever order its messages arrive. Here are
calls, what has no gradient, and failures; what backward passes are asked for is in `test_semantics_of_backward.py`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import RemoteError

from .shards import Router, dense
from .worlds import SPREAD, Programs, agree, cluster_world

PROGRAMS = Programs()
program = PROGRAMS.enter

X = np.array([0.3, -1.2, 0.7])
Y = np.array([1.1, 0.4, -0.5])


# ---- calls -----------------------------------------------------------------------------------------------------------


@program(a=dense(1), b=dense(2))
def references_are_passed_on_without_waiting(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    with w.context() as ctx:
        loss = w.shard("b").loss(w.shard("a").forward(x), Y)
        ctx.backward(loss)
        return {"loss": loss.item(), "gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2))
def results_are_fetched_and_passed_back(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    with w.context() as ctx:
        h = w.shard("a").forward(x).get()
        loss = w.shard("b").loss(h * 2.0, Y).get()
        ctx.backward(loss)
        return {"h": h, "loss": loss, "gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2))
def a_value_is_fetched_and_also_passed_on(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    with w.context() as ctx:
        h = w.shard("a").forward(x)
        here, again = h.get(), h.get()
        loss = w.shard("b").loss(h, here * again)
        ctx.backward([loss, (here * 3.0).sum()])
        return {"loss": loss.item(), "gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2))
def references_within_containers(w: Any) -> dict[str, Any]:
    x, y = w.variable("x", X), w.variable("y", Y)
    with w.context() as ctx:
        h = w.shard("a").forward(x)
        loss = w.shard("b").of_tree({"items": [h, (y * 2.0, 5)]}, scale=0.5, label="four", nothing=None)
        ctx.backward(loss)
        return {"loss": loss.item(), "gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2))
def one_reference_given_many_times(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    with w.context() as ctx:
        h = w.shard("a").forward(x)
        total = w.shard("b").add(h, h, h, x, x)
        ctx.backward(w.shard("b").total(total))
        return {"total": total.numpy(), "gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2))
def trees_come_back_as_they_were(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    with w.context() as ctx:
        ref = w.shard("a").tree(x)
        tree = ref.get()
        ctx.backward([tree["rest"][1][0], (tree["twice"] * tree["constant"]).sum()])
        return {"tree": ref.numpy(), "gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2))
def items_of_a_tree_stay_on_their_owner(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    with w.context() as ctx:
        ref = w.shard("a").tree(x)
        loss = w.shard("b").loss(ref["rest"][0], ref["twice"])
        ctx.backward([loss, ref["rest"][1][0]])
        return {"text": ref["rest"][1][1].get(), "n": ref["rest"][1][3].item(), "gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2))
def several_outputs_all_used(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    with w.context() as ctx:
        s, c = w.shard("a").split(x)
        ctx.backward(w.shard("b").loss(s, c))
        return {"s": s.numpy(), "gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2))
def several_outputs_some_used(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    with w.context() as ctx:
        one, two, three = w.shard("a").three(x)
        kept = two.get()
        ctx.backward(w.shard("b").loss(one, one))
        return {"kept": kept, "three": three.item(), "gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2))
def keywords_scalars_and_constants(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    with w.context() as ctx:
        h = w.shard("a").forward(x=x)
        loss = w.shard("b").loss(h, target=np.ones(3))
        ctx.backward(loss)
        return {"loss": loss.item(), "gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2))
def whatever_travels_comes_back(w: Any) -> dict[str, Any]:
    values = [None, True, -3, 2.5, 1 + 2j, "text", b"bytes", [1, (2, {"k": 3})], np.arange(4, dtype=np.int16), []]
    with w.context():
        return {"values": w.shard("a").identity(values).numpy()}


@program(a=dense(1), r=Router)
def shards_call_shards_they_are_handed(w: Any) -> dict[str, Any]:
    x, a = w.variable("x", X), w.shard("a")
    with w.context() as ctx:
        h = w.shard("r").through_waiting(x, a, a)
        ctx.backward(a.loss(h))
        return {"h": h.numpy(), "gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2), r=Router, q=Router)
def a_method_that_returns_a_reference_forwards_it(w: Any) -> dict[str, Any]:
    x, a, b = w.variable("x", X), w.shard("a"), w.shard("b")
    with w.context() as ctx:
        h = w.shard("r").through(x, a, b)
        here = h.get()
        loss = b.loss(h, here)
        ctx.backward(loss)
        return {"h": here, "loss": loss.item(), "gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2), r=Router)
def a_forwarded_reference_is_a_root(w: Any) -> dict[str, Any]:
    x, a, b = w.variable("x", X), w.shard("a"), w.shard("b")
    with w.context() as ctx:
        h = w.shard("r").through(x, a, b)
        ctx.backward(h, np.ones(3), retain_graph=True)
        tree = w.shard("r").both(h, a, b)
        ctx.backward([tree["second"][0], tree["own"]], [X, Y], retain_graph=True)
        return {"gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2), r=Router)
def forwarded_references_within_a_tree(w: Any) -> dict[str, Any]:
    x, a, b = w.variable("x", X), w.shard("a"), w.shard("b")
    with w.context() as ctx:
        tree = w.shard("r").both(x, a, b)
        value = tree.get()
        part = a.add(tree["second"][0], tree["first"])
        ctx.backward([b.total(part), (value["own"] * value["first"]).sum()])
        return {"value": tree.numpy(), "gradients": w.gradients(ctx)}


@program(r=Router)
def a_shard_calls_itself(w: Any) -> dict[str, Any]:
    x, r = w.variable("x", X), w.shard("r")
    with w.context() as ctx:
        h = r.itself(x, r, 4)
        ctx.backward(h, Y)
        return {"h": h.numpy(), "gradients": w.gradients(ctx)}


@program(r=Router, q=partial(Router, 5))
def there_and_back_again(w: Any) -> dict[str, Any]:
    x, r, q = w.variable("x", X), w.shard("r"), w.shard("q")
    with w.context() as ctx:
        h = r.rally(x, r, q, 5)
        ctx.backward(h, Y)
        return {"h": h.numpy(), "gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2))
def parameters_keep_their_edge_as_arguments(w: Any) -> dict[str, Any]:
    x, a, b = w.variable("x", X), w.shard("a"), w.shard("b")
    with w.context() as ctx:
        ctx.backward(b.total(b.times(a.weight(), x)))
        return {"gradients": w.gradients(ctx)}


@program(a=dense(1), r=Router, q=partial(Router, 5))
def weights_tied_across_workers(w: Any) -> dict[str, Any]:
    x, a = w.variable("x", X), w.shard("a")
    with w.context() as ctx:
        h = w.shard("r").tie(a, x)
        h = w.shard("q").tie(a, h)
        ctx.backward(a.loss(a.forward(h)))
        return {"gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2))
def arrays_are_taken_as_they_are_at_the_call(w: Any) -> dict[str, Any]:
    a, b, x, found = w.shard("a"), w.shard("b"), X.copy(), []
    with w.context() as ctx:
        for k in range(3):
            x[:] = X + k
            found += [a.forward(x), b.add(x[::-1], x, *[x] * k), b.of_tree({"items": [x, (x, 3)]})]
        x[:] = 0.0
        ctx.backward(a.total(a.add(*found)))
        return {"values": [value.numpy() for value in found], "gradients": w.gradients(ctx)}


class Counter:
    """Keeps an array that it returns, and writes to."""

    def __init__(self) -> None:
        self.counts = np.zeros(1000)

    def count(self) -> Any:
        self.counts += 1.0
        return {"counts": self.counts}


def test_a_value_is_what_the_method_returned_whatever_its_shard_writes_to_it_later() -> None:
    with cluster_world({"c": Counter}, SPREAD) as world, world.context():
        values = [world.shard("c").count() for _ in range(3)]
        values[-1].wait()
        assert [value["counts"].numpy().max() for value in values] == [1.0, 2.0, 3.0]


# ---- what has no gradient --------------------------------------------------------------------------------------------


@program(a=dense(1), b=dense(2))
def unused_results(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    with w.context() as ctx:
        h = w.shard("a").forward(x)
        w.shard("b").forward(h)
        unused = w.shard("b").forward(x).get()
        loss = w.shard("b").loss(h)
        ctx.backward(loss)
        return {"unused": unused, "gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2), r=Router)
def unused_calls_of_a_shard(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    with w.context() as ctx:
        h = w.shard("r").unused_call(w.shard("b").forward(x), w.shard("a"))
        ctx.backward(w.shard("b").loss(h))
        return {"gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2))
def detached_results(w: Any) -> dict[str, Any]:
    x, y = w.variable("x", X), w.variable("y", Y)
    with w.context() as ctx:
        h = w.shard("a").detached(x)
        ctx.backward(w.shard("b").loss(h, y))
        return {"gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2), c=dense(3))
def inputs_that_are_ignored(w: Any) -> dict[str, Any]:
    x, y = w.variable("x", X), w.variable("y", Y)
    with w.context() as ctx:
        h = w.shard("a").forward(x)
        k = w.shard("b").ignores(h, y)
        ctx.backward(w.shard("c").loss(k, w.shard("a").constant(h)))
        return {"gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2), c=dense(3))
def one_consumer_of_a_value_ignores_it(w: Any) -> dict[str, Any]:
    x, y = w.variable("x", X), w.variable("y", Y)
    with w.context() as ctx:
        h = w.shard("a").forward(x)
        k = w.shard("b").ignores(h, y)
        ctx.backward(w.shard("c").loss(w.shard("c").add(k, h, w.shard("b").detached(h))))
        return {"gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2), c=dense(3))
def dead_branches_of_dead_branches(w: Any) -> dict[str, Any]:
    x, a, b, c = w.variable("x", X), w.shard("a"), w.shard("b"), w.shard("c")
    with w.context() as ctx:
        h = a.forward(x)
        dead = c.forward(b.forward(b.ignores(h, h)))
        deader = c.add(dead, b.detached(dead), a.forward(dead))
        live = c.forward(b.ignores(deader, h))
        ctx.backward(a.loss(live, b.detached(live)))
        return {"deader": deader.numpy(), "gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2))
def values_read_as_data_leave_no_edge(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    with w.context() as ctx:
        h = w.shard("a").forward(x)
        loss = w.shard("b").loss(h.numpy(), x)
        ctx.backward(loss)
        return {"loss": loss.item(), "gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2))
def no_grad_travels(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    with w.context() as ctx:
        with dg.no_grad():
            h = w.shard("a").forward(x)
            k = w.shard("b").forward(x).get()
        inner = w.shard("a").square_without_grad(x)
        loss = w.shard("b").loss(x, w.shard("b").add(h, k, inner))
        ctx.backward(loss)
        return {"requires_grad": k.requires_grad, "gradients": w.gradients(ctx)}


@program(a=dense(1))
def a_value_is_constant_where_nothing_is_recorded_though_it_was_fetched_before(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    with w.context() as ctx:
        h, tree = w.shard("a").forward(x), w.shard("a").tree(x)
        recorded = [h.get(), tree["twice"].get()]
        with dg.no_grad():
            constant = [h.get(), tree["twice"].get()]
        ctx.backward([(c * r * x).sum() for c, r in zip(constant, recorded, strict=True)])
        return {"requires_grad": [k.requires_grad for k in constant], "gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2))
def requires_grad_travels(w: Any) -> dict[str, Any]:
    x, a, b = w.variable("x", X), w.shard("a"), w.shard("b")
    found = {"outside": a.needs_gradient(x).get()}
    with w.context() as ctx:
        for name, value in {
            "variable": x,
            "constant": X,
            "detached": x.detach(),
            "reference": b.forward(x),
            "reference to a constant": b.constant(x),
            "reference that was fetched": b.forward(X).get(),
            "identity of a constant": b.identity(X),
        }.items():
            found[name] = a.needs_gradient(value).get()
        with dg.no_grad():
            found["no grad"] = a.needs_gradient(x).get()
        ctx.backward(a.loss(x))
        return {**found, "gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2))
def calls_outside_any_context_are_inference(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    h = w.shard("a").forward(x)
    k = w.shard("b").forward(h).get()
    with w.context() as ctx:
        ctx.backward(w.shard("b").loss(x, k))
        gradients = w.gradients(ctx)
    return {"k": k, "requires_grad": k.requires_grad, "gradients": gradients}


# ---- failures --------------------------------------------------------------------------------------------------------


def caught(ref: Any) -> list[str]:
    try:
        ref.get()
    except RemoteError as error:
        # A shard's name may have a prefix: see test_real_processes.py.
        return [error.original, error.original_message, ".".join(error.method.split(".")[-2:])]
    raise AssertionError("the call did not fail")


@program(a=dense(1), b=dense(2))
def a_failure_is_caught_by_the_driver(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    with w.context() as ctx:
        h = w.shard("a").forward(x)
        error = caught(w.shard("b").fail(h))
        ctx.backward(w.shard("b").loss(h))
        return {"error": error, "gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2), r=Router)
def a_failure_is_caught_by_a_shard(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    with w.context() as ctx:
        h = w.shard("r").catches(w.shard("a").forward(x), w.shard("b"))
        ctx.backward(w.shard("b").loss(h))
        return {"h": h.numpy(), "gradients": w.gradients(ctx)}


@program(r=Router, a=dense(1))
def a_value_kept_from_a_call_that_failed(w: Any) -> dict[str, Any]:
    x, r, a = w.variable("x", X), w.shard("r"), w.shard("a")
    with w.context() as ctx:
        h = a.forward(x)
        error = caught(r.keep_and_fail(h))
        loss = r.use_kept(a.forward(Y))
        ctx.backward(loss)
        return {"error": error, "loss": loss.item(), "gradients": w.gradients(ctx)}


@program(r=Router, a=dense(1), b=dense(2), q=partial(Router, 5))
def failures_name_the_first_cause_through_three_hops(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    with w.context() as ctx:
        h = w.shard("a").forward(x)
        deep = caught(w.shard("r").fails_below(h, w.shard("q"), w.shard("r"), w.shard("b")))
        first = w.shard("b").fail(h)
        second = w.shard("a").forward(first)
        poisoned = caught(w.shard("b").loss(second, h))
        ctx.backward(w.shard("a").loss(h))
        return {"deep": deep, "poisoned": poisoned, "gradients": w.gradients(ctx)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_means_the_same_everywhere(name: str) -> None:
    agree(*PROGRAMS[name])


def test_calls_outside_any_context_leave_no_edges() -> None:
    with cluster_world({"a": dense(1), "b": dense(2), "r": Router}, SPREAD) as world:
        x = world.variable("x", X)
        h = world.shard("r").through_waiting(x, world.shard("a"), world.shard("b")).get()
        loss = world.shard("b").loss(world.shard("a").forward(h))
        assert loss.item() > 0
        for counts in world.cluster.counts().values():
            assert [counts[what] for what in ("contexts", "sends", "recvs")] == [0, 0, 0]
        del loss
