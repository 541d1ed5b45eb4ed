from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Encoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENCODING_UNSPECIFIED: _ClassVar[Encoding]
    ENCODING_BF16: _ClassVar[Encoding]
    ENCODING_FP16: _ClassVar[Encoding]
    ENCODING_INT8: _ClassVar[Encoding]
ENCODING_UNSPECIFIED: Encoding
ENCODING_BF16: Encoding
ENCODING_FP16: Encoding
ENCODING_INT8: Encoding

class Array(_message.Message):
    __slots__ = ("dtype", "shape", "offset", "size", "transfer")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_FIELD_NUMBER: _ClassVar[int]
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    offset: int
    size: int
    transfer: int
    def __init__(self, dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., offset: _Optional[int] = ..., size: _Optional[int] = ..., transfer: _Optional[int] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("transfer", "total", "offset")
    TRANSFER_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    transfer: int
    total: int
    offset: int
    def __init__(self, transfer: _Optional[int] = ..., total: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class Value(_message.Message):
    __slots__ = ("null", "boolean", "integer", "real", "complex", "text", "blob", "leaf", "rows", "list", "tuple", "dict", "ref", "shard", "dual")
    NULL_FIELD_NUMBER: _ClassVar[int]
    BOOLEAN_FIELD_NUMBER: _ClassVar[int]
    INTEGER_FIELD_NUMBER: _ClassVar[int]
    REAL_FIELD_NUMBER: _ClassVar[int]
    COMPLEX_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    LIST_FIELD_NUMBER: _ClassVar[int]
    TUPLE_FIELD_NUMBER: _ClassVar[int]
    DICT_FIELD_NUMBER: _ClassVar[int]
    REF_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    DUAL_FIELD_NUMBER: _ClassVar[int]
    null: Null
    boolean: bool
    integer: int
    real: float
    complex: Complex
    text: str
    blob: bytes
    leaf: Leaf
    rows: Rows
    list: Values
    tuple: Values
    dict: Entries
    ref: RefId
    shard: str
    dual: Dual
    def __init__(self, null: _Optional[_Union[Null, _Mapping]] = ..., boolean: bool = ..., integer: _Optional[int] = ..., real: _Optional[float] = ..., complex: _Optional[_Union[Complex, _Mapping]] = ..., text: _Optional[str] = ..., blob: _Optional[bytes] = ..., leaf: _Optional[_Union[Leaf, _Mapping]] = ..., rows: _Optional[_Union[Rows, _Mapping]] = ..., list: _Optional[_Union[Values, _Mapping]] = ..., tuple: _Optional[_Union[Values, _Mapping]] = ..., dict: _Optional[_Union[Entries, _Mapping]] = ..., ref: _Optional[_Union[RefId, _Mapping]] = ..., shard: _Optional[str] = ..., dual: _Optional[_Union[Dual, _Mapping]] = ...) -> None: ...

class Null(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Complex(_message.Message):
    __slots__ = ("real", "imaginary")
    REAL_FIELD_NUMBER: _ClassVar[int]
    IMAGINARY_FIELD_NUMBER: _ClassVar[int]
    real: float
    imaginary: float
    def __init__(self, real: _Optional[float] = ..., imaginary: _Optional[float] = ...) -> None: ...

class Leaf(_message.Message):
    __slots__ = ("array", "recorded", "scalar", "lossy")
    ARRAY_FIELD_NUMBER: _ClassVar[int]
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    SCALAR_FIELD_NUMBER: _ClassVar[int]
    LOSSY_FIELD_NUMBER: _ClassVar[int]
    array: int
    recorded: bool
    scalar: bool
    lossy: Lossy
    def __init__(self, array: _Optional[int] = ..., recorded: bool = ..., scalar: bool = ..., lossy: _Optional[_Union[Lossy, _Mapping]] = ...) -> None: ...

class Dual(_message.Message):
    __slots__ = ("jvp", "primal", "tangent")
    JVP_FIELD_NUMBER: _ClassVar[int]
    PRIMAL_FIELD_NUMBER: _ClassVar[int]
    TANGENT_FIELD_NUMBER: _ClassVar[int]
    jvp: JvpId
    primal: Value
    tangent: Value
    def __init__(self, jvp: _Optional[_Union[JvpId, _Mapping]] = ..., primal: _Optional[_Union[Value, _Mapping]] = ..., tangent: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...

class JvpId(_message.Message):
    __slots__ = ("process", "level")
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    process: str
    level: int
    def __init__(self, process: _Optional[str] = ..., level: _Optional[int] = ...) -> None: ...

class Lossy(_message.Message):
    __slots__ = ("encoding", "dtype", "scales")
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SCALES_FIELD_NUMBER: _ClassVar[int]
    encoding: Encoding
    dtype: str
    scales: int
    def __init__(self, encoding: _Optional[_Union[Encoding, str]] = ..., dtype: _Optional[str] = ..., scales: _Optional[int] = ...) -> None: ...

class Rows(_message.Message):
    __slots__ = ("indices", "values", "length", "lossy")
    INDICES_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    LOSSY_FIELD_NUMBER: _ClassVar[int]
    indices: int
    values: int
    length: int
    lossy: Lossy
    def __init__(self, indices: _Optional[int] = ..., values: _Optional[int] = ..., length: _Optional[int] = ..., lossy: _Optional[_Union[Lossy, _Mapping]] = ...) -> None: ...

class Values(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Value]
    def __init__(self, items: _Optional[_Iterable[_Union[Value, _Mapping]]] = ...) -> None: ...

class Entries(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    def __init__(self, entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: Value
    def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...

class RefId(_message.Message):
    __slots__ = ("owner", "context", "path", "steps", "incarnation", "issuer")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    owner: str
    context: str
    path: _containers.RepeatedScalarFieldContainer[int]
    steps: _containers.RepeatedCompositeFieldContainer[Step]
    incarnation: int
    issuer: str
    def __init__(self, owner: _Optional[str] = ..., context: _Optional[str] = ..., path: _Optional[_Iterable[int]] = ..., steps: _Optional[_Iterable[_Union[Step, _Mapping]]] = ..., incarnation: _Optional[int] = ..., issuer: _Optional[str] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("index", "key")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    index: int
    key: str
    def __init__(self, index: _Optional[int] = ..., key: _Optional[str] = ...) -> None: ...
