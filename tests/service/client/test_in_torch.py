from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from distgrad.errors import GradientError
from distgrad.service.client import Client

from .test_function import X

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.slow,
    # torch's own, when forward mode is used for the first time
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
]


def variable(values: Any) -> Any:
    return torch.tensor(values, requires_grad=True)


def test_gradcheck_and_gradgradcheck_pass(remote: Client) -> None:
    f = remote["rosenbrock"].as_torch()
    assert torch.autograd.gradcheck(f, (variable(X),), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(f, (variable(X),))


def test_they_pass_for_trees(remote: Client) -> None:
    f = remote["field"].as_torch()

    def flat(x: Any, k: Any, m: Any) -> Any:
        found = f(x, {"k": k, "m": m})
        return found["a"], found["b"][0]

    inputs = variable(X), variable(np.float64(2.0)), variable(X + 1)
    assert torch.autograd.gradcheck(flat, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(flat, inputs)


def test_they_pass_for_complex_numbers(remote: Client) -> None:
    f = remote["wave"].as_torch()
    z = variable(np.array([1 + 2j, 0.3 - 0.4j]))
    assert torch.autograd.gradcheck(f, (z,))
    assert torch.autograd.gradgradcheck(f, (z,))


def test_single_precision_stays_single(remote: Client) -> None:
    x = variable(X.astype(np.float32))
    remote["sin"].as_torch()(x).sum().backward()
    assert x.grad.dtype == torch.float32
    assert np.allclose(x.grad.numpy(), np.cos(X), rtol=1e-6)


def test_it_trains_among_layers_of_torch(remote: Client) -> None:
    torch.manual_seed(0)
    f, layer = remote["sin"].as_torch(), torch.nn.Linear(3, 3, dtype=torch.float64)
    losses = []
    for _ in range(30):
        loss = ((f(layer(torch.tensor(X))) - 0.5) ** 2).sum()
        gradients = torch.autograd.grad(loss, list(layer.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(layer.parameters(), gradients, strict=True):
                parameter -= 0.2 * gradient
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 100


def test_third_derivatives_are_refused(remote: Client) -> None:
    x = variable(X)
    (gradient,) = torch.autograd.grad(remote["rosenbrock"].as_torch()(x), x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), x, create_graph=True)
    with pytest.raises(GradientError, match="third derivatives of rosenbrock were asked for"):
        second.sum().backward()
