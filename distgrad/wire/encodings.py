r"""Lossy encodings: fewer bytes for arrays of floats, at the price of their last digits.

| encoding | an element x becomes | error of an element | bytes |
|---|---|---|---|
| bf16 | the upper half of its float32, rounded to nearest even | at most 2⁻⁸ of \|x\| | 2 |
| fp16 | a float16; beyond ±65504 it becomes infinite | at most 2⁻¹¹ of \|x\|, or 2⁻²⁵ | 2 |
| int8 | a whole number of 127ths of the largest magnitude m among the 256 of its block | at most m / 254 | 1 + 1/64 |

What is not finite stays so: bf16 and fp16 keep infinities and NaN, and an int8 block that holds one arrives as NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from distgrad.errors import WireError

from .dtypes import Array

# Elements that share a scale.
BLOCK = 256
# Smaller arrays travel as they are: there is little to gain, and losses and norms should be exact.
LEAST = 1024
_STEPS = 127


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """An array that gave up digits.

    Attributes:
        encoding: one of `ENCODINGS`.
        dtype: of the array, float32 or float64.
        codes: the elements, in the shape of the array.
        scales: float32, what a step of each block is worth; None without blocks.
    """

    encoding: str
    dtype: np.dtype[Any]
    codes: Array
    scales: Array | None = None


def encode(array: Array, encoding: str) -> Encoded | Array:
    """The array encoded, or the array itself when it holds no float32 or float64, or fewer than `LEAST` of them.

    Arguments:
        encoding: one of `ENCODINGS`.
    """
    if array.dtype not in _DTYPES or array.size < LEAST:
        return array
    return Encoded(encoding, array.dtype, *_TO_CODES[encoding](array))


def decode(encoded: Encoded) -> Array:
    """The array that an encoded one stands for, new and read-only.

    Raises:
        WireError: its parts do not fit together.
    """
    if encoded.dtype not in _DTYPES:
        raise WireError(f"an array encoded as {encoded.encoding} was of {encoded.dtype}, expected float32 or float64")
    code_type, from_codes = _FROM_CODES[encoded.encoding]
    if encoded.codes.dtype != code_type:
        raise WireError(f"an array encoded as {encoded.encoding} came as {encoded.codes.dtype}, expected {code_type}")
    with np.errstate(over="ignore", invalid="ignore"):
        array = from_codes(encoded.codes, encoded.scales).astype(encoded.dtype, copy=False)
    array = array.reshape(encoded.codes.shape)
    array.flags.writeable = False
    return array


# ---- bf16 ------------------------------------------------------------------------------------------------------------


def _to_bf16(array: Array) -> tuple[Array]:
    with np.errstate(over="ignore"):
        bits = array.astype(np.float32, copy=False).view(np.uint32)
    # Half of what is cut off, and a little less where the digit that stays is even already.
    rounded = (bits + (np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1)))) >> np.uint32(16)
    codes = rounded.astype(np.uint16)
    unknown = np.isnan(array)
    if unknown.any():  # rounding up may carry the bits of a NaN beyond the largest number
        codes[unknown] = 0x7FC0
    return (codes,)


def _from_bf16(codes: Array, scales: Array | None) -> Array:
    return (codes.astype(np.uint32) << np.uint32(16)).view(np.float32)


# ---- fp16 ------------------------------------------------------------------------------------------------------------


def _to_fp16(array: Array) -> tuple[Array]:
    with np.errstate(over="ignore"):
        return (array.astype(np.float16),)


def _from_fp16(codes: Array, scales: Array | None) -> Array:
    return codes.astype(np.float32)


# ---- int8 blocks -----------------------------------------------------------------------------------------------------


def _to_int8(array: Array) -> tuple[Array, Array]:
    with np.errstate(over="ignore", invalid="ignore"):
        blocks = _in_blocks(array.astype(np.float32, copy=False))
        scales = np.abs(blocks).max(axis=1) / np.float32(_STEPS)
        scales[~np.isfinite(scales)] = np.nan
        # A block of zeros, or of numbers so small that their scale is zero, has codes of zero.
        divisors = np.where(scales > 0, scales, np.float32(1))
        codes = np.rint(blocks / divisors[:, None])
    codes[~np.isfinite(codes)] = 0
    whole = np.clip(codes, -_STEPS, _STEPS).astype(np.int8).reshape(-1)[: array.size]
    return whole.reshape(array.shape), scales


def _from_int8(codes: Array, scales: Array | None) -> Array:
    expected = -(-codes.size // BLOCK)
    if scales is None or scales.dtype != np.float32 or scales.shape != (expected,):
        found = "none" if scales is None else f"{scales.dtype} of shape {scales.shape}"
        raise WireError(f"{codes.size} elements encoded as int8 need {expected} float32 scales, found {found}")
    return (_in_blocks(codes) * scales[:, None]).reshape(-1)[: codes.size]


def _in_blocks(array: Array) -> Array:
    """The elements in rows of a block each, the last filled up with zeros."""
    flat = array.reshape(-1)
    if missing := -flat.size % BLOCK:
        flat = np.concatenate([flat, np.zeros(missing, flat.dtype)])
    return flat.reshape(-1, BLOCK)


_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
_TO_CODES: dict[str, Callable[[Array], tuple[Array] | tuple[Array, Array]]] = {
    "bf16": _to_bf16,
    "fp16": _to_fp16,
    "int8": _to_int8,
}
_FROM_CODES: dict[str, tuple[np.dtype[Any], Callable[[Array, Array | None], Array]]] = {
    "bf16": (np.dtype(np.uint16), _from_bf16),
    "fp16": (np.dtype(np.float16), _from_fp16),
    "int8": (np.dtype(np.int8), _from_int8),
}
ENCODINGS = tuple(_TO_CODES)
