"""Whatever arrives, the process stays up, the link is closed with a reason or the sender told, and nothing grows."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from distgrad.errors import WireError
from distgrad.wire import decode_frame, decode_value, pb

from .strangers import OWNER, Target, mutated, numbered, ordinary_frames

FRAMES = ordinary_frames()

# ---- whole frames that mean anything ---------------------------------------------------------------------------------

NAMES = ["", "a", "w0", "stranger", "driver", f"{OWNER}/0", f"{OWNER}/inference", "forward", "float64", "SGD"]
TEXTS = st.sampled_from(NAMES) | st.text(max_size=5)
NUMBERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


def scalars(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    """Values of a field that is no message: the usual, the extreme, anything."""
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return st.binary(max_size=64) if field.type == FieldDescriptor.TYPE_BYTES else TEXTS
        case FieldDescriptor.CPPTYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.CPPTYPE_ENUM:
            return st.sampled_from([value.number for value in field.enum_type.values]) | st.integers(0, 20)
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            return st.floats(width=32)
    low, high = NUMBERS[field.cpp_type]
    return st.integers(0, 3) | st.sampled_from([low, high]) | st.integers(low, high)


@st.composite
def messages(draw: st.DrawFn, kind: Descriptor, depth: int = 6) -> Any:
    """Any message of a kind, with most of its fields."""
    message = GetMessageClass(kind)()
    chosen = {oneof.name: draw(st.sampled_from(list(oneof.fields))).name for oneof in kind.oneofs}
    for field in kind.fields:
        oneof = field.containing_oneof
        left_out = oneof is not None and chosen[oneof.name] != field.name
        if left_out or (field.message_type is not None and depth == 0) or draw(st.integers(0, 9)) == 0:
            continue
        place = getattr(message, field.name)
        if field.message_type is None:
            if field.is_repeated:
                place.extend(draw(st.lists(scalars(field), max_size=2)))
            else:
                setattr(message, field.name, draw(scalars(field)))
        elif field.message_type.GetOptions().map_entry:
            key, value = field.message_type.fields
            place.update(draw(st.dictionaries(scalars(key), scalars(value), max_size=2)))
        elif field.is_repeated:
            place.extend(draw(st.lists(messages(field.message_type, depth - 1), max_size=2)))
        else:
            place.CopyFrom(draw(messages(field.message_type, depth - 1)))
    return message


whole_frames = messages(pb.Frame.DESCRIPTOR).map(lambda frame: frame.SerializeToString())
broken_frames = st.builds(mutated, st.sampled_from(FRAMES), st.integers(0, 2**32))
frames = st.sampled_from(FRAMES) | broken_frames | whole_frames | st.binary(max_size=200)


# ---- decoders --------------------------------------------------------------------------------------------------------


@given(broken_frames | whole_frames | st.binary(max_size=200))
def test_the_decoder_of_frames_refuses_with_a_wire_error_or_gives_what_fits(data: bytes) -> None:
    try:
        frame, arrays = decode_frame(data)
    except WireError:
        return
    assert [list(header.shape) for header in frame.arrays] == [list(array.shape) for array in arrays]
    assert sum(array.nbytes for array in arrays) <= len(data) * max(len(arrays), 1)


@given(messages(pb.Value.DESCRIPTOR))
def test_the_decoder_of_values_refuses_with_a_wire_error_or_gives_data(value: Any) -> None:
    with contextlib.suppress(WireError):
        decode_value(value, [np.zeros(3), np.zeros((), np.int64)])


# ---- a worker --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    target = Target()
    yield target
    target.close()


def check(target: Target, sent: list[bytes], role: int, renumbered: bool) -> None:
    reason = target.visit(list(numbered(sent)) if renumbered else sent, role)
    assert "internal error" not in reason
    target.assert_unharmed()


strangers = given(st.lists(frames, min_size=1, max_size=4), st.sampled_from([1, 2, 3]), st.booleans())


@settings(max_examples=150)
@strangers
def test_a_worker_survives_strangers(target: Target, sent: list[bytes], role: int, renumbered: bool) -> None:
    check(target, sent, role, renumbered)


@pytest.mark.slow
@settings(max_examples=10_000)
@strangers
def test_a_worker_survives_very_many_strangers(target: Target, sent: list[bytes], role: int, renumbered: bool) -> None:
    check(target, sent, role, renumbered)


@pytest.mark.parametrize("frame", FRAMES, ids=lambda data: pb.Frame.FromString(data).WhichOneof("body"))
def test_a_worker_survives_each_kind_of_frame_from_a_stranger_and_broken_ones(target: Target, frame: bytes) -> None:
    rng = random.Random(0)
    check(target, [frame], pb.ROLE_WORKER, True)
    for _ in range(10):
        check(target, [mutated(frame, rng.randrange(2**32))], pb.ROLE_WORKER, True)
