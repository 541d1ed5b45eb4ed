"""Every operation that JAX has too: values, both modes and second derivatives on the samples of the table, and whole
Jacobians and Hessians of functions composed of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.autograd.primitive import PRIMITIVES
from distgrad.autograd.rules.indexing import ARRAY
from tests.autograd.case import Case, cases, plain, results, size
from tests.autograd.test_table import CONSTANT

jax = pytest.importorskip("jax", reason="jax is not installed; the full check installs it")
jnp = jax.numpy
lax = jax.lax
nn = jax.nn
special = jax.scipy.special

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_disable_most_optimizations", True)  # hundreds of functions, each compiled and run once

pytestmark = pytest.mark.slow

# ---- JAX's functions under our names ---------------------------------------------------------------------------------

# The same name, operands and parameters in jax.numpy.
SAME = """
    abs add angle arccos arccosh arcsin arcsinh arctan arctan2 arctanh average broadcast_arrays broadcast_to cbrt
    ceil clip concatenate conj copysign cos cosh count_nonzero cross cumprod cumsum deg2rad diag diagonal diff
    divide dot equal exp exp2 expand_dims expm1 extract fft flip fliplr flipud float_power floor floor_divide fmax
    fmin fmod greater greater_equal heaviside hsplit hstack hypot i0 imag inner isclose isfinite isinf isnan kron
    less less_equal log log10 log1p log2 logaddexp logaddexp2 logical_and logical_not logical_or logical_xor matmul
    matrix_transpose max maximum mean median meshgrid min minimum moveaxis multiply nan_to_num nanmean nansum
    negative not_equal outer positive power prod ptp quantile rad2deg ravel real reciprocal remainder reshape rint
    roll rot90 round sign sin sinc sinh sort split sqrt square squeeze stack std subtract sum swapaxes take
    take_along_axis tan tanh tensordot tile trace transpose trapezoid tril triu trunc unstack var vdot vecdot vsplit
    vstack where column_stack dstack array_split argmax argmin argsort all any array_equal allclose nonzero
    searchsorted signbit invert bitwise_and bitwise_or bitwise_xor copy
