"""What the rules of networks promise beyond their values: kinks, fused paths, half precision, and errors that say what
to do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad import ops
from distgrad.autograd.rules import blocks
from distgrad.errors import GradientError

# ---- fused and general text are two ways to one value ----------------------------------------------------------------

FUSED: dict[str, tuple[Any, list[tuple[int, ...]]]] = {
    "silu": (ops.silu, [(5, 7)]),
    "gelu tanh": (lambda x: ops.gelu(x, approximate="tanh"), [(5, 7)]),
    "softmax": (ops.softmax, [(5, 7)]),
    "log_softmax": (ops.log_softmax, [(5, 7)]),
    "layer_norm": (ops.layer_norm, [(5, 7), (7,), (7,)]),
    "rms_norm": (ops.rms_norm, [(5, 7), (7,)]),
    "batch_norm": (ops.batch_norm, [(5, 7), (7,), (7,)]),
    "attention": (ops.scaled_dot_product_attention, [(3, 2, 5, 4), (3, 2, 6, 4), (3, 2, 6, 3)]),
    "self_attention": (lambda x: ops.self_attention(x, heads=2, causal=True), [(3, 5, 12)]),
    "cross_entropy": (lambda x: ops.cross_entropy(x, np.arange(5)), [(5, 7)]),
    "max_pool2d": (lambda x: ops.max_pool2d(x, size=3, stride=2, padding=1), [(2, 2, 5, 5)]),
}


@pytest.mark.parametrize("name", FUSED)
def test_fused_gradients_are_those_of_the_text_that_runs_on_tensors(
    name: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Parts so small that every array has several and a rest.
    for module in ("activation", "attention", "blocks", "gelu"):
        monkeypatch.setattr(f"distgrad.autograd.rules.{module}.PART", 16, raising=module == "blocks")
    function, shapes = FUSED[name]
    operands = [rng.standard_normal(shape) for shape in shapes]
    seed: Any = None

    def gradients(create_graph: bool) -> list[Any]:
        nonlocal seed
        tensors = [dg.tensor(a, requires_grad=True) for a in operands]
        value = function(*tensors)
        seed = rng.standard_normal(value.shape) if seed is None else seed
        value.backward(seed, create_graph=create_graph)
        return [t.grad.data if create_graph else t.grad for t in tensors]

    for fused, general in zip(gradients(False), gradients(True), strict=True):
        np.testing.assert_allclose(fused, general, rtol=1e-10, atol=1e-12)


def test_an_example_that_is_ignored_may_have_infinite_scores() -> None:
    logits = dg.tensor(np.array([[-np.inf, 0.0], [0.0, 0.0]]), requires_grad=True)
    with np.errstate(invalid="ignore"):
        ops.cross_entropy(logits, np.array([-1, 1]), ignore_index=-1).backward()
    np.testing.assert_array_equal(logits.grad, [[0.0, 0.0], [0.5, -0.5]])


def test_cross_entropy_stays_in_the_dtype_of_its_logits() -> None:
    logits = np.ones((2, 3), np.float32)
    value = ops.cross_entropy(logits, np.array([0, 2]), np.ones(3), ignore_index=0, label_smoothing=0.1)
    assert value.dtype == np.float32


def test_parts_cover_every_element_once() -> None:
    x = np.zeros((3, blocks.PART // 2 + 1))
    for (part,) in blocks.parts(x):
        part += 1
    for (rows,) in blocks.row_parts(x):
        rows += 1
    assert (x == 2).all()


def test_single_precision_gelu_is_exact_to_rounding(rng: np.random.Generator) -> None:
    special = pytest.importorskip("scipy.special")
    x = np.linspace(-12, 12, 5001, dtype=np.float32)
    t = dg.tensor(x, requires_grad=True)
    value = ops.gelu(t)
    ops.sum(value).backward()
    wide = x.astype(np.float64)
    density = np.exp(-wide * wide / 2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(value.data, wide * special.ndtr(wide), rtol=3e-7, atol=1.1e-6)
    np.testing.assert_allclose(t.grad, special.ndtr(wide) + wide * density, rtol=3e-7, atol=3e-7)


# ---- kinks and edges -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "x", "expected"),
    [
        (ops.relu, 0.0, 0.0),
        (ops.leaky_relu, 0.0, 0.01),
        (ops.elu, 0.0, 1.0),
        (ops.hardtanh, 1.0, 0.0),
        (ops.hardtanh, -1.0, 0.0),
        (lambda x: ops.l1(x, 0.0), 0.0, 0.0),
        (lambda x: ops.mse(1.0, x), 3.0, 4.0),
        (lambda x: ops.huber(x, 0.0), 1.0, 1.0),
        (ops.silu, -1000.0, 0.0),
        (ops.silu, 1000.0, 1.0),
        (ops.softplus, -1000.0, 0.0),
        (ops.mish, 1000.0, 1.0),
    ],
)
def test_the_derivative_at_a_kink_or_far_out(function: Any, x: float, expected: float) -> None:
    assert dg.grad(function)(x) == pytest.approx(expected)


def test_of_equal_values_in_a_pooling_window_the_first_takes_the_gradient() -> None:
    for size, stride in ((2, 2), (2, 1)):
        x = dg.tensor(np.zeros((1, 1, 3, 3)), requires_grad=True)
        ops.sum(ops.max_pool2d(x, size=size, stride=stride)).backward()
        expected = np.zeros((3, 3))
        expected[: 1 if stride == 2 else 2, : 1 if stride == 2 else 2] = 1
        assert np.array_equal(x.grad[0, 0], expected)


def test_a_class_that_is_ruled_out_has_probability_and_gradient_zero() -> None:
    x = dg.tensor(np.array([[0.0, -np.inf, 1.0]]), requires_grad=True)
    value = ops.softmax(x)
    assert value.data[0, 1] == 0
    value.backward(np.array([[1.0, 2.0, 3.0]]))
    assert x.grad[0, 1] == 0
    assert np.isfinite(x.grad).all()


def test_cosine_similarity_is_torchs_and_its_gradient_at_zero_is_finite(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    x, y = rng.standard_normal((2, 4, 6))
    own, other = dg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    value, expected = (
        ops.cosine_similarity(own, y),
        torch.nn.functional.cosine_similarity(other, torch.tensor(y), dim=-1),
    )
    ops.sum(value).backward()
    expected.sum().backward()
    np.testing.assert_allclose(value.data, expected.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(own.grad, other.grad.numpy(), rtol=1e-10, atol=1e-14)
    assert np.isfinite(dg.grad(lambda v: ops.cosine_similarity(v, y[0]))(np.zeros(6))).all()


# ---- half precision --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "layer_norm", "rms_norm", "gelu", "silu"])
def test_half_precision_is_stored_and_single_precision_computed(name: str, rng: np.random.Generator) -> None:
    function = getattr(ops, name)
    x = (10 * rng.standard_normal((3, 64))).astype(np.float16)
    t = dg.tensor(x, requires_grad=True)
    value = function(t)
    assert value.dtype == np.float16
    value.backward(np.ones(value.shape, np.float16))
    assert t.grad.dtype == np.float16
    np.testing.assert_allclose(value.data, function(x.astype(np.float32)).data, rtol=2e-3, atol=1e-3)


def test_a_product_of_half_precision_matrices_adds_up_in_single_precision() -> None:
    # 1 + 2048 · 2⁻¹¹ in float16 would stop at 1, as each term is lost.
    x = np.concatenate([[1.0], np.full(2048, 2.0**-11)]).astype(np.float16)
    assert ops.linear(x, np.ones((1, 2049), np.float16)).data.tolist() == [2.0]


# ---- errors ----------------------------------------------------------------------------------------------------------

ERRORS: list[tuple[Any, str]] = [
    (
        lambda: ops.mse(np.ones((4, 1)), np.ones(4)),
        r"mse\(\) got a prediction of shape \(4, 1\) and a target of shape \(4,\)",
    ),
    (
        lambda: ops.mse(np.ones(4), np.ones(4), reduction="avg"),
        "reduction='avg' is unknown; it is 'mean', 'sum' or 'none'",
    ),
    (lambda: ops.cross_entropy(np.ones((4, 3)), np.zeros((4, 3), int)), r"the labels' shape must be \(4,\)"),
    (
        lambda: ops.cross_entropy(np.ones((4, 3)), np.zeros(4)),
        "integer labels, the numbers of the classes, not float64",
    ),
    (lambda: ops.nll(np.ones((2, 3)), np.array([0, 3])), "labels from 0 to 3, but there are 3 classes: 0 to 2"),
    (lambda: ops.cross_entropy(np.ones((2, 3)), np.array([-1, 2])), "labels from -1 to 2"),
    (lambda: ops.cross_entropy(np.ones((1, 3)), np.array([-100]), label_smoothing=0.1), "ignore_index="),
    (lambda: ops.cross_entropy(np.ones((1, 3)), np.array([0]), label_smoothing=2.0), "a share from 0 to 1"),
    (lambda: ops.cross_entropy(np.ones((1, 3)), np.array([0]), np.ones(2)), r"weight of shape \(2,\) for 3 classes"),
    (lambda: ops.gelu(np.ones(2), approximate="erf"), "'none' or 'tanh'"),
    (lambda: ops.dropout(np.ones(2), key=1, rate=1.0), "at least 0 and less than 1"),
    (lambda: ops.layer_norm(np.ones((2, 3)), np.ones(2)), r"last axes \(3,\) got a weight or bias of shape \(2,\)"),
    (lambda: ops.layer_norm(np.ones((2, 3)), axes=3), r"layer_norm\(axes=3\).*it has 2 axes"),
    (lambda: ops.group_norm(np.ones((2, 3, 4)), groups=2), r"groups=2\) of 3 channels"),
    (lambda: ops.batch_norm(np.ones((2, 3)), np.ones(2)), "3 channels got a weight or bias"),
    (
        lambda: ops.conv2d(np.ones((1, 3, 5, 5)), np.ones((4, 2, 3, 3))),
        r"got 3 channels, but a weight of shape \(4, 2, 3, 3\)",
    ),
    (lambda: ops.conv2d(np.ones((1, 2, 2, 2)), np.ones((4, 2, 3, 3))), "does not fit an image of 2 × 2"),
    (lambda: ops.conv2d(np.ones((2, 5, 5)), np.ones((4, 2, 3, 3))), r"needs x \(batch, channels, height, width\)"),
    (lambda: ops.max_pool2d(np.ones((1, 1, 4, 4)), size=0), "positive kernel"),
    (lambda: ops.adaptive_avg_pool2d(np.ones((1, 1, 4, 4)), size=0), "must be positive"),
    (
        lambda: ops.scaled_dot_product_attention(np.ones((3, 4)), np.ones((5, 3)), np.ones((5, 2))),
        r"got \(3, 4\), \(5, 3\)",
    ),
    (lambda: ops.self_attention(np.ones((1, 3, 10)), heads=2), r"needs an array \(batch, tokens, 3 · heads · size\)"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS)
def test_what_does_not_fit_is_named(call: Any, message: str) -> None:
    with pytest.raises(GradientError, match=message):
        call()


# ---- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm", "batch_norm", "silu", "gelu"])
def test_writing_to_a_value_does_not_change_its_gradient(name: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal((4, 6))
    seed = rng.standard_normal((4, 6))

    def gradient(write: bool) -> Any:
        t = dg.tensor(x, requires_grad=True)
        value = getattr(ops, name)(t)
        if write:
            with dg.no_grad():
                value[0] = 7.0
        value.backward(seed)
        return t.grad

    assert np.array_equal(gradient(True), gradient(False))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_integers_are_taken_as_float64(dtype: Any) -> None:
    x = np.arange(36, 0, -1).reshape(1, 4, 3, 3).astype(dtype)
    four, kernel = np.linspace(0.1, 1, 4), np.linspace(-1, 1, 32).reshape(2, 4, 2, 2)
    of_both: list[Callable[[Any, Any], Any]] = [
        lambda x, w: ops.softmax(x, axis=1) * np.sum(w),
        lambda x, w: ops.log_softmax(x[0, 0]) * np.sum(w),
        lambda x, w: ops.batch_norm(x, w[0, :, 0, 0], four),
        lambda x, w: ops.group_norm(x, w[0, :, 0, 0], four, groups=2),
        lambda x, w: ops.layer_norm(x.reshape(9, 4), w[0, :, 0, 0], four),
        lambda x, w: ops.conv2d(x, w, stride=2, padding=1),
        lambda x, w: ops.avg_pool2d(x, size=2) * np.sum(w),
    ]
    for f in of_both:
        found, expected = (dg.vjp(partial(f, images), kernel) for images in (x, x.astype(float)))
        np.testing.assert_allclose(found[0], expected[0])
        seed = np.cos(np.arange(expected[0].size)).reshape(expected[0].shape)
        np.testing.assert_allclose(found[1](seed)[0], expected[1](seed)[0])


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.uint64])
@pytest.mark.parametrize(
    "f",
    [
        *(getattr(ops, name) for name in ("sigmoid", "silu", "mish", "elu", "selu", "softplus", "gelu", "logit")),
        *(partial(getattr(ops, name), np.array([True, True, False])) for name in ("mse", "l1", "huber", "kl_div")),
        lambda x: ops.cosine_similarity(x, x[::-1]),
        lambda x: ops.dropout(x, key=1, rate=0.2),
        ops.nanmean,
        ops.median,
        lambda x: ops.quantile(x, [0.0, 0.3, 1.0]),
        lambda x: ops.average(x, weights=x),
    ],
)
def test_small_integers_do_not_wrap_around(f: Any, dtype: Any) -> None:
    x = np.array([1, 100, 0]).astype(dtype)
    for operand in (x, -x.astype(np.int8)) if dtype is np.int8 else (x,):
        with np.errstate(all="ignore"):  # logit outside its domain
            found, expected = f(operand), f(operand.astype(float))
        assert found.dtype == np.float64
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-15)


REAL_ONLY = """
    bce_with_logits digamma elu erf erfc erfinv gammaln gelu huber kl_div layer_norm log_softmax mish rms_norm selu
    sigmoid silu softmax softplus
