"""Protobuf messages and the Python values they stand for. Nothing here opens a connection.

pb         the messages
dtypes     the element types that travel, and what travelling does to an array
encodings  arrays of floats <-> fewer bytes, with a loss
values     trees of Python values <-> pb.Value, with their arrays beside them
names      names of edges <-> pb.EdgeId
errors     exceptions <-> pb.Error
frames     pb.Frame and arrays <-> bytes, without copying the arrays through protobuf
exchanges  what streams of the gradient service carry <-> bytes, in the same way
generate   makes the generated code in `v1/`
"""

from . import pb
from .dtypes import normalise
from .errors import Origin, error_from_pb, error_to_pb
from .frames import decode_frame, encode_frame
from .names import EdgeName, edge_from_pb, edge_to_pb
from .values import (
    JvpName,
    Recorded,
    RefName,
    ShardName,
    WithTangent,
    decode_value,
    encode_into,
    encode_value,
    jvp_from_pb,
    jvp_to_pb,
    ref_from_pb,
    ref_to_pb,
    same_data,
)

__all__ = [
    "EdgeName",
    "JvpName",
    "Origin",
    "Recorded",
    "RefName",
    "ShardName",
    "WithTangent",
    "decode_frame",
    "decode_value",
    "edge_from_pb",
    "edge_to_pb",
    "encode_frame",
    "encode_into",
    "encode_value",
    "error_from_pb",
    "error_to_pb",
    "jvp_from_pb",
    "jvp_to_pb",
    "normalise",
    "pb",
    "ref_from_pb",
    "ref_to_pb",
    "same_data",
]
