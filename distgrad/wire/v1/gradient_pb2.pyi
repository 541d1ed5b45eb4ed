from distgrad.wire.v1 import tensor_pb2 as _tensor_pb2
from distgrad.wire.v1 import worker_pb2 as _worker_pb2
from google.protobuf import any_pb2 as _any_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Product(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRODUCT_UNSPECIFIED: _ClassVar[Product]
    PRODUCT_EVALUATE: _ClassVar[Product]
    PRODUCT_VALUE_AND_GRADIENT: _ClassVar[Product]
    PRODUCT_VJP: _ClassVar[Product]
    PRODUCT_JVP: _ClassVar[Product]
    PRODUCT_JACOBIAN: _ClassVar[Product]
    PRODUCT_HESSIAN: _ClassVar[Product]
    PRODUCT_HVP: _ClassVar[Product]
    PRODUCT_LINEARIZE: _ClassVar[Product]
PRODUCT_UNSPECIFIED: Product
PRODUCT_EVALUATE: Product
PRODUCT_VALUE_AND_GRADIENT: Product
PRODUCT_VJP: Product
PRODUCT_JVP: Product
PRODUCT_JACOBIAN: Product
PRODUCT_HESSIAN: Product
PRODUCT_HVP: Product
PRODUCT_LINEARIZE: Product

class ListFunctionsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListFunctionsResponse(_message.Message):
    __slots__ = ("functions",)
    FUNCTIONS_FIELD_NUMBER: _ClassVar[int]
    functions: _containers.RepeatedCompositeFieldContainer[FunctionSummary]
    def __init__(self, functions: _Optional[_Iterable[_Union[FunctionSummary, _Mapping]]] = ...) -> None: ...

class FunctionSummary(_message.Message):
    __slots__ = ("name", "summary")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    name: str
    summary: str
    def __init__(self, name: _Optional[str] = ..., summary: _Optional[str] = ...) -> None: ...

class DescribeFunctionRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DescribeFunctionResponse(_message.Message):
    __slots__ = ("name", "documentation", "arguments", "result", "products", "batchable", "max_message_bytes", "max_request_bytes", "max_delay_seconds")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTATION_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    PRODUCTS_FIELD_NUMBER: _ClassVar[int]
    BATCHABLE_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_REQUEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_DELAY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    name: str
    documentation: str
    arguments: _containers.RepeatedCompositeFieldContainer[Argument]
    result: Spec
    products: _containers.RepeatedScalarFieldContainer[Product]
    batchable: bool
    max_message_bytes: int
    max_request_bytes: int
    max_delay_seconds: float
    def __init__(self, name: _Optional[str] = ..., documentation: _Optional[str] = ..., arguments: _Optional[_Iterable[_Union[Argument, _Mapping]]] = ..., result: _Optional[_Union[Spec, _Mapping]] = ..., products: _Optional[_Iterable[_Union[Product, str]]] = ..., batchable: bool = ..., max_message_bytes: _Optional[int] = ..., max_request_bytes: _Optional[int] = ..., max_delay_seconds: _Optional[float] = ...) -> None: ...

class Argument(_message.Message):
    __slots__ = ("name", "spec", "optional", "differentiable")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    OPTIONAL_FIELD_NUMBER: _ClassVar[int]
    DIFFERENTIABLE_FIELD_NUMBER: _ClassVar[int]
    name: str
    spec: Spec
    optional: bool
    differentiable: bool
    def __init__(self, name: _Optional[str] = ..., spec: _Optional[_Union[Spec, _Mapping]] = ..., optional: bool = ..., differentiable: bool = ...) -> None: ...

class Spec(_message.Message):
    __slots__ = ("name", "any", "array", "list", "tuple", "dict")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ANY_FIELD_NUMBER: _ClassVar[int]
    ARRAY_FIELD_NUMBER: _ClassVar[int]
    LIST_FIELD_NUMBER: _ClassVar[int]
    TUPLE_FIELD_NUMBER: _ClassVar[int]
    DICT_FIELD_NUMBER: _ClassVar[int]
    name: str
    any: _tensor_pb2.Null
    array: ArraySpec
    list: SpecList
    tuple: SpecList
    dict: SpecDict
    def __init__(self, name: _Optional[str] = ..., any: _Optional[_Union[_tensor_pb2.Null, _Mapping]] = ..., array: _Optional[_Union[ArraySpec, _Mapping]] = ..., list: _Optional[_Union[SpecList, _Mapping]] = ..., tuple: _Optional[_Union[SpecList, _Mapping]] = ..., dict: _Optional[_Union[SpecDict, _Mapping]] = ...) -> None: ...

class SpecList(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Spec]
    def __init__(self, items: _Optional[_Iterable[_Union[Spec, _Mapping]]] = ...) -> None: ...

class SpecDict(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[SpecEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[SpecEntry, _Mapping]]] = ...) -> None: ...