"""


@pytest.mark.parametrize("name", REAL_ONLY.split())
def test_functions_of_real_numbers_refuse_complex_ones(name: str) -> None:
    x = np.array([[0.3 + 1j, 0.2], [0.1j, 0.4]])
    with pytest.raises(dg.DistgradError, match=rf"{name}\(\) is a function of real numbers, and got complex128"):
        getattr(ops, name)(*([x, x] if name in ("bce_with_logits", "huber", "kl_div") else [x]))


@pytest.mark.parametrize("keys", ["of one batch shape", "broadcast"])
@pytest.mark.parametrize("added", [False, True])
def test_a_query_that_sees_no_key_gets_zeros_and_spoils_no_gradient(
    keys: str, added: bool, rng: np.random.Generator
) -> None:
    mask = np.ones((3, 5), bool)
    mask[1] = False
    q, k, v = (rng.standard_normal(shape) for shape in ((2, 3, 4), (2, 5, 4), (2, 5, 3)))
    if keys == "broadcast":
        q = q[:1]

    def f(q: Any, k: Any, v: Any) -> Any:
        return ops.scaled_dot_product_attention(q, k, v, np.where(mask, 0.0, -np.inf) if added else mask)

    assert not f(q, k, v).numpy()[:, 1].any()
    seen = ops.scaled_dot_product_attention(q[:, [0, 2]], k, v)
    np.testing.assert_allclose(f(q, k, v).numpy()[:, [0, 2]], seen.numpy(), rtol=1e-12)
    dg.check.gradcheck(f, q, k, v, order=2)


def test_the_mean_of_no_losses_is_nan_whatever_the_loss() -> None:
    none = np.zeros((0, 3))
    with pytest.warns(RuntimeWarning):
        assert all(np.isnan(getattr(ops, name)(none, none).item()) for name in ("mse", "l1", "huber"))