""".split()  # noqa: SIM905


def _in(module: Any, *names: str) -> dict[str, Callable[..., Any]]:
    return {name: getattr(module, name) for name in names}


def _filled(index: Any, arrays: Any) -> Any:
    left = iter(arrays)
    return tuple(next(left) if entry is ARRAY else entry for entry in index)


def _layer_norm(x: Any, weight: Any = None, bias: Any = None, axes: int = 1, eps: float = 1e-5) -> Any:
    return _normalised(x, tuple(range(-axes, 0)), eps) * (1 if weight is None else weight) + (
        0 if bias is None else bias
    )


def _normalised(x: Any, axes: Any, eps: float) -> Any:
    return (x - jnp.mean(x, axes, keepdims=True)) / jnp.sqrt(jnp.var(x, axes, keepdims=True) + eps)


def _rms_norm(x: Any, weight: Any = None, axes: int = 1, eps: float = 1e-6) -> Any:
    rms = jnp.sqrt(jnp.mean(x * x, tuple(range(-axes, 0)), keepdims=True) + eps)
    return x / rms * (1 if weight is None else weight)


def _per_channel(x: Any, a: Any) -> Any:
    return a.reshape(-1, *(1,) * (x.ndim - 2))


def _affine(x: Any, weight: Any, bias: Any) -> Any:
    return x if weight is None else x * _per_channel(x, weight) + _per_channel(x, bias)


def _batch_norm(x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    return _affine(_normalised(x, (0, *range(2, x.ndim)), eps), weight, bias)


def _group_norm(x: Any, weight: Any = None, bias: Any = None, *, groups: int, eps: float = 1e-5) -> Any:
    grouped = _normalised(
        x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]), tuple(range(2, x.ndim + 1)), eps
    )
    return _affine(grouped.reshape(x.shape), weight, bias)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _conv2d(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    dtype = jnp.result_type(x, weight)
    out = lax.conv_general_dilated(
        x.astype(dtype), weight.astype(dtype), _pair(stride), [(p, p) for p in _pair(padding)],
        rhs_dilation=_pair(dilation), dimension_numbers=("NCHW", "OIHW", "NCHW"), feature_group_count=groups,
    )  # fmt: skip
    return out if bias is None else out + bias.reshape(-1, 1, 1)


def _conv2d_weight(x: Any, g: Any, kernel: Any, groups: int = 1, **moves: Any) -> Any:
    zeros = jnp.zeros((g.shape[1], x.shape[1] // groups, *kernel), x.dtype)
    return jax.vjp(lambda weight: _conv2d(x, weight, groups=groups, **moves), zeros)[1](g)[0]


def _conv_transpose2d(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1
) -> Any:
    moves = zip(x.shape[2:], weight.shape[2:], *map(_pair, (stride, padding, output_padding)), strict=True)
    size = [(n - 1) * s - 2 * p + k + more for n, k, s, p, more in moves]
    zeros = jnp.zeros((x.shape[0], weight.shape[1] * groups, *size), x.dtype)
    out = jax.vjp(lambda image: _conv2d(image, weight, None, stride, padding, 1, groups), zeros)[1](x)[0]
    return out if bias is None else out + bias.reshape(-1, 1, 1)


def _unfold2d(x: Any, kernel: Any, stride: Any = 1, padding: Any = 0) -> Any:
    borders = [(p, p) for p in _pair(padding)]
    patches = lax.conv_general_dilated_patches(x, kernel, _pair(stride), borders)
    return patches.reshape(*x.shape[:2], *kernel, *patches.shape[2:])


def _fold2d(patches: Any, size: Any, **moves: Any) -> Any:
    zeros = jnp.zeros((*patches.shape[:2], *size), patches.dtype)
    return jax.vjp(lambda x: _unfold2d(x, patches.shape[2:4], **moves), zeros)[1](patches)[0]


def _self_attention(packed: Any, heads: int, causal: bool = False, scale: float | None = None) -> Any:
    batch, tokens, width = packed.shape
    q, k, v = packed.reshape(batch, tokens, 3, heads, width // (3 * heads)).transpose(2, 0, 3, 1, 4)
    mixed = _attention(q, k, v, None, causal, scale)
    return mixed.transpose(0, 2, 1, 3).reshape(batch, tokens, width // 3)


def _conv1d(
    x: Any, weight: Any, bias: Any = None, stride: int = 1, padding: int = 0, dilation: int = 1, groups: int = 1
) -> Any:
    return _conv2d(x[:, :, None], weight[:, :, None], bias, (1, stride), (0, padding), (1, dilation), groups)[:, :, 0]


def _pool(x: Any, start: float, combine: Any, size: Any, stride: Any, padding: Any) -> Any:
    borders = [(0, 0), (0, 0), *((p, p) for p in _pair(padding))]
    window = (1, 1, *_pair(size))
    return lax.reduce_window(x, start, combine, window, (1, 1, *_pair(size if stride is None else stride)), borders)


def _max_pool2d(x: Any, size: Any, stride: Any = None, padding: Any = 0) -> Any:
    return _pool(x, -math.inf, lax.max, size, stride, padding)


def _avg_pool2d(x: Any, size: Any, stride: Any = None, padding: Any = 0) -> Any:
    return _pool(x, 0.0, lax.add, size, stride, padding) / math.prod(_pair(size))


def _attention(q: Any, k: Any, v: Any, mask: Any = None, causal: bool = False, scale: float | None = None) -> Any:
    scores = q @ jnp.swapaxes(k, -1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if causal:
        scores = jnp.where(jnp.tril(jnp.ones(scores.shape[-2:], bool)), scores, -jnp.inf)
    if mask is not None:
        scores = jnp.where(mask, scores, -jnp.inf) if mask.dtype == bool else scores + mask
    return nn.softmax(scores, -1) @ v


def _reduced(values: Any, reduction: str) -> Any:
    return {"mean": jnp.mean, "sum": jnp.sum, "none": lambda v: v}[reduction](values)


def _loss(of_pair: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, y, reduction="mean", **settings: _reduced(of_pair(x, y, **settings), reduction)


def _own(scores: Any, labels: Any) -> Any:
    return jnp.take_along_axis(scores, labels[..., None], -1)[..., 0]


TABLE: dict[str, Callable[..., Any]] = {
    **{name: getattr(jnp, name) for name in SAME},
    **_in(jnp.linalg, "cholesky", "det", "eigvalsh", "inv", "matrix_power", "multi_dot", "norm", "pinv"),
    **_in(jnp.linalg, "slogdet", "svdvals", "vector_norm"),
    **_in(jnp.fft, "fft", "fft2", "fftn", "fftshift", "ifft", "ifft2", "ifftn", "ifftshift"),
    **_in(jnp.fft, "irfft", "irfft2", "irfftn", "rfft", "rfft2", "rfftn"),
    **_in(special, "digamma", "erf", "erfc", "erfinv", "gammaln", "logit", "logsumexp", "polygamma", "xlogy"),
    **_in(nn, "elu", "log_softmax", "mish", "relu", "selu", "sigmoid", "silu", "softmax"),
    "astype": lambda x, dtype: x.astype(dtype),
    "matrix_norm": lambda x, ord="fro", axis=(-2, -1), **rest: jnp.linalg.norm(x, ord, axis, **rest),
    "quantile": lambda x, q, **rest: jnp.quantile(x, jnp.asarray(q), **rest),
    "detach": lax.stop_gradient,
    "rsqrt": lax.rsqrt,
    "solve": lambda a, b: jnp.linalg.solve(a, b[..., None])[..., 0] if b.ndim == 1 else jnp.linalg.solve(a, b),
    "solve_triangular": jax.scipy.linalg.solve_triangular,
    "einsum": jnp.einsum,
    "contract": lambda *xs, inputs, output: jnp.einsum(f"{','.join(inputs)}->{output}", *xs),
    "join_arrays": lambda *xs, axis: jnp.concatenate(xs, axis),
    "stack_arrays": lambda *xs, axis: jnp.stack(xs, axis),
    "split_at": lambda x, places, axis: jnp.split(x, places, axis),
    "pad_constant": lambda x, widths, value: jnp.pad(x, widths, constant_values=value),
    "index_get": lambda x, *arrays, index: x[_filled(index, arrays)],
    "index_scatter": lambda g, *arrays, index, shape: jnp.zeros(shape, g.dtype).at[_filled(index, arrays)].add(g),
    "index_add": lambda x, v, *arrays, index: x.at[_filled(index, arrays)].add(v),
    "add_at": lambda x, index, v: x.at[index].add(v),
    "set_at": lambda x, index, v: x.at[index].set(v),
    "getitem": lambda x, index: x[index],
    "embedding": lambda table, indices: table[indices],
    "one_hot": lambda labels, classes: nn.one_hot(labels, classes, dtype=jnp.float32),
    "leaky_relu": lambda x, slope=0.01: nn.leaky_relu(x, slope),
    "hardtanh": lambda x, low=-1.0, high=1.0: jnp.clip(x, low, high),
    "softplus": lambda x, beta=1.0: nn.softplus(beta * x) / beta,
    "gelu": lambda x, approximate="none": nn.gelu(x, approximate=approximate == "tanh"),
    "linear": lambda x, weight, bias=0.0: x @ weight.T + bias,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "batch_norm": _batch_norm,
    "group_norm": _group_norm,
    "conv1d": _conv1d,
    "conv2d": _conv2d,
    "conv2d_weight": _conv2d_weight,
    "conv_transpose2d": _conv_transpose2d,
    "unfold2d": _unfold2d,
    "fold2d": _fold2d,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "scaled_dot_product_attention": _attention,
    "self_attention": _self_attention,
    "qr_factors": lambda x, complete: jnp.linalg.qr(x, "complete" if complete else "reduced"),
    "svd_factors": lambda x, full: jnp.linalg.svd(x, full_matrices=full),
    "index_set": lambda x, v, *arrays, index: x.at[_filled(index, arrays)].set(v),
    "mse": _loss(lambda x, y: jnp.real(jnp.conj(x - y) * (x - y))),
    "l1": _loss(lambda x, y: jnp.abs(x - y)),
    "huber": _loss(
        lambda x, y, delta=1.0: jnp.where(
            jnp.abs(x - y) < delta, (x - y) ** 2 / 2, delta * (jnp.abs(x - y) - delta / 2)
        )
    ),
    "bce_with_logits": _loss(lambda x, y: nn.softplus(x) - x * y),
    "kl_div": _loss(lambda x, y: y * (jnp.log(y) - x)),
    "nll": _loss(lambda x, y: -_own(x, y)),
    "softmax_cross_entropy": _loss(lambda x, y: -_own(nn.log_softmax(x), y)),
}  # fmt: skip

# What jax.jit refuses, as shapes or parameters depend on values.
EAGER = {"extract", "nonzero", "repeat"}

# Samples that JAX refuses, or at which its convention is another; ours are pinned in test_kinks.py and by PyTorch.
SKIPPED: dict[str, list[str]] = {
    "array_split": ["7,indices_or_sections=(2, 1, 9)", "7,indices_or_sections=(-2,)"],  # places out of order
    "index_set": ["twice-at-one-place"],  # in any order
    "qr_factors": ["wide"],  # no gradient
    "quantile": ["6,q=0.3,method=nearest"],  # halfway between two
    "svd_factors": ["square"],  # no gradient with full_matrices
    "det": ["empty-"],  # no gradient
    "eigvalsh": ["UPLO=U"],  # takes the mean of both triangles
    "sign": ["complex"],  # derivative 0, though the direction changes
    "std": ["one-element-{'axis':-0}"],  # nan instead of the subgradient 0
    "vector_norm": ["2x0,axis=1", "2x0x3,axis=0", "0"],  # likewise
}

DIFFERENTIABLE = sorted(set(TABLE) - set(CONSTANT))


# Primitives that JAX has no function for.
ABSENT = {
    "adaptive_avg_pool2d", "add_along_axis", "bessel_i", "diagonal_scatter", "dropout", "eigh_of_hermitian",
    "index_last", "max_pool2d_winners",
}  # fmt: skip


def test_every_primitive_is_compared_or_absent_from_jax() -> None:
    assert PRIMITIVES.keys() - TABLE.keys() == ABSENT


def test_the_table_names_operations() -> None:
    assert sorted(TABLE.keys() - set(dg.ops.__all__)) == []


def test_what_is_skipped_exists() -> None:
    for name, skipped in SKIPPED.items():
        assert set(skipped) <= {case.sample.name() for case in cases(name)}


# ---- one operation ---------------------------------------------------------------------------------------------------
# JAX's pullback of a complex function is the transpose, ours the adjoint, as PyTorch's: conjugated before and after.

Arrays = tuple[Any, ...]


def in_jax(case: Case) -> Callable[..., Arrays]:
    """The case in JAX, as a function of its moving operands."""

    def f(*xs: Any) -> Arrays:
        operands = list(case.operands)
        for i, x in zip(case.moving, xs, strict=True):
            operands[i] = x
        return tuple(map(jnp.asarray, results(case.call(TABLE[case.name], operands))))

    return f


def adjoint(f: Callable[..., Arrays], cotangents: Arrays) -> Callable[..., Arrays]:
    """The gradient of Re⟨cotangents, f⟩ as a function of f's arguments."""

    def gradient(*xs: Any) -> Arrays:
        value, pull = jax.vjp(f, *xs)
        conjugates = tuple(jnp.conj(c).astype(y.dtype) for c, y in zip(cotangents, value, strict=True))
        return tuple(jnp.conj(g) for g in pull(conjugates))

    return gradient


