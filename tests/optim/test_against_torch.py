"""Every optimizer against PyTorch's of the same name, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad import optim

STEPS = 12
SHAPES = {"weight": (7, 5), "bias": (5,), "scale": ()}

# Ours and PyTorch's, with the same settings.
CASES: dict[str, tuple[optim.Optimizer, Callable[[Any, Any], Any]]] = {
    "sgd": (optim.SGD(0.1), lambda t, p: t.SGD(p, lr=0.1)),
    "sgd-momentum": (optim.SGD(0.1, momentum=0.9), lambda t, p: t.SGD(p, lr=0.1, momentum=0.9)),
    "sgd-nesterov": (
        optim.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.05),
        lambda t, p: t.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.05),
    ),
    "adam": (optim.Adam(0.01), lambda t, p: t.Adam(p, lr=0.01)),
    "adam-decay": (
        optim.Adam(0.01, beta1=0.8, beta2=0.95, eps=1e-6, weight_decay=0.1),
        lambda t, p: t.Adam(p, lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
    ),
    "adamw": (optim.AdamW(0.01, weight_decay=0.1), lambda t, p: t.AdamW(p, lr=0.01, weight_decay=0.1)),
    "adagrad": (
        optim.Adagrad(0.1, initial_sum=0.5, weight_decay=0.1),
        lambda t, p: t.Adagrad(p, lr=0.1, initial_accumulator_value=0.5, weight_decay=0.1),
    ),
    "rmsprop": (optim.RMSprop(0.01), lambda t, p: t.RMSprop(p, lr=0.01)),
    "rmsprop-centered": (
        optim.RMSprop(0.01, centered=True, momentum=0.9, weight_decay=0.1),
        lambda t, p: t.RMSprop(p, lr=0.01, centered=True, momentum=0.9, weight_decay=0.1),
    ),
}


def drawn(rng: np.random.Generator, dtype: str) -> dict[str, Any]:
    values = {name: rng.standard_normal((2, *shape)) for name, shape in SHAPES.items()}
    return {name: (x + 1j * y if "complex" in dtype else x).astype(dtype) for name, (x, y) in values.items()}


@pytest.mark.parametrize("dtype", ["float64", "float32", "complex128"])
@pytest.mark.parametrize("case", CASES)
def test_a_step_is_the_one_that_torch_makes(case: str, dtype: str, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    rule, peer = CASES[case]
    parameters = drawn(rng, dtype)
    theirs = {name: torch.tensor(array, requires_grad=True) for name, array in parameters.items()}
    their_rule = peer(torch.optim, list(theirs.values()))
    state = rule.init(parameters)
    for _ in range(STEPS):
        gradients = drawn(rng, dtype)
        parameters, state = rule.update(parameters, gradients, state)
        for name, tensor in theirs.items():
            tensor.grad = torch.tensor(gradients[name])
        their_rule.step()
        tolerance = {"rtol": 1e-12, "atol": 1e-14} if dtype != "float32" else {"rtol": 1e-5, "atol": 1e-6}
        for name, tensor in theirs.items():
            assert parameters[name].dtype == dtype
            np.testing.assert_allclose(parameters[name], tensor.detach().numpy(), **tolerance)


@pytest.mark.parametrize("case", CASES)
def test_a_parameter_that_had_no_gradient_in_some_steps_is_where_torch_has_it(
    case: str, rng: np.random.Generator
) -> None:
    torch = pytest.importorskip("torch")
    rule, peer = CASES[case]
    parameters = drawn(rng, "float64")
    own = {name: dg.tensor(array, requires_grad=True) for name, array in parameters.items()}
    theirs = {name: torch.tensor(array, requires_grad=True) for name, array in parameters.items()}
    bound, their_rule = rule.bind(own), peer(torch.optim, list(theirs.values()))
    state = rule.init(parameters)
    for step in range(STEPS):
        gradients = {name: g for k, (name, g) in enumerate(drawn(rng, "float64").items()) if (step + k) % 3}
        for name, tensor in theirs.items():
            own[name].grad = gradients.get(name)
            tensor.grad = torch.tensor(gradients[name]) if name in gradients else None
        parameters, state = rule.update(parameters, gradients, state)
        bound.step()
        their_rule.step()
        for name, tensor in theirs.items():
            np.testing.assert_allclose(parameters[name], tensor.detach().numpy(), rtol=1e-12, atol=1e-14)
            assert np.array_equal(parameters[name], own[name].data)


def test_of_a_row_sparse_gradient_adam_makes_the_steps_of_sparse_adam(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    from distgrad.autograd.rows import Rows

    table = rng.standard_normal((6, 3))
    theirs = torch.tensor(table, requires_grad=True)
    # The two add eps before and after the bias correction.
    their_rule = torch.optim.SparseAdam([theirs], lr=0.01, eps=1e-20)
    rule = optim.Adam(0.01, eps=1e-20)
    parameters: dict[str, Any] = {"table": table}
    state = rule.init(parameters)
    for rows in ([0, 2], [2, 5], [1, 2, 3]):
        values = rng.standard_normal((len(rows), 3))
        gradient = Rows(np.array(rows), values, 6)
        parameters, state = rule.update(parameters, {"table": gradient}, state)
        theirs.grad = torch.sparse_coo_tensor([rows], values, (6, 3), check_invariants=True)
        their_rule.step()
        np.testing.assert_allclose(parameters["table"], theirs.detach().numpy(), rtol=1e-12)


SCHEDULES: dict[str, tuple[optim.schedules.Schedule, Callable[[Any, Any], Any]]] = {
    "step": (optim.schedules.Step(every=4, factor=0.5), lambda t, o: t.StepLR(o, 4, 0.5)),
    "cosine": (optim.schedules.Cosine(total=20, final=0.1), lambda t, o: t.CosineAnnealingLR(o, 20, 0.1)),
    "warm-up": (optim.schedules.LinearWarmup(steps=6, start=0.25), lambda t, o: t.LinearLR(o, 0.25, 1.0, 6)),
    "one-cycle": (optim.schedules.OneCycle(total=20), lambda t, o: t.OneCycleLR(o, 1.0, 20, cycle_momentum=False)),
}


@pytest.mark.parametrize("case", SCHEDULES)
def test_a_schedule_has_the_values_of_torchs(case: str) -> None:
    torch = pytest.importorskip("torch")
    schedule, peer = SCHEDULES[case]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = peer(torch.optim.lr_scheduler, optimizer)
    for step in range(20):
        assert schedule(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        theirs.step()
