"""Operands without elements and of one element, for the operations whose families have none of them.

An entry is a call, (operands, parameters), judged by the oracles of the family's own samples, or by those that a third
part of it names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from distgrad.autograd.rules.indexing import ARRAY
from tests.autograd.samples import (
    Sample,
    activation,
    attention,
    contraction,
    convolution,
    elementwise,
    fft,
    indexing,
    linalg,
    losses,
    network,
    normalisation,
    pooling,
    reductions,
    selection,
    shape,
    softmax,
    special,
)
from tests.autograd.samples.linalg import positive, regular
from tests.autograd.samples.shape import complex_

FAMILIES = (
    activation, attention, contraction, convolution, elementwise, fft, indexing, linalg, losses, network,
    normalisation, pooling, reductions, selection, shape, softmax, special,
)  # fmt: skip
ALL = slice(None)
NO_LABELS = np.zeros(0, np.int64)

Call = tuple[Sequence[Any], dict[str, Any]] | tuple[Sequence[Any], dict[str, Any], dict[str, Any]]

# PyTorch refuses these operands, though they have gradients like any others.
NO_TORCH: dict[str, Any] = {"torch": None}


def _average(x: Any, size: Any) -> Any:
    return np.zeros((*x.shape[:2], size, size), x.dtype)


EMPTY: dict[str, list[Call]] = {
    "adaptive_avg_pool2d": [([(2, 0, 4, 4)], {"size": 2}, {"torch": None, "expected": _average})],
    "add_along_axis": [([(2, 0), np.zeros((2, 0), np.int64)], {"shape": (2, 3), "axis": 1})],
    "astype": [([(0, 2)], {"dtype": np.complex128})],
    "avg_pool2d": [([(2, 0, 4, 4)], {"size": 2}, {"torch": None, "expected": _average})],
    "batch_norm": [([(2, 0, 3), (0,), (0,)], {}, {"torch": None, "expected": lambda x, *affine: x})],
    "bce_with_logits": [([(0, 3), (0, 3)], {"reduction": "none"}), ([(0,), (0,)], {"reduction": "sum"})],
    "bessel_i": [([1, (0, 2)], {})],
    "broadcast_to": [([(0, 1)], {"shape": (2, 0, 3)})],
    "conv2d_weight": [([(0, 2, 4, 4), (0, 3, 2, 3)], {"kernel": (3, 2)})],
    "conv_transpose2d": [([(0, 2, 2, 3), (2, 3, 3, 2)], {})],
    "det": [([regular(0, 0)], {}), ([np.zeros((0, 2, 2))], {})],
    "diagonal": [([(0, 3)], {})],
    "diagonal_scatter": [([(2, 0)], {"shape": (0, 2, 3), "offset": 0, "axis1": 0, "axis2": 2})],
    "dropout": [([(0, 4)], {"key": 7})],
    "eigh_of_hermitian": [([np.zeros((0, 2, 2))], {})],
    "embedding": [([(4, 0), np.array([1, 1])], {})],
    "expand_dims": [([(0, 2)], {"axis": 1})],
    "fft": [([np.zeros((0, 4), complex)], {}, NO_TORCH)],
    "flip": [([(2, 0)], {"axis": -1})],
    "fold2d": [([(0, 2, 2, 3, 3, 3)], {"size": (4, 5)})],
    "group_norm": [([(0, 4, 3), (4,), (4,)], {"groups": 2})],
    "heaviside": [([(0, 2), (2,)], {})],
    "huber": [([(0, 3), (0, 3)], {"reduction": "none"})],
    "ifft": [([np.zeros((0, 4), complex)], {}, NO_TORCH)],
    "index_add": [([(3, 2), (0, 2), NO_LABELS], {"index": (ARRAY,)}, {"expected": lambda x, v, i, index: x})],
    "index_get": [([(0, 2)], {"index": (ALL, 1)})],
    "index_scatter": [([(0,), NO_LABELS], {"index": (ARRAY,), "shape": (4,)})],
    "index_set": [([(3, 2), (0, 2), NO_LABELS], {"index": (ARRAY,)}, {"expected": lambda x, v, i, index: x})],
    "irfft": [([np.zeros((0, 3), complex)], {}, NO_TORCH)],
    "kl_div": [([(0, 3), (0, 3)], {"reduction": "none"})],
    "l1": [([(0, 3), (0, 3)], {"reduction": "none"})],
    "max_pool2d": [([(0, 2, 4, 6)], {"size": 2})],
    "moveaxis": [([(0, 3, 4)], {"source": 0, "destination": -1})],
    "mse": [([(0, 3), (0, 3)], {"reduction": "none"}), ([(0,), (0,)], {"reduction": "sum"})],
    "nll": [([(0, 4), NO_LABELS], {"reduction": "none"}), ([(0, 4), NO_LABELS], {"reduction": "sum"})],
    "pad_constant": [([(0, 3)], {"widths": ((1, 0), (2, 1)), "value": 5.0})],
    "pinv": [([np.zeros((0, 3, 2))], {})],
    "qr_factors": [([np.zeros((0, 3, 2))], {"complete": False})],
    "rfft": [([(0, 4)], {}, NO_TORCH)],
    "rms_norm": [([(0, 5), (5,)], {})],
    "roll": [([(2, 0)], {"shift": 1, "axis": 1})],
    "scaled_dot_product_attention": [
        ([(2, 0, 4), (2, 5, 4), (2, 5, 6)], {}),
        ([(0, 3, 4), (0, 5, 4), (0, 5, 6)], {}),
    ],
    "self_attention": [([(0, 3, 12)], {"heads": 2})],
    "slogdet": [([np.zeros((0, 2, 2))], {})],
    "softmax": [([(0, 4)], {})],
    "softmax_cross_entropy": [
        ([(0, 4), NO_LABELS], {"reduction": "none"}),
        ([(0, 4), NO_LABELS], {"reduction": "sum"}),
    ],
    "solve": [([regular(3, 3), np.zeros((3, 0))], {})],
    "split_at": [([(0, 2)], {"places": (0,), "axis": 0})],
    "squeeze": [([(1, 0)], {"axis": 0})],
    "stack_arrays": [([(0, 2), (0, 2)], {"axis": 1})],
    "svd_factors": [([np.zeros((0, 3, 2))], {"full": False})],
    "swapaxes": [([(0, 3, 4)], {"axis1": 0, "axis2": -1})],
    "take_along_axis": [([(2, 0), np.zeros((2, 0), np.int64)], {"axis": 1})],
    "tril": [([(0, 4)], {"k": 0})],
    "triu": [([(0, 4)], {"k": 0})],
    "where": [([np.zeros((0, 2), bool), (0, 2), (2,)], {})],
    "unfold2d": [([(0, 2, 4, 5)], {"kernel": (2, 3)})],
}
ONE: dict[str, list[Call]] = {
    "adaptive_avg_pool2d": [([(1, 1, 1, 1)], {"size": 1})],
    "add_along_axis": [
        (
            [(1, 1), np.zeros((1, 1), np.int64)],
            {"shape": (1, 3), "axis": 1},
            {"expected": lambda x, i, **where: np.array([[x[0, 0], 0, 0]], x.dtype)},
        )
    ],
    "astype": [([()], {"dtype": np.float64})],
    "avg_pool2d": [([(1, 1, 1, 1)], {"size": 1})],
    "batch_norm": [([(2, 1), (1,), (1,)], {})],
    "bce_with_logits": [([(), ()], {"reduction": "mean"})],
    "bessel_i": [([1, ()], {}), ([0, (1,)], {})],
    "cholesky": [([positive(1, 1)], {})],
    "clip": [([(), -1.0, 1.0], {})],
    "contract": [
        (
            [(1,), (1,)],
            {"inputs": ("i", "i"), "output": ""},
            {"expected": lambda x, y, **labels: x @ y, "torch": lambda t, x, y, **labels: x @ y},
        )
    ],
    "conv2d": [([(1, 1, 1, 1), (1, 1, 1, 1), (1,)], {})],
    "conv2d_weight": [([(1, 1, 1, 1), (1, 1, 1, 1)], {"kernel": (1, 1)})],
    "conv_transpose2d": [([(1, 1, 1, 1), (1, 1, 1, 1), (1,)], {})],
    "cumprod": [([(1,)], {"axis": 0})],
    "cumsum": [([(1,)], {"axis": 0})],
    "det": [([regular(1, 1)], {})],
    "diagonal": [([(1, 1)], {})],
    "diagonal_scatter": [([(1,)], {"shape": (1, 1), "offset": 0, "axis1": 0, "axis2": 1})],
    "dropout": [([()], {"key": 7}), ([(1,)], {"key": 8})],
    "embedding": [([(1, 1), np.array([0, 0])], {})],
    "fft": [([complex_(1)], {})],
    "flip": [([(1,)], {"axis": 0})],
    "fold2d": [([(1, 1, 1, 1, 1, 1)], {"size": (1, 1)})],
    "group_norm": [([(1, 2), (2,), (2,)], {"groups": 1}), ([(1, 1, 2), (1,), (1,)], {"groups": 1})],
    "heaviside": [([(), ()], {})],
    "huber": [([(), ()], {})],
    "ifft": [([complex_(1)], {})],
    "index_add": [([(1,), ()], {"index": (0,)})],
    "index_get": [([(1,)], {"index": (0,)})],
    "index_scatter": [
        ([()], {"index": (1,), "shape": (3,)}, {"expected": lambda x, index, shape: np.array([0, x, 0], x.dtype)})
    ],
    "inv": [([regular(1, 1)], {})],
    "irfft": [([complex_(1)], {"n": 1})],
    "join_arrays": [([(1,), (1,)], {"axis": 0})],
    "kl_div": [([(1, 1), (1, 1)], {"reduction": "sum"})],
    "l1": [([(), 5.0], {}, {"torch": None, "expected": lambda x, y: np.abs(x - y)})],
    "layer_norm": [([(2, 1), (1,), (1,)], {})],
    "linear": [([(1,), (1, 1), (1,)], {})],
    "log_softmax": [([(1,)], {})],
    "matmul": [([(1,), (1,)], {}), ([(1, 1), (1, 1)], {})],
    "max_pool2d": [([(1, 1, 1, 1)], {"size": 1})],
    "moveaxis": [([(1, 1)], {"source": 0, "destination": -1})],
    "mse": [([(), ()], {"reduction": "mean"})],
    "nll": [([(1, 1), np.array([0])], {"reduction": "mean"})],
    "pad_constant": [([(1, 1)], {"widths": ((1, 0), (2, 1)), "value": 5.0})],
    "pinv": [([regular(1, 1)], {})],
    "polygamma": [([1, ()], {})],
    "qr_factors": [([regular(1, 1)], {"complete": False})],
    "rfft": [([(1,)], {})],
    "rms_norm": [([(1,), (1,)], {})],
    "roll": [([(1,)], {"shift": 2})],
    "scaled_dot_product_attention": [([(1, 1), (1, 1), (1, 1)], {})],
    "self_attention": [([(1, 1, 3)], {"heads": 1})],
    "slogdet": [([regular(1, 1)], {})],
    "softmax": [([(1,)], {})],
    "softmax_cross_entropy": [([(1, 1), np.array([0])], {"reduction": "mean"})],
    "solve": [([regular(1, 1), (1, 1)], {})],
    "split_at": [([(1,)], {"places": (0,), "axis": 0})],
    "squeeze": [([(1, 1)], {"axis": 0})],
    "std": [([(1,)], {"axis": 0})],
    "svd_factors": [([regular(1, 1)], {"full": False})],
    "swapaxes": [([(1, 1)], {"axis1": 0, "axis2": 1})],
    "take_along_axis": [([(1, 1), np.zeros((1, 2), np.int64)], {"axis": 1})],
    "tril": [([(1, 1)], {"k": 0})],
    "triu": [([(1, 1)], {"k": 0})],
    "unfold2d": [([(1, 1, 1, 1)], {"kernel": (1, 1)})],
    "var": [([(1,)], {"axis": 0})],
}


def _like(name: str, note: str, args: Sequence[Any], params: dict[str, Any], oracles: dict[str, Any]) -> Sample:
    """A sample with the oracles of the family's own."""
    own = [sample for family in FAMILIES for sample in family.SAMPLES.get(name, [])]
    model = next((s for s in own if s.torch is not None and set(params) <= set(s.params)), own[0])
    return replace(model, args=args, params=params, note=f"{note} {params or ''}", **oracles)


SAMPLES = {
    name: [
        _like(name, note, args, params, oracles[0] if oracles else {})
        for note, edges in (("empty", EMPTY), ("one element", ONE))
        for args, params, *oracles in edges.get(name, [])
    ]
    for name in EMPTY.keys() | ONE.keys()
}
