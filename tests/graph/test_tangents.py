"""Forward mode over several processes: tangents travel with their primals."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import CannotTravel, GradientError, RemoteError
from distgrad.graph.refs import Ref
from distgrad.graph.tangents import Jvps
from distgrad.wire import JvpName, pb

from .shards import Counted, Dense, Router, Table
from .worlds import ClusterWorld, Factories, LocalRef, LocalWorld, Program, agree, cluster_world, same

X = np.array([0.3, -1.2, 0.7])
V = np.array([1.1, 0.4, -0.5])
SHARDS: Factories = {
    "a": partial(Dense, 1),
    "b": partial(Dense, 2),
    "r": Router,
    "q": partial(Router, 1),
    "t": Table,
    "c": Counted,
}

# A function of one vector that calls shards: (world, x) -> a tensor, a Ref, or a tree of them.
Function = Callable[[Any, Any], Any]


def forwarded_items(w: Any, x: Any) -> Any:
    both = w.shard("r").both(x, w.shard("a"), w.shard("b"))
    return w.shard("b").add(both["first"], both["second"][0], both["own"])


def kept_by_a_shard(w: Any, x: Any) -> Any:
    w.shard("r").keep(x).wait()
    return w.shard("r").use_kept(V)


def failed_and_caught(w: Any, x: Any) -> Any:
    with pytest.raises(RemoteError, match="no luck"):
        w.shard("a").fail(w.shard("b").forward(x)).get()
    return w.shard("r").catches(x, w.shard("a"))


def without_grad(w: Any, x: Any) -> Any:
    with dg.no_grad():
        h = w.shard("a").identity(x)
        k = w.shard("a").forward(x).get()
    return w.shard("b").add(x, h, k)


def in_blocks(w: Any, x: Any) -> Any:
    with dg.no_grad(), dg.enable_grad():
        h = w.shard("a").forward(x)
    with w.context():
        k = w.shard("b").forward(x).get()
    return w.shard("a").add(h, x).get() * k


def several_results(w: Any, x: Any) -> Any:
    sine, cosine = w.shard("a").split(x)
    first, _, third = w.shard("b").three(sine)
    return [w.shard("b").add(first, cosine, sine), third]


def containers(w: Any, x: Any) -> Any:
    items = {"items": [x * 2.0, (w.shard("a").forward(x), 3)]}
    return w.shard("b").of_tree(items, scale=2.0, label="four", nothing=None)


def diamond(w: Any, x: Any) -> Any:
    h = w.shard("a").forward(x)
    return w.shard("a").add(w.shard("b").forward(h), h, w.shard("b").add(h, x))


def an_embedding(w: Any, x: Any) -> Any:
    t = w.shard("t")
    table = dg.ops.stack([x, x * x, dg.ops.sin(x)])
    rows = t.rows_of(table, np.array([2, 0, 2]))
    return w.shard("b").add(rows, t.rows(np.array([1, 1, 7])), t.rows_of(t.whole(), np.array([3, 4, 5])))


def complex_values(w: Any, x: Any) -> Any:
    z = w.shard("a").identity(dg.ops.exp(x * 1j)).get()
    return w.shard("b").dot(z, z).get().real * x


FUNCTIONS: dict[str, Function] = {
    "one call": lambda w, x: w.shard("a").forward(x),
    "there and back": lambda w, x: w.shard("b").loss(
        w.shard("a").forward(w.shard("b").forward(w.shard("a").loss(x).get() * x))
    ),
    "a chain of Refs": lambda w, x: w.shard("b").loss(
        w.shard("a").forward(w.shard("b").forward(w.shard("a").forward(x)))
    ),
    "fetched in between": lambda w, x: w.shard("b").loss(w.shard("a").forward(x).get() * x, x),
    "a diamond": diamond,
    "containers": containers,
    "several results": several_results,
    "an item of a Ref": lambda w, x: w.shard("b").add(w.shard("a").tree(x)["rest"][0], w.shard("a").tree(x)["twice"]),
    "used twice": lambda w, x: (lambda h: w.shard("b").add(h, h, h))(w.shard("a").forward(x)),
    "never used": lambda w, x: [w.shard("a").forward(x), x * x][1],
    "forwarded": lambda w, x: w.shard("r").through(x, w.shard("a"), w.shard("b"), w.shard("a")),
    "forwarded items": forwarded_items,
    "nested": lambda w, x: w.shard("r").through_waiting(x, w.shard("a"), w.shard("b")),
    "mutual recursion": lambda w, x: w.shard("r").rally(x, w.shard("r"), w.shard("q"), 5),
    "a worker that calls itself": lambda w, x: w.shard("r").itself(x, w.shard("r"), 3),
    "integers": lambda w, x: w.shard("a").pick(x, np.array([2, 0]), k=1),
    "an embedding": an_embedding,
    "parameters": lambda w, x: w.shard("b").times(w.shard("a").weight(), x),
    "parameters fetched": lambda w, x: w.shard("a").weight().get() @ x,
    "a shared parameter": lambda w, x: w.shard("r").tie(w.shard("a"), x),
    "constants": lambda w, x: w.shard("a").add(x, w.shard("b").constant(x), w.shard("b").ignores(x, V)),
    "nothing but constants": lambda w, x: w.shard("a").forward(V),
    "detached": lambda w, x: w.shard("a").add(x, w.shard("b").detached(x), w.shard("b").square_without_grad(x)),
    "without grad": without_grad,
    "in blocks": in_blocks,
    "kept by a shard": kept_by_a_shard,
    "failed and caught": failed_and_caught,
    "a coroutine": lambda w, x: w.shard("r").awaits(x, w.shard("a")),
    "checkpointed": lambda w, x: w.checkpoint(lambda y: w.shard("b").loss(w.shard("a").forward(y)).get() * y)(x),
    "complex": complex_values,
    "a gradient found there": lambda w, x: w.shard("a").own_gradient(x * x),
    "a tangent found there": lambda w, x: w.shard("r").tangent_through(x, x * x, w.shard("a")),
    "a tangent of a tangent": lambda w, x: dg.jvp(
        lambda y: w.shard("r").tangent_through(y, x * y, w.shard("a")).get(),
        (x * 2.0,),
        (w.shard("b").forward(x).get(),),
    )[1],
}

# Where the present jvp goes back to reverse mode.
IN_REVERSE: dict[str, Function] = {
    "a gradient through others": lambda w, x: w.shard("r").gradient_through(x, w.shard("a")),
    "a rule that calls others": lambda w, x: dg.grad(lambda y: w.shard("r").custom(y, w.shard("a")).get().sum())(x),
    "a gradient": lambda w, x: dg.grad(lambda y: w.shard("b").loss(w.shard("a").forward(y)).get())(x),
    "a pullback": lambda w, x: dg.vjp(lambda y: w.shard("a").forward(y).get(), V)[1](x)[0],
}


def fetched(result: Any) -> Any:
    """A function's result with values in the place of references."""
    if isinstance(result, list):
        return [fetched(item) for item in result]
    return result.get() if isinstance(result, Ref | LocalRef) else result


