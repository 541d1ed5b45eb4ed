"""Programs mean the same in one process and on a cluster: values, gradients, and which tensors have one.

Every program also gives the same bits wherever its shards are and in whatever order its messages arrive.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.autograd.rows import Rows
from distgrad.errors import DistgradError, FreedGraphError, RemoteError

from .shards import Counted, Dense, Hooked, Router, Table
from .worlds import SPREAD, Factories, Program, agree, cluster_world

PROGRAMS: dict[str, tuple[Factories, Program]] = {}

X = np.array([0.3, -1.2, 0.7])
Y = np.array([1.1, 0.4, -0.5])


def program(**factories: Callable[[], Any]) -> Callable[[Program], Program]:
    """Enters a program in the table, with the shards it needs."""

    def enter(run: Program) -> Program:
        PROGRAMS[run.__name__] = factories, run
        return run

    return enter


def dense(seed: int) -> Callable[[], Any]:
    return partial(Dense, seed)


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


# ---- backward --------------------------------------------------------------------------------------------------------


@program(a=dense(1), b=dense(2))
def several_roots_here_and_there(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    with w.context() as ctx:
        h = w.shard("a").forward(x)
        loss = w.shard("b").loss(h)
        mine = (h.get() * x).sum()
        ctx.backward([loss, mine, w.shard("a").total(x)])
        return {"gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2))
def roots_with_seeds_of_their_own(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    with w.context() as ctx:
        h = w.shard("a").forward(x)
        k = w.shard("b").forward(h)
        ctx.backward([k, h, x * 2.0], gradient=[Y, np.ones(3), X])
        return {"gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2))
def a_root_that_feeds_another_root(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    with w.context() as ctx:
        h = w.shard("a").total(x)
        k = w.shard("b").forward(x).get()
        loss = w.shard("b").loss(x * h.get(), k)
        ctx.backward([h, loss, k.sum(), h])
        return {"gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2))
def a_tensor_computed_here_is_the_root(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    with w.context() as ctx:
        loss = (w.shard("b").forward(w.shard("a").forward(x)).get() ** 2).sum()
        ctx.backward(loss)
        return {"loss": loss, "gradients": w.gradients(ctx)}


@program(a=dense(1))
def a_variable_is_the_root(w: Any) -> dict[str, Any]:
    x = w.variable("x", 2.0)
    with w.context() as ctx:
        w.shard("a").forward(w.variable("y", Y) * x).wait()
        ctx.backward(x)
        ctx.backward(w.shard("a").bias(), gradient=Y)
        return {"gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2))
def a_retained_graph_is_used_twice(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    with w.context() as ctx:
        h = w.shard("a").forward(x)
        loss = w.shard("b").loss(h)
        ctx.backward(loss, retain_graph=True)
        once = w.gradients(ctx)
        ctx.backward(loss)
        ctx.backward(w.shard("b").loss(x))
        return {"once": once, "all": w.gradients(ctx)}


@program(a=dense(1), b=dense(2))
def a_freed_graph_is_refused(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    with w.context() as ctx:
        loss = w.shard("b").loss(w.shard("a").forward(x))
        ctx.backward(loss)
        with pytest.raises(FreedGraphError, match="retain_graph"):
            ctx.backward(loss)
        return {"gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2))
def a_root_without_gradient_is_refused(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    with w.context() as ctx:
        h = w.shard("a").forward(x)
        for root in (h, w.shard("a").detached(h), w.shard("a").tree(h), w.shard("a").three(h)[0], h.get()):
            with pytest.raises((DistgradError, AttributeError)):
                ctx.backward(root)
        with pytest.raises(DistgradError, match="shape"):
            ctx.backward(h, gradient=np.ones(4))
        ctx.backward(w.shard("b").loss(h))
        return {"gradients": w.gradients(ctx)}


@program(t=Table, a=dense(1))
def rows_of_a_table_stay_rows(w: Any) -> dict[str, Any]:
    with w.context() as ctx:
        rows = w.shard("t").rows(np.array([3, 1, 3, 7]))
        ctx.backward(w.shard("a").total(rows))
        return {"gradients": w.gradients(ctx)}


@program(t=Table, a=Table)
def rows_of_a_table_that_travelled_stay_rows(w: Any) -> dict[str, Any]:
    table = w.variable("table", np.arange(30.0).reshape(10, 3))
    with w.context() as ctx:
        first = w.shard("t").rows_of(table, np.array([3, 1, 3]))
        second = w.shard("a").rows_of(w.shard("t").whole(), np.array([0, 9]))
        third = w.shard("a").rows_of(table, np.array([1, 5]))
        ctx.backward([first, second, third], [np.ones((3, 3)), np.ones((2, 3)), np.full((2, 3), 0.1)])
        gradients = w.gradients(ctx)
        assert {type(gradient) for gradient in gradients.values()} == {Rows}
        return {"gradients": gradients}


@program(t=Table)
def rows_of_a_table_that_was_computed_become_a_whole_table(w: Any) -> dict[str, Any]:
    table = w.variable("table", np.arange(30.0).reshape(10, 3))
    with w.context() as ctx:
        rows = w.shard("t").rows_of(table * 2.0, np.array([3, 1, 3]))
        ctx.backward(rows, np.ones((3, 3)))
        return {"gradients": w.gradients(ctx)}


@program(a=partial(Dense, 1, np.float32), b=partial(Dense, 2, np.float64), c=partial(Dense, 3, np.float16))
def dtypes_meet(w: Any) -> dict[str, Any]:
    x = w.variable("x", X, np.float32)
    with w.context() as ctx:
        h = w.shard("a").forward(x)
        k = w.shard("b").forward(h)
        m = w.shard("c").forward(h)
        ctx.backward(w.shard("a").loss(k, m))
        return {"h": h.numpy(), "k": k.numpy(), "m": m.numpy(), "gradients": w.gradients(ctx)}


@program(a=dense(1))
def complex_values(w: Any) -> dict[str, Any]:
    z = w.variable("z", X + 1j * Y, np.complex128)
    with w.context() as ctx:
        out = w.shard("a").add(z, z * z)
        ctx.backward(dg.ops.abs(out.get()).sum())
        return {"out": out.numpy(), "gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2))
def integers_have_no_gradient(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    with w.context() as ctx:
        picked = w.shard("a").pick(w.shard("b").forward(x), np.array([2, 0, 0]), k=1)
        ctx.backward(w.shard("b").loss(picked))
        return {"picked": picked.numpy(), "gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2))
def a_hook_sees_the_complete_sum_once(w: Any) -> dict[str, Any]:
    seen: list[Any] = []
    x = w.variable("x", X)
    x.register_hook(lambda gradient: seen.append(gradient.numpy()))
    with w.context() as ctx:
        h = w.shard("a").forward(x)
        here = h.get()
        here.register_hook(lambda gradient: gradient * 2.0)
        ctx.backward([w.shard("b").loss(x, here), (here * x).sum(), w.shard("b").total(here)])
        return {"seen": seen, "gradients": w.gradients(ctx)}


@program(h=Hooked, a=dense(1), r=Router)
def a_hook_of_a_parameter_runs_once_on_its_owner(w: Any) -> dict[str, Any]:
    x, h, a = w.variable("x", X), w.shard("h"), w.shard("a")
    with w.context() as ctx:
        k = h.forward(a.forward(h.forward(x)))
        other = w.shard("r").through_waiting(k, h)
        ctx.backward([a.loss(other), a.total(a.add(h.weight(), h.weight().get()))])
        return {"seen": h.seen().numpy(), "gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2), r=Router, q=partial(Router, 5))
def hooks_call_shards(w: Any) -> dict[str, Any]:
    x, a, b = w.variable("x", X), w.shard("a"), w.shard("b")
    x.register_hook(lambda gradient: b.identity(gradient).get() * 3.0)
    with w.context() as ctx:
        h = w.shard("r").hooked(x, a)
        k = w.shard("q").hooked(h, b)
        ctx.backward([w.shard("r").hooked(k, b), h], [Y, X])
        return {"gradients": w.gradients(ctx)}


@program(a=dense(1), r=Router, q=partial(Router, 5))
def a_rule_of_the_users_own_calls_a_shard(w: Any) -> dict[str, Any]:
    x, a = w.variable("x", X), w.shard("a")
    with w.context() as ctx:
        h = w.shard("q").custom(w.shard("r").custom(x, a), a)
        ctx.backward(h, Y)
        return {"h": h.numpy(), "gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2), r=Router)
def a_checkpoint_around_calls(w: Any) -> dict[str, Any]:
    x, a, b = w.variable("x", X), w.shard("a"), w.shard("b")
    y = w.variable("y", Y)

    @w.checkpoint
    def block(x: Any) -> Any:
        h = a.forward(dg.ops.sin(x) * y)
        k = w.shard("r").through_waiting(h, a, b)
        return {"sum": (h.get() * k.get()).sum(), "text": "as it is"}

    with w.context() as ctx:
        first = block(x)
        outside = a.forward(x)
        second = block(outside.get() + x)
        ctx.backward([first["sum"], second["sum"], b.loss(outside)])
        return {"first": first, "gradients": w.gradients(ctx)}


@program(c=Counted, d=partial(Counted, 1), a=dense(1))
def a_checkpoint_of_a_remote_method(w: Any) -> dict[str, Any]:
    x, c, d = w.variable("x", X), w.shard("c"), w.shard("d")
    with w.context() as ctx:
        ref = w.checkpoint(c.forward)(x, w.shard("a"))
        again = w.checkpoint(d.awaits)(ref["h"])
        ctx.backward(w.shard("a").loss(again, ref["h"]), retain_graph=True)
        once = w.gradients(ctx)
        ctx.backward(ref["h"], Y)
        return {"value": ref.numpy(), "once": once, "gradients": w.gradients(ctx)}


@program(a=dense(1), b=dense(2))
def grad_of_the_caller_is_left_alone(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    with w.context() as ctx:
        ctx.backward(w.shard("b").loss(w.shard("a").forward(x)))
        gradients = w.gradients(ctx)
    return {"grad": x.grad, "gradients": gradients}


@program(a=dense(1))
def contexts_do_not_see_each_other(w: Any) -> dict[str, Any]:
    x = w.variable("x", X)
    with w.context() as one, w.context() as two:
        with one:
            first = w.shard("a").loss(x)
        with two:
            second = w.shard("a").loss(x, x)
        two.backward(second)
        one.backward(first, gradient=2.0)
        return {"one": w.gradients(one), "two": w.gradients(two)}


@program(a=dense(1), b=dense(2), c=dense(3))
def many_consumers_are_summed_in_program_order(w: Any) -> dict[str, Any]:
    x, a, b, c = w.variable("x", X), w.shard("a"), w.shard("b"), w.shard("c")
    with w.context() as ctx:
        h = a.forward(x)
        parts = [shard.forward(h) for shard in (a, b, c, c, b, a, c)]
        here = [part.get() for part in parts[::2]]
        loss = sum((part * h.get() * x).sum() for part in here)
        ctx.backward([loss, a.loss(c.add(*parts[::-1]), h)])
        return {"gradients": w.gradients(ctx)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_means_the_same_everywhere(name: str) -> None:
    agree(*PROGRAMS[name])


def test_a_checkpoint_around_calls_runs_methods_again_and_keeps_their_arguments_alone() -> None:
    with cluster_world({"c": Counted, "d": partial(Counted, 1)}, SPREAD) as world:
        c, d, x = world.shard("c"), world.shard("d"), world.variable("x", X)

        def runs() -> list[int]:
            return [shard.runs().item() for shard in (c, d)]

        with world.context() as ctx:
            h = dg.checkpoint(lambda x: d.forward(c.forward(x)["h"])["h"].get())(x)
            assert runs() == [1, 1]
            ctx.backward(h, Y)
            assert runs() == [2, 2]
            ctx.backward(dg.checkpoint(d.awaits)(x), Y)
            assert runs() == [2, 4]
            ctx.backward(d.awaits(x), Y)
            assert runs() == [2, 5]


def test_calls_outside_any_context_leave_no_edges() -> None:
    with cluster_world({"a": dense(1), "b": dense(2), "r": Router}, SPREAD) as world:
        x = world.variable("x", X)
        h = world.shard("r").through_waiting(x, world.shard("a"), world.shard("b")).get()
        loss = world.shard("b").loss(world.shard("a").forward(h))
        assert loss.item() > 0
        for counts in world.cluster.counts().values():
            assert [counts[what] for what in ("contexts", "sends", "recvs")] == [0, 0, 0]
        del loss


def test_rows_of_a_table_stay_rows_on_the_wire() -> None:
    """A table of the driver's is looked up on a worker; its gradient comes back as the rows that were used."""
    rows, width = 20_000, 16
    with cluster_world({"t": Table}, SPREAD) as world:
        table = world.variable("table", np.zeros((rows, width)))
        with world.context() as ctx:
            found = world.shard("t").rows_of(table, np.array([3, 1, 3]))
            found.wait()
            (link,) = world.cluster.workers["w0"].endpoint.links()
            before = link.statistics()["bytes_sent"]
            ctx.backward(found, np.ones((3, width)))
            gradient = ctx.gradient(table)
            assert gradient.indices.tolist() == [1, 3]
            assert link.statistics()["bytes_sent"] - before < rows * width
