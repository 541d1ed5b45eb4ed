"""Fourier transforms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.autograd.samples import Sample
from tests.autograd.samples.shape import complex_

PARAMS: list[dict[str, Any]] = [
    {},
    {"axis": 0},
    {"n": 3},
    {"n": 6},
    {"n": 7, "norm": "ortho"},
    {"norm": "forward"},
    {"n": 1},
]


def of_numpy(name: str) -> Callable[..., Any]:
    return lambda x, **params: getattr(np.fft, name)(x, **params)


def of_torch(name: str) -> Callable[..., Any]:
    """PyTorch's transform, with the parameters under their names there."""
    names = {"axis": "dim", "axes": "dim"}
    return lambda t, x, **params: getattr(t.fft, name)(x, **{names.get(k, k): v for k, v in params.items()})


def samples(name: str, draw: Any, variants: list[dict[str, Any]], note: str = "") -> list[Sample]:
    return [
        Sample([draw], params, expected=of_numpy(name), torch=of_torch(name), rtol=1e-10, foreign=False,
               note=" ".join(filter(None, (note, *(f"{k}={v}" for k, v in params.items())))))
        for params in variants
    ]  # fmt: skip


SEVERAL = [{}, {"s": (2, 5), "axes": (0, 1)}, {"axes": (1,), "norm": "ortho"}]

SAMPLES = {
    "fft": samples("fft", complex_(3, 4), PARAMS) + samples("fft", (3, 4), PARAMS, "real"),
    "ifft": samples("ifft", complex_(3, 4), PARAMS),
    "rfft": samples("rfft", (3, 4), PARAMS),
    "irfft": samples("irfft", complex_(3, 4), PARAMS),
    "fftn": samples("fftn", complex_(2, 3), SEVERAL),
    "ifftn": samples("ifftn", complex_(2, 3), SEVERAL),
    "rfftn": samples("rfftn", (2, 3), SEVERAL),
    "irfftn": samples("irfftn", complex_(2, 3), SEVERAL),
    "fft2": samples("fft2", complex_(2, 2, 3), [{}]),
    "ifft2": samples("ifft2", complex_(2, 2, 3), [{}]),
    "rfft2": samples("rfft2", (2, 2, 3), [{}]),
    "irfft2": samples("irfft2", complex_(2, 2, 3), [{}]),
    "fftshift": [Sample([(3, 4)], params, expected=of_numpy("fftshift")) for params in ({}, {"axes": 1})],
    "ifftshift": [Sample([(3, 4)], params, expected=of_numpy("ifftshift")) for params in ({}, {"axes": 1})],
}