def applied(w: Any, name: str) -> Callable[[Any], Any]:
    function = FUNCTIONS.get(name) or IN_REVERSE[name]
    return lambda x: fetched(function(w, x))


PROGRAMS: dict[str, Program] = {}


def program(run: Program) -> Program:
    PROGRAMS[run.__name__] = run
    return run


@program
def values_and_tangents(w: Any) -> dict[str, Any]:
    found = {}
    for name in (*FUNCTIONS, *IN_REVERSE):
        with w.context():
            found[name] = dg.jvp(applied(w, name), (X,), (V,))
    return found


NESTED = ("a diamond", "containers", "forwarded items", "nested", "a tangent found there")


@program
def jvps_nest(w: Any) -> dict[str, Any]:
    found = {}
    for name in NESTED:
        f = applied(w, name)

        def inner(x: Any, f: Any = f) -> Any:
            return dg.jvp(f, (x,), (x * V,))

        with w.context():
            found[name] = dg.jvp(inner, (X,), (V,))
            found[f"{name}, thrice"] = dg.jvp(lambda x, inner=inner: dg.jvp(inner, (x,), (V * V,)), (X,), (V,))
    return found


@program
def an_inner_jvp_sees_nothing_of_the_outer_one(w: Any) -> dict[str, Any]:
    a, b = w.shard("a"), w.shard("b")

    def outer(x: Any) -> Any:
        h = a.forward(x)
        constant = dg.jvp(lambda y: b.add(h, h).get(), (x,), (V,))[1]
        return dg.jvp(lambda y: b.dot(y, h).get() * x, (V * 1.0,), (V,))[1] + constant

    with w.context():
        return {"found": dg.jvp(outer, (X,), (V,))}


