"""The same derivatives four ways: by hand, numerically, symbolically and automatically (after Baydin et al., "Automatic
differentiation in machine learning: a survey", 2018, whose figure 2 and table 1 are repeated here)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import sympy

import distgrad as dg
from distgrad.autograd.tape import Node

ops = dg.ops


# ---- scalar functions ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scalar:
    """A function of one number and its derivative.

    Attributes:
        f: the program, over a namespace of functions (NumPy's, SymPy's or ours) and a number.
        by_hand: its derivative, worked out on paper, for math on numbers.
        at: where to compare.
        analytic: it has no branches on order, so that the complex step applies.
    """

    f: Callable[[Any, Any], Any]
    by_hand: Callable[[float], float]
    at: tuple[float, ...]
    analytic: bool = True


def logistic(_: Any, x: Any) -> Any:
    """Three steps of the logistic map: a loop."""
    for _step in range(3):
        x = 4 * x * (1 - x)
    return x


def logistic_by_hand(x: float) -> float:
    return 64 * (1 - 2 * x) * (1 - 8 * x + 8 * x * x) * (1 - 32 * x * (1 - x) * (1 - 2 * x) ** 2)


def newton(_: Any, x: Any) -> Any:
    """The square root by Newton's method: a loop whose derivative converges with it."""
    root = x
    for _step in range(30):
        root = (root + x / root) / 2
    return root


def horner(_: Any, x: Any) -> Any:
    """A polynomial with coefficients 1, 2, 3, 4."""
    total = 0 * x
    for c in (4, 3, 2, 1):
        total = total * x + c
    return total


def branches(xp: Any, x: Any) -> Any:
    """x³ below one half, and sin above: a branch on the value."""
    return x**3 if x < 0.5 else xp.sin(x)


def collatz_like(xp: Any, x: Any) -> Any:
    """As many steps as the value asks for."""
    while abs(x) < 10:
        x = 1.5 * x * x if x < 1 else x * x
        x = x + 1
    return x


def collatz_like_by_hand(x: float) -> float:
    slope = 1.0
    while abs(x) < 10:
        x, slope = (1.5 * x * x + 1, 3 * x * slope) if x < 1 else (x * x + 1, 2 * x * slope)
    return slope


SCALARS = {
    "logistic": Scalar(logistic, logistic_by_hand, (0.1, 0.3, 0.77)),
    "newton": Scalar(newton, lambda x: 0.5 / np.sqrt(x), (0.5, 2.0, 9.0)),
    "horner": Scalar(horner, lambda x: 2 + 6 * x + 12 * x * x, (-1.0, 0.0, 2.0)),
    "damped": Scalar(
        lambda xp, x: xp.exp(-x / 2) * xp.cos(3 * x),
        lambda x: -np.exp(-x / 2) * (np.cos(3 * x) / 2 + 3 * np.sin(3 * x)),
        (0.0, 1.0, 2.5),
    ),
    "quotient": Scalar(
        lambda xp, x: xp.sin(x) / (1 + x * x),
        lambda x: (np.cos(x) * (1 + x * x) - 2 * x * np.sin(x)) / (1 + x * x) ** 2,
        (0.0, 0.7, -2.0),
    ),
    "branches": Scalar(branches, lambda x: 3 * x * x if x < 0.5 else np.cos(x), (0.2, 0.9), analytic=False),
    "collatz_like": Scalar(collatz_like, collatz_like_by_hand, (0.3, 1.2, -0.8), analytic=False),
}

POINTS = [pytest.param(case, x, id=f"{name}-{x}") for name, case in SCALARS.items() for x in case.at]


@pytest.mark.parametrize(("case", "x"), POINTS)
def test_automatically_is_exactly_by_hand(case: Scalar, x: float) -> None:
    for derivative in (
        dg.grad(lambda x: case.f(ops, x))(x),
        dg.jvp(lambda x: case.f(ops, x), (x,), (1.0,))[1],
        dg.vjp(lambda x: case.f(ops, x), x)[1](1.0)[0],
    ):
        np.testing.assert_allclose(derivative, case.by_hand(x), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("method", "tolerance"), [("forward", 1e-5), ("central", 1e-8), ("complex", 1e-12)])
@pytest.mark.parametrize(("case", "x"), POINTS)
def test_numerically_is_nearly_by_hand(case: Scalar, x: float, method: Any, tolerance: float) -> None:
    if method == "complex" and not case.analytic:
        with pytest.raises(TypeError, match="not supported between instances"):
            dg.check.numerical_gradient(lambda x: case.f(np, complex(x)), x, method)
        return
    found = dg.check.numerical_gradient(lambda x: case.f(np, x), x, method)
    np.testing.assert_allclose(found, case.by_hand(x), rtol=tolerance, atol=10 * tolerance)


@pytest.mark.parametrize(("case", "x"), [p for p in POINTS if p.values[0].analytic and p.values[0].f is not newton])
def test_symbolically_is_by_hand(case: Scalar, x: float) -> None:
    symbol = sympy.Symbol("x")
    derivative = sympy.diff(case.f(sympy, symbol), symbol)
    np.testing.assert_allclose(float(derivative.subs(symbol, x)), case.by_hand(x), rtol=1e-10, atol=1e-12)


def test_symbols_know_no_branches_on_their_value() -> None:
    with pytest.raises(TypeError, match="truth value"):
        branches(sympy, sympy.Symbol("x"))


# ---- expression swell ------------------------------------------------------------------------------------------------


def nested_logistic(x: Any, n: int) -> Any:
    for _ in range(n):
        x = 4 * x * (1 - x)
    return x