def run(case: Case, function: Callable[..., Any], *args: Any) -> Any:
    """A function of JAX, compiled as a whole, which takes a tenth of the time of one operation after another."""
    arrays = jax.tree.map(jnp.asarray, args)
    return function(*arrays) if case.name in EAGER else jax.jit(function)(*arrays)


def compare(found: Any, expected: Any, tolerance: float) -> None:
    for y, e in zip(found, expected, strict=True):
        e = np.asarray(e)
        assert y.shape == e.shape
        np.testing.assert_allclose(plain(y), e, rtol=tolerance, atol=tolerance * max(1.0, size([e])))


@pytest.mark.parametrize("name", sorted(TABLE.keys() & set(CONSTANT)))
def test_values_without_gradient_are_those_of_jax(name: str) -> None:
    for case in cases(name):
        with case.blamed():
            compare(case.f(*case.xs), in_jax(case)(*case.xs), 1e-12)


@pytest.mark.long
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_values_and_both_modes_and_second_derivatives_are_those_of_jax(name: str) -> None:
    for case in cases(name):
        if case.sample.name() in SKIPPED.get(name, ()):
            continue
        with case.blamed():
            _compare_all(case)
        single = case.single()
        with single.blamed():
            cotangents = tuple(single.directions(single.arrays(single.xs)))
            value, gradient = run(single, _first_order(single), tuple(single.xs), cotangents)
            compare(single.smooth(*single.xs), value, 1e-4)
            compare(dg.vjp(single.smooth, *single.xs)[1](cotangents), gradient, 2e-3)


