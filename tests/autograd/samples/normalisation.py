"""Layer, root-mean-square, group and batch normalisation."""

from __future__ import annotations

from typing import Any

from . import Sample


def _layer_norm(torch: Any, x: Any, weight: Any = None, bias: Any = None, axes: int = 1, eps: float = 1e-5) -> Any:
    return torch.nn.functional.layer_norm(x, tuple(x.shape[-axes:]), weight, bias, eps)


def _rms_norm(torch: Any, x: Any, weight: Any = None, axes: int = 1, eps: float = 1e-6) -> Any:
    return torch.nn.functional.rms_norm(x, tuple(x.shape[-axes:]), weight, eps)


def _group_norm(torch: Any, x: Any, weight: Any = None, bias: Any = None, *, groups: int, eps: float = 1e-5) -> Any:
    return torch.nn.functional.group_norm(x, groups, weight, bias, eps)


def _batch_norm(torch: Any, x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    return torch.nn.functional.batch_norm(x, None, None, weight, bias, training=True, eps=eps)


SAMPLES = {
    "layer_norm": [
        Sample([(3, 5), (5,), (5,)], torch=_layer_norm),
        Sample([(2, 3, 4), (3, 4), (3, 4)], {"axes": 2, "eps": 1e-3}, torch=_layer_norm),
        Sample([(3, 5)], torch=_layer_norm),
        Sample([(0, 5), (5,), (5,)], torch=_layer_norm),
    ],
    "rms_norm": [
        Sample([(3, 5), (5,)], torch=_rms_norm),
        Sample([(2, 3, 4)], {"axes": 2}, torch=_rms_norm),
    ],
    "group_norm": [
        Sample([(2, 4, 3), (4,), (4,)], {"groups": 2}, torch=_group_norm),
        Sample([(2, 4)], {"groups": 1}, torch=_group_norm),
    ],
    "batch_norm": [
        Sample([(4, 3), (3,), (3,)], torch=_batch_norm),
        Sample([(2, 3, 2, 2)], torch=_batch_norm),
    ],
}