class SpecEntry(_message.Message):
    __slots__ = ("key", "spec")
    KEY_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    key: str
    spec: Spec
    def __init__(self, key: _Optional[str] = ..., spec: _Optional[_Union[Spec, _Mapping]] = ...) -> None: ...

class ArraySpec(_message.Message):
    __slots__ = ("dtype", "has_shape", "shape")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    HAS_SHAPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    dtype: str
    has_shape: bool
    shape: _containers.RepeatedCompositeFieldContainer[Axis]
    def __init__(self, dtype: _Optional[str] = ..., has_shape: bool = ..., shape: _Optional[_Iterable[_Union[Axis, _Mapping]]] = ...) -> None: ...

class Axis(_message.Message):
    __slots__ = ("fixed", "symbol")
    FIXED_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    fixed: int
    symbol: str
    def __init__(self, fixed: _Optional[int] = ..., symbol: _Optional[str] = ...) -> None: ...

class EvaluateRequest(_message.Message):
    __slots__ = ("function", "session", "arguments", "arrays", "padding", "payload")
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    function: str
    session: str
    arguments: _tensor_pb2.Value
    arrays: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Array]
    padding: bytes
    payload: bytes
    def __init__(self, function: _Optional[str] = ..., session: _Optional[str] = ..., arguments: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., arrays: _Optional[_Iterable[_Union[_tensor_pb2.Array, _Mapping]]] = ..., padding: _Optional[bytes] = ..., payload: _Optional[bytes] = ...) -> None: ...

class EvaluateResponse(_message.Message):
    __slots__ = ("value", "arrays", "padding", "payload")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    value: _tensor_pb2.Value
    arrays: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Array]
    padding: bytes
    payload: bytes
    def __init__(self, value: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., arrays: _Optional[_Iterable[_Union[_tensor_pb2.Array, _Mapping]]] = ..., padding: _Optional[bytes] = ..., payload: _Optional[bytes] = ...) -> None: ...

class ValueAndGradientRequest(_message.Message):
    __slots__ = ("function", "session", "arguments", "with_respect_to", "arrays", "padding", "payload")
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    WITH_RESPECT_TO_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    function: str
    session: str
    arguments: _tensor_pb2.Value
    with_respect_to: _containers.RepeatedScalarFieldContainer[str]
    arrays: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Array]
    padding: bytes
    payload: bytes
    def __init__(self, function: _Optional[str] = ..., session: _Optional[str] = ..., arguments: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., with_respect_to: _Optional[_Iterable[str]] = ..., arrays: _Optional[_Iterable[_Union[_tensor_pb2.Array, _Mapping]]] = ..., padding: _Optional[bytes] = ..., payload: _Optional[bytes] = ...) -> None: ...

class ValueAndGradientResponse(_message.Message):
    __slots__ = ("value", "gradient", "arrays", "padding", "payload")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    value: _tensor_pb2.Value
    gradient: _tensor_pb2.Value
    arrays: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Array]
    padding: bytes
    payload: bytes
    def __init__(self, value: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., gradient: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., arrays: _Optional[_Iterable[_Union[_tensor_pb2.Array, _Mapping]]] = ..., padding: _Optional[bytes] = ..., payload: _Optional[bytes] = ...) -> None: ...