def _compare_all(case: Case) -> None:
    xs = tuple(case.xs)
    cotangents = tuple(case.directions(case.arrays(xs)))
    along, weights = tuple(case.directions(xs)), tuple(case.directions(xs))

    def derivatives(xs: Arrays, cotangents: Arrays, along: Arrays, weights: Arrays) -> tuple[Arrays, Arrays, Arrays]:
        gradient = adjoint(in_jax(case), cotangents)
        second = adjoint(gradient, weights)(*xs) if case.sample.order > 1 else ()
        return jax.jvp(in_jax(case), xs, along)[1], gradient(*xs), second

    tangents, first, second = run(case, derivatives, xs, cotangents, along, weights)
    compare(dg.jvp(case.smooth, xs, along)[1], tangents, 1e-8)
    for variant in (case, case.strided()):
        value, pull = dg.vjp(variant.smooth, *variant.xs)
        compare(pull(cotangents), first, 1e-8)
    compare(value, run(case, in_jax(case), *xs), 1e-9)
    if case.sample.order > 1:
        found = dg.vjp(lambda *xs: dg.vjp(case.smooth, *xs)[1](cotangents), *xs)[1](weights)
        compare(found, second, 1e-7)


def _first_order(case: Case) -> Callable[..., Any]:
    f = in_jax(case)
    return lambda xs, cotangents: (f(*xs), adjoint(f, cotangents)(*xs))


