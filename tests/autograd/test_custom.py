"""custom_vjp and custom_jvp: the user's rule is used, in every transform and order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import GradientError

ops = dg.ops
X = np.array([0.3, -0.7, 1.1])


@dg.custom_vjp
def by_vjp(x: Any) -> Any:
    return ops.sin(x)


# A factor of 3 tells this rule from the true derivative.
by_vjp.defvjp(lambda x: (by_vjp(x), x), lambda x, g: (3 * g * ops.cos(x),))


@dg.custom_jvp
def by_jvp(x: Any) -> Any:
    return ops.sin(x)


by_jvp.defjvp(lambda primals, tangents: (by_jvp(*primals), 3 * ops.cos(primals[0]) * tangents[0]))


@pytest.mark.parametrize("f", [by_vjp, by_jvp])
def test_the_rule_is_used_in_both_modes_and_for_higher_orders(f: Any) -> None:
    np.testing.assert_allclose(f(X), np.sin(X))
    np.testing.assert_allclose(dg.grad(lambda x: ops.sum(f(x)))(X), 3 * np.cos(X))
    np.testing.assert_allclose(dg.jvp(f, (X,), (np.ones(3),))[1], 3 * np.cos(X))
    second = dg.hessian(lambda x: ops.sum(f(x)))(X)
    np.testing.assert_allclose(second, np.diag(-3 * np.sin(X)), atol=1e-15)
    np.testing.assert_allclose(dg.jacobian(dg.grad(lambda x: ops.sum(f(x))), mode="reverse")(X), second, atol=1e-15)
    np.testing.assert_allclose(dg.vmap(dg.grad(f))(X), 3 * np.cos(X))
    np.testing.assert_allclose(dg.grad(lambda x: ops.sum(dg.vmap(f)(x)))(X), 3 * np.cos(X))


def test_arguments_and_results_may_be_trees_with_constants_among_them() -> None:
    @dg.custom_vjp
    def f(p: Any, n: int, name: str) -> Any:
        return {"y": p["w"] ** n, "z": p["b"] * 2}

    f.defvjp(
        lambda p, n, name: (f(p, n, name), (p, n)),
        lambda kept, g: ({"w": g["y"] * kept[1] * kept[0]["w"] ** (kept[1] - 1), "b": g["z"] * 2}, None, None),
    )
    found = dg.grad(lambda p: ops.sum(f(p, 3, "cube")["y"]) + f(p, 3, "cube")["z"])({"w": X, "b": 1.0})
    np.testing.assert_allclose(found["w"], 3 * X**2)
    assert found["b"] == 2.0


def test_numpy_functions_do_in_rules() -> None:
    @dg.custom_vjp
    def f(x: Any) -> Any:
        return np.sin(x)

    f.defvjp(lambda x: (np.sin(x), np.cos(x)), lambda cosine, g: (g * cosine,))
    np.testing.assert_allclose(dg.grad(lambda x: ops.sum(f(x)))(X), np.cos(X))


def test_a_pullback_may_take_derivatives_itself() -> None:
    @dg.custom_vjp
    def f(x: Any) -> Any:
        return ops.exp(x)

    f.defvjp(lambda x: (f(x), x), lambda x, g: (g * dg.grad(lambda u: ops.sum(ops.exp(x * u)))(1.0),))
    x = dg.tensor(0.5, requires_grad=True)
    f(x).backward(create_graph=True)
    first = x.grad
    # The rule says d/dx exp(x) = x exp(x), so the second derivative is (1 + x) exp(x).
    np.testing.assert_allclose(first.item(), 0.5 * np.exp(0.5))
    (second,) = dg.autograd.backward.gradients([first], None, [x])
    np.testing.assert_allclose(second, 1.5 * np.exp(0.5))


def two_gradients() -> Any:
    f = dg.custom_vjp(lambda x: x * 1.0)
    f.defvjp(lambda x: (x * 1.0, None), lambda kept, g: (g, g))
    return dg.grad(f)(1.0)


def no_pair() -> Any:
    f = dg.custom_vjp(lambda x: x * 1.0)
    f.defvjp(lambda x: x * 1.0, lambda kept, g: (g,))
    return dg.grad(f)(1.0)


def wrong_tree() -> Any:
    f = dg.custom_vjp(lambda p: p["a"] * 1.0)
    f.defvjp(lambda p: (p["a"] * 1.0, None), lambda kept, g: ({"b": g},))
    return dg.grad(f)({"a": 1.0})


def closure() -> Any:
    def outer(x: Any) -> Any:
        f = dg.custom_jvp(lambda y: x * y)
        f.defjvp(lambda primals, tangents: (f(*primals), x * tangents[0]))
        return f(2.0)

    return dg.jvp(outer, (1.0,), (1.0,))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (two_gradients, "a gradient for each of the 1 arguments, and returned 2"),
        (no_pair, r"must return \(value, residual\)"),
        (wrong_tree, r"gradient of argument 0 .*lacks \['a'\]"),
        (closure, "without taking it as an argument"),
        (lambda: dg.grad(dg.custom_vjp(lambda x: x))(1.0), "no derivative yet"),
        (lambda: dg.grad(dg.custom_jvp(lambda x: x))(1.0), "no derivative yet"),
        (lambda: dg.custom_vjp(1), "decorates a function"),
    ],
)
def test_a_wrong_rule_is_named(call: Any, message: str) -> None:
    with pytest.raises(GradientError, match=message):
        call()
