from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import GradientError
from distgrad.service.client import Client, client

from .server import Server

jax = pytest.importorskip("jax")
jnp = jax.numpy
pytestmark = pytest.mark.slow

X = np.array([1.2, 0.7, 0.3])
V = np.array([1.0, -2.0, 0.5])
P = {"k": 2.0, "m": np.array([1.0, 2.0, 3.0])}
Z = np.array([1 + 2j, 0.3 - 0.4j])
W = np.array([0.5 - 1j, 2 + 0.1j])
POINTS = np.stack([X, V])


@pytest.fixture(autouse=True)
def _double_precision() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def rosenbrock(x: Any) -> Any:
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def field(x: Any, p: Any) -> Any:
    return {"a": jnp.sin(x) * p["k"], "b": [jnp.sum(x * x * p["m"])]}


def wave(z: Any) -> Any:
    return jnp.exp(z) * jnp.conj(z)


def squared(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda z: jnp.sum(jnp.abs(f(z)) ** 2)


MODES = {"forward": jax.jacfwd, "reverse": jax.jacrev}
TRANSFORMS: dict[str, Callable[..., Any]] = {
    "value": lambda f, g, h: f(X),
    "jit": lambda f, g, h: jax.jit(f)(X),
    "grad under jit": lambda f, g, h: jax.jit(jax.grad(f))(X),
    "hessian": lambda f, g, h: jax.hessian(f)(X),
    "hvp": lambda f, g, h: jax.jvp(jax.grad(f), (X,), (V,)),
    "vmap": lambda f, g, h: jax.vmap(f)(POINTS),
    "vmap of grad": lambda f, g, h: jax.vmap(jax.grad(f))(POINTS),
    "grad of vmap": lambda f, g, h: jax.grad(lambda xs: jnp.sum(jax.vmap(f)(xs) ** 2))(POINTS),
    "hessian of vmap": lambda f, g, h: jax.hessian(lambda x: jnp.sum(jax.vmap(f)(jnp.outer(x[:2], x))))(X),
    "jacfwd": lambda f, g, h: jax.jacfwd(g)(X, P),
    "jacrev under jit": lambda f, g, h: jax.jit(jax.jacrev(g, (0, 1)))(X, P),
    "complex vjp": lambda f, g, h: jax.vjp(h, Z)[1](W),
    "complex jvp": lambda f, g, h: jax.jvp(h, (Z,), (W,)),
    "complex forward over reverse": lambda f, g, h: jax.jvp(jax.grad(squared(h)), (Z,), (W,)),
    "complex reverse over reverse": lambda f, g, h: jax.vjp(jax.grad(squared(h)), Z)[1](W),
    **{
        f"{outer} over {inner}, under jit": lambda f, g, h, outer=outer, inner=inner: jax.jit(
            MODES[outer](MODES[inner](g, (0, 1)), (0, 1))
        )(X, P)
        for outer in MODES
        for inner in MODES
    },
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_give_what_they_give_for_the_function_itself(remote: Client, name: str) -> None:
    served = [remote[one].as_jax() for one in ("rosenbrock", "field", "wave")]
    found, expected = TRANSFORMS[name](*served), TRANSFORMS[name](rosenbrock, field, wave)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.allclose(a, b)


@dg.served(
    takes={"x": "float64[n]", "y": "float32[m, 2]"}, gives={"outer": "float64[n, m]", "parts": ("float32", "int64[2]")}
)
def declared(x: Any, y: Any) -> Any:
    return {"outer": np.outer(x, y[:, 0]), "parts": (np.float32(np.sum(y)), np.array([1, 2]))}


@dg.served(takes={"x": "float64[n]"}, gives="float64[m]")
def open_ended(x: Any) -> Any:
    return 2 * x[1:]


Y = np.ones((4, 2), np.float32)


@pytest.mark.parametrize(("function", "arguments", "evaluations"), [(declared, (X, Y), 1), (open_ended, (X,), 2)])
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_shapes_of_values_are_those_declared_or_found_by_evaluating_once(
    function: Any, arguments: Any, evaluations: int, wrap: Any
) -> None:
    with Server({"f": function}) as server, client(server.address, timeout=20) as service:
        found, expected = wrap(service["f"].as_jax())(*arguments), function(*arguments)
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
        assert [kind for _, kind, _ in server.received] == ["evaluate"] * evaluations


def test_a_jacobian_is_one_request(remote: Client, server: Any) -> None:
    f = remote["sin"].as_jax()
    f(X)
    server.received.clear()
    jax.jacrev(f)(X)
    assert [kind for _, kind, _ in server.received] == ["evaluate", "vjp"]
    assert len(server.received[1][2].cotangents) == 3


def test_single_precision_stays_single(remote: Client) -> None:
    x = jnp.asarray(X, jnp.float32)
    gradient = jax.grad(remote["rosenbrock"].as_jax())(x)
    assert gradient.dtype == jnp.float32
    assert np.allclose(gradient, jax.grad(rosenbrock)(x), rtol=1e-5)


def test_third_derivatives_are_refused(remote: Client) -> None:
    f = remote["rosenbrock"].as_jax()
    with pytest.raises(GradientError, match="third derivatives of rosenbrock were asked for"):
        jax.grad(lambda t: jax.hessian(f)(t * X)[0, 0])(1.0)


@pytest.mark.parametrize("size", [0, 1, 20])
def test_a_batch_may_have_any_size(remote: Client, size: int) -> None:
    points = np.linspace(0.1, 2, 3 * size).reshape(size, 3)
    found = jax.vmap(jax.grad(remote["rosenbrock"].as_jax()))(points)
    assert np.allclose(found, jax.vmap(jax.grad(rosenbrock))(points))


def test_what_is_asked_for_outside_jit_is_not_compiled_and_kept_each_time(remote: Client) -> None:
    f = remote["rosenbrock"].as_jax()
    slope = jax.grad(f)
    expected = slope(X)
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.append(event))
    try:
        for _ in range(3):
            assert np.array_equal(slope(X), expected)
        assert not [event for event in compiled if "backend_compile" in event]
        jax.jit(slope)(X)
        assert [event for event in compiled if "backend_compile" in event]
    finally:
        jax.monitoring.clear_event_listeners()
