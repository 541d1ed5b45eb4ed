from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distgrad.autograd.rows import Rows
from distgrad.errors import WireError
from distgrad.wire import Recorded, decode_value, encode_value, pb
from distgrad.wire.encodings import BLOCK, ENCODINGS, LEAST, Encoded, decode, encode

FLOATS = (np.float32, np.float64)


def numbers(dtype: Any, size: int = LEAST + 100, seed: int = 0, largest: float = 1e4) -> np.ndarray:
    """Of both signs and many magnitudes."""
    random = np.random.default_rng(seed)
    return (random.choice([-1, 1], size) * largest ** random.uniform(-1, 1, size)).astype(dtype)


def there_and_back(tree: Any) -> Any:
    arrays: list[Any] = []
    message = encode_value(tree, arrays)
    return decode_value(pb.Value.FromString(message.SerializeToString()), arrays)


def bound(array: np.ndarray, encoding: str) -> np.ndarray:
    """How far each element may be off: what the table at the top of the module says."""
    size = np.abs(array.astype(np.float64))
    if encoding == "bf16":
        return size * 2.0**-8
    if encoding == "fp16":
        return np.maximum(size * 2.0**-11, 2.0**-25)
    filled = np.concatenate([size, np.zeros(-size.size % BLOCK)]).reshape(-1, BLOCK)
    return np.repeat(filled.max(axis=1) / 254 * (1 + 1e-4), BLOCK)[: size.size]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("dtype", FLOATS)
@given(seed=st.integers(0, 2**32), size=st.integers(LEAST, 3 * LEAST))
def test_elements_are_off_by_no_more_than_the_encoding_says(encoding: str, dtype: Any, seed: int, size: int) -> None:
    array = numbers(dtype, size, seed)
    decoded = decode(encode(array, encoding))
    assert decoded.dtype == array.dtype
    assert decoded.shape == array.shape
    assert np.all(np.abs(decoded.astype(np.float64) - array) <= bound(array, encoding))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_encoded_array_arrives_as_one_of_its_own_dtype_and_shape_that_cannot_be_written(encoding: str) -> None:
    array = numbers(np.float64).reshape(4, -1)
    tree = there_and_back({"plain": encode(array, encoding), "recorded": Recorded(encode(array, encoding))})
    for arrived in (tree["plain"], tree["recorded"].array):
        assert arrived.dtype == np.float64
        assert arrived.shape == array.shape
        assert not arrived.flags.writeable
        assert np.array_equal(arrived, decode(encode(array, encoding)))


@pytest.mark.parametrize(("encoding", "share"), [("bf16", 1 / 2), ("fp16", 1 / 2), ("int8", 1 / 4 * (1 + 4 / BLOCK))])
def test_fewer_bytes_travel(encoding: str, share: float) -> None:
    arrays: list[Any] = []
    array = numbers(np.float32, 64 * BLOCK)
    encode_value(encode(array, encoding), arrays)
    assert sum(part.nbytes for part in arrays) == array.nbytes * share


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_rows_keep_their_places(encoding: str) -> None:
    values = numbers(np.float32, 2 * LEAST).reshape(2, -1)
    rows = there_and_back(Rows(np.array([3, 8]), encode(values, encoding), 10))
    assert rows.indices.tolist() == [3, 8]
    assert rows.length == 10
    assert np.array_equal(rows.values, decode(encode(values, encoding)))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_stays_so(encoding: str, dtype: Any, bad: float) -> None:
    array = numbers(dtype)
    array[300] = bad
    decoded = decode(encode(array, encoding))
    assert not np.isfinite(decoded[300])
    elsewhere = np.arange(array.size) // BLOCK != 300 // BLOCK
    assert np.isfinite(decoded[elsewhere]).all()
    if encoding != "int8":
        assert np.array_equal(decoded[300], np.asarray(bad, dtype), equal_nan=True)


def test_every_bit_pattern_of_nan_survives_rounding() -> None:
    array = np.full(LEAST, np.nan, np.float32)
    array.view(np.uint32)[:] = 0x7FFFFFFF
    assert np.isnan(decode(encode(array, "bf16"))).all()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("array", [np.zeros(LEAST, np.float32), np.full(LEAST, 1e-44, np.float32)], ids=["0", "tiny"])
def test_numbers_too_small_become_zero_or_stay(encoding: str, array: np.ndarray) -> None:
    assert np.all(np.abs(decode(encode(array, encoding)) - array) <= 1e-40)


@pytest.mark.parametrize(
    "array",
    [
        np.ones(LEAST - 1, np.float32),
        np.ones(LEAST, np.int64),
        np.ones(LEAST, np.complex64),
        np.ones(LEAST, np.float16),
    ],
    ids=["few", "int64", "complex64", "float16"],
)
def test_other_arrays_are_left_as_they_are(array: np.ndarray) -> None:
    assert all(encode(array, encoding) is array for encoding in ENCODINGS)


CODES = np.zeros(LEAST, np.int8)
SCALES = np.zeros(LEAST // BLOCK, np.float32)


@pytest.mark.parametrize(
    ("encoded", "complaint"),
    [
        (Encoded("int8", np.dtype(np.float32), CODES, None), "need 4 float32 scales, found none"),
        (Encoded("int8", np.dtype(np.float32), CODES, SCALES[1:]), r"found float32 of shape \(3,\)"),
        (Encoded("int8", np.dtype(np.float32), CODES, SCALES.astype(np.float64)), "found float64"),
        (Encoded("int8", np.dtype(np.float32), CODES.astype(np.int16), SCALES), "came as int16, expected int8"),
        (Encoded("bf16", np.dtype(np.float32), CODES), "came as int8, expected uint16"),
        (Encoded("fp16", np.dtype(np.int64), CODES), "was of int64, expected float32 or float64"),
    ],
)
def test_parts_that_do_not_fit_are_refused(encoded: Encoded, complaint: str) -> None:
    with pytest.raises(WireError, match=complaint):
        decode(encoded)


def test_an_encoding_nobody_knows_is_refused() -> None:
    arrays: list[Any] = []
    message = encode_value(encode(numbers(np.float32), "bf16"), arrays)
    message.leaf.lossy.encoding = 99
    with pytest.raises(WireError, match="unknown encoding 99"):
        decode_value(message, arrays)