def tape_length(y: dg.Tensor) -> int:
    """How many operations a result was recorded by."""
    seen: set[Node] = set()
    stack = [y.node]
    while stack:
        node = stack.pop()
        if node is not None and node not in seen:
            seen.add(node)
            stack.extend(node.inputs)
    return len(seen)


def test_the_symbolic_derivative_of_nested_logistic_maps_swells_and_the_tape_does_not() -> None:
    symbol = sympy.Symbol("x")
    depths = range(1, 7)
    swollen = [sympy.count_ops(sympy.diff(nested_logistic(symbol, n), symbol)) for n in depths]
    lengths = [tape_length(nested_logistic(dg.tensor(0.3, requires_grad=True), n)) for n in depths]
    # The expression more than doubles with each level; the tape grows by the same three operations.
    assert all(after > 2 * before for before, after in pairwise(swollen))
    assert {after - before for before, after in pairwise(lengths)} == {3}
    expression = sympy.diff(nested_logistic(symbol, 6), symbol)
    found = dg.grad(lambda x: nested_logistic(x, 6))(0.3)
    np.testing.assert_allclose(found, float(expression.subs(symbol, sympy.Rational(3, 10))), rtol=1e-10)


# ---- vector functions ------------------------------------------------------------------------------------------------


def polar(xp: Any, v: Any) -> list[Any]:
    return [v[0] * xp.cos(v[1]), v[0] * xp.sin(v[1])]


def lotka_volterra(xp: Any, v: Any) -> list[Any]:
    """Three steps of Euler's method."""
    x, y = v[0], v[1]
    for _ in range(3):
        x, y = x + 0.1 * (2 * x - x * y), y + 0.1 * (x * y - y)
    return [x, y, x * y]


def robot_arm(xp: Any, v: Any) -> list[Any]:
    return [
        xp.cos(v[0]) + xp.cos(v[0] + v[1]) / 2 + xp.cos(v[0] + v[1] + v[2]) / 4,
        xp.sin(v[0]) + xp.sin(v[0] + v[1]) / 2 + xp.sin(v[0] + v[1] + v[2]) / 4,
    ]


VECTORS = [(polar, 2), (lotka_volterra, 2), (robot_arm, 3)]


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize(("f", "n"), VECTORS)
def test_jacobians_of_vector_functions(f: Any, n: int, mode: Any) -> None:
    point = np.array([0.8, 0.5, -0.3])[:n]
    symbols = sympy.symbols(f"v:{n}")
    symbolic = sympy.Matrix(f(sympy, symbols)).jacobian(symbols)
    expected = np.array(symbolic.subs(dict(zip(symbols, point, strict=True))), float)
    found = dg.jacobian(lambda v: ops.stack(f(ops, v)), mode=mode)(point)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)
    for row in range(len(expected)):
        numerical = dg.check.numerical_gradient(lambda v: f(np, v)[row], point, "complex")  # noqa: B023
        np.testing.assert_allclose(numerical, expected[row], rtol=1e-12, atol=1e-15)


def test_the_jacobian_of_polar_coordinates_by_hand() -> None:
    r, t = 0.8, 0.5
    by_hand = [[np.cos(t), -r * np.sin(t)], [np.sin(t), r * np.cos(t)]]
    np.testing.assert_allclose(dg.jacobian(lambda v: ops.stack(polar(ops, v)))(np.array([r, t])), by_hand, rtol=1e-14)


# ---- Hessians --------------------------------------------------------------------------------------------------------


def rosenbrock(v: Any, n: int) -> Any:
    return sum(100 * (v[i + 1] - v[i] ** 2) ** 2 + (1 - v[i]) ** 2 for i in range(n - 1))


def helmholtz(xp: Any, v: Any, n: int) -> Any:
    """The energy of a mixed fluid, Griewank's example of cheap gradients."""
    s = sum(v[i] * (i + 1) for i in range(n))
    return sum(v[i] * xp.log(v[i] / (1 - s / 20)) for i in range(n)) - s * s / (8 * s + 1)


@pytest.mark.parametrize("name", ["rosenbrock", "helmholtz"])
def test_hessians_symbolically_numerically_and_by_three_nestings(name: str) -> None:
    n = 3
    point = np.array([0.7, 1.2, 0.4])

    def f(xp: Any, v: Any) -> Any:
        return rosenbrock(v, n) if name == "rosenbrock" else helmholtz(xp, v, n)

    symbols = sympy.symbols(f"v:{n}")
    expected = np.array(sympy.hessian(f(sympy, symbols), symbols).subs(dict(zip(symbols, point, strict=True))), float)

    def g(v: Any) -> Any:
        return f(ops, v)

    nestings = {
        "forward over reverse": dg.hessian(g),
        "reverse over reverse": dg.jacobian(dg.grad(g), mode="reverse"),
        "reverse over forward": dg.jacobian(dg.jacobian(g, mode="forward"), mode="reverse"),
        "forward over forward": dg.jacobian(dg.jacobian(g, mode="forward"), mode="forward"),
    }
    for way, hessian in nestings.items():
        np.testing.assert_allclose(hessian(point), expected, rtol=1e-11, atol=1e-11, err_msg=way)
    for row in range(n):
        numerical = dg.check.numerical_gradient(lambda v: dg.grad(g)(v)[row], point)  # noqa: B023
        np.testing.assert_allclose(numerical, expected[row], rtol=1e-6, atol=1e-6)


def test_jax_agrees_on_gradients_and_hessians() -> None:
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    point = np.array([0.7, 1.2, 0.4])
    np.testing.assert_allclose(dg.grad(lambda v: rosenbrock(v, 3))(point), jax.grad(lambda v: rosenbrock(v, 3))(point))
    np.testing.assert_allclose(
        dg.hessian(lambda v: rosenbrock(v, 3))(point), jax.hessian(lambda v: rosenbrock(v, 3))(point)
    )
