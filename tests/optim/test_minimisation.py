"""L-BFGS and Newton-CG against SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from distgrad import ops, optim
from distgrad.errors import ConfigError
from distgrad.optim.minimisation import Method

both = pytest.mark.parametrize("method", ["lbfgs", "newton-cg"])


def rosenbrock(x: Any) -> Any:
    return ops.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@both
def test_the_minimum_is_the_one_scipy_finds(method: Method, rng: np.random.Generator) -> None:
    scipy_optimize = pytest.importorskip("scipy.optimize")
    A, b = rng.standard_normal((12, 5)), np.sign(rng.standard_normal(12))

    def logistic(w: Any) -> Any:
        return ops.sum(ops.softplus(-b * (A @ w))) + 0.1 * ops.sum(w * w)

    ours = optim.minimize(logistic, np.zeros(5), method=method)
    theirs = scipy_optimize.minimize(
        lambda w: np.logaddexp(0, -b * (A @ w)).sum() + 0.1 * (w @ w), np.zeros(5), options={"gtol": 1e-9}
    )
    assert ours.converged
    np.testing.assert_allclose(ours.x, theirs.x, atol=1e-6)
    assert ours.value == pytest.approx(theirs.fun, rel=1e-12)


@both
def test_a_curved_valley_is_followed_to_its_end(method: Method) -> None:
    found = optim.minimize(rosenbrock, np.full(8, -1.2), method=method)
    # There is a local minimum besides the one at ones; either is a place where the gradient vanishes.
    assert found.converged
    assert np.abs(found.gradient).max() <= 1e-8
    assert found.value < 5


@both
def test_the_shape_and_dtype_of_the_argument_are_kept(method: Method) -> None:
    target = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = optim.minimize(
        lambda x: ops.sum((x - target) ** 2), np.zeros((2, 3), np.float32), method=method, tolerance=1e-4
    )
    assert found.x.shape == (2, 3)
    assert found.x.dtype == np.float32
    np.testing.assert_allclose(found.x, target, atol=1e-4)


@both
def test_a_saddle_is_left_downhill(method: Method) -> None:
    found = optim.minimize(lambda x: x[0] ** 2 + (x[1] ** 2 - 1) ** 2, np.array([1.0, 0.1]), method=method)
    assert found.converged
    np.testing.assert_allclose(np.abs(found.x), [0, 1], atol=1e-6)


@both
def test_it_says_why_it_ended(method: Method) -> None:
    few = optim.minimize(rosenbrock, np.full(8, -1.2), method=method, max_steps=2)
    assert (few.converged, few.steps, few.message) == (False, 2, "2 steps were made")
    unbounded = optim.minimize(lambda x: ops.sum(x), np.zeros(2), method="lbfgs", max_steps=5)
    assert not unbounded.converged


def test_complex_points_are_refused() -> None:
    with pytest.raises(ConfigError, match="real numbers"):
        optim.minimize(lambda z: ops.sum(ops.abs(z)), np.zeros(2, complex))


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(ConfigError, match="'lbfgs' or 'newton-cg'"):
        optim.minimize(rosenbrock, np.zeros(2), method="bfgs")  # type: ignore[arg-type]