@program
def gradients_of_jvps(w: Any) -> dict[str, Any]:
    found = {}
    for name in NESTED:
        f = applied(w, name)
        with w.context() as ctx:
            found[name] = dg.grad(lambda x, f=f: dg.ops.sum(dg.jvp(f, (x,), (x * V,))[1] ** 2))(X)
            assert w.gradients(ctx) == {}
    return found


@program
def gradients_and_gradients_of_gradients_of_a_tangent_found_there(w: Any) -> dict[str, Any]:
    def tangent(x: Any) -> Any:
        return dg.ops.sum(w.shard("r").tangent_through(x, x * V, w.shard("a")).get() ** 2)

    with w.context():
        return {"first": dg.grad(tangent)(X), "second": dg.grad(lambda x: dg.ops.sum(dg.grad(tangent)(x) * V))(X)}


@program
def what_was_computed_before_is_constant(w: Any) -> dict[str, Any]:
    a, b, x = w.shard("a"), w.shard("b"), w.variable("x", X)
    with w.context() as ctx:
        h, k = a.forward(x), b.forward(x).get()
        _, tangent = dg.jvp(lambda y: b.add(h, k, a.forward(y)).get() * h.get(), (x,), (V,))
        ctx.backward(tangent, X)
        return {"tangent": tangent, "gradients": w.gradients(ctx)}


@program
def a_backward_pass_goes_through_primals_and_tangents(w: Any) -> dict[str, Any]:
    x, v = w.variable("x", X), w.variable("v", V)
    with w.context() as ctx:
        value, tangent = dg.jvp(applied(w, "forwarded items"), (x,), (v,))
        ctx.backward([value, tangent], [V, X])
        return w.gradients(ctx)


@program
def jacobians_by_columns(w: Any) -> dict[str, Any]:
    f = applied(w, "fetched in between")
    with w.context():
        return {
            mode: dg.jacobian(lambda x: applied(w, "a diamond")(x) * f(x), mode=mode)(X) for mode in ("forward", "auto")
        }