class VjpRequest(_message.Message):
    __slots__ = ("function", "session", "arguments", "with_respect_to", "cotangents", "with_value", "arrays", "padding", "payload")
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    WITH_RESPECT_TO_FIELD_NUMBER: _ClassVar[int]
    COTANGENTS_FIELD_NUMBER: _ClassVar[int]
    WITH_VALUE_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    function: str
    session: str
    arguments: _tensor_pb2.Value
    with_respect_to: _containers.RepeatedScalarFieldContainer[str]
    cotangents: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Value]
    with_value: bool
    arrays: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Array]
    padding: bytes
    payload: bytes
    def __init__(self, function: _Optional[str] = ..., session: _Optional[str] = ..., arguments: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., with_respect_to: _Optional[_Iterable[str]] = ..., cotangents: _Optional[_Iterable[_Union[_tensor_pb2.Value, _Mapping]]] = ..., with_value: bool = ..., arrays: _Optional[_Iterable[_Union[_tensor_pb2.Array, _Mapping]]] = ..., padding: _Optional[bytes] = ..., payload: _Optional[bytes] = ...) -> None: ...

class VjpResponse(_message.Message):
    __slots__ = ("value", "gradients", "arrays", "padding", "payload")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    value: _tensor_pb2.Value
    gradients: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Value]
    arrays: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Array]
    padding: bytes
    payload: bytes
    def __init__(self, value: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., gradients: _Optional[_Iterable[_Union[_tensor_pb2.Value, _Mapping]]] = ..., arrays: _Optional[_Iterable[_Union[_tensor_pb2.Array, _Mapping]]] = ..., padding: _Optional[bytes] = ..., payload: _Optional[bytes] = ...) -> None: ...

class JvpRequest(_message.Message):
    __slots__ = ("function", "session", "arguments", "tangents", "with_value", "second_tangents", "arrays", "padding", "payload")
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    TANGENTS_FIELD_NUMBER: _ClassVar[int]
    WITH_VALUE_FIELD_NUMBER: _ClassVar[int]
    SECOND_TANGENTS_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    function: str
    session: str
    arguments: _tensor_pb2.Value
    tangents: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Value]
    with_value: bool
    second_tangents: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Value]
    arrays: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Array]
    padding: bytes
    payload: bytes
    def __init__(self, function: _Optional[str] = ..., session: _Optional[str] = ..., arguments: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., tangents: _Optional[_Iterable[_Union[_tensor_pb2.Value, _Mapping]]] = ..., with_value: bool = ..., second_tangents: _Optional[_Iterable[_Union[_tensor_pb2.Value, _Mapping]]] = ..., arrays: _Optional[_Iterable[_Union[_tensor_pb2.Array, _Mapping]]] = ..., padding: _Optional[bytes] = ..., payload: _Optional[bytes] = ...) -> None: ...

class JvpResponse(_message.Message):
    __slots__ = ("value", "tangents", "arrays", "padding", "payload")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TANGENTS_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    value: _tensor_pb2.Value
    tangents: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Value]
    arrays: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Array]
    padding: bytes
    payload: bytes
    def __init__(self, value: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., tangents: _Optional[_Iterable[_Union[_tensor_pb2.Value, _Mapping]]] = ..., arrays: _Optional[_Iterable[_Union[_tensor_pb2.Array, _Mapping]]] = ..., padding: _Optional[bytes] = ..., payload: _Optional[bytes] = ...) -> None: ...

class JacobianRequest(_message.Message):
    __slots__ = ("function", "session", "arguments", "with_respect_to", "with_value", "arrays", "padding", "payload")
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    WITH_RESPECT_TO_FIELD_NUMBER: _ClassVar[int]
    WITH_VALUE_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    function: str
    session: str
    arguments: _tensor_pb2.Value
    with_respect_to: _containers.RepeatedScalarFieldContainer[str]
    with_value: bool
    arrays: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Array]
    padding: bytes
    payload: bytes
    def __init__(self, function: _Optional[str] = ..., session: _Optional[str] = ..., arguments: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., with_respect_to: _Optional[_Iterable[str]] = ..., with_value: bool = ..., arrays: _Optional[_Iterable[_Union[_tensor_pb2.Array, _Mapping]]] = ..., padding: _Optional[bytes] = ..., payload: _Optional[bytes] = ...) -> None: ...

