"""Pooling."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import Sample
from .activation import functional


def _max_pool2d(torch: Any, x: Any, **params: Any) -> Any:
    # PyTorch has no second derivative of its own pooling along every path; of a maximum over patches it has.
    return functional("max_pool2d", size="kernel_size")(torch, x, **params)


def _winners(x: Any, size: int) -> Any:
    """Of windows that do not overlap: 1 at the first largest of each."""
    batch, channels, height, width = x.shape
    blocks = x.reshape(batch, channels, height // size, size, width // size, size).transpose(0, 1, 3, 5, 2, 4)
    flat = blocks.reshape(batch, channels, size * size, *blocks.shape[4:])
    return (np.arange(size * size)[:, None, None] == flat.argmax(2)[:, :, None]).astype(float).reshape(blocks.shape)


SAMPLES = {
    "max_pool2d": [
        Sample([(2, 2, 4, 6)], {"size": 2}, torch=_max_pool2d),
        Sample([(1, 2, 5, 5)], {"size": 3, "stride": 2, "padding": 1}, torch=_max_pool2d),
    ],
    "max_pool2d_winners": [Sample([(2, 2, 4, 6)], {"size": 2}, expected=_winners)],
    "avg_pool2d": [
        Sample([(2, 2, 4, 6)], {"size": 2}, torch=functional("avg_pool2d", size="kernel_size")),
        Sample(
            [(1, 2, 5, 5)],
            {"size": (3, 2), "stride": 2, "padding": 1},
            torch=functional("avg_pool2d", size="kernel_size"),
        ),
    ],
    "adaptive_avg_pool2d": [
        Sample([(2, 2, 5, 7)], {"size": (2, 3)}, torch=functional("adaptive_avg_pool2d", size="output_size")),
        Sample([(1, 2, 4, 4)], {"size": 1}, torch=functional("adaptive_avg_pool2d", size="output_size")),
    ],
}
