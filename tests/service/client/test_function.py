"""What a client gets is what the local engine computes."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.autograd import tree
from distgrad.errors import ConfigError, GradientError
from distgrad.service.client import Client

from .conftest import field, rosenbrock

X = np.array([1.2, 0.7, 0.3])
V = np.array([1.0, -2.0, 0.5])
P = {"k": 2.0, "m": np.array([1.0, 2.0, 3.0])}
W = {"a": np.array([1.0, 0.0, 2.0]), "b": [0.5]}


def same(found: Any, expected: Any) -> bool:
    leaves, structure = tree.flatten(found)
    return all(
        np.allclose(a, b, rtol=1e-12) for a, b in zip(leaves, tree.flatten_like(structure, expected, "it"), strict=True)
    )


SCALAR = {
    "value": (lambda f: f(X), lambda: rosenbrock(X)),
    "grad": (lambda f: f.grad(X), lambda: dg.grad(rosenbrock)(X)),
    "value and grad": (lambda f: f.value_and_grad(X), lambda: dg.value_and_grad(rosenbrock)(X)),
    "vjp": (lambda f: f.vjp(X, 3.0), lambda: 3 * dg.grad(rosenbrock)(X)),
    "several cotangents": (lambda f: f.vjps(X, [1.0, 2.0]), lambda: [k * dg.grad(rosenbrock)(X) for k in (1.0, 2.0)]),
    "jvp": (lambda f: f.jvp(X, V), lambda: dg.jvp(rosenbrock, (X,), (V,))[1]),
    "several tangents": (lambda f: f.jvps(X, [V, X]), lambda: [dg.jvp(rosenbrock, (X,), (v,))[1] for v in (V, X)]),
    "hvp": (lambda f: f.hvp(X, V), lambda: dg.hvp(rosenbrock)(X, V)),
    "several vectors": (lambda f: f.hvps(X, [V, X]), lambda: [dg.hvp(rosenbrock)(X, v) for v in (V, X)]),
    "hessian": (lambda f: f.hessian(X), lambda: dg.hessian(rosenbrock)(X)),
    "jacobian": (lambda f: f.jacobian(X), lambda: dg.jacobian(rosenbrock)(X)),
    "argument by name": (lambda f: f.grad(x=X), lambda: dg.grad(rosenbrock)(X)),
    "a tensor": (lambda f: f.grad(dg.tensor(X)), lambda: dg.grad(rosenbrock)(X)),
}


@pytest.mark.parametrize("name", SCALAR)
def test_products_of_a_scalar_function(service: Client, name: str) -> None:
    ask, expected = SCALAR[name]
    assert same(ask(service["rosenbrock"]), expected())


def _hessian_of_inner(v: Any, argument: int) -> Any:
    def inner(x: Any, p: Any) -> Any:
        y = field(x, p)
        return dg.ops.sum(y["a"] * W["a"]) + y["b"][0] * W["b"][0]

    return dg.hvp(inner, argument)(X, P, v)


TREES = {
    "value": (lambda f: f(X, P), lambda: field(X, P)),
    "arguments by position and name": (lambda f: f(X, p=P), lambda: field(X, P)),
    "vjp by the first": (lambda f: f.vjp(X, P, W), lambda: dg.vjp(field, X, P)[1](W)[0]),
    "vjp by name": (lambda f: f.vjp(X, P, W, wrt="p"), lambda: dg.vjp(field, X, P)[1](W)[1]),
    "vjp by both": (lambda f: f.vjp(X, P, W, wrt=(0, "p")), lambda: dg.vjp(field, X, P)[1](W)),
    "jvp by the last": (lambda f: f.jvp(X, P, P, wrt=-1), lambda: dg.jvp(lambda p: field(X, p), (P,), (P,))[1]),
    "jvp by both": (lambda f: f.jvp(X, P, (V, P), wrt=("x", "p")), lambda: dg.jvp(field, (X, P), (V, P))[1]),
    "jacobian": (lambda f: f.jacobian(X, P), lambda: dg.jacobian(field)(X, P)),
    "jacobian by both": (lambda f: f.jacobian(X, P, wrt=(0, 1)), lambda: dg.jacobian(field, (0, 1))(X, P)),
    "hvp with a cotangent": (lambda f: f.hvp(X, P, V, cotangent=W), lambda: _hessian_of_inner(V, 0)),
    "hvp by the other": (lambda f: f.hvp(X, P, P, cotangent=W, wrt="p"), lambda: _hessian_of_inner(P, 1)),
}


@pytest.mark.parametrize("name", TREES)
def test_products_of_a_function_of_trees(service: Client, name: str) -> None:
    ask, expected = TREES[name]
    found, wanted = ask(service["field"]), tree.map(lambda y: getattr(y, "data", y), expected())
    assert same(found, wanted)


def test_second_derivatives_along_two_directions(service: Client) -> None:
    first, second = service["sin"].at(X).second_jvps([(V, X), (X, X)])
    assert np.allclose(first, -np.sin(X) * V * X)
    assert np.allclose(second, -np.sin(X) * X * X)


@pytest.mark.parametrize("size", [0, 1, 1000, 40_000, 700_000])
def test_arrays_of_any_size_go_and_come(service: Client, size: int, rng: np.random.Generator) -> None:
    x, w = rng.normal(size=size), rng.normal(size=size)
    for _ in range(2):  # the second time the client knows how large the answer is
        assert np.array_equal(service["sin"].vjp(x, w), np.cos(x) * w)


@pytest.mark.parametrize("size", [10, 300_000])
def test_results_may_be_written_to_and_stay(service: Client, size: int) -> None:
    f = service["sin"]
    x = np.linspace(0, 1, size)
    first = f(x)
    first += 1
    others = [f(x * k) for k in range(6)]
    assert np.array_equal(first, np.sin(x) + 1)
    assert all(np.array_equal(y, np.sin(x * k)) for k, y in enumerate(others))


def test_a_small_request_may_have_a_large_answer(service: Client) -> None:
    for _ in range(2):
        assert np.array_equal(service["ramp"](500_000), np.arange(500_000.0))


def test_a_linearisation_is_asked_without_arguments_and_forgotten_at_the_end(service: Client, server: Any) -> None:
    with service["rosenbrock"].linearize(X) as at_x:
        assert at_x.value == rosenbrock(X).data
        assert np.allclose(at_x.vjp(1.0), dg.grad(rosenbrock)(X))
        assert np.allclose(at_x.jvp(V), dg.jvp(rosenbrock, (X,), (V,))[1])
        assert np.allclose(at_x.hessian(), dg.hessian(rosenbrock)(X))
        sessions = dict(server.sessions)
    assert len(sessions) == 1
    assert server.sessions == {}


def test_coroutines_ask_side_by_side(service: Client) -> None:
    f = service["sin"]

    async def ask() -> list[Any]:
        async with asyncio.timeout(20):
            async with await f.linearize_async(X) as at_x:
                value = at_x.value
            return [value, *await asyncio.gather(*(f.vjp_async(X * k, V) for k in range(20)))]

    value, *products = asyncio.run(ask())
    assert np.array_equal(value, np.sin(X))
    assert all(np.array_equal(product, np.cos(X * k) * V) for k, product in enumerate(products))


def test_what_the_call_itself_lacks_is_said_before_anything_is_sent(service: Client) -> None:
    f = service["field"]
    with pytest.raises(ConfigError, match="field has 2 arguments, and none at position 2"):
        f.grad(X, P, wrt=2)
    with pytest.raises(ConfigError, match="takes tuples of 2"):
        f.jvp(X, P, V, wrt=(0, 1))
    with pytest.raises(TypeError, match="got its argument 'x' twice"):
        f(X, x=X)
    with pytest.raises(TypeError, match=r"takes 2 arguments \(x, p\), got 3"):
        f(X, X, X, p=P)
    with pytest.raises(GradientError, match="the arguments of the function and then a cotangent"):
        f.vjp()


def test_methods_know_their_names(service: Client) -> None:
    f = service["sin"]
    assert f.vjp_async.__qualname__ == "RemoteFunction.vjp_async"
    assert "cotangent" in (f.at(X).vjp.__doc__ or "")
    assert repr(f) == f"<RemoteFunction sin at {service.address}>"


@pytest.mark.parametrize("package", ["jax", "torch"])
def test_a_framework_that_is_not_installed_is_named(
    service: Client, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=f"needs {package}, which is not installed: pip install {package}"):
        getattr(service["sin"], f"as_{package}")()
