"""`dg.grad` and the other transforms on functions that call shards."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.autograd import tape
from distgrad.autograd.reverse import pullback_of
from distgrad.errors import CannotTravel, ContextClosed, ContextError, GradientError

from .shards import Dense, Router
from .worlds import SPREAD, TOGETHER, ClusterWorld, LocalWorld, assert_empty, cluster_world, same

X = np.array([0.3, -1.2, 0.7])
Y = np.array([1.1, 0.4, -0.5])
SHARDS = {"a": partial(Dense, 1), "b": partial(Dense, 2), "r": Router}


@pytest.fixture(params=[(SPREAD, 2), (TOGETHER, 2), (SPREAD, 3)], ids=lambda case: f"{case[0].name}, seed {case[1]}")
def world(request: pytest.FixtureRequest) -> Any:
    placement, seed = request.param
    with cluster_world(SHARDS, placement, seed=seed) as world:
        yield world


@pytest.fixture(scope="module")
def bits() -> dict[tuple[str, str], Any]:
    """What each transform of each function gave first: to be given again in any other world."""
    return {}


def functions(w: Any) -> dict[str, Callable[..., Any]]:
    a, b, r = w.shard("a"), w.shard("b"), w.shard("r")

    def deep(x: Any, y: Any) -> Any:
        h = a.forward(x)
        k = r.through(h, a, b)
        return b.loss(k, b.ignores(y, h)).get() + (h.get() * y).sum() + b.total(b.detached(x)).get()

    return {
        "loss": lambda x, y: b.loss(a.forward(x), y),
        "fetched": lambda x, y: dg.ops.sum(a.forward(x * y).get() ** 2 * x),
        "deep": deep,
        "unused": lambda x, y: (a.forward(y).get() * 0.0).sum() + (x * x).sum(),
        "checkpointed": w.checkpoint(lambda x, y: b.loss(r.through_waiting(x * y, a, b), x).get()),
        "weights": lambda x, y: (a.weight().get() @ x).sum() * y.sum(),
    }


def locally(name: str) -> Callable[..., Any]:
    """The same function in one process."""
    world = LocalWorld(SHARDS)

    def run(*args: Any) -> Any:
        with world.context():
            result = functions(world)[name](*args)
            return result.get() if hasattr(result, "error") else result

    return run


TRANSFORMS: dict[str, Callable[[Callable[..., Any]], Any]] = {
    "grad": lambda f: dg.grad(f)(X, Y),
    "grad of both": lambda f: dg.grad(f, argnums=(0, 1))(X, Y),
    "value_and_grad": lambda f: dg.value_and_grad(f)(X, Y),
    "grad of grad": lambda f: dg.grad(lambda x: (dg.grad(f)(x, Y) * Y).sum())(X),
    "third": lambda f: dg.grad(lambda u: dg.grad(lambda x: (dg.grad(f)(x, Y) * u).sum())(X).sum())(X),
    "hvp": lambda f: dg.hvp(f)(X, Y, X * 2.0),
    "hvp of both": lambda f: dg.hvp(f, argnums=(0, 1))(X, Y, (X, Y)),
    "jvp": lambda f: dg.jvp(f, (X, Y), (Y, X)),
    "jvp of grad": lambda f: dg.jvp(lambda x: dg.grad(f)(x, Y), (X,), (Y,)),
    "jvp of jvp": lambda f: dg.jvp(lambda x: dg.jvp(f, (x, Y), (Y, x))[1], (X,), (Y,)),
    "grad of jvp": lambda f: dg.grad(lambda x: dg.jvp(f, (x, Y), (Y, x))[1])(X),
    "hessian": lambda f: dg.hessian(f)(X, Y),
    "jacobian": lambda f: dg.jacobian(f)(X, Y),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("function", ["loss", "fetched", "deep", "unused", "weights", "checkpointed"])
def test_a_transform_finds_what_it_finds_in_one_process(
    world: ClusterWorld, function: str, transform: str, bits: dict[tuple[str, str], Any]
) -> None:
    expected = TRANSFORMS[transform](locally(function))
    with world.context() as ctx:
        found = TRANSFORMS[transform](functions(world)[function])
        same(found, expected, "in a context", exact=False)
        assert world.gradients(ctx) == {}
    outside = TRANSFORMS[transform](functions(world)[function])
    same(outside, found, "outside any context", exact=True)
    same(found, bits.setdefault((function, transform), found), "elsewhere", exact=True)
    assert_empty(world.cluster)


def test_a_jacobian_of_several_values(world: ClusterWorld) -> None:
    local = LocalWorld(SHARDS)

    def in_one_process(x: Any) -> Any:
        with local.context():
            return local.shard("a").forward(x).get()

    for mode in ("auto", "forward", "reverse"):
        found = dg.jacobian(lambda x: world.shard("a").forward(x), mode=mode)(X)
        same(found, dg.jacobian(in_one_process)(X), mode, exact=False)


def test_a_pullback_can_be_called_again_in_its_context(world: ClusterWorld) -> None:
    with world.context():
        value, pullback = dg.vjp(world.shard("a").forward, X)
        jacobian = np.stack([pullback(row)[0] for row in np.eye(3)])
    same(jacobian, dg.jacobian(lambda x: world.shard("a").forward(x))(X), "jacobian", exact=False)
    assert value.shape == (3,)
    with pytest.raises(ContextClosed):
        pullback(np.ones(3))


@pytest.mark.parametrize("own_context", [False, True])
def test_a_value_that_is_not_computed_yet_goes_to_a_shard_and_back(world: ClusterWorld, own_context: bool) -> None:
    def f(x: Any) -> Any:
        return np.cos(world.shard("a").forward(np.sin(x)).get())

    with world.context() if own_context else tape.outermost():
        (expected,) = dg.vjp(f, X)[1](Y)
        (found,) = pullback_of(f, X)[1](Y)
    same(found, expected, "pullback alone", exact=True)


def test_a_linearized_function_can_be_called_again_in_its_context(world: ClusterWorld) -> None:
    with world.context():
        value, tangent = dg.linearize(lambda x: functions(world)["deep"](x, Y), X)
        found = [value, tangent(X), tangent(Y)]
    expected = [dg.jvp(lambda x: locally("deep")(x, Y), (X,), (t,)) for t in (X, Y)]
    same(found, [expected[0][0], expected[0][1], expected[1][1]], "linearized", exact=False)


def test_a_pullback_needs_a_context_that_outlives_it(world: ClusterWorld) -> None:
    for transform in (dg.vjp, dg.linearize):
        with pytest.raises(ContextError, match=r"with cluster\.context\(\)"):
            transform(lambda x: world.shard("a").forward(x).get(), X)


def test_inner_transforms_leave_accumulated_gradients_alone(world: ClusterWorld) -> None:
    x = world.variable("x", X)
    a, b = world.shard("a"), world.shard("b")
    with world.context() as ctx:
        ctx.backward(b.loss(a.forward(x)))
        before = world.gradients(ctx)
        inner = dg.grad(lambda t: b.loss(a.forward(t)))(X)
        same(world.gradients(ctx), before, "after an inner transform", exact=True)
        ctx.backward(a.dot(dg.grad(lambda t: b.loss(a.forward(t)))(x * 2.0), inner))
        assert world.gradients(ctx).keys() == {"x", "a.w", "a.b", "b.w"}


def test_a_transform_within_a_method_goes_on_to_other_shards(world: ClusterWorld) -> None:
    x = world.variable("x", X)
    local = LocalWorld(SHARDS)
    with local.context() as expected:
        y = local.variable("x", X)
        g = local.shard("r").gradient_through(local.shard("b").forward(y), local.shard("a"))
        expected.backward(g, Y)
    with world.context() as ctx:
        g = world.shard("r").gradient_through(world.shard("b").forward(x), world.shard("a"))
        ctx.backward(g, Y)
        same(world.gradients(ctx), local.gradients(expected), "gradients", exact=False)
    outside = world.shard("r").gradient_through(X, world.shard("a")).numpy()
    with world.context():
        same(world.shard("r").gradient_through(X, world.shard("a")).numpy(), outside, "inference", exact=True)


def test_backward_of_a_tensor_that_leads_abroad_is_refused(world: ClusterWorld) -> None:
    with world.context():
        loss = world.shard("b").loss(world.shard("a").forward(world.variable("x", X))).get()
        with pytest.raises(GradientError, match=r"ctx\.backward"):
            loss.backward()


def test_vmap_over_a_call_is_refused(world: ClusterWorld) -> None:
    with world.context(), pytest.raises(CannotTravel, match=r"dg\.vmap cannot look into a call"):
        dg.vmap(lambda x: world.shard("a").forward(x).get())(np.stack([X, Y]))


def test_an_error_in_the_function_ends_the_context_that_was_opened(world: ClusterWorld) -> None:
    with pytest.raises(dg.DistgradError, match="no luck"):
        dg.grad(lambda x: world.shard("a").fail(x).get())(X)
    with pytest.raises(ZeroDivisionError):
        dg.grad(lambda x: world.shard("a").loss(x).get() / (1 // 0))(X)
    assert_empty(world.cluster)


def test_has_aux_brings_other_values_out(world: ClusterWorld) -> None:
    a = world.shard("a")
    gradient, aux = dg.grad(lambda x: (a.loss(x).get(), a.forward(x).get()), has_aux=True)(X)
    value, tangent, more = dg.jvp(lambda x: (a.loss(x).get(), a.forward(x).get()), (X,), (Y,), has_aux=True)
    same(tangent, np.asarray((gradient * Y).sum()), "tangent", exact=False)
    same(more, aux, "aux", exact=True)
    assert np.shape(value) == ()