# ---- functions composed of many --------------------------------------------------------------------------------------

X = np.random.default_rng(0).uniform(0.2, 1.5, 5)
A = np.random.default_rng(1).uniform(-1.0, 1.0, (5, 5))


def _rosenbrock(xp: Any, x: Any) -> Any:
    return xp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def _network(xp: Any, x: Any) -> Any:
    h = xp.tanh(xp.matmul(A, x))
    return xp.log(xp.sum(xp.exp(xp.matmul(A.T, h * x))))


def _quotient(xp: Any, x: Any) -> Any:
    return xp.prod(x) / (1 + xp.sum(xp.cumsum(x) ** 2)) + xp.sqrt(xp.sum(x * xp.flip(x)))


def _determinant(xp: Any, x: Any) -> Any:
    matrix = xp.outer(x, x) + xp.diag(xp.exp(x)) + A
    return xp.einsum("ij,ji->", matrix, matrix) + xp.where(x > 1, x**3, xp.sin(x))[2]


SCALAR = {"rosenbrock": _rosenbrock, "network": _network, "quotient": _quotient, "matrix": _determinant}
VECTOR: dict[str, Callable[[Any, Any], Any]] = {
    "loop": lambda xp, x: xp.stack([x[k % 5] ** (1 + k % 3) * xp.cos(x[(k + 2) % 5]) for k in range(7)]),
    "running": lambda xp, x: xp.cumsum(xp.maximum(x, 0.7) * xp.sort(x)) / xp.arctan2(x, 1 + x),
    "product": lambda xp, x: xp.matmul(xp.tril(xp.outer(x, xp.log1p(x))), x),
}


@pytest.mark.parametrize("name", SCALAR)
def test_hessians_are_those_of_jax(name: str) -> None:
    function = SCALAR[name]
    found = dg.hessian(lambda x: function(dg.ops, x))(X)
    np.testing.assert_allclose(found, jax.jit(jax.hessian(lambda x: function(jnp, x)))(X), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("name", VECTOR)
def test_jacobians_are_those_of_jax(name: str, mode: str) -> None:
    function = VECTOR[name]
    found = dg.jacobian(lambda x: function(dg.ops, x), mode=mode)(X)
    np.testing.assert_allclose(found, jax.jit(jax.jacobian(lambda x: function(jnp, x)))(X), rtol=1e-10, atol=1e-12)
