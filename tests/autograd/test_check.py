"""gradcheck finds wrong derivatives and says what is wrong with them; numerical_gradient agrees with the exact one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import CheckError, GradientError

ops = dg.ops
X = np.array([[0.3, -0.7], [1.1, 0.4]])


def with_gradient(f: Any, wrong: Any) -> Any:
    """A function with the value of `f` whose gradient is `wrong(right gradient, x)`."""

    @dg.custom_vjp
    def g(x: Any) -> Any:
        return f(x)

    def backward(x: Any, cotangent: Any) -> Any:
        return (wrong(dg.vjp(f, x)[1](cotangent)[0], x),)

    g.defvjp(lambda x: (f(x), x), backward)
    return g


def asymmetric(x: Any) -> Any:
    return ops.exp(x) * np.array([[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (with_gradient(asymmetric, lambda g, x: -g), r"input\[0\]\[1, 0\] is -.*the sign is wrong"),
        (with_gradient(asymmetric, lambda g, x: 2 * g), "a factor of 2 "),
        (with_gradient(asymmetric, lambda g, x: g / 2), r"a factor of 0\.5"),
        (with_gradient(asymmetric, lambda g, x: g * 0.7), r"a factor of 0\.7"),
        (with_gradient(asymmetric, lambda g, x: g.T), "it is transposed"),
        (with_gradient(asymmetric, lambda g, x: ops.flip(g)), "right values are in the wrong places"),
        (with_gradient(asymmetric, lambda g, x: g * (x > 0)), "only some elements are wrong"),
        (with_gradient(asymmetric, lambda g, x: g + x * x), "a term is missing or wrong"),
        (lambda x: ops.sin(x.detach()) if isinstance(x, dg.Tensor) else ops.sin(x), "no gradient reaches this input"),
        (with_gradient(asymmetric, lambda g, x: g / 0.0), "divides by zero"),
        (lambda x: ops.relu(x - 0.4), "not smooth there"),
        (with_gradient(lambda z: z * (1 + 2j), lambda g, z: ops.conj(g)), "a conjugate"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_a_wrong_derivative_is_named_with_its_likely_cause(f: Any, message: str) -> None:
    x = X.astype(complex) if "conjugate" in message else X
    with pytest.raises(CheckError, match=message):
        dg.check.gradcheck(f, x)


def test_a_wrong_second_derivative_is_found_by_order_2() -> None:
    # The factor is one, but not its derivative.
    f = with_gradient(ops.sin, lambda g, x: g * dg.stop_gradient(x) / x)
    dg.check.gradcheck(f, X)
    with pytest.raises(CheckError, match="the second derivative of the gradient of"):
        dg.check.gradcheck(f, X, order=2)


def test_forward_mode_is_checked_too() -> None:
    f = dg.autograd.primitive.Primitive(
        "wrong_jvp",
        lambda xp, x: xp.sin(x),
        vjps=[lambda xp, g, ans, x: g * xp.cos(x)],
        jvp=lambda xp, tangents, ans, x: tangents[0],
    )
    with pytest.raises(CheckError, match=r"by forward mode and .* by reverse mode"):
        dg.check.gradcheck(f, X)


def test_every_element_of_every_input_is_checked() -> None:
    calls = []

    def f(p: Any, k: int) -> Any:
        calls.append(1)
        return {"y": p["a"] * p["b"] ** k, "n": np.arange(2)}

    dg.check.gradcheck(f, {"a": X, "b": 2.0}, 3, order=2)
    assert len(calls) > 2 * 5
    with pytest.raises(CheckError, match=r"input\[0\]\['b'\]"):
        dg.check.gradcheck(
            lambda p: p["a"] * (p["b"].detach() if isinstance(p["b"], dg.Tensor) else p["b"]), {"a": X, "b": 2.0}
        )


def test_what_cannot_be_checked_is_said() -> None:
    with pytest.raises(GradientError, match="no floating-point or complex input"):
        dg.check.gradcheck(ops.sin, 1)
    with pytest.raises(GradientError, match="order=3"):
        dg.check.gradcheck(ops.sin, 1.0, order=3)
    rng = np.random.default_rng(0)
    with pytest.raises(CheckError, match="two different values"):
        dg.check.gradcheck(lambda x: x * rng.uniform(), 1.0)


@pytest.mark.parametrize(("method", "digits"), [("forward", 6), ("central", 9), ("complex", 14)])
def test_each_numerical_method_is_as_good_as_it_says(method: Any, digits: int) -> None:
    found = dg.check.numerical_gradient(lambda x: np.sum(np.sin(x) * np.exp(x)), X, method)
    np.testing.assert_allclose(found, (np.sin(X) + np.cos(X)) * np.exp(X), rtol=10.0**-digits)


def test_the_numerical_gradient_by_a_complex_argument_is_that_of_steepest_ascent() -> None:
    z = np.array([1 + 2j, 0.5 - 1j])
    found = dg.check.numerical_gradient(lambda z: np.sum(np.abs(z) ** 2), z)
    np.testing.assert_allclose(found, 2 * z, rtol=1e-8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dg.check.numerical_gradient(np.sin, X), "differences of a scalar"),
        (lambda: dg.check.numerical_gradient(np.sum, X, "backward"), "is not one of 'forward', 'central', 'complex'"),
        (lambda: dg.check.numerical_gradient(np.sum, X * 1j, "complex"), "needs a real x"),
        (lambda: dg.check.numerical_gradient(np.sum, X * 1j), "complex value"),
        (lambda: dg.check.numerical_gradient(np.sum, "text"), "cannot be moved"),
    ],
)
def test_what_has_no_differences_is_said(call: Any, message: str) -> None:
    with pytest.raises(GradientError, match=message):
        call()


@pytest.mark.parametrize("value", [0, -1e-6, math.nan, math.inf, "small"])
def test_steps_and_tolerances_that_cannot_be_are_refused(value: Any) -> None:
    with pytest.raises(GradientError, match=r"eps=.* must be a positive, finite number"):
        dg.check.numerical_gradient(np.sum, np.ones(2), eps=value)
    for name in ("eps", "tol"):
        with pytest.raises(GradientError, match=rf"{name}=.* must be a positive, finite number"):
            dg.check.gradcheck(np.sum, np.ones(2), **{name: value})
