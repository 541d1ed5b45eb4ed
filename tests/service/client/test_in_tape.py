"""A served function on distgrad's own tape is like the function itself, to second order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import GradientError
from distgrad.service.client import Client

from .conftest import field, rosenbrock
from .test_function import P, V, X, same

TRANSFORMS: dict[str, Callable[[Any, Any], Any]] = {
    "grad": lambda f, g: dg.grad(lambda x: f(2 * x) ** 2)(X),
    "hessian": lambda f, g: dg.hessian(lambda x: f(2 * x) ** 2)(X),
    "hvp": lambda f, g: dg.hvp(lambda x: f(2 * x) ** 2)(X, V),
    "jvp": lambda f, g: dg.jvp(lambda x: f(2 * x) ** 2, (X,), (V,)),
    "vmap": lambda f, g: dg.vmap(lambda x: dg.grad(f)(x))(np.stack([X, V])),
    "jacobian of trees": lambda f, g: dg.jacobian(g, (0, 1))(X, P),
    "jacobian by one argument": lambda f, g: dg.jacobian(lambda p: g(X, p), mode="forward")(P),
    **{
        f"{outer} over {inner}": lambda f, g, outer=outer, inner=inner: dg.jacobian(
            dg.jacobian(g, (0, 1), mode=inner), (0, 1), mode=outer
        )(X, P)
        for outer in ("forward", "reverse")
        for inner in ("forward", "reverse")
    },
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_give_what_they_give_for_the_function_itself(remote: Client, name: str) -> None:
    transform = TRANSFORMS[name]
    served = transform(lambda x: remote["rosenbrock"](x), lambda x, p: remote["field"](x, p))
    assert same(served, transform(rosenbrock, field))


def test_derivatives_agree_with_differences(remote: Client) -> None:
    dg.check.gradcheck(lambda x, p: remote["field"](x, p), X, P, order=2)
    dg.check.gradcheck(lambda z: remote["wave"](z), np.array([1 + 2j, 0.5 - 0.1j]), order=2)


def test_a_call_with_a_variable_is_recorded(remote: Client) -> None:
    x = dg.tensor(X, requires_grad=True)
    dg.backward([remote["rosenbrock"](x)])
    assert same(x.grad, dg.grad(rosenbrock)(X))


def test_a_call_with_a_constant_is_not(remote: Client) -> None:
    assert not isinstance(remote["rosenbrock"](dg.tensor(X)), dg.Tensor)


def test_the_first_derivative_asks_the_server_twice(remote: Client, server: Any) -> None:
    dg.grad(lambda x: remote["rosenbrock"](x))(X)
    assert [kind for _, kind, _ in server.received] == ["evaluate", "vjp"]


def test_third_derivatives_are_refused(remote: Client) -> None:
    def corner(x: Any) -> Any:
        return dg.hessian(lambda y: remote["rosenbrock"](y))(x)[0, 0]

    with pytest.raises(GradientError, match="third derivatives of rosenbrock were asked for"):
        dg.grad(corner)(X)
