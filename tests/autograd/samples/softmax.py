"""Softmax and its logarithm."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import Sample


def _softmax(torch: Any, x: Any, axis: int = -1) -> Any:
    return torch.softmax(x, axis)


def _log_softmax(torch: Any, x: Any, axis: int = -1) -> Any:
    return torch.log_softmax(x, axis)


def _samples(oracle: Any) -> list[Sample]:
    return [
        Sample([(3, 4)], torch=oracle),
        Sample([(5,)], torch=oracle),
        Sample([(2, 3, 4)], {"axis": 1}, torch=oracle),
        Sample([(0, 4)], torch=oracle),
        Sample([np.array([[900.0, 901.0, -900.0]])], torch=oracle, note="no overflow"),
    ]


SAMPLES = {"softmax": _samples(_softmax), "log_softmax": _samples(_log_softmax)}