class JacobianResponse(_message.Message):
    __slots__ = ("value", "jacobian", "arrays", "padding", "payload")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    JACOBIAN_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    value: _tensor_pb2.Value
    jacobian: _tensor_pb2.Value
    arrays: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Array]
    padding: bytes
    payload: bytes
    def __init__(self, value: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., jacobian: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., arrays: _Optional[_Iterable[_Union[_tensor_pb2.Array, _Mapping]]] = ..., padding: _Optional[bytes] = ..., payload: _Optional[bytes] = ...) -> None: ...

class HessianRequest(_message.Message):
    __slots__ = ("function", "session", "arguments", "with_respect_to", "with_value", "arrays", "padding", "payload")
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    WITH_RESPECT_TO_FIELD_NUMBER: _ClassVar[int]
    WITH_VALUE_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    function: str
    session: str
    arguments: _tensor_pb2.Value
    with_respect_to: _containers.RepeatedScalarFieldContainer[str]
    with_value: bool
    arrays: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Array]
    padding: bytes
    payload: bytes
    def __init__(self, function: _Optional[str] = ..., session: _Optional[str] = ..., arguments: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., with_respect_to: _Optional[_Iterable[str]] = ..., with_value: bool = ..., arrays: _Optional[_Iterable[_Union[_tensor_pb2.Array, _Mapping]]] = ..., padding: _Optional[bytes] = ..., payload: _Optional[bytes] = ...) -> None: ...

class HessianResponse(_message.Message):
    __slots__ = ("value", "hessian", "arrays", "padding", "payload")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    HESSIAN_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    value: _tensor_pb2.Value
    hessian: _tensor_pb2.Value
    arrays: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Array]
    padding: bytes
    payload: bytes
    def __init__(self, value: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., hessian: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., arrays: _Optional[_Iterable[_Union[_tensor_pb2.Array, _Mapping]]] = ..., padding: _Optional[bytes] = ..., payload: _Optional[bytes] = ...) -> None: ...

class HvpRequest(_message.Message):
    __slots__ = ("function", "session", "arguments", "with_respect_to", "vectors", "with_value", "cotangents", "arrays", "padding", "payload")
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    WITH_RESPECT_TO_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    WITH_VALUE_FIELD_NUMBER: _ClassVar[int]
    COTANGENTS_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    function: str
    session: str
    arguments: _tensor_pb2.Value
    with_respect_to: _containers.RepeatedScalarFieldContainer[str]
    vectors: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Value]
    with_value: bool
    cotangents: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Value]
    arrays: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Array]
    padding: bytes
    payload: bytes
    def __init__(self, function: _Optional[str] = ..., session: _Optional[str] = ..., arguments: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., with_respect_to: _Optional[_Iterable[str]] = ..., vectors: _Optional[_Iterable[_Union[_tensor_pb2.Value, _Mapping]]] = ..., with_value: bool = ..., cotangents: _Optional[_Iterable[_Union[_tensor_pb2.Value, _Mapping]]] = ..., arrays: _Optional[_Iterable[_Union[_tensor_pb2.Array, _Mapping]]] = ..., padding: _Optional[bytes] = ..., payload: _Optional[bytes] = ...) -> None: ...

class HvpResponse(_message.Message):
    __slots__ = ("value", "products", "gradient", "arrays", "padding", "payload")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    PRODUCTS_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    value: _tensor_pb2.Value
    products: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Value]
    gradient: _tensor_pb2.Value
    arrays: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Array]
    padding: bytes
    payload: bytes
    def __init__(self, value: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., products: _Optional[_Iterable[_Union[_tensor_pb2.Value, _Mapping]]] = ..., gradient: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., arrays: _Optional[_Iterable[_Union[_tensor_pb2.Array, _Mapping]]] = ..., padding: _Optional[bytes] = ..., payload: _Optional[bytes] = ...) -> None: ...

