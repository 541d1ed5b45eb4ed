"""What modules own, and their state."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import distgrad as dg
from distgrad import nn, ops
from distgrad.errors import ConfigError, GradientError


class Tied(nn.Module):
    """Parameters, buffers and modules in every place a module may hold them, one of them twice."""

    def __init__(self) -> None:
        self.first = nn.Linear(2, 3)
        self.scale = nn.Parameter(np.ones(3, np.float32))
        self.layers = [nn.Linear(3, 3), (nn.ReLU(), nn.Linear(3, 2, bias=False))]
        self.named = {"count": nn.Buffer(np.zeros(1)), "again": self.scale}
        self.again = self.first
        self.size = 3

    def forward(self, x: object) -> object:
        return ops.relu(self.first(x)) * self.scale


def test_names_are_paths_in_the_order_of_definition_and_shared_parts_appear_once() -> None:
    module = Tied()
    assert [name for name, _ in module.named_parameters()] == [
        "first.weight", "first.bias", "scale", "layers.0.weight", "layers.0.bias", "layers.1.1.weight",
    ]  # fmt: skip
    assert [name for name, _ in module.named_buffers()] == ["named.count"]
    assert [name for name, _ in module.named_modules()] == ["", "first", "layers.0", "layers.1.0", "layers.1.1"]
    assert [name for name, _ in module.named_children()] == ["first", "layers.0", "layers.1.0", "layers.1.1", "again"]


def test_no_constructor_needs_to_be_called() -> None:
    class Bare(nn.Module):
        def forward(self, x: float) -> float:
            return 2 * x

    assert Bare()(3.0) == 6.0
    assert list(Bare().parameters()) == []


def test_a_module_without_forward_says_so() -> None:
    with pytest.raises(NotImplementedError, match=r"Module does not define forward\(\)"):
        nn.Module()(1)


def test_state_goes_from_one_module_to_another_bit_for_bit() -> None:
    with nn.random.seeded(1):
        source = Tied()
    with nn.random.seeded(2):
        target = Tied()
    target.load_state_dict(source.state_dict())
    for name, array in source.state_dict().items():
        assert np.array_equal(array, target.state_dict()[name]), name
        assert target.state_dict()[name] is not array


def test_state_that_does_not_fit_is_refused_whole_and_every_reason_named() -> None:
    module = nn.Linear(2, 3)
    before = module.weight.data
    state = {"weight": np.zeros((3, 2), np.float64), "bais": np.zeros(3)}
    with pytest.raises(ConfigError) as caught:
        module.load_state_dict(state)
    message = str(caught.value)
    assert "the state does not fit this Linear" in message
    assert "'weight' is float64[3, 2], the module's is float32[3, 2]" in message
    assert "'bias' is missing" in message
    assert "'bais' is not part of the module" in message
    assert module.weight.data is before
    with pytest.raises(ConfigError, match=r"'bias' is float32\[1\], the module's is float32\[3\]"):
        module.load_state_dict({"weight": module.weight.data, "bias": np.zeros(1, np.float32)})


def test_training_mode_reaches_all_modules_below() -> None:
    module = Tied()
    assert all(m.training for m in module.modules())
    assert module.train(False) is module
    assert not any(m.training for m in module.modules())
    assert all(m.training for m in module.train().modules())


def test_evaluating_holds_within_its_block_and_in_no_other_thread() -> None:
    module = nn.Dropout(0.5).train(False)
    other, elsewhere = nn.Dropout(0.5), []
    with nn.evaluating():
        assert not other.training
        assert not module.train().training
        thread = threading.Thread(target=lambda: elsewhere.append(other.training))
        thread.start()
        thread.join()
    assert elsewhere == [True]
    assert other.training
    assert module.training


def test_a_checkpointed_function_runs_again_in_the_mode_of_its_first_run() -> None:
    dropout = nn.Dropout(0.5)
    x = dg.tensor(np.ones(100), requires_grad=True)
    with nn.evaluating():
        y = dg.checkpoint(lambda x: dropout(x) * x)(x)
    ops.sum(y).backward()
    assert np.array_equal(x.grad, np.full(100, 2.0))


def test_gradients_of_all_parameters_are_forgotten_at_once() -> None:
    module = nn.Linear(2, 3)
    ops.sum(module(np.ones((1, 2), np.float32))).backward()
    assert module.weight.grad is not None
    module.zero_grad()
    assert module.weight.grad is None


def test_its_repr_shows_the_tree() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.GELU(approximate="tanh"), nn.Dropout(0.1)))
    assert repr(model) == "\n".join(
        [
            "Sequential()",
            "  0: Linear(2, 3)",
            "  1: Sequential()",
            "    0: GELU(approximate='tanh')",
            "    1: Dropout(0.1)",
        ]
    )
    assert repr(nn.Linear(2, 3, bias=False)) == "Linear(2, 3, bias=False)"
    assert len(model) == 2
    assert model[0].weight.shape == (3, 2)


# ---- parameters and buffers ------------------------------------------------------------------------------------------


def test_a_parameter_is_a_variable_and_a_buffer_is_not() -> None:
    parameter, buffer = nn.Parameter(np.ones(2)), nn.Buffer(np.ones(2))
    ops.sum(parameter * buffer).backward()
    assert parameter.grad.tolist() == [1, 1]
    assert not buffer.requires_grad
    assert not nn.Parameter(np.ones(2), requires_grad=False).requires_grad
    assert repr(parameter).startswith("Parameter(tensor([1., 1.]")
    assert repr(buffer).startswith("Buffer(tensor([1., 1.]")


def test_set_data_swaps_the_array_and_leaves_older_graphs_alone() -> None:
    parameter = nn.Parameter(np.array([2.0]))
    old = ops.sum(parameter * parameter)
    parameter.set_data(np.array([5.0]))
    old.backward()
    assert parameter.grad.tolist() == [4.0]
    assert (parameter * 1).data.tolist() == [5.0]


def test_a_parameter_is_made_of_floating_point_arrays_only() -> None:
    with pytest.raises(GradientError, match="int64"):
        nn.Parameter(np.ones(2, np.int64))
    with pytest.raises(GradientError, match="not from a tensor"):
        nn.Parameter(dg.tensor([1.0]))


def test_staged_changes_of_buffers_wait_and_then_give_the_bits_of_direct_ones(rng: np.random.Generator) -> None:
    direct, staged = (nn.BatchNorm(3) for _ in range(2))
    batches = [rng.standard_normal((5, 3)).astype(np.float32) for _ in range(4)]
    for batch in batches:
        direct(batch)
    with nn.staged_buffers() as updates:
        for batch in batches:
            staged(batch)
    assert staged.running_mean.data.tolist() == [0, 0, 0]
    assert {update.buffer for update in updates} == {staged.running_mean, staged.running_var}
    old = staged.running_mean.data
    for update in updates:
        update.apply()
    assert old.tolist() == [0, 0, 0], "the old array was written to"
    assert np.array_equal(staged.running_mean.data, direct.running_mean.data)
    assert np.array_equal(staged.running_var.data, direct.running_var.data)


def test_a_checkpointed_forward_pass_changes_buffers_once(rng: np.random.Generator) -> None:
    plain, checkpointed = nn.BatchNorm(3), nn.BatchNorm(3)
    x = dg.tensor(rng.standard_normal((5, 3)).astype(np.float32), requires_grad=True)
    ops.sum(plain(x)).backward()
    ops.sum(dg.checkpoint(checkpointed)(x)).backward()
    assert np.array_equal(plain.running_mean.data, checkpointed.running_mean.data)


@pytest.mark.parametrize(
    "members",
    [
        {1: nn.Parameter(np.ones(2)), "1": nn.Parameter(np.ones(3))},
        {"a.b": nn.Parameter(np.ones(2)), "a": {"b": nn.Parameter(np.ones(3))}},
    ],
    ids=["number and text", "dot"],
)
def test_two_members_of_one_name_are_refused(members: dict) -> None:
    module = nn.Module()
    module.members = members  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"called 'members\.(1|a\.b)'"):
        module.state_dict()


def test_a_state_that_is_no_arrays_is_refused() -> None:
    layer = nn.Linear(2, 3)
    with pytest.raises(ConfigError, match=r"'weight' is a list, the module's is float32.*'bias' is a NoneType"):
        layer.load_state_dict({"weight": layer.weight.tolist(), "bias": None})
