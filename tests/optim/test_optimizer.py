"""What every optimizer promises: pure updates, exact state, settings that travel."""

from __future__ import annotations

import json
from math import inf, nan
from typing import Any

import numpy as np
import pytest

from distgrad import optim
from distgrad.autograd.rows import Rows
from distgrad.errors import ConfigError
from distgrad.optim.optimizer import BLOCK, KINDS

RULES = [
    optim.SGD(0.1),
    optim.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    optim.Adam(0.01),
    optim.AdamW(0.01),
    optim.Adagrad(0.1),
    optim.RMSprop(0.01, centered=True, momentum=0.5),
    optim.Lion(0.01, weight_decay=0.1),
    optim.LAMB(0.01, weight_decay=0.1),
]
every_rule = pytest.mark.parametrize("rule", RULES, ids=repr)


def problem(rng: np.random.Generator, dtype: str = "float32") -> tuple[dict[str, Any], dict[str, Any]]:
    shapes = {"a": (4, 3), "b": (3,), "c": ()}
    draw = lambda: {name: np.asarray(rng.standard_normal(shape), dtype) for name, shape in shapes.items()}  # noqa: E731
    return draw(), draw()


def test_the_table_of_kinds_holds_every_rule_tried_here() -> None:
    assert {type(rule).__name__ for rule in RULES} == KINDS.keys()


@every_rule
def test_an_update_writes_to_none_of_its_arguments(rule: optim.Optimizer, rng: np.random.Generator) -> None:
    parameters, gradients = problem(rng)
    state = rule.init(parameters)
    for array in (*parameters.values(), *gradients.values(), *state.values()):
        array.flags.writeable = False
    new_parameters, new_state = rule.update(parameters, gradients, state)
    assert all(new_parameters[name] is not parameters[name] for name in parameters)
    assert all(new_state[name] is not state[name] for name in state)


@every_rule
def test_a_parameter_without_gradient_and_its_state_are_the_old_arrays(
    rule: optim.Optimizer, rng: np.random.Generator
) -> None:
    parameters, gradients = problem(rng)
    state = rule.init(parameters)
    new_parameters, new_state = rule.update(parameters, {"a": gradients["a"], "b": None}, state)
    assert new_parameters["a"] is not parameters["a"]
    for name in ("b", "c"):
        assert new_parameters[name] is parameters[name]
        assert all(new_state[key] is state[key] for key in state if key.startswith(f"{name}/"))


@every_rule
def test_bound_steps_give_the_bits_of_pure_updates(rule: optim.Optimizer, rng: np.random.Generator) -> None:
    from distgrad import nn

    # Long enough for several blocks and a rest.
    start = {"long": rng.standard_normal(2 * BLOCK + 17).astype("float32"), "short": np.ones((2, 2), "float32")}
    own = {name: nn.Parameter(array.copy()) for name, array in start.items()}
    bound = rule.bind(own)
    parameters, state = start, rule.init(start)
    for _ in range(3):
        gradients = {name: rng.standard_normal(array.shape).astype("float32") for name, array in start.items()}
        parameters, state = rule.update(parameters, gradients, state)
        for name, parameter in own.items():
            parameter.grad = gradients[name]
        bound.step()
    assert all(np.array_equal(own[name].data, parameters[name]) for name in start)
    assert all(np.array_equal(bound.state[key], state[key]) for key in state)


@every_rule
def test_rows_that_a_sparse_gradient_does_not_name_rest(rule: optim.Optimizer, rng: np.random.Generator) -> None:
    parameters = {"table": rng.standard_normal((5, 2))}
    state = rule.init(parameters)
    gradient = Rows(np.array([1, 3]), rng.standard_normal((2, 2)), 5)
    new_parameters, new_state = rule.update(parameters, {"table": gradient}, state)
    if not rule.elementwise:
        dense, _ = rule.update(parameters, {"table": gradient.dense()}, state)
        assert np.array_equal(new_parameters["table"], dense["table"])
        return
    alone, alone_state = rule.update(
        {"table": parameters["table"][[1, 3]]}, {"table": gradient.values},
        {key: array[[1, 3]] if array.ndim else array for key, array in state.items()},
    )  # fmt: skip
    for new, old, rows in [
        (new_parameters["table"], parameters["table"], alone["table"]),
        *((new_state[key], state[key], alone_state[key]) for key in state if state[key].ndim),
    ]:
        assert np.array_equal(new[[0, 2, 4]], old[[0, 2, 4]])
        assert np.array_equal(new[[1, 3]], rows)


