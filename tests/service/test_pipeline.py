"""A served function may itself span the workers of a cluster."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.service.raw import Unary, serving

WORKERS = Path(__file__).parents[2] / "workers"


def layer(x: np.ndarray, phase: float) -> tuple[np.ndarray, np.ndarray]:
    """Value and Jacobian."""
    n = len(x)
    w = np.cos(np.arange(n * n) + phase).reshape(n, n) / np.sqrt(n)
    y = np.tanh(w @ x + np.sin(np.arange(n) + phase))
    return y, (1 - y**2)[:, None] * w


@pytest.mark.slow
def test_derivatives_go_through_two_workers(rng: np.random.Generator) -> None:
    x, v = rng.normal(size=(2, 8))
    h, first = layer(x, 0.0)
    y, second = layer(h, 1.0)
    jacobian = second @ first
    with serving([f"{WORKERS}/pipeline.py:Pipeline"]) as running:
        client = Unary(running.address)
        at = {"function": "Pipeline.forward", "arguments": [x]}
        np.testing.assert_allclose(client.ask("evaluate", **at)["value"], y, rtol=1e-12)
        np.testing.assert_allclose(client.ask("vjp", cotangents=[v], **at)["gradients"][0]["x"], v @ jacobian)
        np.testing.assert_allclose(client.ask("jvp", tangents=[{"x": v}], **at)["tangents"][0], jacobian @ v)
        np.testing.assert_allclose(client.ask("jacobian", **at)["jacobian"]["x"], jacobian)
        energy = {"function": "Pipeline.energy", "arguments": [x]}
        found = client.ask("value_and_gradient", **energy)
        np.testing.assert_allclose(found["value"], 0.5 * y @ y)
        np.testing.assert_allclose(found["gradient"]["x"], y @ jacobian)
        (product,) = client.ask("hvp", vectors=[{"x": v}], **energy)["products"]
        hessian = client.ask("hessian", **energy)["hessian"]["x"]["x"]
        np.testing.assert_allclose(hessian @ v, product["x"])
        opened = client.ask("linearize", **at)
        found = client.ask("vjp", session=opened["session"], cotangents=[v, 2 * v])
        np.testing.assert_allclose(found["gradients"][1]["x"], 2 * v @ jacobian)
        client.close()
