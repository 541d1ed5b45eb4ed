"""Factorisations of matrices: Cholesky, QR, eigenvalues of Hermitian matrices, singular values.

Sources: M. Giles (2008; see linalg.py); I. Murray, "Differentiation of the Cholesky decomposition" (2016); S. Walter &
L. Lehmann, "Algorithmic differentiation of linear algebra functions with application in optimum experimental design"
(2010), for QR; M. Seeger et al., "Auto-differentiating linear algebra" (2017); J. Townsend, "Differentiating the
singular value decomposition" (2016); for complex matrices Z.-Q. Wan & S.-X. Zhang, "Automatic differentiation for
complex valued SVD" (2019).

Eigenvectors belonging to equal eigenvalues, and singular vectors to equal or zero singular values, are not functions of
the matrix. What is made of them may still be one, and has a gradient where the rules find it: functions of the values
alone (`eigvalsh`, `svdvals`), of the space that the vectors span, or of other vectors. All else raises GradientError: a
choice among the vectors; functions of these values and vectors together, such as V f(w) Vᴴ, whose gradient is a limit
that a single matrix does not show; tangents of the vectors, and second derivatives, for the same reason.

Complex vectors are determined up to a phase, and a function of them should not depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distgrad.errors import GradientError

from ..forward import by_vjps
from ..operands import namespace, ops
from ..primitive import Primitive, composite, primitive
from .diagonals import diagonal_part, off_diagonal, on_diagonal
from .nested import adjoint, is_complex, linalg, nested, whole

# ---- shared ----------------------------------------------------------------------------------------------------------


def _hermitian(xp: Any, x: Any) -> Any:
    return (x + adjoint(xp, x)) / 2


def _strict(xp: Any, x: Any) -> Any:
    """x - xᴴ."""
    return x - adjoint(xp, x)


def _between(xp: Any, row: Any, column: Any) -> Any:
    """Gaps between values, infinite on the diagonal, where nothing is to be divided."""
    return row + column + on_diagonal(xp, xp.zeros_like(row[..., 0, :]) + np.inf)


def _closed(xp: Any, gap: Any, scale: Any) -> Any:
    """Where gaps between values are zero within rounding; `scale` are the values."""
    return xp.abs(gap) <= _rounding(gap) * _widest(xp, scale)


def _rounding(gap: Any) -> float:
    return float(8 * np.finfo(gap.dtype).eps * max(gap.shape[-2:]))


def _widest(xp: Any, scale: Any) -> Any:
    return xp.expand_dims(xp.max(xp.abs(scale), axis=-1), (-2, -1)) if scale.shape[-1] else 0


def _remains(xp: Any, numerator: Any, closed: Any, given: Any) -> bool:
    """Whether a numerator differs from zero at a closed gap. What it was computed from says what rounding is."""
    there, every = whole(xp.abs(xp.where(closed, numerator, 0.0))), whole(xp.abs(given))
    raw = namespace(every)
    return 0 not in there.shape and bool(raw.max(there) > np.finfo(every.dtype).eps ** 0.5 * raw.max(every))


def _divided(xp: Any, numerator: Any, gap: Any, scale: Any, given: Any, used: Any, x: Any, what: str) -> Any:
    """numerator / gap, and 0 where the gap is closed; there the numerator must be zero too.

    It is 0 as well where a narrow gap meets a numerator that is nothing but rounding: equal values that an input, or
    the factorisation, has moved apart. The quotient would be any number, and what is lost is less than its error.

    Arguments:
        scale: the values that the gaps lie between.
        given: the gradient of the vectors, from which the numerators come.
        used: whether a value at the gap has a gradient. Then the quotient has a limit, and GradientError is raised.
        x: the matrix, by which the quotient is not to be differentiated where it was left out.
        what: named in errors.
    """
    closed = _closed(xp, gap, scale)
    if _remains(xp, numerator, closed, given):
        raise GradientError(
            f"the gradient depends on the choice of {what}; "
            "use a function of the values or of the space they span, or perturb the matrix"
        )
    steepest = xp.max(xp.abs(given), axis=(-2, -1), keepdims=True) if 0 not in given.shape[-2:] else 0
    narrow = xp.abs(gap) <= float(np.finfo(gap.dtype).eps) ** 0.5 * _widest(xp, scale)
    left_out = closed | (narrow & (xp.abs(numerator) < _rounding(gap) * steepest))
    if whole(left_out & used).any():
        raise GradientError(
            f"the gradient by values together with vectors is not known for {what}, within rounding; "
            "use eigvalsh or svdvals for a function of the values alone, or perturb the matrix"
        )
    quotient = xp.where(left_out, 0.0, numerator / xp.where(left_out, 1.0, gap))
    return _once(xp, quotient, left_out, x, what)


def _once(xp: Any, gradient: Any, ties: Any, x: Any, what: str) -> Any:
    """The gradient, whose own derivative by x is not known where there are ties."""
    return gradient_once(gradient, x, what=what) if xp is ops() and whole(ties).any() else gradient


def _check_tangent(xp: Any, numerator: Any, gap: Any, scale: Any, moved: Any, what: str) -> None:
    """Refuses tangents of vectors along which equal values part: `numerator` differs from 0 where `gap` is closed."""
    if _remains(xp, numerator, _closed(xp, gap, scale), moved):
        raise GradientError(
            f"there are no tangents of {what}; use reverse mode (dg.grad, dg.vjp), eigvalsh or svdvals for the values "
            "alone, or perturb the matrix"
        )


def _gradient_once_vjp(i: int, xp: Any, g: Any, ans: Any, gradient: Any, x: Any, *, what: str) -> Any:
    if i == 0:
        return nested(xp, gradient_once, g, x, what=what)
    _refuse(g, what)
    return xp.zeros_like(x)


def _gradient_once_jvp(xp: Any, tangents: Sequence[Any], ans: Any, gradient: Any, x: Any, *, what: str) -> Any:
    if tangents[1] is not None:
        _refuse(tangents[1], what)
    return None if tangents[0] is None else gradient_once(tangents[0], x, what=what)


def _refuse(derivative: Any, what: str) -> None:
    if whole(derivative).any():
        raise GradientError(
            f"second derivatives are not known for {what}, within rounding; use functions of the whole matrix, or "
            "perturb it"
        )


gradient_once = Primitive(
    "gradient_once", lambda xp, gradient, x, *, what: gradient, vjps=_gradient_once_vjp, jvp=_gradient_once_jvp
)


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


_EIGENVECTORS = "eigenvectors, which belong to equal eigenvalues"


def _eigh_vjp(xp: Any, g: Sequence[Any], ans: Sequence[Any], x: Any, *, vectors: bool = True) -> Any:
    (w, v), (gw, gv) = ans, g
    row, column = xp.expand_dims(w, -2), xp.expand_dims(w, -1)
    gap = _between(xp, row, -column)
    turned = off_diagonal(xp, _strict(xp, adjoint(xp, v) @ gv) / 2)
    used = vectors & _either(xp, gw)
    inner = _once(xp, on_diagonal(xp, gw), _closed(xp, gap, w), x, _EIGENVECTORS)
    inner = inner + _divided(xp, turned, gap, w, gv, used, x, _EIGENVECTORS)
    return _hermitian(xp, v @ inner @ adjoint(xp, v))


def _either(xp: Any, g: Any) -> Any:
    """For each pair of values, whether one of them has a gradient other than 0."""
    return (xp.expand_dims(g, -2) != 0) | (xp.expand_dims(g, -1) != 0)


def _eigh_jvp(xp: Any, tangents: Sequence[Any], ans: Sequence[Any], x: Any, *, vectors: bool = True) -> Any:
    if vectors:
        w, v = ans
        turned = off_diagonal(xp, adjoint(xp, v) @ _hermitian(xp, tangents[0]) @ v)
        gap = _between(xp, xp.expand_dims(w, -2), -xp.expand_dims(w, -1))
        _check_tangent(xp, turned, gap, w, tangents[0], _EIGENVECTORS)
    return by_vjps(eigh_of_hermitian, [x], tangents, ans, {"vectors": vectors})


eigh_of_hermitian: Primitive = primitive(
    "eigh_of_hermitian",
    lambda xp, x, *, vectors=True: tuple(linalg(xp).eigh(_hermitian(xp, x))),
    vjps=[_eigh_vjp],
    jvp=_eigh_jvp,
    outputs=2,
    doc="(w, V) with ascending eigenvalues w and orthonormal eigenvectors, the columns of V, of the Hermitian part of "
    "X; the gradient is V (diag w̄ + F ∘ Vᴴ V̄) Vᴴ with F_ij = 1/(w_j - w_i) (Giles 2008, 3.1). Without `vectors`, V is "
    "for the rules alone.",
)


@composite
def eigh(x: Any, UPLO: str | None = None) -> tuple[Any, Any]:
    """(w, V): eigenvalues in ascending order, and as columns of V eigenvectors, of Hermitian matrices.

    Arguments:
        UPLO: look at the lower ("L") or upper ("U") triangle of x only. None: at its Hermitian part (x + xᴴ)/2, so that
            the gradient is Hermitian.
    """
    return eigh_of_hermitian(_looked_at(x, UPLO))  # type: ignore[no-any-return]


@composite
def eigvalsh(x: Any, UPLO: str | None = None) -> Any:
    """The eigenvalues of Hermitian matrices in ascending order; see `eigh`."""
    return eigh_of_hermitian(_looked_at(x, UPLO), vectors=False)[0]


def _looked_at(x: Any, UPLO: str | None) -> Any:
    """The matrices that x, or a triangle of it, stands for."""
    if UPLO is None:
        return x
    xp = ops()
    lower, triangle = UPLO.upper() == "L", xp.tril if UPLO.upper() == "L" else xp.triu
    return triangle(x) + adjoint(xp, triangle(x, -1 if lower else 1))


# ---- singular values -------------------------------------------------------------------------------------------------


_SINGULAR_VECTORS = "singular vectors, which belong to equal singular values"
_NULL_VECTORS = "singular vectors, which belong to singular values of zero"


def _svd_vjp(xp: Any, g: Sequence[Any], ans: Sequence[Any], x: Any, *, full: bool, vectors: bool = True) -> Any:
    if full:
        g, ans = _reduced(g, ans, x.shape[-2:])
    (u, s, vh), (gu, gs, gvh) = ans, g
    row, column = xp.expand_dims(s, -2), xp.expand_dims(s, -1)
    equal, zero = _between(xp, row, -column), _between(xp, row, column)
    v, gv = adjoint(xp, vh), adjoint(xp, gvh)
    turn_u = _strict(xp, adjoint(xp, u) @ gu)
    turn_v = _strict(xp, adjoint(xp, v) @ gv)
    given, used = xp.concatenate([gu, gv], axis=-2), vectors & _either(xp, gs)
    # With A = turn_u and B = turn_v, (A sⱼ + sᵢ B) / (sⱼ² - sᵢ²), split so that only what is infinite must vanish.
    inner = _divided(xp, off_diagonal(xp, turn_u + turn_v), equal, s, given, used, x, _SINGULAR_VECTORS)
    inner = (inner + _divided(xp, off_diagonal(xp, turn_u - turn_v), zero, s, given, used, x, _NULL_VECTORS)) / 2
    ties = _closed(xp, equal, s) | _closed(xp, zero, s) | (_closed(xp, row, s) & (x.shape[-2] != x.shape[-1]))
    inner = inner + _once(xp, on_diagonal(xp, gs), ties, x, _SINGULAR_VECTORS)
    used = vectors & (xp.expand_dims(gs, -2) != 0)
    if is_complex(x):
        inner = inner + _divided(xp, diagonal_part(xp, turn_u), 2 * row, s, given, used, x, _NULL_VECTORS)
    pulled = u @ inner @ vh
    m, n = x.shape[-2:]
    if m > n:
        outside = gu - u @ (adjoint(xp, u) @ gu)
        pulled = pulled + _divided(xp, outside, row, s, gu, used, x, _NULL_VECTORS) @ vh
    if m < n:
        outside = gvh - (gvh @ v) @ vh
        used = vectors & (xp.expand_dims(gs, -1) != 0)
        pulled = pulled + u @ _divided(xp, outside, column, s, gvh, used, x, _NULL_VECTORS)
    return pulled


def _svd_jvp(xp: Any, tangents: Sequence[Any], ans: Sequence[Any], x: Any, *, full: bool, vectors: bool = True) -> Any:
    if vectors:
        k = min(x.shape[-2:])
        u, s, vh = ans[0][..., :k], ans[1], ans[2][..., :k, :]
        (moved,) = tangents
        row, column = xp.expand_dims(s, -2), xp.expand_dims(s, -1)
        turned = adjoint(xp, u) @ moved @ adjoint(xp, vh)
        equal, zero = _between(xp, row, -column), _between(xp, row, column)
        _check_tangent(xp, off_diagonal(xp, turned + adjoint(xp, turned)), equal, s, moved, _SINGULAR_VECTORS)
        _check_tangent(xp, off_diagonal(xp, _strict(xp, turned)), zero, s, moved, _NULL_VECTORS)
        _check_tangent(xp, moved @ adjoint(xp, vh) - u @ turned, row, s, moved, _NULL_VECTORS)
        _check_tangent(xp, adjoint(xp, u) @ moved - turned @ vh, column, s, moved, _NULL_VECTORS)
    return by_vjps(svd_factors, [x], tangents, ans, {"full": full, "vectors": vectors})


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


svd_factors: Primitive = primitive(
    "svd_factors",
    lambda xp, x, *, full, vectors=True: tuple(linalg(xp).svd(x, full_matrices=full)),
    vjps=[_svd_vjp],
    jvp=_svd_jvp,
    outputs=3,
    doc="(U, s, Vᴴ) with U diag(s) Vᴴ = X, orthonormal columns in U and V, and descending s (Townsend 2016). Without "
    "`vectors`, U and V are for the rules alone.",
)


@composite
def svd(x: Any, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """(U, s, Vᴴ) with U diag(s) Vᴴ = X, orthonormal columns in U and V, and descending s; s alone without `compute_uv`.

    For matrices (m, n) and k = min(m, n), U is (m, k) and Vᴴ (k, n), or with `full_matrices` (m, m) and (n, n).
    """
    return svd_factors(x, full=full_matrices) if compute_uv else svdvals(x)


@composite
def svdvals(x: Any) -> Any:
    """The singular values in descending order."""
    return svd_factors(x, full=False, vectors=False)[1]
