"""An inverse problem solved from a remote client: the source of heat is found from what the thermometers show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from distgrad.service.block import serve
from distgrad.service.client import Client, client

optimize = pytest.importorskip("scipy.optimize")

PROGRAM = Path(__file__).parents[2] / "workers" / "heat.py"


@pytest.fixture(scope="module")
def service() -> Iterator[Client]:
    with serve([f"{PROGRAM}:Heat"]) as server, client(server.address, timeout=60) as service:
        yield service


@pytest.mark.parametrize(("method", "most"), [("L-BFGS-B", 2000), ("trust-krylov", 100)])
def test_the_source_is_found(service: Client, method: str, most: int) -> None:
    with service["Heat.misfit"].as_scipy(np.zeros(40)) as problem:
        found = optimize.minimize(
            problem.fun,
            problem.x0,
            jac=problem.jac,
            hessp=problem.hessp if method == "trust-krylov" else None,
            method=method,
            options={"maxiter": most},
        )
    start, end = service["Heat.error"](np.zeros(40)), service["Heat.error"](found.x)
    assert found.fun < problem.fun(problem.x0) / 100
    assert end < start / 3
    # It explains the measurements up to their noise.
    assert found.fun < 100


def test_products_in_both_modes_are_adjoint(service: Client, rng: np.random.Generator) -> None:
    f = service["Heat.temperatures"]
    source, tangent = rng.normal(size=(2, 40))
    with f.linearize(source) as at_source:
        cotangent = rng.normal(size=at_source.value.shape)
        pushed, pulled = at_source.jvp(tangent), at_source.vjp(cotangent)
    assert np.isclose(np.sum(cotangent * pushed), np.sum(pulled * tangent))
