"""Sums, products, extrema, moments, norms, running sums, order statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special

from tests.autograd.samples import Sample
from tests.autograd.samples.shape import complex_


def _complex(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0.5, 1.5, (2, 3)) + 1j * rng.uniform(-1.0, 1.0, (2, 3))


def _torch(name: str, **fixed: Any) -> Callable[..., Any]:
    """A reduction of PyTorch, its axes called dim and keepdim."""

    def reduce(torch: Any, x: Any, axis: Any = None, keepdims: bool = False, **rest: Any) -> Any:
        function: Any = torch
        for part in name.split("."):
            function = getattr(function, part)
        axes = {"dim": tuple(range(x.ndim)) if axis is None else axis} if axis is not None or "dim" in fixed else {}
        return function(x, **axes, **({"keepdim": True} if keepdims else {}), **rest)

    return reduce


def reduction(empty: bool = True, torch: Callable[..., Any] | None = None, **rest: Any) -> list[Sample]:
    """Samples of a reduction over one axis, several, and all."""
    samples = [
        Sample([(2, 3)], torch=torch, **rest),
        Sample([(2, 3)], {"axis": 0}, torch=torch, **rest),
        Sample([(2, 3, 2)], {"axis": -1, "keepdims": True}, torch=torch, **rest),
        Sample([(2, 3, 2)], {"axis": (0, 2)}, torch=torch, **rest),
        Sample([(2, 3, 2)], {"axis": (2, 0), "keepdims": True}, torch=torch, **rest),
        Sample([lambda rng: rng.uniform(-2, 2, (3, 2)).T], {"axis": 1}, torch=torch, note="strided", **rest),
        Sample([()], torch=torch, **rest),
        Sample([(2, 0, 3)], {"axis": 0}, **rest),
    ]
    return [*samples, Sample([(2, 0)], {"axis": 1}, **rest), Sample([(0,)], **rest)] if empty else samples


def _prod_torch(torch: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    for a in sorted((a % x.ndim for a in np.atleast_1d(range(x.ndim) if axis is None else axis)), reverse=True):
        x = torch.prod(x, dim=int(a), keepdim=keepdims)
    return x


def _moment_torch(name: str) -> Callable[..., Any]:
    def moment(torch: Any, x: Any, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Any:
        return getattr(torch, name)(x, dim=axis, correction=ddof, keepdim=keepdims)

    return moment


def moment(name: str) -> list[Sample]:
    torch = _moment_torch(name)
    return [
        *(s for s in reduction(empty=False, torch=torch) if s.args != [()]),
        Sample([(2, 4)], {"axis": 1, "ddof": 1}, torch=torch),
        Sample([_complex], {"axis": 1}, torch=torch, note="complex", foreign=False),
    ]


def _along(torch: str) -> list[Sample]:
    def oracle(t: Any, x: Any, axis: Any = None) -> Any:
        return getattr(t, torch)(x.reshape(-1) if axis is None else x, dim=0 if axis is None else axis)

    return [
        Sample([(2, 3)], {"axis": 0}, torch=oracle),
        Sample([(2, 5)], {"axis": -1}, torch=oracle),
        Sample([(2, 3)], torch=oracle, foreign=False),
        Sample([(0, 3)], {"axis": 1}, torch=oracle),
        Sample([(2, 0)], {"axis": 1}, torch=oracle),
        Sample([_complex], {"axis": 1}, torch=oracle, note="complex"),
        Sample([np.array([[1.0, 0.0, 2.0, 3.0], [0.0, 2.0, 0.0, -1.0]])], {"axis": 1}, torch=oracle, note="zeros"),
    ]


def _norm(x: Any, ord: float = 2, axis: Any = None, keepdims: bool = False) -> Any:
    return np.linalg.vector_norm(x, ord=ord, axis=axis, keepdims=keepdims)


def _norm_torch(torch: Any, x: Any, ord: float = 2, axis: Any = None, keepdims: bool = False) -> Any:
    return torch.linalg.vector_norm(x, ord=ord, dim=axis, keepdim=keepdims)


def _logsumexp_torch(torch: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return torch.logsumexp(x, dim=tuple(range(x.ndim)) if axis is None else axis, keepdim=keepdims)


def _quantile(x: Any, **params: Any) -> Any:
    return np.quantile(x, **params).astype(x.dtype)  # NumPy promotes to the dtype of q


_ZEROS = np.array([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]])
_GAPS = np.array([[1.0, np.nan, 2.0], [np.nan, 3.0, -1.0]])

SAMPLES = {
    "sum": [*reduction(torch=_torch("sum")), Sample([_complex], {"axis": 0}, torch=_torch("sum"), note="complex")],
    "mean": [
        *reduction(empty=False, torch=_torch("mean")),
        Sample([_complex], {"axis": 0}, torch=_torch("mean"), note="complex"),
    ],
    "max": [
        *reduction(empty=False, torch=_torch("amax")),
        Sample([(3,)], {"axis": 0}, torch=lambda t, x, axis: t.max(x, dim=axis).values),
        Sample([complex_(2, 3)], {"axis": 1}, note="complex", foreign=False),
    ],
    "min": [
        *reduction(empty=False, torch=_torch("amin")),
        Sample([(3,)], {"axis": 0}, torch=lambda t, x, axis: t.min(x, dim=axis).values),
        Sample([complex_(2, 3)], {"axis": 1}, note="complex", foreign=False),
    ],
    "prod": [
        *reduction(torch=_prod_torch),
        Sample([_ZEROS], torch=_prod_torch, note="several zeros"),
        Sample([_ZEROS], {"axis": 0}, torch=_prod_torch, note="one zero"),
        Sample([_ZEROS], {"axis": 1}, torch=_prod_torch, note="one zero and two"),
        Sample([_complex], {"axis": 1}, torch=_prod_torch, note="complex"),
    ],
    "logsumexp": [
        *reduction(
            empty=False,
            torch=_logsumexp_torch,
            expected=lambda x, **axes: scipy.special.logsumexp(x, **axes) if x.size else np.zeros((0, 3), x.dtype),
        ),
        Sample([(2, 3)], {"axis": 1}, (700, 900), expected=scipy.special.logsumexp, torch=_logsumexp_torch),
    ],
    "var": moment("var"),
    "std": moment("std"),
    "vector_norm": [
        *reduction(expected=_norm, torch=_norm_torch),
        *(Sample([(2, 3)], {"axis": 1, "ord": o}, expected=_norm, torch=_norm_torch) for o in (1, 0, 3, 2.5, 0.5)),
        *(Sample([(2, 3)], {"axis": 0, "ord": o}, expected=_norm, torch=_norm_torch) for o in (np.inf, -np.inf)),
        *(Sample([_complex], {"ord": o}, expected=_norm, torch=_norm_torch) for o in (1, 2, 3, np.inf)),
    ],
    "norm": [
        Sample([(2, 3)], expected=np.linalg.norm, torch="linalg.norm"),
        Sample([(4,)], {"ord": 3}, expected=np.linalg.norm),
        Sample([(2, 3, 2)], {"axis": (0, 2)}, expected=np.linalg.norm),
        Sample([(2, 3)], {"axis": 1, "ord": 1, "keepdims": True}, expected=np.linalg.norm),
        *(Sample([(2, 3)], {"axis": (0, 1), "ord": o}, expected=np.linalg.norm) for o in ("fro", "nuc", 1, 2, np.inf)),
    ],
    "cumsum": _along("cumsum"),
    "cumprod": _along("cumprod"),
    "diff": [Sample([(5,)], torch="diff"), Sample([(4, 3)], {"n": 2, "axis": 0}), Sample([(2, 3)], {"axis": 1})],
    "trapezoid": [
        Sample([(5,)], torch="trapezoid"),
        Sample([(2, 4)], {"dx": 0.5, "axis": 0}),
        Sample([(2, 4), (4,)], torch="trapezoid"),
        Sample([(2, 4), (2, 4)], {"axis": 1}),
    ],
    "ptp": [Sample([(2, 3)]), Sample([(2, 3)], {"axis": 1})],
    "nansum": [Sample([_GAPS]), Sample([_GAPS], {"axis": 1, "keepdims": True}), Sample([(2, 3)], torch="nansum")],
    "nanmean": [Sample([_GAPS]), Sample([_GAPS], {"axis": 1}), Sample([(2, 3)], torch="nanmean")],
    "average": [
        Sample([(2, 3)]),
        Sample([(2, 3)], {"axis": 1, "weights": np.array([1.0, 2.0, 3.0])}),
        Sample([(2, 3)], {"weights": np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])}),
    ],
    "median": [
        Sample([(5,)], torch="median"),
        Sample([(2, 4)]),
        Sample([(2, 3, 2)], {"axis": (0, 2)}),
        Sample([(0, 3)], {"axis": 1}),
    ],
    "quantile": [
        Sample([(7,)], {"q": 0.3}),
        Sample([(2, 4)], {"q": [0.0, 0.25, 1.0], "axis": 1, "keepdims": True}, expected=_quantile),
        *(Sample([(6,)], {"q": 0.3, "method": m}) for m in ("lower", "higher", "midpoint", "nearest")),
    ],
}
for _name in ("diff", "trapezoid", "average", "median", "quantile", "nanmean", "norm", "nansum", "ptp"):
    # Made of primitives, with constants that are NumPy's.
    SAMPLES[_name] = [Sample(**{**vars(s), "foreign": False}) for s in SAMPLES[_name]]