@program
def products_with_hessians(w: Any) -> dict[str, Any]:
    def f(x: Any) -> Any:
        return dg.ops.sum(applied(w, "nested")(x) ** 3)

    with w.context():
        return {"hvp": dg.hvp(f)(X, V), "hessian": dg.hessian(f)(X)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_means_the_same_everywhere(name: str) -> None:
    agree(SHARDS, PROGRAMS[name], seeds=range(1))


# What derivatives hold constant moves nevertheless.
CONSTANT = {"detached", "without grad"}


@pytest.mark.parametrize("name", sorted({*FUNCTIONS, *IN_REVERSE} - CONSTANT))
def test_a_tangent_is_what_central_differences_find(name: str) -> None:
    world, h = LocalWorld(SHARDS), 1e-6
    with world.context():
        f = applied(world, name)
        _, tangent = dg.jvp(f, (X,), (V,))
        ahead, behind = f(X + h * V), f(X - h * V)
    pairs = zip(ahead, behind, strict=True) if isinstance(ahead, list) else [(ahead, behind)]
    for found, (up, down) in zip(tangent if isinstance(tangent, list) else [tangent], pairs, strict=True):
        expected = (np.asarray(_data(up)) - np.asarray(_data(down))) / (2 * h)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


def _data(x: Any) -> Any:
    return x.data if isinstance(x, dg.Tensor) else x


# ---- what travels ----------------------------------------------------------------------------------------------------


@contextmanager
def messages_noted(world: ClusterWorld) -> Iterator[list[tuple[str, str, Any]]]:
    """Every message and request that comes to a process: (sender, receiver, body)."""
    noted: list[tuple[str, str, Any]] = []
    for process in world.cluster.processes:
        for table in (process.messages, process.requests):
            for kind, handler in table.items():
                table[kind] = partial(_note, noted, process.name, handler)
    yield noted


def _note(noted: list[Any], name: str, handler: Callable[..., None], link: Any, body: Any, *rest: Any) -> None:
    noted.append((link.peer.name, name, body))
    handler(link, body, *rest)


PASSES = (pb.Start, pb.Gradients, pb.Mark, pb.Resume, pb.PassAck, pb.Finish)


def test_no_backward_pass_is_run_for_a_jvp() -> None:
    with cluster_world(SHARDS) as world, messages_noted(world) as noted:
        for name in FUNCTIONS:
            dg.jvp(applied(world, name), (X,), (V,))
            assert not [body for _, _, body in noted if isinstance(body, PASSES)], name


def test_where_tangents_do_not_go_it_is_found_by_passes() -> None:
    with cluster_world(SHARDS) as world, messages_noted(world) as noted:
        for name in IN_REVERSE:
            noted.clear()
            dg.jvp(applied(world, name), (X,), (V,))
            assert [body for _, _, body in noted if isinstance(body, pb.Gradients)], name


def test_a_function_runs_once_for_a_jvp_and_once_for_each_column_of_a_jacobian() -> None:
    with cluster_world(SHARDS) as world:
        c = world.shard("c")
        dg.jvp(lambda x: c.forward(x)["h"], (X,), (V,))
        assert c.runs().item() == 1
        dg.jacobian(lambda x: c.forward(x)["h"], mode="forward")(X)
        assert c.runs().item() == 4


def test_tangents_go_from_worker_to_worker_with_their_primals() -> None:
    with cluster_world(SHARDS) as world, messages_noted(world) as noted:
        a, b, r = (world.shard(name) for name in "abr")
        dg.jvp(lambda x: r.use(b.forward(a.forward(x))).get(), (X,), (V,))
        assert sorted((asker, owner) for asker, owner, body in noted if isinstance(body, pb.Fetch)) == [
            ("driver", "w2"),
            ("w1", "w0"),
            ("w2", "w1"),
        ]
        calls = [body for _, _, body in noted if isinstance(body, pb.Call)]
        assert [len(call.jvps) for call in calls] == [1, 1, 1]


def test_outside_a_jvp_calls_say_nothing_of_one() -> None:
    with cluster_world(SHARDS) as world, messages_noted(world) as noted:
        a, x = world.shard("a"), world.variable("x", X)
        with world.context() as ctx:
            ctx.backward(a.loss(a.forward(x)))
        dg.grad(lambda x: a.loss(x).get())(X)
        with dg.no_grad():
            dg.jvp(lambda x: x * x, (X,), (V,))
        dg.jvp(_without_tangents(a), (X,), (V,))
        calls = [body for _, _, body in noted if isinstance(body, pb.Call)]
        assert [len(call.jvps) for call in calls] == [0, 0, 0, 0]


def _without_tangents(shard: Any) -> Callable[[Any], Any]:
    def f(x: Any) -> Any:
        with dg.no_grad():
            return shard.forward(x).get() * 2.0

    return f


# ---- fallbacks and refusals ------------------------------------------------------------------------------------------


def test_a_pass_inside_a_jvp_has_the_jvp_found_in_reverse() -> None:
    with cluster_world(SHARDS) as world, world.context() as ctx:
        a, b = world.shard("a"), world.shard("b")

        def by_the_argument(x: Any) -> Any:
            return ctx.grad(b.loss(a.forward(x)), x, create_graph=True)

        def by_a_parameter(x: Any) -> Any:
            return ctx.grad(b.loss(a.forward(x)), a, create_graph=True)["w"].get()

        hessian = dg.jvp(dg.grad(lambda x: b.loss(a.forward(x))), (X,), (V,))
        same(dg.jvp(by_the_argument, (X,), (V,)), hessian, "by the argument", exact=False)
        up, down = (by_a_parameter(X + step * V).numpy() for step in (1e-6, -1e-6))
        found = dg.jvp(by_a_parameter, (X,), (V,))[1]
        np.testing.assert_allclose(found, (up - down) / 2e-6, rtol=1e-6, atol=1e-8)


def test_a_failed_call_says_what_failed() -> None:
    with cluster_world(SHARDS) as world, pytest.raises(RemoteError, match=r"a\.fail on w0 .*no luck with shape \(3,\)"):
        dg.jvp(lambda x: world.shard("a").fail(world.shard("b").forward(x)).get(), (X,), (V,))


class Notes:
    """Takes notes of gradients that it finds by another shard, where tangents do not go."""

    def __init__(self) -> None:
        self.taken = 0

    def take(self, x: Any, shard: Any) -> Any:
        dg.grad(lambda y: (shard.forward(y).get() ** 2).sum())(x)
        self.taken += 1
        return x

    def have_taken(self, x: Any, notes: Any, shard: Any) -> Any:
        notes.take(x, shard)
        return x

    def count(self) -> int:
        return self.taken


@pytest.mark.parametrize("within", [False, True], ids=["by the function", "by a method"])
@pytest.mark.parametrize("context", [contextlib.nullcontext, ClusterWorld.context], ids=["outside", "in a context"])
def test_a_call_that_nobody_awaits_and_that_cannot_take_tangents_is_made_in_reverse(context: Any, within: bool) -> None:
    with cluster_world({**SHARDS, "n": Notes}) as world:
        n, a = world.shard("n"), world.shard("a")

        def noting(x: Any) -> Any:
            if within:
                n.have_taken(x, n, a).get()
            else:
                n.take(x, a)
            return a.forward(x).get()

        with context(world):
            found = dg.jvp(noting, (X,), (V,))
        same(found, dg.jvp(lambda x: a.forward(x).get(), (X,), (V,)), "in reverse", exact=False)
        assert n.count().item() == 1


def test_vmap_of_a_jvp_over_a_call_is_refused() -> None:
    with cluster_world(SHARDS) as world, pytest.raises(CannotTravel, match=r"dg\.vmap cannot look into a call"):
        dg.vmap(lambda x: dg.jvp(lambda y: world.shard("a").forward(y).get(), (x,), (x,)))(np.stack([X, V]))


def test_a_value_of_a_jvp_that_has_ended_is_refused() -> None:
    kept: list[Any] = []
    with cluster_world(SHARDS) as world:
        a, r = world.shard("a"), world.shard("r")

        def keeps(x: Any) -> Any:
            kept[:] = [a.forward(x)]
            r.keep(x).wait()
            return x * x

        with world.context():
            dg.jvp(keeps, (X,), (V,))
            np.testing.assert_array_equal(kept[0].numpy(), a.forward(X).numpy())
            for use in (kept[0].get, r.use_kept(V).get, a.forward(kept[0]).get):
                with pytest.raises(GradientError, match="kept, by a shard or as a Ref, and used after that jvp had"):
                    use()
        with world.context(), pytest.raises(GradientError, match="after that jvp had ended"):
            r.use_kept(V).get()


# ---- levels ----------------------------------------------------------------------------------------------------------


def test_inner_jvps_have_higher_levels_wherever_they_are_met() -> None:
    jvps = Jvps()
    outer, inner, later = JvpName("driver", 7), JvpName("w1", 3), JvpName("driver", 9)
    first = jvps.arrive([outer])
    assert jvps.arrive([outer, inner])[:1] == first
    for names in ([outer, inner], [outer, later], [outer, inner, later]):
        levels = jvps.arrive(names)
        assert levels == tuple(sorted(levels))
        assert jvps.leave(levels, "w0") == names
