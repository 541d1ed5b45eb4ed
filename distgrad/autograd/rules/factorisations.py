"""Factorisations of matrices: Cholesky, QR, eigenvalues of Hermitian matrices, singular values.

Sources: M. Giles (2008; see linalg.py); I. Murray, "Differentiation of the Cholesky decomposition" (2016); S. Walter &
L. Lehmann, "Algorithmic differentiation of linear algebra functions with application in optimum experimental design"
(2010), for QR; M. Seeger et al., "Auto-differentiating linear algebra" (2017); J. Townsend, "Differentiating the
singular value decomposition" (2016); for complex matrices Z.-Q. Wan & S.-X. Zhang, "Automatic differentiation for
complex valued SVD" (2019).

Eigenvectors belonging to equal eigenvalues, and singular vectors to equal or zero singular values, are not functions of
the matrix. A gradient that depends on the choice among them raises GradientError; one that does not (that of the
eigenvalues, or of a projection on the whole space) is right. Complex vectors are determined up to a phase, and a
function of them should not depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distgrad.errors import GradientError

from ..operands import namespace, ops
from ..primitive import composite, primitive
from .diagonals import diagonal_part, off_diagonal, on_diagonal
from .nested import adjoint, is_complex, linalg, whole

# ---- shared ----------------------------------------------------------------------------------------------------------


def _hermitian(xp: Any, x: Any) -> Any:
    return (x + adjoint(xp, x)) / 2


def _strict(xp: Any, x: Any) -> Any:
    """x - xᴴ."""
    return x - adjoint(xp, x)


def _divided(xp: Any, numerator: Any, gap: Any, scale: Any, given: Any, what: str) -> Any:
    """numerator / gap, and 0 where the gap is zero within rounding, where the numerator must be so too.

    Arguments:
        scale: what the gaps are differences of; says what rounding is.
        given: the gradient of the vectors, from which the numerators come; says what rounding is there.
        what: named in the error.
    """
    resolution = float(np.finfo(gap.dtype).eps)
    largest = xp.expand_dims(xp.max(xp.abs(scale), axis=-1), (-2, -1)) if scale.shape[-1] else 0
    closed = xp.abs(gap) <= resolution * max(gap.shape[-2:]) * largest
    undetermined, every = whole(xp.abs(xp.where(closed, numerator, 0.0))), whole(xp.abs(given))
    raw = namespace(every)
    if 0 not in undetermined.shape and raw.max(undetermined) > resolution**0.5 * raw.max(every):
        raise GradientError(
            f"the gradient depends on the choice of {what}; "
            "use a function of the values or of the space they span, or perturb the matrix"
        )
    return xp.where(closed, 0.0, numerator / xp.where(closed, 1.0, gap))


# ---- Cholesky --------------------------------------------------------------------------------------------------------


def _cholesky(xp: Any, x: Any, *, upper: bool = False) -> Any:
    lower = linalg(xp).cholesky(_hermitian(xp, x))
    return adjoint(xp, lower) if upper else lower


def _cholesky_vjp(xp: Any, g: Any, ans: Any, x: Any, *, upper: bool = False) -> Any:
    if upper:
        g, ans = adjoint(xp, g), adjoint(xp, ans)
    inner = _hermitian(xp, _half_lower(xp, adjoint(xp, ans) @ g))
    back = adjoint(xp, ans)
    half = linalg(xp).solve(back, inner)
    return _hermitian(xp, linalg(xp).solve(back, adjoint(xp, half)))


def _half_lower(xp: Any, x: Any) -> Any:
    """The lower triangle with half the diagonal."""
    return (xp.tril(x) + xp.tril(x, k=-1)) / 2


def _cholesky_jvp(xp: Any, tangents: Sequence[Any], ans: Any, x: Any, *, upper: bool = False) -> Any:
    lower = adjoint(xp, ans) if upper else ans
    half = xp.solve(lower, _hermitian(xp, tangents[0]))
    tangent = lower @ _half_lower(xp, adjoint(xp, xp.solve(lower, adjoint(xp, half))))
    return adjoint(xp, tangent) if upper else tangent


cholesky = primitive(
    "cholesky",
    _cholesky,
    vjps=[_cholesky_vjp],
    jvp=_cholesky_jvp,
    save="output",
    doc="The lower triangular L (or Lᴴ, `upper`) with L Lᴴ = X, of the Hermitian part of X (Murray 2016, 8 and 10).",
)

# ---- QR --------------------------------------------------------------------------------------------------------------


def _qr_vjp(xp: Any, g: Sequence[Any], ans: Sequence[Any], x: Any, *, complete: bool) -> Any:
    m, n = x.shape[-2:]
    (q, r), (gq, gr) = ans, g
    if complete and m > n:
        raise GradientError(
            f"the last {m - n} columns of Q in qr(mode='complete') of {m} x {n} matrices are not functions of "
            "the matrix; use mode='reduced'"
        )
    if m >= n:
        return _qr_square_vjp(xp, gq, gr, q, r)
    # X = [A | B] with A square: R = [U | Qᴴ B], A = Q U.
    right, g_right = x[..., m:], gr[..., m:]
    square = _qr_square_vjp(xp, gq + right @ adjoint(xp, g_right), gr[..., :m], q, r[..., :m])
    return xp.concatenate([square, q @ g_right], axis=-1)


def _qr_square_vjp(xp: Any, gq: Any, gr: Any, q: Any, r: Any) -> Any:
    raw = namespace(whole(r))
    diagonal = raw.abs(raw.diagonal(whole(r), axis1=-2, axis2=-1))
    if 0 not in diagonal.shape and raw.min(diagonal) <= np.finfo(diagonal.dtype).eps * raw.max(diagonal):
        raise GradientError("qr of a matrix whose columns are linearly dependent (in the first ones) has no gradient")
    m = _half_lower(xp, r @ adjoint(xp, gr) - adjoint(xp, gq) @ q)
    pulled = gq + q @ (m + adjoint(xp, m))
    return adjoint(xp, linalg(xp).solve(r, adjoint(xp, pulled)))


qr_factors = primitive(
    "qr_factors",
    lambda xp, x, *, complete: tuple(linalg(xp).qr(x, mode="complete" if complete else "reduced")),
    vjps=[_qr_vjp],
    outputs=2,
    doc="(Q, R) with Q R = X, Q with orthonormal columns and R upper triangular (Walter & Lehmann 2010).",
)


@composite
def qr(x: Any, mode: str = "reduced") -> Any:
    """(Q, R) with Q R = X, Q with orthonormal columns and R upper triangular; R alone for mode "r".

    For matrices (m, n) Q is (m, k) and R (k, n) with k = min(m, n), or k = m for mode "complete".
    """
    if mode not in ("reduced", "complete", "r"):
        raise ValueError(f"qr(mode={mode!r}): modes are 'reduced', 'complete' and 'r'")
    factors = qr_factors(x, complete=mode == "complete")
    return factors[1] if mode == "r" else factors


# ---- eigenvalues of Hermitian matrices -------------------------------------------------------------------------------


def _eigh_vjp(xp: Any, g: Sequence[Any], ans: Sequence[Any], x: Any) -> Any:
    (w, v), (gw, gv) = ans, g
    gap = xp.expand_dims(w, -2) - xp.expand_dims(w, -1)
    turned = _strict(xp, adjoint(xp, v) @ gv) / 2
    inner = on_diagonal(xp, gw) + _divided(
        xp, off_diagonal(xp, turned), gap, w, gv, "eigenvectors, which belong to equal eigenvalues"
    )
    return v @ inner @ adjoint(xp, v)


eigh_of_hermitian = primitive(
    "eigh_of_hermitian",
    lambda xp, x: tuple(linalg(xp).eigh(_hermitian(xp, x))),
    vjps=[lambda xp, g, ans, x: _hermitian(xp, _eigh_vjp(xp, g, ans, x))],
    outputs=2,
    doc="(w, V) with ascending eigenvalues w and orthonormal eigenvectors, the columns of V, of the Hermitian part of "
    "X; the gradient is V (diag w̄ + F ∘ Vᴴ V̄) Vᴴ with F_ij = 1/(w_j - w_i) (Giles 2008, 3.1).",
)


@composite
def eigh(x: Any, UPLO: str | None = None) -> tuple[Any, Any]:
    """(w, V): eigenvalues in ascending order, and as columns of V eigenvectors, of Hermitian matrices.

    Arguments:
        UPLO: look at the lower ("L") or upper ("U") triangle of x only. None: at its Hermitian part (x + xᴴ)/2, so that
            the gradient is Hermitian.
    """
    if UPLO is None:
        return eigh_of_hermitian(x)  # type: ignore[no-any-return]
    xp = ops()
    lower, triangle = UPLO.upper() == "L", xp.tril if UPLO.upper() == "L" else xp.triu
    beside = triangle(x, -1 if lower else 1)
    return eigh_of_hermitian(triangle(x) + adjoint(xp, beside))  # type: ignore[no-any-return]


@composite
def eigvalsh(x: Any, UPLO: str | None = None) -> Any:
    """The eigenvalues of Hermitian matrices in ascending order; see `eigh`."""
    return eigh(x, UPLO)[0]


# ---- singular values -------------------------------------------------------------------------------------------------


def _svd_vjp(xp: Any, g: Sequence[Any], ans: Sequence[Any], x: Any, *, full: bool) -> Any:
    if full:
        g, ans = _reduced(g, ans, x.shape[-2:])
    (u, s, vh), (gu, gs, gvh) = ans, g
    v, gv = adjoint(xp, vh), adjoint(xp, gvh)
    row, column = xp.expand_dims(s, -2), xp.expand_dims(s, -1)
    turn_u = _strict(xp, adjoint(xp, u) @ gu)
    turn_v = _strict(xp, adjoint(xp, v) @ gv)
    given = xp.concatenate([gu, gv], axis=-2)
    # With A = turn_u and B = turn_v, (A sⱼ + sᵢ B) / (sⱼ² - sᵢ²), split so that only what is infinite must vanish.
    what = "singular vectors, which belong to equal singular values"
    inner = _divided(xp, off_diagonal(xp, turn_u + turn_v), row - column, s, given, what)
    what = "singular vectors, which belong to singular values of zero"
    inner = (inner + _divided(xp, off_diagonal(xp, turn_u - turn_v), row + column, s, given, what)) / 2
    inner = inner + on_diagonal(xp, gs)
    if is_complex(x):
        phase = _divided(xp, diagonal_part(xp, turn_u), 2 * row, s, given, what)
        inner = inner + phase
    pulled = u @ inner @ vh
    m, n = x.shape[-2:]
    if m > n:
        pulled = pulled + _divided(xp, gu - u @ (adjoint(xp, u) @ gu), row, s, gu, what) @ vh
    if m < n:
        pulled = pulled + u @ _divided(xp, gvh - (gvh @ v) @ vh, column, s, gvh, what)
    return pulled


def _reduced(g: Sequence[Any], ans: Sequence[Any], shape: tuple[int, int]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Gradients and factors without the vectors beyond min(shape), which no gradient may depend on."""
    k = min(shape)
    (u, s, vh), (gu, gs, gvh) = ans, g
    raw = namespace(whole(gu))
    if raw.any(whole(gu)[..., k:] != 0) or raw.any(whole(gvh)[..., k:, :] != 0):
        raise GradientError(
            f"singular vectors beyond the first {k} of {shape[0]} x {shape[1]} matrices are not functions of the "
            "matrix; use svd(..., full_matrices=False)"
        )
    return (gu[..., :k], gs, gvh[..., :k, :]), (u[..., :k], s, vh[..., :k, :])


svd_factors = primitive(
    "svd_factors",
    lambda xp, x, *, full: tuple(linalg(xp).svd(x, full_matrices=full)),
    vjps=[_svd_vjp],
    outputs=3,
    doc="(U, s, Vᴴ) with U diag(s) Vᴴ = X, orthonormal columns in U and V, and descending s (Townsend 2016).",
)


@composite
def svd(x: Any, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """(U, s, Vᴴ) with U diag(s) Vᴴ = X, orthonormal columns in U and V, and descending s; s alone without `compute_uv`.

    For matrices (m, n) and k = min(m, n), U is (m, k) and Vᴴ (k, n), or with `full_matrices` (m, m) and (n, n).
    """
    factors = svd_factors(x, full=full_matrices and compute_uv)
    return factors if compute_uv else factors[1]


@composite
def svdvals(x: Any) -> Any:
    """The singular values in descending order."""
    return svd_factors(x, full=False)[1]
