"""Extrema of two, clip, where, and what has no gradient."""

from __future__ import annotations

import numpy as np

from tests.autograd.samples import Sample, binary, unary

NAN = float("nan")
_MASK = np.array([[True, False, True], [False, False, True]])
_WITH_NAN = np.array([1.0, NAN, -2.0, np.inf, -np.inf, 0.0])


def _compared(rng: np.random.Generator) -> np.ndarray:
    """Small whole numbers, so that some are equal."""
    return rng.integers(0, 3, (2, 3)).astype(float)


def comparison(torch: str) -> list[Sample]:
    return [
        Sample([_compared, _compared], torch=torch),
        Sample([_compared, 1.0], torch=torch),
        Sample([(0, 2), (2,)], torch=torch),
        Sample([_WITH_NAN, 0.0], torch=torch, note="nan"),
    ]


def logical(torch: str) -> list[Sample]:
    return [
        Sample([_MASK, ~_MASK.T.copy().reshape(2, 3)], torch=torch),
        Sample([_MASK, np.array([True, False, True])], torch=torch),
    ]


def rounding(torch: str) -> list[Sample]:
    return [
        *unary(-4, 4, torch=torch),
        Sample([np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.0])], torch=torch, note="halves"),
    ]


def of_axis(torch: str) -> list[Sample]:
    return [
        Sample([(2, 3)], {"axis": 1}, torch=lambda t, x, axis: getattr(t, torch)(x, dim=axis)),
        Sample([(2, 3)], {"axis": 0, "keepdims": True}),
        Sample([(2, 3)], torch=torch),
    ]


def of_booleans() -> list[Sample]:
    return [
        Sample([_MASK]),
        Sample([_MASK], {"axis": 0}),
        Sample([_MASK], {"axis": (0, 1), "keepdims": True}),
        Sample([np.zeros((0, 2), bool)], {"axis": 0}),
    ]


SAMPLES = {
    "maximum": [*binary(-2, 2, torch="maximum"), Sample([(3,), 0.0], note="and a number")],
    "minimum": [*binary(-2, 2, torch="minimum"), Sample([(3,), 0.0], note="and a number")],
    "fmax": [*binary(-2, 2, torch="fmax"), Sample([np.array([1.0, 3.0]), np.array([2.0, 2.5])])],
    "fmin": [*binary(-2, 2, torch="fmin"), Sample([np.array([1.0, 3.0]), np.array([2.0, 2.5])])],
    "clip": [
        Sample([(2, 4), -1.0, 1.0], torch="clip"),
        Sample([(4,), -0.5, None], torch="clip"),
        Sample([(4,), None, 0.5], torch="clip"),
        Sample([(2, 3), (3,), (2, 1)], domain=[(-2, 2), (-1, -0.5), (0.5, 1)], torch="clip"),
        Sample([(2, 3), (3,), None], domain=[(-2, 2), (-1, 1), (0, 0)], torch="clip", note="lower array"),
        Sample([(2, 3), None, (3,)], domain=[(-2, 2), (0, 0), (-1, 1)], torch="clip", note="upper array"),
        Sample([(0, 3), 0.0, 1.0], torch="clip"),
    ],
    "where": [
        Sample([_MASK, (2, 3), (2, 3)], torch="where"),
        Sample([_MASK, (3,), (2, 1)], torch="where"),
        Sample([np.array([True, False]), (2, 1), ()], torch="where"),
        Sample([_MASK, (2, 3), 0.0], torch="where"),
        Sample([np.zeros((0, 2), bool), (2,), ()], torch="where"),
    ],
    "copysign": [*binary(0.5, 2, (-2, -0.5), torch="copysign"), *binary(-2, -0.5, torch="copysign")],
    "nan_to_num": [*unary(-2, 2, torch="nan_to_num")],
    "heaviside": [
        *(
            Sample([shape, (2,)], domain=[(0.5, 2), (-1, 1)], torch=lambda t, x, y: t.where(x > 0, t.ones_like(x), y))
            for shape in [(2,), (3, 1)]
        ),
        Sample([(2,), (2,)], domain=[(-2, -0.5), (-1, 1)]),
        Sample([0, (2,)], foreign=False),
    ],
    "detach": unary(-2, 2, expected=lambda x: x, torch="detach"),
    "floor": rounding("floor"),
    "ceil": rounding("ceil"),
    "trunc": rounding("trunc"),
    "rint": rounding("round"),
    "round": [*rounding("round"), Sample([(2, 3)], {"decimals": 1})],
    "equal": comparison("eq"),
    "not_equal": comparison("ne"),
    "less": comparison("lt"),
    "less_equal": comparison("le"),
    "greater": comparison("gt"),
    "greater_equal": comparison("ge"),
    "isclose": [
        Sample([_compared, _compared]),
        Sample([np.array([1.0, 1.0, NAN]), np.array([1.0 + 1e-7, 1.1, NAN])], torch="isclose"),
        Sample([np.array([NAN, np.inf]), np.array([NAN, np.inf])], {"equal_nan": True}),
    ],
    "allclose": [Sample([_compared, _compared]), Sample([(3,), (3,)], {"atol": 10.0})],
    "array_equal": [
        Sample([np.arange(3.0), np.arange(3.0)], foreign=False),
        Sample([np.arange(3.0), np.arange(4.0)], foreign=False),
    ],
    "logical_and": logical("logical_and"),
    "logical_or": logical("logical_or"),
    "logical_xor": logical("logical_xor"),
    "logical_not": [Sample([_MASK], torch="logical_not")],
    "bitwise_and": logical("bitwise_and"),
    "bitwise_or": logical("bitwise_or"),
    "bitwise_xor": [*logical("bitwise_xor"), Sample([np.array([1, 2, 3]), 6], torch="bitwise_xor")],
    "invert": [Sample([_MASK], torch="bitwise_not"), Sample([np.array([1, -2])], torch="bitwise_not")],
    "isnan": [Sample([_WITH_NAN], torch="isnan")],
    "isinf": [Sample([_WITH_NAN], torch="isinf")],
    "isfinite": [Sample([_WITH_NAN], torch="isfinite")],
    "signbit": [Sample([np.array([-1.0, -0.0, 0.0, 2.0])], torch="signbit")],
    "argmax": of_axis("argmax"),
    "argmin": of_axis("argmin"),
    "argsort": [
        Sample([(2, 4)], torch="argsort"),
        Sample([(4, 2)], {"axis": 0}),
        Sample([_compared], {"stable": True}),
    ],
    "searchsorted": [
        Sample([np.arange(5.0), np.array([0.5, 2.0, 7.0])], torch="searchsorted"),
        Sample([np.arange(5.0), np.array([0.5, 2.0])], {"side": "right"}),
    ],
    "nonzero": [Sample([np.array([[1.0, 0.0], [0.0, 3.0]])])],
    "any": of_booleans(),
    "all": of_booleans(),
    "count_nonzero": [*of_booleans(), Sample([_compared])],
}