@every_rule
def test_half_precision_parameters_keep_their_dtype_and_float32_state(
    rule: optim.Optimizer, rng: np.random.Generator
) -> None:
    parameters, gradients = problem(rng, "float16")
    new_parameters, new_state = rule.update(parameters, gradients, rule.init(parameters))
    assert {array.dtype for array in new_parameters.values()} == {np.dtype("float16")}
    assert {array.dtype for key, array in new_state.items() if not key.endswith("/steps")} <= {np.dtype("float32")}
    assert not np.array_equal(new_parameters["a"], parameters["a"])


@every_rule
def test_settings_survive_the_wire(rule: optim.Optimizer) -> None:
    settings = json.loads(json.dumps(rule.to_settings()))
    assert optim.from_settings(rule.kind, settings) == rule


def test_unknown_kinds_and_settings_are_named() -> None:
    with pytest.raises(ConfigError, match=r"no optimizer 'Adamm'; there are .*Adam"):
        optim.from_settings("Adamm", {})
    with pytest.raises(ConfigError, match=r"Adam has no setting 'beta'; it has lr, beta1"):
        optim.from_settings("Adam", {"beta": 1})
    with pytest.raises(ConfigError, match=r"lr=-1"):
        optim.SGD(-1)


@pytest.mark.parametrize("settings", [{"lr": "0.1"}, {"lr": None}, {"beta1": [0.9]}], ids=str)
def test_a_setting_that_is_no_number_is_named(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^Adam: {next(iter(settings))}=.*, expected float$"):
        optim.Adam(**settings)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        *(("Adam", {name: value}) for name in ("lr", "beta1", "eps", "weight_decay") for value in (-0.1, nan, inf)),
        *(("LAMB", {name: 1.0}) for name in ("beta1", "beta2")),
        *(("RMSprop", {name: -1.0}) for name in ("momentum", "decay")),
        ("SGD", {"lr": 0.1, "nesterov": True}),
    ],
    ids=str,
)
def test_a_setting_that_no_step_can_be_made_with_is_named(kind: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^{kind}: {list(settings)[-1]}=.* (must be|needs)"):
        optim.from_settings(kind, settings)


def test_a_gradient_of_another_shape_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(ConfigError, match=r"gradient of shape \(3,\).*parameter of shape \(1, 3\)"):
        optim.SGD(0.1).update({"a": np.ones((1, 3))}, {"a": np.ones(3)}, {}, 1)


def test_lamb_scales_its_step_to_the_norm_of_the_parameter(rng: np.random.Generator) -> None:
    parameters = {"a": rng.standard_normal((4, 3))}
    rule = optim.LAMB(0.01)
    new, _ = rule.update(parameters, {"a": rng.standard_normal((4, 3))}, rule.init(parameters))
    moved = np.linalg.norm(new["a"] - parameters["a"])
    assert moved == pytest.approx(0.01 * np.linalg.norm(parameters["a"]), rel=1e-12)


def test_lion_moves_every_element_by_the_learning_rate(rng: np.random.Generator) -> None:
    parameters = {"a": rng.standard_normal((4, 3))}
    gradient = rng.standard_normal((4, 3))
    rule = optim.Lion(0.01)
    new, state = rule.update(parameters, {"a": gradient}, rule.init(parameters))
    np.testing.assert_allclose(new["a"], parameters["a"] - 0.01 * np.sign(gradient), rtol=1e-12)
    np.testing.assert_allclose(state["a/mean"], 0.01 * gradient, rtol=1e-12)


def test_a_constant_gradient_leaves_centered_rmsprop_finite() -> None:
    rule = optim.RMSprop(1e-3, centered=True)
    gradients = {"p": np.linspace(0.1, 3, 64, dtype=np.float32)}
    parameters = {"p": np.ones(64, np.float32)}
    state = rule.init(parameters)
    for _ in range(2000):
        parameters, state = rule.update(parameters, gradients, state)
    assert np.all(np.isfinite(parameters["p"]))
