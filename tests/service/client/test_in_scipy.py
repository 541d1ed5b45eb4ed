from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from distgrad.service.client import Client

optimize = pytest.importorskip("scipy.optimize")


@pytest.mark.parametrize("method", ["L-BFGS-B", "trust-krylov", "Newton-CG"])
def test_minimisers_find_the_minimum_of_a_served_function(remote: Client, method: str) -> None:
    with remote["rosenbrock"].as_scipy(np.array([-1.2, 1.0, 0.5])) as problem:
        hessp = problem.hessp if method != "L-BFGS-B" else None
        found = optimize.minimize(problem.fun, problem.x0, jac=problem.jac, hessp=hessp, method=method)
    assert found.success
    assert np.allclose(found.x, 1, atol=1e-4)


def test_least_squares_uses_products_with_the_jacobian_only(remote: Client, server: Any) -> None:
    with remote["sin"].as_scipy(np.array([0.1, 0.2])) as problem:
        found = optimize.least_squares(
            lambda x: problem.residuals(x) - 0.5, problem.x0, jac=problem.jacobian, tr_solver="lsmr"
        )
    assert np.allclose(found.x, np.arcsin(0.5))
    assert {kind for _, kind, _ in server.received} == {"linearize", "vjp", "jvp", "close_session"}
    assert server.sessions == {}


def test_least_squares_goes_back_to_where_it_was_after_steps_that_did_not_help(remote: Client, server: Any) -> None:
    x0 = np.array([-3.0, 5.0])
    expected = optimize.least_squares(lambda x: np.array([10 * (x[1] - x[0] ** 2), 1 - x[0]]), x0, tr_solver="lsmr")
    with remote["valley"].as_scipy(x0) as problem:
        found = optimize.least_squares(problem.residuals, problem.x0, jac=problem.jacobian, tr_solver="lsmr")
    assert found.nfev > found.njev  # some did not
    assert np.allclose(found.x, expected.x)
    assert [kind for _, kind, _ in server.received].count("linearize") == found.nfev  # each point once
    assert server.sessions == {}


def test_a_linearisation_that_the_server_has_lost_is_made_anew(remote: Client, server: Any) -> None:
    x, v = np.array([1.2, 0.7, 0.3]), np.ones(3)
    with remote["rosenbrock"].as_scipy(x) as problem, remote["valley"].as_scipy(x) as valley:
        jacobian = valley.jacobian(x)
        expected = problem.hessp(x, v), jacobian @ v, jacobian.T @ v
        for _ in range(2):
            server.sessions.clear()
            assert np.array_equal(problem.hessp(x, v), expected[0])
            assert np.array_equal(jacobian @ v, expected[1])
            server.sessions.clear()
            assert np.array_equal(jacobian.T @ v, expected[2])
        server.sessions.clear()


def test_value_and_gradient_at_a_point_are_one_request(remote: Client, server: Any) -> None:
    with remote["rosenbrock"].as_scipy(np.ones(3)) as problem:
        for x in (np.zeros(3), np.full(3, 0.5)):
            problem.fun(x)
            gradient = problem.jac(x)
            expected = gradient.copy()
            gradient.fill(0.0)
            assert np.array_equal(problem.jac(x), expected)
    assert [kind for _, kind, _ in server.received] == ["value_and_gradient"] * 2


def test_trees_become_vectors_and_again_trees(remote: Client) -> None:
    x0 = {"k": 2.0, "m": np.array([[1.0, 2.0, 3.0]], np.float32)}
    problem = remote["field"].as_scipy(x0)
    assert problem.x0.tolist() == [2, 1, 2, 3]
    tree = problem.unflatten(np.arange(4.0))
    assert tree["k"] == 0
    assert tree["m"].dtype == np.float32
    assert tree["m"].tolist() == [[1, 2, 3]]
    assert repr(problem) == "<ScipyFunction field of 4 variables>"


def test_other_arguments_stay_as_they_are(remote: Client) -> None:
    x = np.array([1.0, 2.0])
    with remote["field"].as_scipy(x, p={"k": 3.0, "m": 1.0}) as problem:
        jacobian = problem.jacobian(x)
        assert np.allclose(problem.residuals(x), [*(3 * np.sin(x)), 5])
        assert jacobian.shape == (3, 2)
        assert np.allclose(jacobian @ np.eye(2), np.vstack([np.diag(3 * np.cos(x)), 2 * x]))
        assert np.allclose(jacobian.T @ np.array([0.0, 0.0, 1.0]), 2 * x)
