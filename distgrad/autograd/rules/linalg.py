"""Linear algebra on the last two axes, batched over those before: inverses, determinants, linear systems.

Sources: M. Giles, "Collected matrix derivative results for forward and reverse mode algorithmic differentiation"
(2008); G. Golub & V. Pereyra, "The differentiation of pseudo-inverses" (1973). Factorisations: factorisations.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..operands import namespace, ops
from ..primitive import composite, primitive
from .contraction import matmul
from .diagonals import off_diagonal, on_diagonal
from .factorisations import svdvals
from .nested import adjoint, bare, is_complex, linalg, shape_of, whole

# ---- inverse and linear systems --------------------------------------------------------------------------------------

inv = primitive(
    "inv",
    lambda xp, x: linalg(xp).inv(x),
    vjps=[lambda xp, g, ans, x: -(adjoint(xp, ans) @ g @ adjoint(xp, ans))],
    jvp=lambda xp, tangents, ans, x: -(ans @ tangents[0] @ ans),
    save="output",
    doc="X⁻¹; its differential is -X⁻¹ dX X⁻¹ (Giles 2008, 2.2.3).",
)


def _solve_shared(xp: Any, g: Any, ans: Any, a: Any, b: Any) -> tuple[Any, Any]:
    """The gradient of b, from which that of a is made, and the solution; both as matrices."""
    if len(b.shape) == 1:
        g, ans = xp.expand_dims(g, -1), xp.expand_dims(ans, -1)
    return linalg(xp).solve(adjoint(xp, a), g), ans


def _solve_jvp(xp: Any, tangents: Sequence[Any], ans: Any, a: Any, b: Any) -> Any:
    ta, tb = tangents
    right = tb
    if ta is not None:
        moved = -(ta @ ans) if len(b.shape) > 1 or len(a.shape) == 2 else -xp.squeeze(ta @ xp.expand_dims(ans, -1), -1)
        right = moved if tb is None else tb + moved
    if len(b.shape) > 1:
        return xp.solve(a, right)
    return xp.squeeze(xp.solve(a, xp.expand_dims(right, -1)), -1)


solve = primitive(
    "solve",
    lambda xp, a, b: linalg(xp).solve(a, b),
    shared=_solve_shared,
    vjps=[
        lambda xp, g, shared, a, b: -(shared[0] @ adjoint(xp, shared[1])),
        lambda xp, g, shared, a, b: xp.squeeze(shared[0], -1) if len(b.shape) == 1 else shared[0],
    ],
    jvp=_solve_jvp,
    doc="The x with A x = b; b is a vector if it has one axis. With b̄ = A⁻ᴴ x̄ the gradient of A is -b̄ xᴴ "
    "(Giles 2008, 2.3.1).",
)


@composite
def solve_triangular(a: Any, b: Any, trans: int | str = 0, lower: bool = False, unit_diagonal: bool = False) -> Any:
    """The x with A x = b, where A is a triangle of `a`; the other triangle is not looked at. (SciPy's function.)

    NumPy offers no triangular solver, so this costs as much as `solve`.

    Arguments:
        trans: solve Aᵀ x = b (1 or "T") or Aᴴ x = b (2 or "C") instead.
        lower: A is the lower triangle.
        unit_diagonal: the diagonal of A is one, whatever is in `a`.
    """
    xp = ops()
    triangle = xp.tril if lower else xp.triu
    matrix = triangle(a, (-1 if lower else 1) if unit_diagonal else 0)
    if unit_diagonal:
        matrix = matrix + np.eye(shape_of(a)[-1], dtype=matrix.dtype)
    if trans in (1, "T"):
        matrix = xp.swapaxes(matrix, -1, -2)
    elif trans in (2, "C"):
        matrix = adjoint(xp, matrix)
    return solve(matrix, b)


def _pinv_vjp(xp: Any, g: Any, ans: Any, x: Any, *, rcond: Any = None) -> Any:
    p, q, h = ans, adjoint(xp, ans), adjoint(xp, g)
    left, right = h @ p @ q, q @ p @ h
    return left - x @ (p @ left) + right - (right @ p) @ x - q @ g @ q


def _pinv_jvp(xp: Any, tangents: Sequence[Any], ans: Any, x: Any, *, rcond: Any = None) -> Any:
    p, q, t = ans, adjoint(xp, ans), tangents[0]
    left, right = p @ q @ adjoint(xp, t), adjoint(xp, t) @ q @ p
    return left - (left @ x) @ p + right - p @ (x @ right) - p @ t @ p


pinv = primitive(
    "pinv",
    lambda xp, x, *, rcond=None: linalg(xp).pinv(x) if rcond is None else linalg(xp).pinv(x, rcond),
    vjps=[_pinv_vjp],
    jvp=_pinv_jvp,
    doc="The pseudo-inverse P. dP = -P dX P + P Pᴴ dXᴴ (I - X P) + (I - P X) dXᴴ Pᴴ P while the rank of X is constant "
    "(Golub & Pereyra 1973, 4.12).",
)


@composite
def lstsq(a: Any, b: Any, rcond: float | None = None) -> tuple[Any, Any, int, Any]:
    """The least-squares solution of A x = b that has the least norm, for one matrix A (m, n).

    Returns:
        (x, residuals, rank, singular values of A); residuals, the squared norm for each column of b, is empty unless A
        has full column rank and m > n. x is differentiable while the rank of A is constant.
    """
    xp = ops()
    m, n = shape_of(a)
    values = svdvals(a)
    limit = np.finfo(values.dtype).eps * max(m, n) if rcond is None else rcond
    kept = np.asarray(bare(values))
    rank = int(np.sum(kept > limit * kept.max(initial=0)))
    x = pinv(a, rcond=limit) @ b
    if rank < n or m <= n:
        return x, ops().zeros((0,), dtype=values.dtype), rank, values
    residuals = xp.sum(xp.square(xp.abs(b - xp.matmul(a, x))), axis=0, keepdims=len(shape_of(b)) == 1)
    return x, residuals, rank, values


@composite
def matrix_power(x: Any, n: int) -> Any:
    """The product of n factors X, by squaring; of -n factors X⁻¹ when n is negative."""
    x = ops().asarray(x)
    if n == 0:
        identity = np.eye(shape_of(x)[-1], dtype=x.dtype)
        return ops().broadcast_to(identity, shape_of(x))
    square = inv(x) if n < 0 else ops().positive(x)
    power = None
    for bit in bin(abs(n))[:1:-1]:
        if bit == "1":
            power = square if power is None else matmul(power, square)
        square = matmul(square, square)
    return power


# ---- determinants ----------------------------------------------------------------------------------------------------


def _cofactors(xp: Any, x: Any, det: Any) -> Any:
    """det(X)·X⁻¹, the derivative of det by Xᵀ, which exists for singular X too: there by way of the SVD."""
    if namespace(whole(det)).all(whole(det) != 0):
        return _at_matrices(xp, det) * linalg(xp).inv(x)
    u, s, vh = linalg(xp).svd(x)
    rows = xp.broadcast_to(xp.expand_dims(s, -2), x.shape)
    others = xp.prod(off_diagonal(xp, rows) + on_diagonal(xp, xp.ones_like(s)), axis=-1)
    turn = linalg(xp).det(u) * linalg(xp).det(vh)
    return _at_matrices(xp, turn) * ((adjoint(xp, vh) * xp.expand_dims(others, -2)) @ adjoint(xp, u))


def _at_matrices(xp: Any, numbers: Any) -> Any:
    """Numbers of a batch, to be multiplied with its matrices."""
    return xp.expand_dims(numbers, (-2, -1))


det = primitive(
    "det",
    lambda xp, x: linalg(xp).det(x),
    vjps=[lambda xp, g, ans, x: _at_matrices(xp, g) * adjoint(xp, _cofactors(xp, x, ans))],
    jvp=lambda xp, tangents, ans, x: xp.einsum("...ij,...ji->...", _cofactors(xp, x, ans), tangents[0]),
    doc="The determinant; its differential is det(X) tr(X⁻¹ dX) (Giles 2008, 2.2.4), finite for singular X too.",
)


def _slogdet_vjp(xp: Any, g: Sequence[Any], ans: Sequence[Any], x: Any) -> Any:
    of_sign, of_log = g
    factor = of_log
    if is_complex(x):
        # The sign turns by the imaginary part of tr(X⁻¹ dX).
        factor = of_log - 1j * xp.imag(xp.conj(of_sign) * ans[0])
    return _at_matrices(xp, factor) * adjoint(xp, linalg(xp).inv(x))


def _slogdet_jvp(xp: Any, tangents: Sequence[Any], ans: Sequence[Any], x: Any) -> tuple[Any, Any]:
    trace = xp.einsum("...ij,...ji->...", xp.inv(x), tangents[0])
    if is_complex(x):
        return ans[0] * (1j * xp.imag(trace)), xp.real(trace)
    return xp.zeros_like(ans[0]), trace


slogdet = primitive(
    "slogdet",
    lambda xp, x: tuple(linalg(xp).slogdet(x)),
    vjps=[_slogdet_vjp],
    jvp=_slogdet_jvp,
    outputs=2,
    doc="(sign, log |det|) of the determinant; the differential of log det is tr(X⁻¹ dX) (Giles 2008, 2.2.4).",
)

# ---- norms -----------------------------------------------------------------------------------------------------------


@composite
def matrix_norm(x: Any, ord: Any = "fro", axis: tuple[int, int] = (-2, -1), keepdims: bool = False) -> Any:
    """A norm of each matrix.

    Arguments:
        ord: "fro" (root of the sum of squares), "nuc" (sum of the singular values), 2 and -2 (the largest and smallest
            singular value), 1 and -1 (largest and smallest sum of a column's absolute values), inf and -inf (a row's).
        axis: the rows and columns of the matrices.
    """
    xp = ops()
    x = xp.moveaxis(x, axis, (-2, -1))
    if ord == "fro":
        norm = xp.norm(xp.reshape(x, (*x.shape[:-2], x.shape[-2] * x.shape[-1])), axis=-1)
    elif ord in ("nuc", 2, -2):
        values = svdvals(x)
        norm = xp.sum(values, axis=-1) if ord == "nuc" else values[..., 0 if ord == 2 else -1]
    elif ord in (1, -1, np.inf, -np.inf):
        sums = xp.sum(xp.abs(x), axis=-2 if abs(ord) == 1 else -1)
        norm = (xp.max if ord > 0 else xp.min)(sums, axis=-1)
    else:
        raise ValueError(f"matrix_norm(ord={ord!r}): orders are 'fro', 'nuc', 1, -1, 2, -2, inf and -inf")
    if not keepdims:
        return norm
    return xp.expand_dims(norm, tuple(sorted(a % x.ndim for a in axis)))
