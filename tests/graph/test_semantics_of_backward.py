"""Backward passes mean the same in one process and on a cluster, as the programs of `test_semantics.py` do: roots,
seeds, graphs used twice, rows of tables, dtypes, hooks, checkpoints, contexts."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.autograd.rows import Rows
from distgrad.errors import DistgradError, FreedGraphError

from .shards import Counted, Dense, Hooked, Router, Table, dense
from .worlds import SPREAD, Programs, agree, cluster_world

PROGRAMS = Programs()
program = PROGRAMS.enter

X = np.array([0.3, -1.2, 0.7])
Y = np.array([1.1, 0.4, -0.5])


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


@program(t=Table, a=dense(1))
def rows_and_gradients_of_recorded_passes_add_up(w: Any) -> dict[str, Any]:
    table = w.variable("table", np.arange(30.0).reshape(10, 3))
    with w.context() as ctx:
        for recorded in (False, True, False):
            total = w.shard("a").total(w.shard("t").rows_of(table, np.array([3, 1, 3])))
            ctx.backward([total, w.shard("a").total(w.shard("t").rows(np.array([2, 2])))], create_graph=recorded)
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
