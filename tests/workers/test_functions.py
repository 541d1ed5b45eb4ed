"""The functions that are served as examples have the derivatives and the minima that are known of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import optimize

import distgrad as dg
from distgrad.worker.programs import Programs

PROGRAMS = Programs(Path(__file__).parents[2] / "workers")


def test_rosenbrock_is_scipys(rng: np.random.Generator) -> None:
    rosenbrock = PROGRAMS.find("functions.py:rosenbrock")
    x = rng.normal(size=5)
    np.testing.assert_allclose(rosenbrock(x), optimize.rosen(x))
    np.testing.assert_allclose(dg.grad(rosenbrock)(x), optimize.rosen_der(x))
    np.testing.assert_allclose(dg.hessian(rosenbrock)(x), optimize.rosen_hess(x))


def test_the_banana_is_highest_on_its_bend(rng: np.random.Generator) -> None:
    banana = PROGRAMS.find("functions.py:banana")
    dg.check.gradcheck(banana, rng.normal(size=2), 0.7, order=2)
    found = optimize.minimize(lambda x: -banana(x), np.array([1.5, 1.0]), jac=lambda x: -dg.grad(banana)(x))
    np.testing.assert_allclose(found.x, [0.0, 2.0], atol=1e-4)


def test_logistic_regression_tells_most_tumours_right() -> None:
    pytest.importorskip("sklearn")
    model = PROGRAMS.find("functions.py:BreastCancer")()
    found = optimize.minimize(model.loss, np.zeros(31), jac=dg.grad(model.loss), method="L-BFGS-B")
    assert model.loss(found.x) < 0.1
    assert model.accuracy(found.x) > 0.98


def test_the_source_of_the_heat_is_recovered() -> None:
    heat = PROGRAMS.find("heat.py:Heat")()
    start = np.zeros(heat._x.size)
    found: Any = optimize.minimize(
        heat.misfit,
        start,
        jac=dg.grad(heat.misfit),
        hessp=dg.hvp(heat.misfit),
        method="trust-krylov",
        options={"gtol": 1e-6},
    )
    assert heat.error(start) > 0.3
    assert heat.error(found.x) < 0.08
    dg.check.gradcheck(heat.misfit, found.x + 0.1)