class LinearizeRequest(_message.Message):
    __slots__ = ("function", "arguments", "with_respect_to", "arrays", "padding", "payload")
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    WITH_RESPECT_TO_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    function: str
    arguments: _tensor_pb2.Value
    with_respect_to: _containers.RepeatedScalarFieldContainer[str]
    arrays: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Array]
    padding: bytes
    payload: bytes
    def __init__(self, function: _Optional[str] = ..., arguments: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., with_respect_to: _Optional[_Iterable[str]] = ..., arrays: _Optional[_Iterable[_Union[_tensor_pb2.Array, _Mapping]]] = ..., padding: _Optional[bytes] = ..., payload: _Optional[bytes] = ...) -> None: ...

class LinearizeResponse(_message.Message):
    __slots__ = ("session", "value", "lease_seconds", "arrays", "padding", "payload")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LEASE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    session: str
    value: _tensor_pb2.Value
    lease_seconds: float
    arrays: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Array]
    padding: bytes
    payload: bytes
    def __init__(self, session: _Optional[str] = ..., value: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., lease_seconds: _Optional[float] = ..., arrays: _Optional[_Iterable[_Union[_tensor_pb2.Array, _Mapping]]] = ..., padding: _Optional[bytes] = ..., payload: _Optional[bytes] = ...) -> None: ...

class CloseSessionRequest(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: str
    def __init__(self, session: _Optional[str] = ...) -> None: ...

class CloseSessionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Failure(_message.Message):
    __slots__ = ("code", "message", "violations", "exception", "retry_after")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    VIOLATIONS_FIELD_NUMBER: _ClassVar[int]
    EXCEPTION_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    violations: _containers.RepeatedCompositeFieldContainer[Violation]
    exception: UserException
    retry_after: float
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., violations: _Optional[_Iterable[_Union[Violation, _Mapping]]] = ..., exception: _Optional[_Union[UserException, _Mapping]] = ..., retry_after: _Optional[float] = ...) -> None: ...

class Violation(_message.Message):
    __slots__ = ("field", "expected", "got")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    GOT_FIELD_NUMBER: _ClassVar[int]
    field: str
    expected: str
    got: str
    def __init__(self, field: _Optional[str] = ..., expected: _Optional[str] = ..., got: _Optional[str] = ...) -> None: ...

class UserException(_message.Message):
    __slots__ = ("type", "message", "file", "line", "source")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    type: str
    message: str
    file: str
    line: int
    source: str
    def __init__(self, type: _Optional[str] = ..., message: _Optional[str] = ..., file: _Optional[str] = ..., line: _Optional[int] = ..., source: _Optional[str] = ...) -> None: ...

class StatusDetails(_message.Message):
    __slots__ = ("code", "message", "details")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    details: _containers.RepeatedCompositeFieldContainer[_any_pb2.Any]
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., details: _Optional[_Iterable[_Union[_any_pb2.Any, _Mapping]]] = ...) -> None: ...

class StreamRequest(_message.Message):
    __slots__ = ("id", "timeout_seconds", "chunk", "cancel", "evaluate", "value_and_gradient", "vjp", "jvp", "jacobian", "hessian", "hvp", "linearize", "close_session")
    ID_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    EVALUATE_FIELD_NUMBER: _ClassVar[int]
    VALUE_AND_GRADIENT_FIELD_NUMBER: _ClassVar[int]
    VJP_FIELD_NUMBER: _ClassVar[int]
    JVP_FIELD_NUMBER: _ClassVar[int]
    JACOBIAN_FIELD_NUMBER: _ClassVar[int]
    HESSIAN_FIELD_NUMBER: _ClassVar[int]
    HVP_FIELD_NUMBER: _ClassVar[int]
    LINEARIZE_FIELD_NUMBER: _ClassVar[int]
    CLOSE_SESSION_FIELD_NUMBER: _ClassVar[int]
    id: int
    timeout_seconds: float
    chunk: ArrayChunk
    cancel: CancelRequest
    evaluate: EvaluateRequest
    value_and_gradient: ValueAndGradientRequest
    vjp: VjpRequest
    jvp: JvpRequest
    jacobian: JacobianRequest
    hessian: HessianRequest
    hvp: HvpRequest
    linearize: LinearizeRequest
    close_session: CloseSessionRequest
    def __init__(self, id: _Optional[int] = ..., timeout_seconds: _Optional[float] = ..., chunk: _Optional[_Union[ArrayChunk, _Mapping]] = ..., cancel: _Optional[_Union[CancelRequest, _Mapping]] = ..., evaluate: _Optional[_Union[EvaluateRequest, _Mapping]] = ..., value_and_gradient: _Optional[_Union[ValueAndGradientRequest, _Mapping]] = ..., vjp: _Optional[_Union[VjpRequest, _Mapping]] = ..., jvp: _Optional[_Union[JvpRequest, _Mapping]] = ..., jacobian: _Optional[_Union[JacobianRequest, _Mapping]] = ..., hessian: _Optional[_Union[HessianRequest, _Mapping]] = ..., hvp: _Optional[_Union[HvpRequest, _Mapping]] = ..., linearize: _Optional[_Union[LinearizeRequest, _Mapping]] = ..., close_session: _Optional[_Union[CloseSessionRequest, _Mapping]] = ...) -> None: ...

