"""Convolution, its transpose, and patches."""

from __future__ import annotations

from typing import Any

from . import Sample
from .activation import functional
from .shape import complex_


def _conv2d_weight(
    torch: Any, x: Any, g: Any, kernel: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    shape = (g.shape[1], x.shape[1] // groups, *kernel)
    weight = torch.zeros(shape, dtype=x.dtype, requires_grad=True)
    value = torch.nn.functional.conv2d(x, weight, None, stride, padding, dilation, groups)
    (found,) = torch.autograd.grad(value, weight, g, create_graph=True)
    return found


def _unfold2d(torch: Any, x: Any, kernel: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1) -> Any:
    columns = torch.nn.functional.unfold(x, kernel, dilation, padding, stride)
    weight = torch.zeros((1, x.shape[1], *kernel), dtype=x.dtype)
    places = torch.nn.functional.conv2d(x, weight, None, stride, padding, dilation).shape[2:]
    return columns.reshape(*x.shape[:2], *kernel, *places)


def _fold2d(torch: Any, patches: Any, size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1) -> Any:
    batch, channels, height, width, rows, columns = patches.shape
    flat = patches.reshape(batch, channels * height * width, rows * columns)
    return torch.nn.functional.fold(flat, size, (height, width), dilation, padding, stride)


SAMPLES = {
    "conv2d": [
        Sample(
            [complex_(2, 2, 4, 3), complex_(4, 1, 2, 2), complex_(4)],
            {"stride": 2, "padding": 1, "groups": 2},
            torch=functional("conv2d"),
            note="complex",
        ),
        Sample(
            [(1, 2, 3, 3), complex_(2, 2, 2, 2)],
            torch=lambda torch, x, w: torch.nn.functional.conv2d(x + 0j, w),
            note="real and complex",
        ),
        Sample([(2, 2, 4, 5), (3, 2, 3, 2), (3,)], torch=functional("conv2d")),
        Sample([(1, 2, 5, 5), (4, 1, 3, 3)], {"stride": 2, "padding": 1, "groups": 2}, torch=functional("conv2d")),
        Sample([(1, 1, 5, 6), (2, 1, 2, 2)], {"padding": (0, 1), "dilation": (2, 1)}, torch=functional("conv2d")),
        Sample([(0, 2, 4, 5), (3, 2, 3, 2)], torch=functional("conv2d")),
    ],
    "conv1d": [
        Sample([(2, 2, 5), (3, 2, 3), (3,)], torch=functional("conv1d")),
        Sample(
            [(1, 2, 7), (4, 1, 3)],
            {"stride": 2, "padding": 1, "dilation": 2, "groups": 2},
            torch=functional("conv1d"),
        ),
        Sample([(0, 2, 5), (3, 2, 3)], torch=functional("conv1d")),
    ],
    "conv_transpose2d": [
        Sample([complex_(2, 2, 2, 3), complex_(2, 3, 3, 2)], torch=functional("conv_transpose2d"), note="complex"),
        Sample([(2, 2, 2, 3), (2, 3, 3, 2), (3,)], torch=functional("conv_transpose2d")),
        Sample(
            [(1, 4, 3, 2), (4, 1, 2, 3)],
            {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2},
            torch=functional("conv_transpose2d"),
        ),
    ],
    "conv2d_weight": [
        Sample(
            [complex_(2, 2, 4, 4), complex_(2, 3, 2, 3)],
            {"kernel": (3, 2)},
            torch=lambda torch, x, g, kernel: _conv2d_weight(torch, x.conj(), g, kernel),
            note="complex",
        ),
        Sample([(2, 2, 4, 4), (2, 3, 2, 3)], {"kernel": (3, 2)}, torch=_conv2d_weight),
        Sample(
            [(1, 2, 5, 5), (1, 4, 3, 3)],
            {"kernel": (3, 3), "stride": 2, "padding": 1, "groups": 2},
            torch=_conv2d_weight,
        ),
    ],
    "unfold2d": [
        Sample([(1, 2, 4, 5)], {"kernel": (2, 3)}, torch=_unfold2d),
        Sample([(2, 1, 5, 5)], {"kernel": (3, 2), "stride": 2, "padding": 1}, torch=_unfold2d),
    ],
    "fold2d": [
        Sample([(1, 2, 2, 3, 3, 3)], {"size": (4, 5)}, torch=_fold2d),
        Sample([(2, 1, 3, 2, 3, 3)], {"size": (5, 5), "stride": 2, "padding": 1}, torch=_fold2d),
    ],
}
