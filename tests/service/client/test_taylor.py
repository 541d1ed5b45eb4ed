from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from distgrad.service.client import taylor

DOUBLE = float(np.finfo(np.float64).eps)
SINGLE = float(np.finfo(np.float32).eps)

# Functions with their first and second derivatives at 0.
FUNCTIONS: dict[str, tuple[Callable[[float], float], float, float]] = {
    "exp": (np.exp, 1, 1),
    "far from zero": (lambda h: 1e3 + np.exp(3 * h), 3, 9),
    "no second derivative": (np.sin, 1, 0),
    "linear": (lambda h: 3 + 2 * h, 2, 0),
    "quadratic": (lambda h: (1 + h) ** 2, 2, 2),
    "steep": (lambda h: np.log(0.6 + h), 1 / 0.6, -1 / 0.36),
    "does not exist everywhere": (lambda h: np.log(0.4 - h) if h < 0.4 else np.nan, -1 / 0.4, -1 / 0.16),
}


def values(f: Callable[[float], float], epsilon: float) -> np.ndarray:
    return np.array([f(h) for h in taylor.steps(epsilon)])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_right_derivatives_have_the_order_they_should(name: str) -> None:
    f, first, second = FUNCTIONS[name]
    at = values(f, DOUBLE)
    for derivatives in ([first], [first, second]):
        order = taylor.order(at, derivatives, DOUBLE)
        assert order.right, str(order)
        assert order.expected == len(derivatives) + 1


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("error", [1.0, 1e-2, 1e-4])
def test_wrong_ones_have_a_lower_order(name: str, error: float) -> None:
    f, first, second = FUNCTIONS[name]
    at = values(f, DOUBLE)
    order = taylor.order(at, [first + error], DOUBLE)
    assert not order.right, str(order)
    assert order.found == pytest.approx(1, abs=0.2)
    assert order.error == pytest.approx(error, rel=0.1)
    if error >= 1e-2:
        assert not taylor.order(at, [first, second + error], DOUBLE).right


def test_noise_is_measured_and_hides_nothing(rng: np.random.Generator) -> None:
    at = values(lambda h: np.exp(h) + 1e-9 * rng.normal(), DOUBLE)
    assert taylor.order(at, [1.0], DOUBLE).right
    assert not taylor.order(at, [1.001], DOUBLE).right


def test_single_precision_is_enough() -> None:
    def f(h: float) -> float:
        return float(np.exp(np.sin(np.float32(1.3) + np.float32(h) * np.float32(0.7))))

    first = np.exp(np.sin(1.3)) * np.cos(1.3) * 0.7
    at = values(f, SINGLE)
    assert taylor.order(at, [first], SINGLE).right
    assert not taylor.order(at, [1.1 * first], SINGLE).right


def test_an_order_says_where_it_was_found() -> None:
    at = values(np.exp, DOUBLE)
    assert str(taylor.order(at, [1.0], DOUBLE)).startswith("remainder slope 2.0")
    assert str(taylor.order(values(lambda h: 2 * h, DOUBLE), [2.0], DOUBLE)) == "the remainder is rounding alone"
