"""grad, vjp, jvp and their kin on functions of trees; nested in any order; told apart from one another."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import GradientError

ops = dg.ops
X = np.array([0.3, -0.7, 1.1])


def f(x: Any) -> Any:
    return ops.sin(x) * ops.exp(-x * x)


def scalar(x: Any) -> Any:
    return ops.sum(f(x) * x) + ops.prod(x)


# ---- what comes out --------------------------------------------------------------------------------------------------


class Point(NamedTuple):
    x: Any
    y: Any


@dataclass
class Layer:
    weight: Any
    bias: Any


def test_the_gradient_of_a_tree_is_a_tree() -> None:
    params = {"layers": [Layer(np.ones((2, 2)), np.zeros(2))], "scale": Point(2.0, 3.0), "none": None}
    found = dg.grad(lambda p, x: ops.sum(x @ p["layers"][0].weight + p["layers"][0].bias) * p["scale"].x)(
        params, np.ones(2)
    )
    assert isinstance(found["layers"][0], Layer)
    np.testing.assert_array_equal(found["layers"][0].weight, np.full((2, 2), 2.0))
    np.testing.assert_array_equal(found["layers"][0].bias, [2.0, 2.0])
    assert found["scale"] == Point(4.0, 0.0)
    assert found["none"] is None


def test_argnums_choose_the_arguments() -> None:
    def g(x: Any, y: Any, *, k: float) -> Any:
        return x * y * y * k

    assert dg.grad(g, argnums=1)(2.0, 3.0, k=1.0) == 12.0
    assert dg.grad(g, argnums=(0, 1))(2.0, 3.0, k=1.0) == (9.0, 12.0)
    assert dg.grad(g, argnums=-1)(2.0, 3.0, k=2.0) == 24.0


def test_aux_is_returned_beside_the_gradient() -> None:
    (value, aux), gradient = dg.value_and_grad(lambda x: (x * x, {"twice": 2 * x, "name": "x"}), has_aux=True)(3.0)
    assert (value, aux["twice"], aux["name"], gradient) == (9.0, 6.0, "x", 6.0)
    gradient, aux = dg.grad(lambda x: (x * x, x), has_aux=True)(3.0)
    assert (gradient, aux) == (6.0, 3.0)


def test_arrays_in_arrays_out_tensors_in_tensors_out() -> None:
    assert isinstance(dg.grad(scalar)(X), np.ndarray)
    assert isinstance(dg.grad(scalar)(dg.tensor(X)), dg.Tensor)
    assert all(isinstance(y, np.ndarray) for y in dg.jvp(f, (X,), (X,)))
    assert all(isinstance(y, dg.Tensor) for y in dg.jvp(f, (dg.tensor(X),), (X,)))


def test_a_gradient_of_recorded_tensors_is_recorded() -> None:
    x, w = dg.tensor(2.0, requires_grad=True), dg.tensor(5.0, requires_grad=True)
    dg.grad(lambda u: u * u * w)(x).backward()
    assert (x.grad, w.grad) == (10.0, 4.0)


@pytest.mark.parametrize("vectorize", [True, False])
@pytest.mark.parametrize("mode", ["forward", "reverse", "auto"])
def test_a_jacobian_of_recorded_tensors_is_recorded(mode: Any, vectorize: bool) -> None:
    x = dg.tensor(X, requires_grad=True)
    matrix = dg.jacobian(lambda x: ops.exp(x * x), mode=mode, vectorize=vectorize)(x)
    assert isinstance(matrix, dg.Tensor)
    matrix.sum().backward()
    np.testing.assert_allclose(x.grad, (2 + 4 * X**2) * np.exp(X**2), rtol=1e-13)


def test_a_hessian_of_recorded_tensors_is_recorded() -> None:
    x = dg.tensor(X, requires_grad=True)
    dg.hessian(lambda x: ops.sum(x**4))(x).sum().backward()
    np.testing.assert_allclose(x.grad, 24 * X, rtol=1e-13)


def test_transforms_leave_the_grad_of_variables_alone() -> None:
    w = dg.tensor(5.0, requires_grad=True)
    assert dg.grad(lambda x: x * w)(2.0) == 5.0
    assert w.grad is None


def test_an_unused_argument_has_a_gradient_of_zeros() -> None:
    np.testing.assert_array_equal(dg.grad(lambda x, y: ops.sum(x))(X, X), np.ones(3))
    np.testing.assert_array_equal(dg.grad(lambda x, y: ops.sum(x), argnums=1)(X, X), np.zeros(3))
    np.testing.assert_array_equal(dg.grad(lambda x: 1.0)(X), np.zeros(3))


def test_transforms_work_under_no_grad_and_return_constants() -> None:
    x = dg.tensor(X, requires_grad=True)
    with dg.no_grad():
        value, gradient = dg.value_and_grad(scalar)(x)
        _, tangent = dg.jvp(scalar, (x,), (X,))
    np.testing.assert_array_equal(gradient.numpy(), dg.grad(scalar)(X))
    assert not any(y.requires_grad for y in (value, gradient, tangent))


def test_what_runs_under_no_grad_is_a_constant_in_both_modes() -> None:
    def g(x: Any) -> Any:
        with dg.no_grad():
            c = x * x
        return c * x

    assert dg.grad(g)(3.0) == 9.0
    assert dg.jvp(g, (3.0,), (1.0,))[1] == 9.0
    assert dg.jvp(dg.grad(lambda x: dg.stop_gradient(x) * x), (3.0,), (1.0,))[1] == 0.0


def test_a_gradient_through_an_embedding_is_dense() -> None:
    found = dg.grad(lambda table: ops.sum(ops.embedding(table, np.array([1]))))(np.zeros((3, 2)))
    np.testing.assert_array_equal(found, [[0, 0], [1, 1], [0, 0]])


def test_a_pullback_may_be_called_again_and_differentiated() -> None:
    value, pullback = dg.vjp(f, X)
    np.testing.assert_array_equal(value, f(X).numpy())
    (first,) = pullback(np.ones(3))
    (again,) = pullback(np.ones(3))
    np.testing.assert_array_equal(first, again)
    # The pullback is linear, so its gradient by the cotangent is the derivative itself.
    np.testing.assert_allclose(dg.grad(lambda c: ops.sum(pullback(c)[0]))(np.ones(3)), first, rtol=1e-14)


def test_a_linearization_is_the_jvp() -> None:
    calls = []

    def counted(x: Any, y: Any) -> Any:
        calls.append(1)
        return {"a": f(x) * y}

    value, tangent_of = dg.linearize(counted, X, 2.0)
    assert len(calls) == 1
    np.testing.assert_array_equal(value["a"], f(X).numpy() * 2)
    for t in (np.ones(3), np.arange(3.0)):
        np.testing.assert_allclose(tangent_of(t, 1.0)["a"], dg.jvp(counted, (X, 2.0), (t, 1.0))[1]["a"], rtol=1e-14)


# ---- Jacobians and Hessians ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vectorize", [True, False])
@pytest.mark.parametrize("mode", ["forward", "reverse", "auto"])
def test_a_jacobian_is_the_same_by_every_way(mode: Any, vectorize: bool) -> None:
    matrix = np.arange(6.0).reshape(2, 3)
    found = dg.jacobian(lambda x: ops.sin(matrix @ x), mode=mode, vectorize=vectorize)(X)
    np.testing.assert_allclose(found, np.cos(matrix @ X)[:, None] * matrix, rtol=1e-14)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_a_jacobian_of_trees_is_a_tree_of_trees(mode: Any) -> None:
    def g(p: Any, y: Any) -> Any:
        return {"u": p["a"] * y, "v": (ops.sum(p["a"]) * p["b"],)}

    found = dg.jacobian(g, mode=mode)({"a": X, "b": 2.0}, 3.0)
    np.testing.assert_allclose(found["u"]["a"], 3.0 * np.eye(3))
    np.testing.assert_array_equal(found["u"]["b"], np.zeros(3))
    np.testing.assert_allclose(found["v"][0]["a"], [2.0, 2.0, 2.0])
    np.testing.assert_allclose(found["v"][0]["b"], X.sum())
    both = dg.jacobian(g, argnums=(0, 1), mode=mode)({"a": X, "b": 2.0}, 3.0)
    np.testing.assert_allclose(both["u"][1], X)


def test_a_hessian_times_a_vector_is_the_product() -> None:
    hessian = dg.hessian(scalar)(X)
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-13)
    for v in np.eye(3):
        np.testing.assert_allclose(dg.hvp(scalar)(X, v), hessian @ v, rtol=1e-13, atol=1e-15)


def test_a_hessian_of_several_arguments_has_mixed_blocks() -> None:
    (xx, xy), (yx, yy) = dg.hessian(lambda x, y: ops.sum(x * x * y), argnums=(0, 1))(X, X)
    np.testing.assert_allclose(xx, np.diag(2 * X))
    np.testing.assert_allclose(xy, np.diag(2 * X))
    np.testing.assert_allclose(yx, np.diag(2 * X))
    np.testing.assert_array_equal(yy, np.zeros((3, 3)))
    found = dg.hvp(lambda x, y: ops.sum(x * x * y), argnums=(0, 1))(X, X, (X, X))
    np.testing.assert_allclose(found[0], 4 * X * X)


def test_each_example_has_a_gradient_of_its_own() -> None:
    examples = np.arange(6.0).reshape(2, 3)
    found = dg.per_example_grad(lambda p, x, y: (ops.sum(p["w"] * x) - y) ** 2)({"w": X}, examples, np.ones(2))
    for g, x in zip(found["w"], examples, strict=True):
        np.testing.assert_allclose(g, 2 * (X @ x - 1) * x, rtol=1e-14)


def test_empty_arrays_have_empty_derivatives() -> None:
    assert dg.grad(lambda x: ops.sum(x * x))(np.zeros(0)).shape == (0,)
    assert dg.jacobian(lambda x: x * 2)(np.zeros(0)).shape == (0, 0)


# ---- nesting ---------------------------------------------------------------------------------------------------------


def by_grad(g: Any) -> Any:
    return dg.grad(g)


def by_jvp(g: Any) -> Any:
    return lambda x: dg.jvp(g, (x,), (1.0,))[1]


def by_vjp(g: Any) -> Any:
    return lambda x: dg.vjp(g, x)[1](1.0)[0]


def by_linearize(g: Any) -> Any:
    return lambda x: dg.linearize(g, x)[1](1.0)


def by_vmap(g: Any) -> Any:
    return lambda x: ops.sum(dg.vmap(dg.grad(g))(ops.stack([x, x]))) / 2


def by_checkpoint(g: Any) -> Any:
    return dg.grad(dg.checkpoint(g))


WAYS = [by_grad, by_jvp, by_vjp, by_linearize, by_vmap, by_checkpoint]


@pytest.mark.parametrize(
    "ways", list(itertools.product(WAYS, repeat=2)), ids=lambda w: "-".join(x.__name__[3:] for x in w)
)
def test_second_derivatives_by_any_two_ways_are_the_same(ways: Any) -> None:
    g = f
    for way in ways:
        g = way(g)
    x = 0.4
    second = np.exp(-x * x) * ((4 * x * x - 3) * np.sin(x) - 4 * x * np.cos(x))
    np.testing.assert_allclose(float(g(x)), second, rtol=1e-13)


@pytest.mark.parametrize(
    "ways", list(itertools.product(WAYS[:3], repeat=3)), ids=lambda w: "-".join(x.__name__[3:] for x in w)
)
def test_third_derivatives_by_any_three_ways_are_the_same(ways: Any) -> None:
    g = ops.exp
    for way in ways:
        g = way(g)
    np.testing.assert_allclose(float(g(0.7)), np.exp(0.7), rtol=1e-13)


# ---- perturbation confusion: each derivative sees its own variable only ----------------------------------------------


@pytest.mark.parametrize("inner", WAYS)
@pytest.mark.parametrize("outer", WAYS)
def test_an_inner_derivative_does_not_see_the_outer_variable(outer: Any, inner: Any) -> None:
    # Siskind & Pearlmutter 2005: d/dx (x · d/dy (x + y)) = 1; a confused implementation gives 2.
    assert float(outer(lambda x: x * inner(lambda y: x + y)(1.0))(1.0)) == 1.0
    # d/dx (x · d/dy (x · y)) = d/dx x² = 2x.
    np.testing.assert_allclose(float(outer(lambda x: x * inner(lambda y: x * y)(5.0))(3.0)), 6.0)
    # The argument of the inner derivative is the outer variable: d/dx (d/dy (x · y²))(x) = d/dx 2x² = 4x.
    np.testing.assert_allclose(float(outer(lambda x: inner(lambda y: x * y * y)(x))(3.0)), 12.0)


@pytest.mark.parametrize("way", [by_grad, by_jvp, by_vjp])
def test_a_curried_derivative_of_a_higher_order_function_is_not_confused(way: Any) -> None:
    # Manzyuk, Pearlmutter, Radul, Rush & Siskind, "Perturbation confusion in forward automatic differentiation of
    # higher-order functions", 2019: s(u)(g)(x) = g(x + u), and d/du s(u) at 0 differentiates; applied twice to exp.
    def s(u: Any) -> Any:
        return lambda g: lambda x: g(x + u)

    def d(g: Any) -> Any:
        return lambda x: way(lambda u: s(u)(g)(x))(0.0)

    np.testing.assert_allclose(float(d(d(ops.exp))(1.0)), np.e, rtol=1e-14)


@pytest.mark.parametrize("later", [*WAYS[:3], lambda g: dg.vmap(lambda x: g(x))])
@pytest.mark.parametrize("first", ["jvp", "vmap"])
def test_a_value_kept_from_an_ended_transform_is_not_taken_for_one_of_a_later(first: str, later: Any) -> None:
    kept: list[Any] = []

    def keep(x: Any) -> Any:
        kept.append(x)
        return x

    if first == "jvp":
        dg.jvp(keep, (2.0,), (1.0,))
    else:
        dg.vmap(keep)(np.ones(3))
    with pytest.raises(GradientError, match="after that transform had ended"):
        later(lambda y: y * kept[0])(np.ones(3) if later not in WAYS else 3.0)


def test_an_inner_gradient_that_closes_over_a_long_history_does_not_walk_it() -> None:
    visited = []

    def outer(h: Any) -> Any:
        for _ in range(50):
            h = h + 0.01 * dg.grad(lambda u: ops.sin(u * h))(0.5)  # noqa: B023
            visited.append(1)
        return h

    step = 1e-6
    numerical = (outer(1.0 + step) - outer(1.0 - step)).item() / (2 * step)
    np.testing.assert_allclose(dg.grad(outer)(1.0), numerical, rtol=1e-8)


def test_a_derived_jvp_skips_results_without_derivatives() -> None:
    top = dg.autograd.primitive.Primitive(
        "top",
        lambda xp, x: (xp.max(x), xp.argmax(x)),
        vjps=[lambda xp, g, ans, x: g[0] * (x == xp.max(x))],
        outputs=2,
    )
    (value, place), (tangent, _) = dg.jvp(top, (X,), (np.arange(3.0),))
    assert (value, place, tangent) == (1.1, 2, 2.0)


# ---- complex numbers -------------------------------------------------------------------------------------------------


def test_the_gradient_by_a_complex_argument_is_that_of_steepest_ascent() -> None:
    assert dg.grad(lambda z: ops.real(z * ops.conj(z)))(1 + 2j) == 2 + 4j


def test_a_complex_pullback_is_the_adjoint_of_the_pushforward() -> None:
    z, t, c = 0.3 + 0.4j, 1.0 - 2.0j, 0.7 + 0.1j
    _, pushed = dg.jvp(lambda z: ops.exp(z) * z, (z,), (t,))
    _, pullback = dg.vjp(lambda z: ops.exp(z) * z, z)
    (pulled,) = pullback(c)
    np.testing.assert_allclose(np.real(np.conj(c) * pushed), np.real(np.conj(pulled) * t), rtol=1e-14)
    np.testing.assert_allclose(pushed, np.exp(z) * (1 + z) * t, rtol=1e-14)


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dg.grad(2.0), r"write dg.value_and_grad\(f\)\(x\)|write dg.grad\(f\)\(x\)"),
        (lambda: dg.grad(f)(2), r"argument\[0\] is int of dtype int64.*2.0 instead of 2"),
        (lambda: dg.grad(lambda p: p["n"])({"n": np.arange(2)}), r"argument\[0\]\['n'\] is ndarray of dtype int64"),
        (lambda: dg.grad(f)(X), r"shape \(3,\), and only a scalar.*sum it"),
        (lambda: dg.grad(lambda x: (x, x))(1.0), "tree of 2 arrays.*has_aux=True"),
        (lambda: dg.grad(lambda x: x * 1j)(1.0), "complex value.*real part"),
        (lambda: dg.grad(lambda x: x > 0)(1.0), "bool, which is constant"),
        (lambda: dg.grad(f, argnums=1)(1.0), "argnums=1, but .* 1 positional"),
        (lambda: dg.grad(f, argnums=(0, -1))(1.0), "names an argument twice"),
        (lambda: dg.grad(f, has_aux=True)(1.0), r"pair \(value, aux\)"),
        (lambda: dg.vjp(f, X)[1](np.ones(2)), r"cotangent has shape \(2,\), but the result has shape \(3,\)"),
        (lambda: dg.vjp(lambda x: {"a": x}, X)[1]({"b": X}), r"lacks \['a'\] and has also \['b'\]"),
        (lambda: dg.vjp(lambda x: "text", 1.0), "str, not an array"),
        (lambda: dg.jvp(f, 1.0, 1.0), "primals as a tuple"),
        (lambda: dg.jvp(f, (1.0,), (1.0, 2.0)), "does not have the expected structure"),
        (lambda: dg.jvp(f, (X,), (1.0,)), r"tangents\[0\] has shape \(\), but primals\[0\] has shape \(3,\)"),
        (lambda: dg.jvp(f, (1,), (1.0,)), "int64, which has no gradient"),
        (lambda: dg.jacobian(f, mode="sideways"), "'auto', 'forward', 'reverse'"),
        (lambda: dg.jacobian(lambda x: x * 1j)(X), "complex numbers; split them"),
        (lambda: dg.hvp(f)(X), r"hvp\(f\)\(x, v\)"),
        (lambda: dg.checkpoint(1), "takes a function"),
        (lambda: dg.jvp(1, (X,), (X,)), r"write dg.jvp\(f, \(x,\), \(tangent,\)\)"),
        (lambda: dg.jvp(f, (X,), (1j * X,)), r"tangents\[0\] is complex, but the value it belongs to is float64"),
        (lambda: dg.vjp(ops.sin, X)[1](1j * X), "the cotangent is complex"),
        (lambda: dg.vjp(ops.sum, X)[1]("up"), "the cotangent holds no numbers: 'up'"),
        (lambda: ops.sum(dg.tensor(X, requires_grad=True)).backward(1j), "gradient= is complex"),
        (lambda: dg.grad(f, argnums="x")(1.0), "argnums='x': expected the position"),
        (lambda: dg.grad(f, argnums=0.5)(1.0), "argnums=0.5: expected the position"),
        (lambda: dg.tensor(None), "takes numbers, and None"),
    ],
)
def test_what_cannot_be_differentiated_is_said(call: Any, message: str) -> None:
    with pytest.raises(GradientError, match=message):
        call()
