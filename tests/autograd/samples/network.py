"""The affine map, dropout and one-hot vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import Sample
from .activation import functional
from .shape import complex_


def _kept(shape: tuple[int, ...], key: int, rate: float) -> Any:
    drawn = np.random.Generator(np.random.Philox(key=key)).random(shape, dtype=np.float32)
    return (drawn >= rate) * np.float32(1 / (1 - rate)).astype(np.float64)


def _dropout(x: Any, key: int, rate: float = 0.5) -> Any:
    return x * _kept(x.shape, key, rate).astype(x.dtype)


def _torch_dropout(torch: Any, x: Any, key: int, rate: float = 0.5) -> Any:
    return x * torch.tensor(_kept(tuple(x.shape), key, rate))


SAMPLES = {
    "linear": [
        Sample([complex_(3, 4), complex_(5, 4), complex_(5)], torch=functional("linear"), note="complex"),
        Sample(
            [(3, 4), complex_(5, 4)],
            torch=lambda torch, x, w: torch.nn.functional.linear(x + 0j, w),
            note="real and complex",
        ),
        Sample([(3, 4), (5, 4), (5,)], torch=functional("linear")),
        Sample([(2, 3, 4), (5, 4)], torch=functional("linear")),
        Sample([(4,), (5, 4), (5,)], torch=functional("linear")),
        Sample([(0, 4), (5, 4), (5,)], torch=functional("linear")),
    ],
    "dropout": [
        Sample([(3, 4)], {"key": 7}, expected=_dropout, torch=_torch_dropout, rtol=1e-7),
        Sample([(3, 4)], {"key": 8, "rate": 0.2}, expected=_dropout, torch=_torch_dropout, rtol=1e-7),
    ],
    "one_hot": [
        Sample(
            [np.array([[0, 2], [1, 1]])],
            {"classes": 3},
            expected=lambda labels, classes: np.eye(classes, dtype=np.float32)[labels],
        )
    ],
}
