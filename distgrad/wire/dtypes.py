"""The element types that travel, and what travelling does to an array."""

from __future__ import annotations

import functools
import importlib
import math
import sys
from typing import Any

import numpy as np

from distgrad.errors import WireError

Array = np.ndarray[Any, Any]

MAX_AXES = 64
_LITTLE = sys.byteorder == "little"

_NAMES = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
    "complex64",
    "complex128",
)
_BY_NAME: dict[str, np.dtype[Any]] = {name: np.dtype(name) for name in _NAMES}
_BY_DTYPE: dict[np.dtype[Any], str] = {dtype: name for name, dtype in _BY_NAME.items()}

# Whether elements of this type travel as they are. Others may, in another byte order: see `dtype_name`.
travels = _BY_DTYPE.__contains__


def dtype_name(dtype: np.dtype[Any]) -> str:
    """The wire's name of an element type, whatever its byte order.

    Raises:
        WireError: elements of this type do not travel (objects, text, dates, records, long doubles).
    """
    name = _BY_DTYPE.get(dtype)
    if name is not None:
        return name
    if dtype.name == "bfloat16" and dtype.itemsize == 2:
        return "bfloat16"
    native = _BY_DTYPE.get(dtype.newbyteorder("="))
    if native is None:
        raise WireError(f"elements of dtype {dtype} do not travel: use one of {', '.join(_NAMES)} or bfloat16")
    return native


def dtype_named(name: str) -> np.dtype[Any]:
    """The element type, in this machine's byte order, that the wire calls `name`.

    Raises:
        WireError: nothing is called so, or it is "bfloat16" and ml_dtypes is not installed.
    """
    dtype = _BY_NAME.get(name)
    if dtype is not None:
        return dtype
    if name == "bfloat16":
        return _bfloat16()
    raise WireError(f"unknown dtype {name!r}: expected one of {', '.join(_NAMES)} or bfloat16")


@functools.cache
def _bfloat16() -> np.dtype[Any]:
    try:
        ml_dtypes = importlib.import_module("ml_dtypes")
    except ImportError:
        raise WireError("an array of dtype bfloat16 arrived: install ml_dtypes to read it") from None
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype


def normalise(array: Array) -> Array:
    """What the wire does to an array: C order, aligned elements, native byte order, and no writing.

    Calls within one process pass their arrays through here, so that placing the callee elsewhere cannot change a bit of
    its result. Copies only when the array is not so already; otherwise the view returned shows later writes to `array`.

    Raises:
        WireError: its elements do not travel.
    """
    array = in_c_order(array)
    # Flattening and folding again gives axes of length one the strides of a fresh array: kernels choose by strides.
    view = np.asarray(array).reshape(-1).reshape(array.shape)
    view.flags.writeable = False
    return view


def in_c_order(array: Array) -> Array:
    """The array itself when its elements lie as `normalise` says; else a copy that does. Raises WireError."""
    if not travels(array.dtype):
        name = dtype_name(array.dtype)
        if not array.dtype.isnative:
            return array.astype(dtype_named(name), order="C")
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned):
        return np.array(array, order="C", subok=False)
    return array


def raw_bytes(array: Array) -> memoryview:
    """The elements of an array as the wire wants them, little-endian in C order; shares memory when it can."""
    array = in_c_order(array)
    if sys.byteorder == "big":
        array = array.byteswap()
    return array.reshape(-1).view(np.uint8).data


def copied_bytes(array: Array) -> bytes:
    """A copy of what `raw_bytes` gives: for small arrays that is cheaper."""
    if _LITTLE and array.dtype.isnative:
        return array.tobytes()
    return raw_bytes(array).tobytes()


def from_raw(raw: memoryview, name: str, shape: tuple[int, ...], offset: int, size: int) -> Array:
    """A read-only array over `size` bytes at `offset` of `raw`, copied only when its elements would lie unaligned.

    Raises:
        WireError: the bytes are not there, or they are not what dtype and shape need.
    """
    dtype, expected = _kind(name, shape)
    if size != expected:
        raise WireError(f"array of dtype {name} and shape {shape} has {size} bytes, expected {expected}")
    if offset + size > len(raw):
        raise WireError(f"array bytes {offset} to {offset + size} lie outside the {len(raw)} bytes that arrived")
    try:
        # An array without elements may not point behind the end of the payload, and needs no place in it.
        array: Array = np.ndarray(shape, dtype, raw, offset) if size else np.empty(shape, dtype)
    except (ValueError, OverflowError, MemoryError) as error:
        raise WireError(f"array of shape {shape} cannot exist here: {error}") from None
    if name == "bool" and size and array.view(np.uint8).max() > 1:
        raise WireError("an array of dtype bool holds bytes other than 0 and 1")
    if sys.byteorder == "big":
        array = array.byteswap()
    flags = array.flags
    if not flags.aligned:
        array = array.copy()
        flags = array.flags
    if flags.writeable:
        flags.writeable = False
    return array


@functools.lru_cache(1024)
def _kind(name: str, shape: tuple[int, ...]) -> tuple[np.dtype[Any], int]:
    """Element type and size in bytes of an array that arrives. Raises WireError when there can be none."""
    dtype = dtype_named(name)
    if len(shape) > MAX_AXES:
        raise WireError(f"an array with {len(shape)} axes arrived, NumPy's limit is {MAX_AXES}")
    return dtype, dtype.itemsize * math.prod(shape)
