"""Any message of a kind, for tests of what strangers may send."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

NUMBERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


def scalars(field: FieldDescriptor, texts: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Values of a field that is no message: the usual, the extreme, anything."""
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return st.binary(max_size=64) if field.type == FieldDescriptor.TYPE_BYTES else texts
        case FieldDescriptor.CPPTYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.CPPTYPE_ENUM:
            return st.sampled_from([value.number for value in field.enum_type.values]) | st.integers(0, 20)
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            return st.floats(width=32)
    low, high = NUMBERS[field.cpp_type]
    return st.integers(0, 3) | st.sampled_from([low, high]) | st.integers(low, high)


@st.composite
def messages(draw: st.DrawFn, of: Descriptor, texts: st.SearchStrategy[str], depth: int = 6) -> Any:
    """A message with most of its fields; `texts` are what its strings may be."""
    message = GetMessageClass(of)()
    chosen = {oneof.name: draw(st.sampled_from(list(oneof.fields))).name for oneof in of.oneofs}
    for field in of.fields:
        oneof = field.containing_oneof
        left_out = oneof is not None and chosen[oneof.name] != field.name
        if left_out or (field.message_type is not None and depth == 0) or draw(st.integers(0, 9)) == 0:
            continue
        place = getattr(message, field.name)
        if field.message_type is None:
            if field.is_repeated:
                place.extend(draw(st.lists(scalars(field, texts), max_size=2)))
            else:
                setattr(message, field.name, draw(scalars(field, texts)))
        elif field.message_type.GetOptions().map_entry:
            key, value = field.message_type.fields
            if value.message_type is None:
                place.update(draw(st.dictionaries(scalars(key, texts), scalars(value, texts), max_size=2)))
        elif field.is_repeated:
            place.extend(draw(st.lists(messages(field.message_type, texts, depth - 1), max_size=2)))
        else:
            place.CopyFrom(draw(messages(field.message_type, texts, depth - 1)))
    return message
