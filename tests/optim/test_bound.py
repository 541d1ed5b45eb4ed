"""Optimizers bound to a module or to parameters."""

from __future__ import annotations

import numpy as np
import pytest

import distgrad as dg
from distgrad import nn, ops, optim
from distgrad.errors import ConfigError, InPlaceError


def model() -> nn.Module:
    with nn.random.seeded(3, "model"):
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def trained(network: nn.Module, optimizer: optim.BoundOptimizer, steps: int) -> None:
    x = np.linspace(-1, 1, 40, dtype=np.float32).reshape(10, 4)
    y = np.sin(x.sum(1, keepdims=True))
    for _ in range(steps):
        optimizer.zero_grad()
        ops.mse(network(x), y).backward()
        optimizer.step()


def test_a_network_learns() -> None:
    network = model()
    x = np.linspace(-1, 1, 40, dtype=np.float32).reshape(10, 4)
    y = np.sin(x.sum(1, keepdims=True))
    before = ops.mse(network(x), y).item()
    trained(network, optim.Adam(0.05).bind(network), 200)
    assert ops.mse(network(x), y).item() < 0.05 * before


def test_a_run_resumed_from_saved_state_has_the_bits_of_one_that_went_on() -> None:
    schedule = optim.schedules.Cosine(total=20)
    whole, first, second = model(), model(), model()
    trained(whole, optim.AdamW(0.02).bind(whole, schedule), 10)
    optimizer = optim.AdamW(0.02).bind(first, schedule)
    trained(first, optimizer, 4)
    saved = {name: array.copy() for name, array in first.state_dict().items()}, optimizer.state_dict()
    trained(first, optimizer, 1)
    resumed = optim.AdamW(0.02).bind(second, schedule)
    second.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    assert resumed.step_count == 4
    trained(second, resumed, 6)
    for name, array in whole.state_dict().items():
        assert np.array_equal(array, second.state_dict()[name]), name


def test_the_schedule_scales_the_learning_rate() -> None:
    parameter = nn.Parameter(np.ones(1))
    optimizer = optim.SGD(1.0).bind([parameter], optim.schedules.Step(every=1, factor=0.5))
    parameter.grad = np.ones(1)
    values = []
    for _ in range(3):
        optimizer.step()
        values.append(float(parameter.data[0]))
    assert values == [0.0, -0.5, -0.75]
    assert optimizer.learning_rate == 0.125


def test_frozen_parameters_and_those_without_gradient_stay() -> None:
    frozen, idle, moving = (nn.Parameter(np.ones(2), requires_grad=k != 0) for k in range(3))
    optimizer = optim.SGD(0.5).bind({"frozen": frozen, "idle": idle, "moving": moving})
    assert list(optimizer.parameters) == ["idle", "moving"]
    moving.grad = np.ones(2)
    optimizer.step()
    assert frozen.data.tolist() == idle.data.tolist() == [1, 1]
    assert moving.data.tolist() == [0.5, 0.5]


def test_a_backward_pass_over_values_from_before_a_step_is_refused() -> None:
    weight = nn.Parameter(np.array([2.0]))
    optimizer = optim.SGD(0.1).bind([weight])
    loss = ops.sum(weight * weight)
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(InPlaceError):
        loss.backward()


def test_read_only_parameters_are_replaced_not_written_to() -> None:
    array = np.ones(2)
    array.flags.writeable = False
    weight = nn.Parameter(array)
    weight.grad = np.ones(2)
    optim.SGD(0.5).bind([weight]).step()
    assert array.tolist() == [1, 1]
    assert weight.data.tolist() == [0.5, 0.5]


def test_embeddings_are_trained_by_their_rows() -> None:
    table = nn.Embedding(6, 2)
    before = table.weight.numpy().copy()
    ops.sum(table(np.array([1, 4, 1]))).backward()
    optim.SGD(0.5).bind(table).step()
    np.testing.assert_allclose(table.weight.numpy()[[1, 4]], before[[1, 4]] - [[1.0, 1.0], [0.5, 0.5]], rtol=1e-6)
    assert np.array_equal(table.weight.numpy()[[0, 2, 3, 5]], before[[0, 2, 3, 5]])


def test_state_of_other_parameters_is_refused() -> None:
    optimizer = optim.Adam().bind([nn.Parameter(np.ones(2))])
    other = optim.Adam().bind([nn.Parameter(np.ones(3))])
    with pytest.raises(ConfigError, match=r"'0/mean' is float64\[3\], expected float64\[2\]"):
        optimizer.load_state_dict(other.state_dict())
    with pytest.raises(ConfigError, match="does not belong"):
        optimizer.load_state_dict({"step": 1})
    with pytest.raises(ConfigError, match="nothing that requires grad"):
        optim.Adam().bind([dg.tensor(1.0)])


def test_its_repr_says_what_it_is() -> None:
    optimizer = optim.SGD(0.5).bind([nn.Parameter(np.ones(2))])
    assert repr(optimizer) == (
        "<SGD(lr=0.5, momentum=0.0, nesterov=False, weight_decay=0.0) of 1 parameters after 0 steps>"
    )


def test_a_parameter_that_is_given_twice_is_stepped_once() -> None:
    tied = dg.tensor(np.ones(2), requires_grad=True)
    sgd = dg.optim.SGD(0.1).bind([tied, tied])
    tied.grad = np.ones(2)
    sgd.step()
    np.testing.assert_allclose(tied.numpy(), 0.9)


def test_a_step_with_a_gradient_that_does_not_belong_changes_nothing() -> None:
    first, second = (dg.tensor(np.ones(2), requires_grad=True) for _ in range(2))
    bound = optim.Adam(0.1).bind([first, second])
    first.grad = np.ones(2)
    for wrong, message in ((np.ones(3), r"shape \(3,\)"), (np.ones(2, complex), "complex128")):
        second.grad = wrong
        with pytest.raises(ConfigError, match=message):
            bound.step()
    assert (first.numpy().tolist(), bound.step_count) == ([1, 1], 0)
    assert not bound.state["0/mean"].any()


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        (np.ones(2), "of type ndarray"),
        (dg.tensor(np.ones(2), requires_grad=True) * 2, "computed from others"),
        ("weight", "of type str"),
    ],
)
def test_what_can_be_no_parameter_is_refused(parameter: object, message: str) -> None:
    with pytest.raises(ConfigError, match=f"parameter '0' of an optimizer is .*{message}"):
        optim.SGD(0.1).bind([parameter])  # type: ignore[list-item]
