"""Bounds on gradients."""

from __future__ import annotations

import numpy as np
import pytest

from distgrad import optim
from distgrad.autograd.rows import Rows
from distgrad.errors import ConfigError


def test_clipping_by_norm_is_torchs(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    gradients = {"b": rng.standard_normal((3, 4)), "a": rng.standard_normal(5)}
    clipped, norm = optim.clip_by_norm(gradients, 0.5)
    tensors = [torch.zeros(g.shape, dtype=torch.float64, requires_grad=True) for g in gradients.values()]
    for tensor, gradient in zip(tensors, gradients.values(), strict=True):
        tensor.grad = torch.tensor(gradient)
    assert norm == pytest.approx(float(torch.nn.utils.clip_grad_norm_(tensors, 0.5)), rel=1e-12)
    for tensor, name in zip(tensors, gradients, strict=True):
        # PyTorch adds 1e-6 to the norm.
        np.testing.assert_allclose(clipped[name], tensor.grad.numpy(), rtol=1e-5)


def test_gradients_within_the_limit_are_the_same_arrays() -> None:
    gradient = np.array([3.0, 4.0])
    clipped, norm = optim.clip_by_norm({"a": gradient, "absent": None}, 5.0)
    assert norm == 5.0
    assert clipped["a"] is gradient
    assert "absent" not in clipped


def test_norms_are_taken_in_float64() -> None:
    big = np.full(100_000, 1e25, np.float32)
    assert optim.norm_of(big) == pytest.approx(float(np.float32(1e25)) * np.sqrt(1e5), rel=1e-12)
    assert optim.norm_of(np.array([3 + 4j])) == 5.0


def test_the_total_does_not_depend_on_the_order_of_the_owners() -> None:
    norms = {f"p{k}": 1.0 / (k + 1) for k in range(50)}
    assert optim.total_norm(norms) == optim.total_norm(dict(reversed(norms.items())))


def test_sparse_gradients_are_clipped_like_dense_ones() -> None:
    rows = Rows(np.array([1]), np.array([[3.0, -4.0]]), 3)
    by_norm, norm = optim.clip_by_norm({"table": rows}, 1.0)
    assert norm == 5.0
    np.testing.assert_allclose(by_norm["table"].dense(), rows.dense() / 5)
    np.testing.assert_allclose(optim.clip_by_value({"table": rows}, 2.0)["table"].dense(), rows.dense().clip(-2, 2))


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_a_limit_must_be_positive(limit: float) -> None:
    with pytest.raises(ConfigError, match="positive"):
        optim.clip_by_norm({"a": np.ones(2)}, limit)
    with pytest.raises(ConfigError, match="positive"):
        optim.clip_by_value({"a": np.ones(2)}, limit)


def test_of_complex_gradients_real_and_imaginary_parts_are_clipped_each() -> None:
    clipped = optim.clip_by_value({"a": np.array([3 - 4j, 1 + 0.5j], np.complex64)}, 2.0)["a"]
    assert (clipped.tolist(), clipped.dtype) == ([2 - 2j, 1 + 0.5j], np.complex64)
