"""Linear algebra beyond the table's samples: what depends on no arbitrary choice, and special matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import GradientError
from tests.autograd.differences import check_derivatives

ops = dg.ops
DTYPES = pytest.mark.parametrize("dtype", [float, complex])
SHAPES = pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4), (2, 3, 2)])


def matrix(*shape: int, dtype: Any = float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    return x + 1j * rng.standard_normal(shape) if dtype is complex else x


def positive(*shape: int, dtype: Any = float) -> np.ndarray:
    x = matrix(*shape, dtype=dtype)
    return x @ x.conj().swapaxes(-1, -2) + shape[-1] * np.eye(shape[-1])


def adjoint(x: Any) -> Any:
    return ops.conj(ops.swapaxes(x, -1, -2))


# ---- functions of the factors that do not depend on signs, phases and order ------------------------------------------


def of_singular_values(x: Any) -> Any:
    """U sin(s) Vᴴ."""
    u, s, vh = ops.svd(x, full_matrices=False)
    return (u * ops.expand_dims(ops.sin(s), -2)) @ vh


def of_left_vectors(x: Any) -> Any:
    """Σ k uₖ uₖᴴ."""
    u, s, _ = ops.svd(x, full_matrices=False)
    return (u * np.arange(1.0, s.shape[-1] + 1)) @ adjoint(u)


def of_right_vectors(x: Any) -> Any:
    """Vᴴ s V."""
    _, s, vh = ops.svd(x, full_matrices=False)
    return adjoint(vh) @ (ops.expand_dims(s, -1) * vh)


def of_eigenvectors(x: Any) -> Any:
    """V f(w) Vᴴ."""
    w, v = ops.eigh(x)
    return (v * ops.expand_dims(ops.exp(-w), -2) * np.arange(1.0, w.shape[-1] + 1)) @ adjoint(v)


@DTYPES
@SHAPES
@pytest.mark.parametrize("f", [of_singular_values, of_left_vectors, of_right_vectors])
def test_functions_of_the_svd_have_right_derivatives(f: Callable[..., Any], shape: tuple[int, ...], dtype: Any) -> None:
    check_derivatives(f, matrix(*shape, dtype=dtype), tolerance=1e-5)


@DTYPES
@pytest.mark.parametrize("shape", [(3, 3), (2, 3, 3)])
def test_functions_of_eigenvectors_have_right_derivatives(shape: tuple[int, ...], dtype: Any) -> None:
    check_derivatives(of_eigenvectors, positive(*shape, dtype=dtype), tolerance=1e-5)


@DTYPES
@SHAPES
def test_qr_has_right_derivatives(shape: tuple[int, ...], dtype: Any) -> None:
    def both(x: Any) -> Any:
        q, r = ops.qr(x)
        return ops.concatenate([ops.ravel(q), ops.ravel(r)])

    check_derivatives(both, matrix(*shape, dtype=dtype), tolerance=1e-5)


@DTYPES
def test_sign_and_logarithm_of_a_determinant_have_right_derivatives(dtype: Any) -> None:
    check_derivatives(lambda x: ops.slogdet(x)[0] * ops.exp(ops.slogdet(x)[1]), matrix(2, 3, 3, dtype=dtype))


@pytest.mark.parametrize("f", [of_singular_values, of_left_vectors, of_right_vectors])
def test_gradients_through_the_svd_are_those_of_pytorch(f: Callable[..., Any]) -> None:
    torch = pytest.importorskip("torch")
    x = matrix(4, 3)
    t = torch.tensor(x, requires_grad=True)
    u, s, vh = torch.linalg.svd(t, full_matrices=False)
    k = torch.arange(1.0, 4.0, dtype=t.dtype)
    value = {
        of_singular_values: lambda: u * torch.sin(s) @ vh,
        of_left_vectors: lambda: u * k @ u.mH,
        of_right_vectors: lambda: vh.mH * s @ vh,
    }[f]()
    cotangent = matrix(*value.shape, seed=1)
    (expected,) = torch.autograd.grad(value, t, torch.as_tensor(cotangent))
    found = dg.vjp(f, x)[1](cotangent)[0]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-9, atol=1e-11)


# ---- equal and zero eigenvalues and singular values ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "x", "message"),
    [
        (lambda x: ops.eigh(x)[1], np.eye(3), "equal eigenvalues"),
        (lambda x: ops.svd(x)[0], np.eye(3), "equal singular values"),
        (lambda x: ops.svd(x, full_matrices=False)[0], np.outer([1.0, 2, 3], [1.0, 1]), "values of zero"),
        (lambda x: ops.svd(x)[0], matrix(4, 2), "full_matrices=False"),
        (lambda x: ops.qr(x, mode="complete")[0], matrix(4, 2), "mode='reduced'"),
        (lambda x: ops.qr(x)[0], np.ones((3, 2)), "linearly dependent"),
    ],
)
def test_a_gradient_that_depends_on_an_arbitrary_choice_is_refused(f: Any, x: np.ndarray, message: str) -> None:
    weights = np.random.default_rng(0).standard_normal(f(x).shape)
    with pytest.raises(GradientError, match=message):
        dg.grad(lambda x: (f(x) * weights).sum())(x)


def test_sums_of_equal_eigenvalues_have_a_gradient() -> None:
    np.testing.assert_allclose(dg.grad(lambda x: (ops.eigvalsh(x) ** 2).sum())(2 * np.eye(3)), 4 * np.eye(3))
    np.testing.assert_allclose(dg.grad(lambda x: ops.svdvals(x).sum())(np.eye(3)), np.eye(3), atol=1e-15)


def projection(x: Any) -> Any:
    """On the space of the second and third eigenvector."""
    vectors = ops.eigh(x)[1][:, 1:]
    return vectors @ adjoint(vectors)


def polar(x: Any) -> Any:
    u, _, vh = ops.svd(x)
    return u @ vh


def rotation(seed: int) -> np.ndarray:
    return np.linalg.qr(matrix(3, 3, seed=seed))[0]


# Equal values part by a few units in the last place, by others for every matrix.
@pytest.mark.parametrize("seed", range(12))
def test_the_projection_on_an_eigenspace_of_equal_eigenvalues_has_a_gradient(seed: int) -> None:
    q = rotation(seed)
    check_derivatives(projection, q * [1.0, 2.0, 2.0] @ q.T, order=1, forward=False)


def test_the_projection_on_an_eigenspace_of_eigenvalues_that_an_input_moved_apart_has_a_gradient() -> None:
    q = rotation(0)
    gradients = [
        dg.grad(lambda x: (projection(x) * matrix(3, 3)).sum())(q * [1.0, 2.0, 2.0 + gap] @ q.T)
        for gap in (0.0, 1e-14, 1e-13, 1e-11, 1e-9)
    ]
    for gradient in gradients:
        np.testing.assert_allclose(gradient, gradients[0], atol=1e-7)


@pytest.mark.parametrize("seed", range(6))
def test_the_polar_factor_has_a_gradient_at_equal_singular_values(seed: int) -> None:
    check_derivatives(polar, rotation(seed), order=1, forward=False)


def test_the_best_approximation_of_a_matrix_of_low_rank_has_a_gradient() -> None:
    def best(x: Any) -> Any:
        u, s, vh = ops.svd(x, full_matrices=False)
        return (u[:, :1] * s[:1]) @ vh[:1]

    check_derivatives(best, np.outer([1.0, 2.0, 3.0, 1.0], [1.0, -1.0, 2.0]), order=1, forward=False)


def of_equal_eigenvalues(x: Any) -> Any:
    return (ops.eigvalsh(x) ** 2).sum()


def square(x: Any) -> Any:
    """X², by way of its eigenvectors."""
    w, v = ops.eigh(x)
    return (v * w**2) @ adjoint(v)


def whole_again(x: Any) -> Any:
    u, s, vh = ops.svd(x, full_matrices=False)
    return (u * s) @ vh


TURN = matrix(3, 3) + matrix(3, 3).T


@pytest.mark.parametrize(
    ("derivative", "message"),
    [
        (lambda: dg.grad(lambda x: square(x).sum())(2 * np.eye(3)), "by values together with vectors"),
        (lambda: dg.grad(lambda x: whole_again(x).sum())(np.eye(3)), "by values together with vectors"),
        (lambda: dg.grad(lambda x: whole_again(x).sum())(np.diag([1.0, 0, 0])), "by values together with vectors"),
        (lambda: dg.grad(lambda x: whole_again(x).sum())(np.eye(3, 2) * [1.0, 0]), "by values together with vectors"),
        (lambda: dg.jvp(square, (2 * np.eye(3),), (TURN,)), "no tangents of eigenvectors"),
        (lambda: dg.jvp(polar, (np.eye(3),), (TURN,)), "no tangents of singular vectors"),
        (lambda: dg.hvp(of_equal_eigenvalues)(2 * np.eye(3), TURN), "second derivatives"),
        (lambda: dg.hessian(of_equal_eigenvalues)(2 * np.eye(3)), "second derivatives"),
        (
            lambda: dg.grad(lambda x: (dg.grad(of_equal_eigenvalues)(x) * TURN).sum())(2 * np.eye(3)),
            "second derivatives",
        ),
        (
            lambda: dg.grad(lambda x: dg.jvp(of_equal_eigenvalues, (x,), (TURN,))[1])(2 * np.eye(3)),
            "second derivatives",
        ),
        (
            lambda: dg.jvp(lambda x: dg.jvp(of_equal_eigenvalues, (x,), (TURN,))[1], (2 * np.eye(3),), (TURN,)),
            "second derivatives",
        ),
        (lambda: dg.hvp(lambda x: (ops.svdvals(x) ** 2).sum())(np.zeros((3, 2)), matrix(3, 2)), "second derivatives"),
        (lambda: dg.hvp(ops.det)(np.diag([1.0, 0, 0]), TURN), "singular vectors"),
    ],
)
def test_a_derivative_that_is_a_limit_at_equal_values_is_refused(derivative: Callable[[], Any], message: str) -> None:
    with pytest.raises(GradientError, match=message):
        derivative()


def test_tangents_of_equal_eigenvalues_are_right() -> None:
    np.testing.assert_allclose(dg.jvp(of_equal_eigenvalues, (2 * np.eye(3),), (TURN,))[1], 4 * np.trace(TURN))


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_the_determinant_of_a_singular_matrix_has_a_gradient(rank: int) -> None:
    x = matrix(3, rank) @ matrix(rank, 3, seed=1)
    cofactors = np.array(
        [[(-1) ** (i + j) * np.linalg.det(np.delete(np.delete(x, i, 0), j, 1)) for j in range(3)] for i in range(3)]
    )
    np.testing.assert_allclose(dg.grad(ops.det)(x), cofactors, atol=1e-12)


def test_one_singular_matrix_does_not_spoil_a_batch() -> None:
    x = np.stack([matrix(2, 2), np.zeros((2, 2)), np.diag([1.0, 0.0])])
    gradient = dg.grad(lambda x: ops.det(x).sum())(x)
    np.testing.assert_allclose(gradient[0], np.linalg.det(x[0]) * np.linalg.inv(x[0]).T)
    np.testing.assert_allclose(gradient[1:], [np.zeros((2, 2)), np.diag([0.0, 1.0])], atol=1e-15)


# ---- what a matrix is taken for --------------------------------------------------------------------------------------


def test_eigh_and_cholesky_look_at_the_hermitian_part() -> None:
    x = positive(3, 3) + np.triu(0.1 * matrix(3, 3), 1)
    part = (x + x.T) / 2
    np.testing.assert_allclose(ops.cholesky(x).numpy(), np.linalg.cholesky(part))
    np.testing.assert_allclose(ops.eigh(x)[0].numpy(), np.linalg.eigvalsh(part))
    for f in (ops.cholesky, ops.eigvalsh):
        gradient = dg.grad(lambda x, f=f: f(x).sum())(x)
        np.testing.assert_allclose(gradient, gradient.T)


@pytest.mark.parametrize("uplo", ["L", "U"])
def test_with_uplo_eigh_looks_at_one_triangle(uplo: str) -> None:
    x = positive(3, 3)
    triangle = np.tril(x) if uplo == "L" else np.triu(x)
    np.testing.assert_allclose(ops.eigvalsh(triangle, uplo).numpy(), np.linalg.eigvalsh(x))
    gradient = dg.grad(lambda x: ops.eigvalsh(x, uplo)[0])(triangle)
    assert not np.any(gradient[triangle == 0])
    check_derivatives(lambda x: ops.eigvalsh(x, uplo), x)


# ---- least squares, chains -------------------------------------------------------------------------------------------


@DTYPES
@pytest.mark.parametrize(("m", "n"), [(5, 3), (3, 5), (3, 3)])
def test_lstsq_is_numpys_and_has_right_derivatives(m: int, n: int, dtype: Any) -> None:
    a, b = matrix(m, n, dtype=dtype), matrix(m, 2, dtype=dtype, seed=1)
    for right in (b, b[:, 0]):
        found, expected = ops.lstsq(a, right), np.linalg.lstsq(a, right)
        for f, e in zip(found, expected, strict=True):
            np.testing.assert_allclose(getattr(f, "data", f), e, rtol=1e-9, atol=1e-12)
            assert np.shape(getattr(f, "data", f)) == np.shape(e)
    check_derivatives(lambda a, b: ops.lstsq(a, b)[0], a, b)


def test_lstsq_of_dependent_columns_gives_the_smallest_solution() -> None:
    a = np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    x, residuals, rank, _ = ops.lstsq(a, np.array([1.0, 3.0, 0.0]))
    np.testing.assert_allclose(x.numpy(), [1.0, 1.0])
    assert (rank, residuals.shape) == (1, (0,))


@pytest.mark.parametrize(
    "shapes", [[(2, 3), (3, 4), (4, 2), (2, 5)], [(3,), (3, 4), (4,)], [(3,), (3, 4)], [(2, 3), (3,)]]
)
def test_multi_dot_is_the_product_in_any_order(shapes: list[tuple[int, ...]]) -> None:
    matrices = [matrix(*shape) for shape in shapes]
    expected = np.linalg.multi_dot(matrices)
    found = ops.multi_dot(matrices)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.numpy(), expected)
    check_derivatives(lambda *ms: ops.multi_dot(ms), *matrices)


# ---- shapes and dtypes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "f", [ops.inv, ops.cholesky, lambda x: ops.eigh(x)[1], lambda x: ops.svd(x)[0], ops.det], ids=str
)
@pytest.mark.parametrize("shape", [(0, 0), (0, 3, 3), (2, 0, 0)])
def test_empty_matrices_have_empty_gradients(f: Callable[..., Any], shape: tuple[int, ...]) -> None:
    x = np.zeros(shape)
    value, pull = dg.vjp(f, x)
    assert pull(np.ones_like(value))[0].shape == shape


@pytest.mark.parametrize(
    "f",
    [ops.inv, ops.pinv, ops.cholesky, ops.det, of_eigenvectors, of_singular_values, lambda x: ops.qr(x)[1]],
    ids=str,
)
@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_single_precision_is_kept(f: Callable[..., Any], dtype: Any) -> None:
    x = positive(3, 3, dtype=complex if dtype is np.complex64 else float).astype(dtype)
    _, pull = dg.vjp(f, x)
    assert pull(np.ones(f(x).shape))[0].dtype == dtype


def test_matrices_need_not_lie_in_order() -> None:
    x = matrix(6, 6)[::2, ::-2]
    weights = matrix(3, 3, seed=1)
    for f in (ops.inv, of_singular_values, lambda x: ops.qr(x)[1]):
        found = dg.vjp(f, x)[1](weights)[0]
        np.testing.assert_allclose(found, dg.vjp(f, x.copy())[1](weights)[0], rtol=1e-9)


def test_a_singular_system_is_refused() -> None:
    with pytest.raises(np.linalg.LinAlgError):
        ops.solve(np.zeros((2, 2)), np.ones(2))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, bool])
@pytest.mark.parametrize("order", [None, 1, 3, np.inf])
def test_the_norm_of_small_integers_is_taken_in_floating_point(dtype: Any, order: float | None) -> None:
    x = np.array([100, 3, 120]).astype(dtype)
    np.testing.assert_allclose(ops.norm(x, ord=order).numpy(), np.linalg.norm(x.astype(float), ord=order))