class StreamResponse(_message.Message):
    __slots__ = ("id", "chunk", "failure", "evaluate", "value_and_gradient", "vjp", "jvp", "jacobian", "hessian", "hvp", "linearize", "close_session")
    ID_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    EVALUATE_FIELD_NUMBER: _ClassVar[int]
    VALUE_AND_GRADIENT_FIELD_NUMBER: _ClassVar[int]
    VJP_FIELD_NUMBER: _ClassVar[int]
    JVP_FIELD_NUMBER: _ClassVar[int]
    JACOBIAN_FIELD_NUMBER: _ClassVar[int]
    HESSIAN_FIELD_NUMBER: _ClassVar[int]
    HVP_FIELD_NUMBER: _ClassVar[int]
    LINEARIZE_FIELD_NUMBER: _ClassVar[int]
    CLOSE_SESSION_FIELD_NUMBER: _ClassVar[int]
    id: int
    chunk: ArrayChunk
    failure: Failure
    evaluate: EvaluateResponse
    value_and_gradient: ValueAndGradientResponse
    vjp: VjpResponse
    jvp: JvpResponse
    jacobian: JacobianResponse
    hessian: HessianResponse
    hvp: HvpResponse
    linearize: LinearizeResponse
    close_session: CloseSessionResponse
    def __init__(self, id: _Optional[int] = ..., chunk: _Optional[_Union[ArrayChunk, _Mapping]] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ..., evaluate: _Optional[_Union[EvaluateResponse, _Mapping]] = ..., value_and_gradient: _Optional[_Union[ValueAndGradientResponse, _Mapping]] = ..., vjp: _Optional[_Union[VjpResponse, _Mapping]] = ..., jvp: _Optional[_Union[JvpResponse, _Mapping]] = ..., jacobian: _Optional[_Union[JacobianResponse, _Mapping]] = ..., hessian: _Optional[_Union[HessianResponse, _Mapping]] = ..., hvp: _Optional[_Union[HvpResponse, _Mapping]] = ..., linearize: _Optional[_Union[LinearizeResponse, _Mapping]] = ..., close_session: _Optional[_Union[CloseSessionResponse, _Mapping]] = ...) -> None: ...

class ArrayChunk(_message.Message):
    __slots__ = ("chunk", "padding", "payload")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    chunk: _tensor_pb2.Chunk
    padding: bytes
    payload: bytes
    def __init__(self, chunk: _Optional[_Union[_tensor_pb2.Chunk, _Mapping]] = ..., padding: _Optional[bytes] = ..., payload: _Optional[bytes] = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetLocalSocketRequest(_message.Message):
    __slots__ = ("host",)
    HOST_FIELD_NUMBER: _ClassVar[int]
    host: str
    def __init__(self, host: _Optional[str] = ...) -> None: ...

class GetLocalSocketResponse(_message.Message):
    __slots__ = ("path", "ticket")
    PATH_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    path: str
    ticket: bytes
    def __init__(self, path: _Optional[str] = ..., ticket: _Optional[bytes] = ...) -> None: ...

class GetStatisticsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatisticsResponse(_message.Message):
    __slots__ = ("counts",)
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    counts: _worker_pb2.Counts
    def __init__(self, counts: _Optional[_Union[_worker_pb2.Counts, _Mapping]] = ...) -> None: ...
