"""Constants."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.autograd.samples import Sample


def _constants(*calls: tuple[Any, ...], **params: Any) -> list[Sample]:
    return [Sample([lambda rng, a=a: a for a in call], params, order=0, foreign=False) for call in calls]


SAMPLES = {
    "zeros": _constants((3,), ((2, 3),), ((0, 2),)) + _constants((2,), dtype=np.float32),
    "ones": _constants((3,), ((2, 3),), ((),)) + _constants((2,), dtype=int),
    "full": _constants(((2, 3), 1.5), (2, 7)),
    "eye": _constants((3,), (2, 3), (3, 3, -1)),
    "arange": _constants((4,), (1.0, 2.0, 0.25), (5, 1, -2)),
    "linspace": _constants((0.0, 1.0, 5), (2.0, -1.0)) + _constants((0.0, 1.0), num=4, endpoint=False),
    "zeros_like": [Sample([(2, 3)], order=0), Sample([()], {"dtype": np.float32}, order=0, foreign=False)],
    "ones_like": [Sample([(2, 3)], order=0), Sample([(0, 2)], {"dtype": np.float32}, order=0, foreign=False)],
    "full_like": [Sample([(2, 3), 2.5], order=0), Sample([np.arange(3), 2], order=0)],
    "asarray": [
        Sample([(2, 3)], torch="clone"),
        Sample([()], {"dtype": np.complex128}, foreign=False),
    ],
}
