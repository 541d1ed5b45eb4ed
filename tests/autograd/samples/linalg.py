"""Inverses, determinants, systems, norms and factorisations, single and batched, real and complex."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg

from tests.autograd.samples import Sample
from tests.autograd.samples.shape import complex_


def regular(*shape: int, dtype: type = float) -> Callable[[np.random.Generator], Any]:
    """Square matrices far from singular."""

    def draw(rng: np.random.Generator) -> Any:
        x = rng.uniform(-1, 1, shape)
        if dtype is complex:
            x = x + 1j * rng.uniform(-1, 1, shape)
        return x + 2 * np.eye(shape[-1])

    return draw


def positive(*shape: int, dtype: type = float) -> Callable[[np.random.Generator], Any]:
    """Positive definite matrices with eigenvalues well apart."""

    def draw(rng: np.random.Generator) -> Any:
        q = np.linalg.qr(regular(*shape, dtype=dtype)(rng))[0]
        return q * np.arange(1.0, shape[-1] + 1) @ np.conj(np.swapaxes(q, -1, -2))

    return draw


def apart(*shape: int, dtype: type = float) -> Callable[[np.random.Generator], Any]:
    """Matrices with singular values well apart."""

    def draw(rng: np.random.Generator) -> Any:
        x = rng.uniform(-1, 1, shape)
        if dtype is complex:
            x = x + 1j * rng.uniform(-1, 1, shape)
        u, _, vh = np.linalg.svd(x, full_matrices=False)
        return u * np.arange(float(min(shape[-2:])), 0, -1) @ vh

    return draw


def numpy_linalg(name: str) -> Callable[..., Any]:
    return lambda *xs, **params: getattr(np.linalg, name)(*xs, **params)


def hermitian(t: Any, x: Any) -> Any:
    return (x + x.mH) / 2


SAMPLES = {
    "inv": [
        Sample([draw], expected=np.linalg.inv, torch="linalg.inv", rtol=1e-10, note=note)
        for draw, note in [
            (regular(3, 3), "single"),
            (regular(2, 2, 2), "batch"),
            (regular(2, 2, dtype=complex), "complex"),
            (regular(0, 0), "empty"),
        ]
    ],
    "solve": [
        Sample([a, b], expected=np.linalg.solve, torch=torch, rtol=1e-10, note=note)
        for a, b, torch, note in [
            (regular(3, 3), (3, 2), "linalg.solve", "matrix"),
            (regular(3, 3), (3,), "linalg.solve", "vector"),
            (regular(2, 3, 3), (3,), None, "batch of systems of one vector"),
            (regular(2, 3, 3), (2, 3, 1), "linalg.solve", "batch"),
            (regular(3, 3), (2, 3, 1), None, "one system of a batch"),
            (regular(2, 2, dtype=complex), complex_(2, 2), "linalg.solve", "complex"),
        ]
    ],
    "solve_triangular": [
        Sample([regular(3, 3), (3, 2)], params, expected=scipy.linalg.solve_triangular, rtol=1e-10, foreign=False)
        for params in [{}, {"lower": True}, {"trans": 1}, {"lower": True, "trans": "C"}, {"unit_diagonal": True}]
    ],
    "pinv": [
        Sample([draw], expected=np.linalg.pinv, torch="linalg.pinv", rtol=1e-9, note=note)
        for draw, note in [
            (apart(4, 2), "tall"),
            (apart(2, 4), "wide"),
            (apart(2, 3, 2), "batch"),
            (apart(3, 2, dtype=complex), "complex"),
        ]
    ],
    "det": [
        Sample([draw], expected=np.linalg.det, torch=torch, rtol=1e-10, foreign=False, note=note)
        for draw, torch, note in [
            (regular(3, 3), "linalg.det", "single"),
            (regular(2, 2, 2), "linalg.det", "batch"),
            (regular(2, 2, dtype=complex), "linalg.det", "complex"),
            (np.array([[1.0, 2.0], [2.0, 4.0]]), None, "singular"),
            (np.diag([1.0, 2.0, 0.0]), None, "one zero"),
        ]
    ],
    "slogdet": [
        Sample([draw], expected=np.linalg.slogdet, torch="linalg.slogdet", rtol=1e-10, foreign=False, note=note)
        for draw, note in [
            (regular(3, 3), "single"),
            (regular(2, 2, 2), "batch"),
            (regular(2, 2, dtype=complex), "complex"),
        ]
    ],
    "lstsq": [
        Sample([apart(4, 2), b], expected=np.linalg.lstsq, rtol=1e-9, foreign=False)
        for b in [(4,), (4, 2)]
    ],
    "matrix_power": [
        Sample(
            [regular(3, 3), n], expected=np.linalg.matrix_power, torch="linalg.matrix_power", rtol=1e-9, foreign=n > 0
        )
        for n in (-2, 0, 1, 2, 5)
    ],
    "matrix_norm": [
        Sample([apart(3, 2)], {"ord": ord}, expected=numpy_linalg("norm"), rtol=1e-10, foreign=False,
               torch=lambda t, x, ord: t.linalg.matrix_norm(x, ord))
        for ord in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)
    ] + [
        Sample([(2, 3, 2)], {"axis": (0, 2), "keepdims": True}, expected=numpy_linalg("norm"), foreign=False),
    ],
    "cholesky": [
        Sample([draw], params, expected=numpy_linalg("cholesky"), rtol=1e-10, note=note, foreign=False,
               torch=lambda t, x, upper=False: t.linalg.cholesky(hermitian(t, x), upper=upper))
        for draw, params, note in [
            (positive(3, 3), {}, "lower"),
            (positive(3, 3), {"upper": True}, "upper"),
            (positive(2, 2, 2), {}, "batch"),
            (positive(2, 2, dtype=complex), {}, "complex"),
            (positive(0, 0), {}, "empty"),
        ]
    ],
    "qr_factors": [
        Sample([draw], {"complete": complete}, rtol=1e-9, note=note, foreign=False,
               expected=lambda x, complete: np.linalg.qr(x, "complete" if complete else "reduced"),
               torch=lambda t, x, complete: t.linalg.qr(x, "complete" if complete else "reduced"))
        for draw, complete, note in [
            (regular(3, 3), False, "square"),
            (apart(4, 2), False, "tall"),
            (apart(2, 4), True, "wide"),
            (apart(2, 3, 2), False, "batch"),
            (apart(3, 2, dtype=complex), False, "complex"),
        ]
    ],
    "qr": [Sample([apart(3, 2)], {"mode": "r"}, expected=numpy_linalg("qr"), rtol=1e-9, foreign=False)],
    "eigh_of_hermitian": [
        Sample([draw], expected=np.linalg.eigh, rtol=1e-9, note=note, foreign=False)
        for draw, note in [(positive(3, 3), "single"), (positive(2, 2, 2), "batch"), (positive(1, 1), "one")]
    ],
    "eigh": [Sample([positive(3, 3)], {"UPLO": "L"}, expected=numpy_linalg("eigh"), rtol=1e-9, foreign=False)],
    "eigvalsh": [
        Sample([positive(3, 3, dtype=complex)], expected=np.linalg.eigvalsh, rtol=1e-9, foreign=False, note="complex",
               torch=lambda t, x: t.linalg.eigvalsh(hermitian(t, x))),
        Sample([positive(3, 3)], {"UPLO": "U"}, expected=numpy_linalg("eigvalsh"), rtol=1e-9, foreign=False),
    ],
    "svd_factors": [
        Sample([draw], {"full": full}, expected=lambda x, full: np.linalg.svd(x, full), rtol=1e-9, note=note,
               foreign=False)
        for draw, full, note in [
            (apart(3, 3), True, "square"),
            (apart(4, 2), False, "tall"),
            (apart(2, 4), False, "wide"),
            (apart(2, 3, 2), False, "batch"),
        ]
    ],
    "svd": [
        Sample([apart(3, 2)], {"compute_uv": False}, expected=numpy_linalg("svd"), rtol=1e-9, foreign=False),
    ],
    "svdvals": [
        Sample([draw], expected=np.linalg.svdvals, torch="linalg.svdvals", rtol=1e-9, foreign=False, note=note)
        for draw, note in [(apart(4, 2), "tall"), (apart(2, 3, dtype=complex), "complex")]
    ],
}  # fmt: skip
