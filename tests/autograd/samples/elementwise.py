"""Arithmetic, exponentials, logarithms, trigonometry."""

from __future__ import annotations

import numpy as np
import scipy.special

from tests.autograd.samples import Sample, binary, unary


def _complex(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0.5, 1.5, (2, 2)) + 1j * rng.uniform(-1.0, 1.0, (2, 2))


def unary_complex(torch: str | None = None) -> list[Sample]:
    return [Sample([_complex], torch=torch, note="complex")]


def binary_complex(torch: str | None = None) -> list[Sample]:
    return [
        Sample([_complex, _complex], torch=torch, note="complex"),
        Sample([_complex, (2,)], domain=(0.5, 1.5), torch=torch, note="complex and real"),
        Sample([(2,), _complex], domain=(0.5, 1.5), torch=torch, note="real and complex"),
    ]


def _half(rng: np.random.Generator) -> np.ndarray:
    """Numbers whose floor no small step changes."""
    return rng.integers(-4, 5, (2, 3)) + rng.uniform(0.2, 0.8, (2, 3))


SAMPLES = {
    "add": binary(-2, 2, torch="add", analytic=True) + binary_complex("add"),
    "subtract": binary(-2, 2, torch="sub", analytic=True) + binary_complex("sub"),
    "multiply": [
        *binary(-2, 2, torch="mul", analytic=True),
        *binary_complex("mul"),
        Sample([(2,), 1.5], note="by a number"),
        Sample([_complex, 1 + 2j], note="by a complex number"),
    ],
    "divide": [
        *binary(0.5, 2, torch="div", analytic=True),
        *binary_complex("div"),
        Sample([2.0, (3,)], domain=(0.5, 2), torch="div", note="a number by"),
    ],
    "negative": unary(-2, 2, torch="neg", analytic=True),
    "positive": unary(-2, 2, torch="positive", analytic=True),
    "power": [
        *binary(0.5, 2, torch="pow", analytic=True),
        *binary_complex("pow"),
        *(Sample([(3,), y], domain=(0.5, 2), torch="pow", analytic=True) for y in (0, 1, 2, 3, -1, 0.5, 2.5, -2.0)),
        Sample([2.0, (3,)], torch="pow", analytic=True, note="a number to the"),
        Sample([(3,), np.array([0, 2, 3])], torch="pow", note="whole exponents", foreign=False),
        Sample([(3,), 3], domain=(-2, -0.5), torch="pow", note="cube of negative numbers"),
        Sample([np.array([1, 2, 3]), (3,)], torch="pow", note="whole bases", foreign=False),
        Sample([(2,), _complex], domain=(-1.5, -0.5), torch="pow", note="negative and complex"),
        Sample([-2.0, _complex], torch="pow", note="a negative number to a complex power"),
    ],
    "float_power": binary(0.5, 2, torch="float_power"),
    "square": unary(-2, 2, torch="square", analytic=True) + unary_complex("square"),
    "reciprocal": unary(0.5, 2, torch="reciprocal", analytic=True) + unary_complex("reciprocal"),
    "sqrt": unary(0.2, 2, torch="sqrt", analytic=True) + unary_complex("sqrt"),
    "rsqrt": unary(0.2, 2, expected=lambda x: 1 / np.sqrt(x), torch="rsqrt"),
    "cbrt": unary(-2, -0.2, torch=None) + unary(0.2, 2),
    "abs": unary(-2, 2, torch="abs") + unary_complex("abs"),
    "sign": unary(-2, 2, torch="sgn") + unary_complex("sgn"),
    "remainder": [
        Sample([_half, 3.0], torch="remainder"),
        Sample([_half, -3.0], torch="remainder"),
        *binary(4.1, 4.9, (1.1, 1.3), torch="remainder"),
    ],
    "fmod": [
        Sample([_half, 3.0], torch="fmod"),
        *binary(4.1, 4.9, (1.1, 1.3), torch="fmod"),
        *binary(-4.9, -4.1, (1.1, 1.3), torch="fmod"),
    ],
    "floor_divide": [Sample([_half, 3.0]), *binary(4.1, 4.9, (1.1, 1.3))],
    "conj": unary(-2, 2, torch="conj") + unary_complex("conj"),
    "real": unary(-2, 2) + unary_complex("real"),
    "imag": unary(-2, 2) + unary_complex("imag"),
    "angle": unary(0.5, 2, torch="angle") + unary(-2, -0.5, torch="angle") + unary_complex("angle"),
    "exp": unary(-2, 2, torch="exp", analytic=True) + unary_complex("exp"),
    "exp2": unary(-2, 2, torch="exp2", analytic=True),
    "expm1": unary(-2, 2, torch="expm1", analytic=True),
    "log": unary(0.2, 3, torch="log", analytic=True) + unary_complex("log"),
    "log2": unary(0.2, 3, torch="log2", analytic=True),
    "log10": unary(0.2, 3, torch="log10", analytic=True),
    "log1p": unary(-0.5, 3, torch="log1p", analytic=True),
    "logaddexp": binary(-3, 3, torch="logaddexp"),
    "logaddexp2": binary(-3, 3, torch="logaddexp2"),
    "sigmoid": unary(-4, 4, expected=scipy.special.expit, torch="sigmoid") + unary(-800, -700, torch="sigmoid"),
    "logit": unary(0.1, 0.9, expected=scipy.special.logit, torch="logit"),
    "xlogy": [
        *binary(0.5, 2, expected=scipy.special.xlogy, torch="xlogy"),
        Sample([np.array([0.0, 0.0, 2.0]), np.array([0.5, 3.0, 1.0])], expected=scipy.special.xlogy, torch="xlogy"),
    ],
    "sin": unary(-4, 4, torch="sin", analytic=True) + unary_complex("sin"),
    "cos": unary(-4, 4, torch="cos", analytic=True) + unary_complex("cos"),
    "tan": unary(-1.2, 1.2, torch="tan", analytic=True) + unary_complex("tan"),
    "arcsin": unary(-0.9, 0.9, torch="arcsin", analytic=True),
    "arccos": unary(-0.9, 0.9, torch="arccos", analytic=True),
    "arctan": unary(-3, 3, torch="arctan", analytic=True),
    "arctan2": [
        *binary(0.5, 2, (-2, -0.5), torch="arctan2"),
        *binary(-2, -0.5, (0.5, 2), torch="arctan2"),
        Sample([np.array([1, 20, 200], np.uint8), (3,)], note="small integers", foreign=False),
    ],
    "hypot": binary(0.5, 2, torch="hypot"),
    "sinh": unary(-2, 2, torch="sinh", analytic=True) + unary_complex("sinh"),
    "cosh": unary(-2, 2, torch="cosh", analytic=True) + unary_complex("cosh"),
    "tanh": unary(-2, 2, torch="tanh", analytic=True) + unary_complex("tanh"),
    "arcsinh": unary(-2, 2, torch="arcsinh", analytic=True),
    "arccosh": unary(1.2, 3, torch="arccosh", analytic=True),
    "arctanh": unary(-0.9, 0.9, torch="arctanh", analytic=True),
    "sinc": [
        *unary(0.2, 2, torch="sinc"),
        *unary(-0.14, 0.14),
        Sample([np.zeros(2)], note="at zero"),
    ],
    "deg2rad": unary(-180, 180, torch="deg2rad", analytic=False),
    "rad2deg": unary(-3, 3, torch="rad2deg"),
    "copy": unary(-2, 2, torch="clone"),
    "astype": [
        Sample([(2,)], {"dtype": dtype}, expected=lambda x, dtype: x.astype(dtype), foreign=False)
        for dtype in (np.float64, np.complex128)
    ],
}
