from __future__ import annotations

import sys

import numpy as np
import pytest

from distgrad.errors import WireError
from distgrad.wire import decode_frame, encode_frame, normalise, pb
from distgrad.wire.dtypes import dtype_name, dtype_named

from .test_values import DTYPES, same


def unaligned(array: np.ndarray) -> np.ndarray:
    raw = np.zeros(array.nbytes + 1, np.uint8)
    moved = raw[1:].view(array.dtype).reshape(array.shape)
    moved[...] = array
    assert not moved.flags.aligned
    return moved


BASE = np.arange(24, dtype=np.float64).reshape(4, 6)
LAYOUTS = {
    "as it should be": BASE,
    "Fortran": np.asfortranarray(BASE),
    "transposed": BASE.T,
    "strided": BASE[::2, ::3],
    "reversed": BASE[::-1],
    "broadcast": np.broadcast_to(BASE[0], (3, 6)),
    "big-endian": BASE.astype(">f8"),
    "unaligned": unaligned(BASE),
    "a column with odd strides": BASE[:, 1:2],
    "a row with odd strides": BASE.T[1:2],
    "empty": BASE[:, :0],
    "zero-dimensional": np.array(3.5),
}


@pytest.mark.parametrize("array", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_normalising_gives_exactly_what_the_wire_gives(array: np.ndarray) -> None:
    _, (sent,) = decode_frame(b"".join(encode_frame(pb.Frame(), [array])))
    here = normalise(array)
    assert same(here, sent)
    assert same(here, np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
    assert here.strides == sent.strides or not array.size
    for flag in ("C_CONTIGUOUS", "ALIGNED", "WRITEABLE"):
        assert here.flags[flag] == sent.flags[flag] == (flag != "WRITEABLE")
    assert type(here) is np.ndarray


def test_normalising_shares_memory_when_nothing_is_to_do_and_leaves_the_original_writable() -> None:
    array = BASE.copy()
    assert np.shares_memory(normalise(array), array)
    assert array.flags.writeable


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("order", "<>")
def test_a_dtype_has_one_name_in_both_byte_orders(name: str, order: str) -> None:
    assert dtype_name(np.dtype(name).newbyteorder(order)) == name
    assert dtype_named(name) == np.dtype(name)


@pytest.mark.parametrize("dtype", ["O", "U3", "S3", "V2", "M8[s]", "m8[s]", "f4,i4"])
def test_other_dtypes_are_refused_by_name(dtype: str) -> None:
    with pytest.raises(WireError, match="do not travel"):
        normalise(np.zeros(1, dtype))


def test_bfloat16_without_ml_dtypes_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from distgrad.wire import dtypes

    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    dtypes._bfloat16.cache_clear()
    with pytest.raises(WireError, match="install ml_dtypes"):
        dtype_named("bfloat16")


def test_bfloat16_arrays_travel_under_their_name() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    array = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16)
    frame = pb.Frame()
    _, (received,) = decode_frame(b"".join(encode_frame(frame, [array.T])))
    assert frame.arrays[0].dtype == "bfloat16"
    assert same(received, np.ascontiguousarray(array.T))
