"""Layers against PyTorch's: same weights, same values, same gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad import nn, ops
from distgrad.errors import ConfigError, GradientError

# Ours, PyTorch's, the input's shape. Weights are copied in the order of parameters.
CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[Any], Any], tuple[int, ...]]] = {
    "Linear": (lambda: nn.Linear(4, 3, dtype="float64"), lambda t: t.Linear(4, 3), (2, 5, 4)),
    "Conv2d": (
        lambda: nn.Conv2d(2, 4, (3, 2), stride=2, padding=1, groups=2, dtype="float64"),
        lambda t: t.Conv2d(2, 4, (3, 2), stride=2, padding=1, groups=2),
        (2, 2, 6, 5),
    ),
    "Conv1d": (
        lambda: nn.Conv1d(2, 3, 3, padding=1, dilation=2, dtype="float64"),
        lambda t: t.Conv1d(2, 3, 3, padding=1, dilation=2),
        (2, 2, 9),
    ),
    "ConvTranspose2d": (
        lambda: nn.ConvTranspose2d(3, 2, 3, stride=2, output_padding=1, dtype="float64"),
        lambda t: t.ConvTranspose2d(3, 2, 3, stride=2, output_padding=1),
        (2, 3, 3, 4),
    ),
    "MaxPool2d": (lambda: nn.MaxPool2d(3, 2, 1), lambda t: t.MaxPool2d(3, 2, 1), (2, 3, 6, 7)),
    "AvgPool2d": (lambda: nn.AvgPool2d(2), lambda t: t.AvgPool2d(2), (2, 3, 6, 7)),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d((2, 3)), lambda t: t.AdaptiveAvgPool2d((2, 3)), (2, 3, 5, 7)),
    "Flatten": (nn.Flatten, lambda t: t.Flatten(), (2, 3, 4)),
    "LayerNorm": (lambda: nn.LayerNorm((3, 4), dtype="float64"), lambda t: t.LayerNorm((3, 4)), (2, 3, 4)),
    "RMSNorm": (lambda: nn.RMSNorm(4, dtype="float64"), lambda t: t.RMSNorm(4, eps=1e-6), (2, 3, 4)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4, dtype="float64"), lambda t: t.GroupNorm(2, 4), (2, 4, 3, 3)),
    "BatchNorm": (lambda: nn.BatchNorm(3, dtype="float64"), lambda t: t.BatchNorm2d(3), (2, 3, 4, 4)),
    "ReLU": (nn.ReLU, lambda t: t.ReLU(), (3, 4)),
    "LeakyReLU": (lambda: nn.LeakyReLU(slope=0.2), lambda t: t.LeakyReLU(0.2), (3, 4)),
    "ELU": (nn.ELU, lambda t: t.ELU(), (3, 4)),
    "SELU": (nn.SELU, lambda t: t.SELU(), (3, 4)),
    "GELU": (nn.GELU, lambda t: t.GELU(), (3, 4)),
    "SiLU": (nn.SiLU, lambda t: t.SiLU(), (3, 4)),
    "Mish": (nn.Mish, lambda t: t.Mish(), (3, 4)),
    "Softplus": (nn.Softplus, lambda t: t.Softplus(), (3, 4)),
    "Hardtanh": (nn.Hardtanh, lambda t: t.Hardtanh(), (3, 4)),
    "Tanh": (nn.Tanh, lambda t: t.Tanh(), (3, 4)),
    "Sigmoid": (nn.Sigmoid, lambda t: t.Sigmoid(), (3, 4)),
    "Softmax": (nn.Softmax, lambda t: t.Softmax(-1), (3, 4)),
    "LogSoftmax": (nn.LogSoftmax, lambda t: t.LogSoftmax(-1), (3, 4)),
}


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


def copy_weights(torch: Any, ours: nn.Module, theirs: Any, rng: np.random.Generator) -> None:
    """New random weights for both."""
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert own.shape == tuple(other.shape)
        own.set_data(rng.standard_normal(own.shape))
        other.data = torch.tensor(own.numpy())


@pytest.mark.parametrize("name", CASES)
def test_a_layer_computes_what_torchs_does(name: str, torch: Any, rng: np.random.Generator) -> None:
    make, make_theirs, shape = CASES[name]
    ours, theirs = make(), make_theirs(torch.nn).double()
    copy_weights(torch, ours, theirs, rng)
    x = rng.standard_normal(shape)
    own, other = dg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    value, expected = ours(own), theirs(other)
    np.testing.assert_allclose(value.data, expected.detach().numpy(), rtol=1e-7, atol=1e-10)
    seed = rng.standard_normal(value.shape)
    value.backward(seed)
    expected.backward(torch.tensor(seed))
    np.testing.assert_allclose(own.grad, other.grad.numpy(), rtol=1e-6, atol=1e-9)
    for parameter, tensor in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(parameter.grad, tensor.grad.numpy(), rtol=1e-6, atol=1e-9)
    assert type(ours).__name__ in repr(ours)


LOSSES = {
    "CrossEntropyLoss": "labels",
    "NLLLoss": "labels",
    "MSELoss": "values",
    "L1Loss": "values",
    "HuberLoss": "values",
    "BCEWithLogitsLoss": "values",
    "KLDivLoss": "values",
}


@pytest.mark.parametrize("reduction", ["sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_torchs(name: str, reduction: str, torch: Any, rng: np.random.Generator) -> None:
    x = rng.standard_normal((4, 3))
    target = rng.integers(0, 3, 4) if LOSSES[name] == "labels" else rng.uniform(0.1, 0.9, (4, 3))
    value = getattr(nn, name)(reduction)(x, target)
    expected = getattr(torch.nn, name)(reduction=reduction)(torch.tensor(x), torch.tensor(target))
    np.testing.assert_allclose(value.data, expected.numpy(), rtol=1e-10)


def test_batch_norm_follows_the_batches_and_uses_the_running_statistics_in_evaluation(
    torch: Any, rng: np.random.Generator
) -> None:
    ours, theirs = nn.BatchNorm(3, dtype="float64"), torch.nn.BatchNorm1d(3, dtype=torch.float64)
    for _ in range(3):
        batch = rng.standard_normal((6, 3, 2))
        ours(dg.tensor(batch))
        theirs(torch.tensor(batch))
    np.testing.assert_allclose(ours.running_mean.data, theirs.running_mean.numpy(), rtol=1e-12)
    np.testing.assert_allclose(ours.running_var.data, theirs.running_var.numpy(), rtol=1e-12)
    x = rng.standard_normal((4, 3, 2))
    before = ours.running_mean.data
    np.testing.assert_allclose(ours.train(False)(x).data, theirs.eval()(torch.tensor(x)).detach().numpy(), rtol=1e-10)
    assert ours.running_mean.data is before


@pytest.mark.parametrize("bias", [True, False])
def test_attention_is_torchs(bias: bool, torch: Any, rng: np.random.Generator) -> None:
    ours = nn.MultiHeadAttention(6, 2, bias=bias, dtype="float64")
    theirs = torch.nn.MultiheadAttention(6, 2, bias=bias, batch_first=True, dtype=torch.float64)
    # PyTorch's parameters: packed weight, packed bias, output weight, output bias.
    copy_weights(torch, ours, theirs, rng)
    x, context = rng.standard_normal((2, 5, 6)), rng.standard_normal((2, 4, 6))
    tx, tcontext = torch.tensor(x), torch.tensor(context)
    expected, _ = theirs(tx, tx, tx)
    np.testing.assert_allclose(ours(x).data, expected.detach().numpy(), rtol=1e-9)
    expected, _ = theirs(tx, tcontext, tcontext)
    np.testing.assert_allclose(ours(x, context).data, expected.detach().numpy(), rtol=1e-9)
    seen = np.tril(np.ones((5, 5), bool))
    expected, _ = theirs(tx, tx, tx, attn_mask=torch.tensor(~seen))
    np.testing.assert_allclose(ours(x, mask=seen).data, expected.detach().numpy(), rtol=1e-9)


def test_causal_attention_does_not_look_ahead(rng: np.random.Generator) -> None:
    attention = nn.MultiHeadAttention(4, 2, causal=True, dtype="float64")
    x = rng.standard_normal((1, 6, 4))
    later = x.copy()
    later[:, 4:] += 1
    assert np.array_equal(attention(x).data[:, :4], attention(later).data[:, :4])
    assert not np.allclose(attention(x).data[:, 4:], attention(later).data[:, 4:])
    with pytest.raises(ConfigError, match="width 5 is no multiple of heads 2"):
        nn.MultiHeadAttention(5, 2)


@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell"])
def test_a_recurrent_cell_is_torchs(name: str, torch: Any, rng: np.random.Generator) -> None:
    ours = getattr(nn, name)(3, 4, dtype="float64")
    theirs = getattr(torch.nn, name)(3, 4, dtype=torch.float64)
    copy_weights(torch, ours, theirs, rng)
    state = expected = None
    for _ in range(3):
        x = rng.standard_normal((2, 3))
        state = ours(x, state)
        expected = theirs(torch.tensor(x), expected)
    found, wanted = (state, expected) if name == "GRUCell" else (ops.stack(state), torch.stack(expected))
    np.testing.assert_allclose(found.data, wanted.detach().numpy(), rtol=1e-10)
    ops.sum(found).backward()
    wanted.sum().backward()
    for parameter, tensor in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(parameter.grad, tensor.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_an_embedding_looks_rows_up_and_sends_rows_back() -> None:
    table = nn.Embedding(5, 2)
    found = table(np.array([[1, 3], [1, 0]]))
    assert np.array_equal(found.data, table.weight.numpy()[[[1, 3], [1, 0]]])
    ops.sum(found).backward()
    assert table.weight.grad.indices.tolist() == [0, 1, 3]
    assert table.weight.grad.dense().tolist() == [[1, 1], [2, 2], [0, 0], [1, 1], [0, 0]]


def test_dropout_keeps_the_mean_and_can_be_drawn_again() -> None:
    layer, x = nn.Dropout(0.25), np.ones((200, 200), np.float32)
    with nn.random.seeded(5, "step", 3):
        first, second = layer(x).data, layer(x).data
    with nn.random.seeded(5, "step", 3):
        again = layer(x).data
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)
    assert set(np.unique(first)) == {np.float32(0), np.float32(1 / 0.75)}
    assert first.mean() == pytest.approx(1, abs=0.02)
    assert np.array_equal(layer(x, key=9).data, layer(x, key=9).data)
    assert layer.train(False)(x) is x


def test_the_gradient_of_dropout_goes_where_the_value_went() -> None:
    x = dg.tensor(np.ones((10, 10)), requires_grad=True)
    value = nn.Dropout(0.5)(x)
    ops.sum(value).backward()
    assert np.array_equal(x.grad, value.data)


def test_batch_norm_of_integers_is_of_floating_point_in_both_modes() -> None:
    x = np.array([[1, 2], [3, 5]])
    for training in (True, False):
        found, expected = (nn.BatchNorm(2, dtype="float64").train(training)(a) for a in (x, x.astype(float)))
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found.numpy(), expected.numpy())


def test_batch_norm_keeps_its_statistics_where_it_fails_or_has_no_examples() -> None:
    norm = nn.BatchNorm(4)
    with pytest.raises(GradientError, match="1 channels"):
        norm(np.ones((2, 1)))
    with pytest.warns(RuntimeWarning, match="empty slice"), np.errstate(invalid="ignore"):
        assert norm(np.zeros((0, 4))).shape == (0, 4)
    assert not norm.running_mean.numpy().any()
    assert (norm.running_var.numpy() == 1).all()
