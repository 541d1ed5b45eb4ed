"""The kernels of special functions: accuracy against mpmath, poles and infinities, dtypes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.special

import distgrad as dg

ops = dg.ops
INF, NAN = float("inf"), float("nan")


def exact(f: Callable[[Any], Any], xs: Any) -> Any:
    """The values in 40 digits, rounded once."""
    with mpmath.workdps(40):
        return np.array([float(f(mpmath.mpf(float(x)))) for x in xs])


def around(*centres: float) -> list[float]:
    """Numbers ever closer to the centres, from both sides."""
    return [c + sign * 10.0**-k for c in centres for sign in (-1, 1) for k in (1, 3, 6, 9)]


REAL = np.concatenate([np.linspace(-6, 6, 61), around(0.0, 0.46875, -0.46875, 4.0, -4.0), [1e-300, 15.0, 26.0]])
UNIT = np.concatenate([np.linspace(-0.99, 0.99, 41), [1 - 10.0**-k for k in range(2, 16, 3)], [1e-12, 1e-100]])
POSITIVE = np.concatenate([np.linspace(0.05, 30, 83), [1e-8, 1e3, 1e8]])
NEGATIVE = -np.linspace(0.07, 12.93, 47)
WIDE = np.concatenate([np.linspace(-60, 60, 77), around(32.0, -32.0)])

# name: (our function, mpmath's, arguments, largest relative error)
ACCURACY: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], Any, float]] = {
    "erf": (ops.erf, mpmath.erf, REAL, 1e-15),
    "erfc": (ops.erfc, mpmath.erfc, REAL, 2e-15),
    "erfinv": (ops.erfinv, mpmath.erfinv, UNIT, 1e-15),
    "gammaln": (ops.gammaln, lambda x: mpmath.log(abs(mpmath.gamma(x))), POSITIVE, 1e-14),
    "gammaln of negative numbers": (ops.gammaln, lambda x: mpmath.log(abs(mpmath.gamma(x))), NEGATIVE, 5e-14),
    "digamma": (ops.digamma, mpmath.digamma, POSITIVE, 4e-15),
    "digamma of negative numbers": (ops.digamma, mpmath.digamma, NEGATIVE, 5e-14),
    "polygamma 1": (lambda x: ops.polygamma(1, x), lambda x: mpmath.polygamma(1, x), POSITIVE, 4e-15),
    "polygamma 4": (lambda x: ops.polygamma(4, x), lambda x: mpmath.polygamma(4, x), POSITIVE, 4e-15),
    "polygamma 2 of negatives": (lambda x: ops.polygamma(2, x), lambda x: mpmath.polygamma(2, x), NEGATIVE, 5e-13),
    "i0": (ops.i0, lambda x: mpmath.besseli(0, x), WIDE, 4e-15),
    "bessel_i 1": (lambda x: ops.bessel_i(1, x), lambda x: mpmath.besseli(1, x), WIDE, 4e-15),
    "bessel_i 3": (lambda x: ops.bessel_i(3, x), lambda x: mpmath.besseli(3, x), WIDE, 4e-15),
}


@pytest.mark.parametrize("name", ACCURACY)
def test_a_kernel_is_accurate_to_the_last_digits(name: str) -> None:
    ours, theirs, xs, bound = ACCURACY[name]
    np.testing.assert_allclose(ours(xs).numpy(), exact(theirs, xs), rtol=bound)


@pytest.mark.parametrize(("name", "bound"), [("erf", 6e-7), ("erfc", 3e-6), ("erfinv", 1e-5), ("i0", 1e-5)])
def test_a_kernel_computes_single_precision_in_single_precision(name: str, bound: float) -> None:
    xs = np.linspace(-0.95, 0.95, 1001).astype(np.float32) * (1 if name == "erfinv" else 4)
    found = getattr(ops, name)(xs).numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, getattr(scipy.special, name)(xs.astype(float)), rtol=bound)


def test_a_long_array_gives_what_its_parts_give() -> None:
    xs = np.random.default_rng(0).normal(size=(3, 50_000)).astype(np.float32)
    np.testing.assert_array_equal(ops.erf(xs).numpy()[1], ops.erf(xs[1]).numpy())


@pytest.mark.parametrize(
    ("name", "xs", "expected"),
    [
        ("erf", [INF, -INF, NAN, 0.0], [1.0, -1.0, NAN, 0.0]),
        ("erfc", [INF, -INF, NAN, 30.0], [0.0, 2.0, NAN, 0.0]),
        ("erfinv", [1.0, -1.0, 1.5, NAN, 0.0], [INF, -INF, NAN, NAN, 0.0]),
        ("gammaln", [0.0, -1.0, INF, NAN, 1.0, 2.0], [INF, INF, INF, NAN, 0.0, 0.0]),
        ("digamma", [0.0, -0.0, -1.0, INF, NAN], [-INF, INF, NAN, INF, NAN]),
        ("i0", [0.0, NAN], [1.0, NAN]),
    ],
)
def test_values_at_poles_and_infinities(name: str, xs: list[float], expected: list[float]) -> None:
    np.testing.assert_allclose(getattr(ops, name)(np.array(xs)).numpy(), expected, atol=1e-15)


def test_integers_and_numbers_are_taken_as_float64() -> None:
    assert ops.gammaln(5).item() == pytest.approx(np.log(24.0))
    assert ops.erf(np.array([1, 2])).dtype == np.float64


def test_half_precision_is_kept() -> None:
    assert ops.erf(np.array([0.5], np.float16)).dtype == np.float16


def test_polygamma_of_a_negative_order_is_refused() -> None:
    with pytest.raises(ValueError, match=r"n must be 0 or more, not -1"):
        ops.polygamma(-1, 2.0)


def test_derivatives_of_special_functions_go_on_for_ever() -> None:
    third = dg.grad(dg.grad(dg.grad(ops.gammaln)))
    assert third(2.5) == pytest.approx(scipy.special.polygamma(2, 2.5), rel=1e-13)
    third = dg.grad(dg.grad(dg.grad(ops.i0)))
    assert third(0.0) == pytest.approx(0.0)
    assert dg.grad(third)(0.0) == pytest.approx(3 / 8)
