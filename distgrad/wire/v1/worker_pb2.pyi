from distgrad.wire.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Direction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DIRECTION_UNSPECIFIED: _ClassVar[Direction]
    DIRECTION_ARGUMENT: _ClassVar[Direction]
    DIRECTION_RESULT: _ClassVar[Direction]
    DIRECTION_GRADIENT: _ClassVar[Direction]
DIRECTION_UNSPECIFIED: Direction
DIRECTION_ARGUMENT: Direction
DIRECTION_RESULT: Direction
DIRECTION_GRADIENT: Direction

class Error(_message.Message):
    __slots__ = ("kind", "message", "worker", "method", "original", "original_message", "traceback", "arguments")
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    ORIGINAL_FIELD_NUMBER: _ClassVar[int]
    ORIGINAL_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TRACEBACK_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    message: str
    worker: str
    method: str
    original: str
    original_message: str
    traceback: str
    arguments: str
    def __init__(self, kind: _Optional[str] = ..., message: _Optional[str] = ..., worker: _Optional[str] = ..., method: _Optional[str] = ..., original: _Optional[str] = ..., original_message: _Optional[str] = ..., traceback: _Optional[str] = ..., arguments: _Optional[str] = ...) -> None: ...

class Call(_message.Message):
    __slots__ = ("context", "path", "shard", "method", "arguments", "keywords", "record", "depth", "forgotten", "recompute", "urgency", "bring", "jvps")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    KEYWORDS_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    FORGOTTEN_FIELD_NUMBER: _ClassVar[int]
    RECOMPUTE_FIELD_NUMBER: _ClassVar[int]
    URGENCY_FIELD_NUMBER: _ClassVar[int]
    BRING_FIELD_NUMBER: _ClassVar[int]
    JVPS_FIELD_NUMBER: _ClassVar[int]
    context: ContextId
    path: _containers.RepeatedScalarFieldContainer[int]
    shard: str
    method: str
    arguments: _tensor_pb2.Value
    keywords: _tensor_pb2.Value
    record: bool
    depth: int
    forgotten: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.RefId]
    recompute: bool
    urgency: _containers.RepeatedScalarFieldContainer[int]
    bring: bool
    jvps: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.JvpId]
    def __init__(self, context: _Optional[_Union[ContextId, _Mapping]] = ..., path: _Optional[_Iterable[int]] = ..., shard: _Optional[str] = ..., method: _Optional[str] = ..., arguments: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., keywords: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., record: bool = ..., depth: _Optional[int] = ..., forgotten: _Optional[_Iterable[_Union[_tensor_pb2.RefId, _Mapping]]] = ..., recompute: bool = ..., urgency: _Optional[_Iterable[int]] = ..., bring: bool = ..., jvps: _Optional[_Iterable[_Union[_tensor_pb2.JvpId, _Mapping]]] = ...) -> None: ...

class ContextId(_message.Message):
    __slots__ = ("id", "owner", "owner_incarnation", "versions", "step", "microbatch")
    class VersionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    OWNER_INCARNATION_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    MICROBATCH_FIELD_NUMBER: _ClassVar[int]
    id: str
    owner: str
    owner_incarnation: int
    versions: _containers.ScalarMap[str, int]
    step: int
    microbatch: int
    def __init__(self, id: _Optional[str] = ..., owner: _Optional[str] = ..., owner_incarnation: _Optional[int] = ..., versions: _Optional[_Mapping[str, int]] = ..., step: _Optional[int] = ..., microbatch: _Optional[int] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ("context", "path", "error", "forwards", "value", "going_on", "brought")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    FORWARDS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    GOING_ON_FIELD_NUMBER: _ClassVar[int]
    BROUGHT_FIELD_NUMBER: _ClassVar[int]
    context: str
    path: _containers.RepeatedScalarFieldContainer[int]
    error: Error
    forwards: _containers.RepeatedCompositeFieldContainer[Forward]
    value: _tensor_pb2.Value
    going_on: bool
    brought: bool
    def __init__(self, context: _Optional[str] = ..., path: _Optional[_Iterable[int]] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., forwards: _Optional[_Iterable[_Union[Forward, _Mapping]]] = ..., value: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., going_on: bool = ..., brought: bool = ...) -> None: ...

class Forward(_message.Message):
    __slots__ = ("part", "origin")
    PART_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    part: _tensor_pb2.RefId
    origin: _tensor_pb2.RefId
    def __init__(self, part: _Optional[_Union[_tensor_pb2.RefId, _Mapping]] = ..., origin: _Optional[_Union[_tensor_pb2.RefId, _Mapping]] = ...) -> None: ...

class Drop(_message.Message):
    __slots__ = ("refs",)
    REFS_FIELD_NUMBER: _ClassVar[int]
    refs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.RefId]
    def __init__(self, refs: _Optional[_Iterable[_Union[_tensor_pb2.RefId, _Mapping]]] = ...) -> None: ...

class Fetch(_message.Message):
    __slots__ = ("ref", "edge")
    REF_FIELD_NUMBER: _ClassVar[int]
    EDGE_FIELD_NUMBER: _ClassVar[int]
    ref: _tensor_pb2.RefId
    edge: EdgeId
    def __init__(self, ref: _Optional[_Union[_tensor_pb2.RefId, _Mapping]] = ..., edge: _Optional[_Union[EdgeId, _Mapping]] = ...) -> None: ...

class AwaitCall(_message.Message):
    __slots__ = ("ref",)
    REF_FIELD_NUMBER: _ClassVar[int]
    ref: _tensor_pb2.RefId
    def __init__(self, ref: _Optional[_Union[_tensor_pb2.RefId, _Mapping]] = ...) -> None: ...

class Fetched(_message.Message):
    __slots__ = ("value", "first_item")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    FIRST_ITEM_FIELD_NUMBER: _ClassVar[int]
    value: _tensor_pb2.Value
    first_item: int
    def __init__(self, value: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., first_item: _Optional[int] = ...) -> None: ...

class EdgeId(_message.Message):
    __slots__ = ("path", "direction", "leaf", "of", "item")
    PATH_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    OF_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    path: _containers.RepeatedScalarFieldContainer[int]
    direction: Direction
    leaf: int
    of: EdgeId
    item: int
    def __init__(self, path: _Optional[_Iterable[int]] = ..., direction: _Optional[_Union[Direction, str]] = ..., leaf: _Optional[int] = ..., of: _Optional[_Union[EdgeId, _Mapping]] = ..., item: _Optional[int] = ...) -> None: ...

class Pass(_message.Message):
    __slots__ = ("context", "path", "initiator", "roots", "create_graph", "retain_graph", "dead", "restricted", "inputs", "accumulate", "urgency", "weight_urgency")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    INITIATOR_FIELD_NUMBER: _ClassVar[int]
    ROOTS_FIELD_NUMBER: _ClassVar[int]
    CREATE_GRAPH_FIELD_NUMBER: _ClassVar[int]
    RETAIN_GRAPH_FIELD_NUMBER: _ClassVar[int]
    DEAD_FIELD_NUMBER: _ClassVar[int]
    RESTRICTED_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    ACCUMULATE_FIELD_NUMBER: _ClassVar[int]
    URGENCY_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_URGENCY_FIELD_NUMBER: _ClassVar[int]
    context: ContextId
    path: _containers.RepeatedScalarFieldContainer[int]
    initiator: str
    roots: _containers.RepeatedCompositeFieldContainer[ProcessRoots]
    create_graph: bool
    retain_graph: bool
    dead: _containers.RepeatedCompositeFieldContainer[EdgeId]
    restricted: bool
    inputs: _containers.RepeatedCompositeFieldContainer[Input]
    accumulate: bool
    urgency: _containers.RepeatedScalarFieldContainer[int]
    weight_urgency: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, context: _Optional[_Union[ContextId, _Mapping]] = ..., path: _Optional[_Iterable[int]] = ..., initiator: _Optional[str] = ..., roots: _Optional[_Iterable[_Union[ProcessRoots, _Mapping]]] = ..., create_graph: bool = ..., retain_graph: bool = ..., dead: _Optional[_Iterable[_Union[EdgeId, _Mapping]]] = ..., restricted: bool = ..., inputs: _Optional[_Iterable[_Union[Input, _Mapping]]] = ..., accumulate: bool = ..., urgency: _Optional[_Iterable[int]] = ..., weight_urgency: _Optional[_Iterable[int]] = ...) -> None: ...

class ProcessRoots(_message.Message):
    __slots__ = ("process", "roots")
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    ROOTS_FIELD_NUMBER: _ClassVar[int]
    process: str
    roots: _containers.RepeatedCompositeFieldContainer[Root]
    def __init__(self, process: _Optional[str] = ..., roots: _Optional[_Iterable[_Union[Root, _Mapping]]] = ...) -> None: ...

class Root(_message.Message):
    __slots__ = ("ref", "leaf", "position")
    REF_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ref: _tensor_pb2.RefId
    leaf: int
    position: int
    def __init__(self, ref: _Optional[_Union[_tensor_pb2.RefId, _Mapping]] = ..., leaf: _Optional[int] = ..., position: _Optional[int] = ...) -> None: ...

class Input(_message.Message):
    __slots__ = ("ref", "shard", "position")
    REF_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ref: _tensor_pb2.RefId
    shard: str
    position: int
    def __init__(self, ref: _Optional[_Union[_tensor_pb2.RefId, _Mapping]] = ..., shard: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...

class Start(_message.Message):
    __slots__ = ("header", "seeds")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    header: Pass
    seeds: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Value]
    def __init__(self, header: _Optional[_Union[Pass, _Mapping]] = ..., seeds: _Optional[_Iterable[_Union[_tensor_pb2.Value, _Mapping]]] = ...) -> None: ...

class Gradients(_message.Message):
    __slots__ = ("header", "gradients", "completion", "last")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    header: Pass
    gradients: _containers.RepeatedCompositeFieldContainer[EdgeGradient]
    completion: Completion
    last: bool
    def __init__(self, header: _Optional[_Union[Pass, _Mapping]] = ..., gradients: _Optional[_Iterable[_Union[EdgeGradient, _Mapping]]] = ..., completion: _Optional[_Union[Completion, _Mapping]] = ..., last: bool = ...) -> None: ...

class EdgeGradient(_message.Message):
    __slots__ = ("edge", "gradient")
    EDGE_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    edge: EdgeId
    gradient: _tensor_pb2.Value
    def __init__(self, edge: _Optional[_Union[EdgeId, _Mapping]] = ..., gradient: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ...) -> None: ...

class PassAck(_message.Message):
    __slots__ = ("context", "path", "completion")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_FIELD_NUMBER: _ClassVar[int]
    context: str
    path: _containers.RepeatedScalarFieldContainer[int]
    completion: Completion
    def __init__(self, context: _Optional[str] = ..., path: _Optional[_Iterable[int]] = ..., completion: _Optional[_Union[Completion, _Mapping]] = ...) -> None: ...

class Completion(_message.Message):
    __slots__ = ("count", "waiting", "met", "finds")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    MET_FIELD_NUMBER: _ClassVar[int]
    FINDS_FIELD_NUMBER: _ClassVar[int]
    count: int
    waiting: int
    met: _containers.RepeatedScalarFieldContainer[str]
    finds: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, count: _Optional[int] = ..., waiting: _Optional[int] = ..., met: _Optional[_Iterable[str]] = ..., finds: _Optional[_Iterable[str]] = ...) -> None: ...

class Mark(_message.Message):
    __slots__ = ("header", "begin", "reached")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    REACHED_FIELD_NUMBER: _ClassVar[int]
    header: Pass
    begin: bool
    reached: _containers.RepeatedCompositeFieldContainer[EdgeId]
    def __init__(self, header: _Optional[_Union[Pass, _Mapping]] = ..., begin: bool = ..., reached: _Optional[_Iterable[_Union[EdgeId, _Mapping]]] = ...) -> None: ...

class Resume(_message.Message):
    __slots__ = ("header",)
    HEADER_FIELD_NUMBER: _ClassVar[int]
    header: Pass
    def __init__(self, header: _Optional[_Union[Pass, _Mapping]] = ...) -> None: ...

class Finish(_message.Message):
    __slots__ = ("context", "path", "into")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    INTO_FIELD_NUMBER: _ClassVar[int]
    context: str
    path: _containers.RepeatedScalarFieldContainer[int]
    into: ContextId
    def __init__(self, context: _Optional[str] = ..., path: _Optional[_Iterable[int]] = ..., into: _Optional[_Union[ContextId, _Mapping]] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ("found",)
    FOUND_FIELD_NUMBER: _ClassVar[int]
    found: _containers.RepeatedCompositeFieldContainer[Found]
    def __init__(self, found: _Optional[_Iterable[_Union[Found, _Mapping]]] = ...) -> None: ...

class Found(_message.Message):
    __slots__ = ("position", "parameters")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    position: int
    parameters: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, position: _Optional[int] = ..., parameters: _Optional[_Iterable[str]] = ...) -> None: ...

class Abort(_message.Message):
    __slots__ = ("context", "path", "error")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    context: str
    path: _containers.RepeatedScalarFieldContainer[int]
    error: Error
    def __init__(self, context: _Optional[str] = ..., path: _Optional[_Iterable[int]] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ("contexts", "told")
    CONTEXTS_FIELD_NUMBER: _ClassVar[int]
    TOLD_FIELD_NUMBER: _ClassVar[int]
    contexts: _containers.RepeatedScalarFieldContainer[str]
    told: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, contexts: _Optional[_Iterable[str]] = ..., told: _Optional[_Iterable[str]] = ...) -> None: ...

class Enlist(_message.Message):
    __slots__ = ("context",)
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    context: str
    def __init__(self, context: _Optional[str] = ...) -> None: ...

class ReadGraph(_message.Message):
    __slots__ = ("context",)
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    context: str
    def __init__(self, context: _Optional[str] = ...) -> None: ...

class GraphRead(_message.Message):
    __slots__ = ("calls", "sends", "recvs", "peers")
    CALLS_FIELD_NUMBER: _ClassVar[int]
    SENDS_FIELD_NUMBER: _ClassVar[int]
    RECVS_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    calls: _containers.RepeatedCompositeFieldContainer[GraphCall]
    sends: _containers.RepeatedCompositeFieldContainer[GraphEnd]
    recvs: _containers.RepeatedCompositeFieldContainer[GraphEnd]
    peers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, calls: _Optional[_Iterable[_Union[GraphCall, _Mapping]]] = ..., sends: _Optional[_Iterable[_Union[GraphEnd, _Mapping]]] = ..., recvs: _Optional[_Iterable[_Union[GraphEnd, _Mapping]]] = ..., peers: _Optional[_Iterable[str]] = ...) -> None: ...

class GraphCall(_message.Message):
    __slots__ = ("path", "label", "seconds", "operations")
    class OperationsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    PATH_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    path: _containers.RepeatedScalarFieldContainer[int]
    label: str
    seconds: float
    operations: _containers.ScalarMap[str, int]
    def __init__(self, path: _Optional[_Iterable[int]] = ..., label: _Optional[str] = ..., seconds: _Optional[float] = ..., operations: _Optional[_Mapping[str, int]] = ...) -> None: ...

class GraphEnd(_message.Message):
    __slots__ = ("edge", "path", "dtype", "shape")
    EDGE_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    edge: EdgeId
    path: _containers.RepeatedScalarFieldContainer[int]
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, edge: _Optional[_Union[EdgeId, _Mapping]] = ..., path: _Optional[_Iterable[int]] = ..., dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class ReadGradients(_message.Message):
    __slots__ = ("context", "shard")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    context: str
    shard: str
    def __init__(self, context: _Optional[str] = ..., shard: _Optional[str] = ...) -> None: ...

class GradientsRead(_message.Message):
    __slots__ = ("gradients",)
    GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    gradients: _tensor_pb2.Value
    def __init__(self, gradients: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ...) -> None: ...

class LoadShard(_message.Message):
    __slots__ = ("name", "program", "config", "seed", "anew")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    ANEW_FIELD_NUMBER: _ClassVar[int]
    name: str
    program: str
    config: _tensor_pb2.Value
    seed: int
    anew: bool
    def __init__(self, name: _Optional[str] = ..., program: _Optional[str] = ..., config: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., seed: _Optional[int] = ..., anew: bool = ...) -> None: ...

class UnloadShards(_message.Message):
    __slots__ = ("names", "others")
    NAMES_FIELD_NUMBER: _ClassVar[int]
    OTHERS_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    others: bool
    def __init__(self, names: _Optional[_Iterable[str]] = ..., others: bool = ...) -> None: ...

class ShardLoaded(_message.Message):
    __slots__ = ("parameters", "methods")
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    METHODS_FIELD_NUMBER: _ClassVar[int]
    parameters: _containers.RepeatedCompositeFieldContainer[ParameterInfo]
    methods: _containers.RepeatedCompositeFieldContainer[MethodInfo]
    def __init__(self, parameters: _Optional[_Iterable[_Union[ParameterInfo, _Mapping]]] = ..., methods: _Optional[_Iterable[_Union[MethodInfo, _Mapping]]] = ...) -> None: ...

class MethodInfo(_message.Message):
    __slots__ = ("name", "outputs")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    outputs: int
    def __init__(self, name: _Optional[str] = ..., outputs: _Optional[int] = ...) -> None: ...

class ParameterInfo(_message.Message):
    __slots__ = ("name", "dtype", "shape")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class ReadState(_message.Message):
    __slots__ = ("shard", "snapshot")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    shard: str
    snapshot: bool
    def __init__(self, shard: _Optional[str] = ..., snapshot: bool = ...) -> None: ...

class StateRead(_message.Message):
    __slots__ = ("state", "version")
    STATE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    state: _tensor_pb2.Value
    version: int
    def __init__(self, state: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., version: _Optional[int] = ...) -> None: ...

class WriteState(_message.Message):
    __slots__ = ("shard", "state", "version")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    shard: str
    state: _tensor_pb2.Value
    version: int
    def __init__(self, shard: _Optional[str] = ..., state: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., version: _Optional[int] = ...) -> None: ...

class CheckState(_message.Message):
    __slots__ = ("shard", "arrays")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    shard: str
    arrays: _containers.RepeatedCompositeFieldContainer[ParameterInfo]
    def __init__(self, shard: _Optional[str] = ..., arrays: _Optional[_Iterable[_Union[ParameterInfo, _Mapping]]] = ...) -> None: ...

class TakeSnapshot(_message.Message):
    __slots__ = ("shards",)
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    shards: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, shards: _Optional[_Iterable[str]] = ...) -> None: ...

class Adopt(_message.Message):
    __slots__ = ("optimizer", "shards", "kind", "settings", "version", "term")
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    optimizer: str
    shards: _containers.RepeatedScalarFieldContainer[str]
    kind: str
    settings: _tensor_pb2.Value
    version: int
    term: int
    def __init__(self, optimizer: _Optional[str] = ..., shards: _Optional[_Iterable[str]] = ..., kind: _Optional[str] = ..., settings: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., version: _Optional[int] = ..., term: _Optional[int] = ...) -> None: ...

class Prepare(_message.Message):
    __slots__ = ("term", "optimizer", "version", "contexts", "twins", "buddies")
    class BuddiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TERM_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CONTEXTS_FIELD_NUMBER: _ClassVar[int]
    TWINS_FIELD_NUMBER: _ClassVar[int]
    BUDDIES_FIELD_NUMBER: _ClassVar[int]
    term: int
    optimizer: str
    version: int
    contexts: _containers.RepeatedScalarFieldContainer[str]
    twins: _containers.RepeatedCompositeFieldContainer[Twins]
    buddies: _containers.ScalarMap[str, str]
    def __init__(self, term: _Optional[int] = ..., optimizer: _Optional[str] = ..., version: _Optional[int] = ..., contexts: _Optional[_Iterable[str]] = ..., twins: _Optional[_Iterable[_Union[Twins, _Mapping]]] = ..., buddies: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Twins(_message.Message):
    __slots__ = ("shards", "workers")
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    shards: _containers.RepeatedScalarFieldContainer[str]
    workers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, shards: _Optional[_Iterable[str]] = ..., workers: _Optional[_Iterable[str]] = ...) -> None: ...

class ReadSum(_message.Message):
    __slots__ = ("optimizer", "version", "attempt", "shard", "complete", "parameters")
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    optimizer: str
    version: int
    attempt: str
    shard: str
    complete: bool
    parameters: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, optimizer: _Optional[str] = ..., version: _Optional[int] = ..., attempt: _Optional[str] = ..., shard: _Optional[str] = ..., complete: bool = ..., parameters: _Optional[_Iterable[str]] = ...) -> None: ...

class Prepared(_message.Message):
    __slots__ = ("norms",)
    NORMS_FIELD_NUMBER: _ClassVar[int]
    norms: _containers.RepeatedCompositeFieldContainer[Norm]
    def __init__(self, norms: _Optional[_Iterable[_Union[Norm, _Mapping]]] = ...) -> None: ...

class Norm(_message.Message):
    __slots__ = ("parameter", "norm", "finite")
    PARAMETER_FIELD_NUMBER: _ClassVar[int]
    NORM_FIELD_NUMBER: _ClassVar[int]
    FINITE_FIELD_NUMBER: _ClassVar[int]
    parameter: str
    norm: float
    finite: bool
    def __init__(self, parameter: _Optional[str] = ..., norm: _Optional[float] = ..., finite: bool = ...) -> None: ...

class Commit(_message.Message):
    __slots__ = ("term", "optimizer", "version", "clip_factor", "learning_rate")
    TERM_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CLIP_FACTOR_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    term: int
    optimizer: str
    version: int
    clip_factor: float
    learning_rate: float
    def __init__(self, term: _Optional[int] = ..., optimizer: _Optional[str] = ..., version: _Optional[int] = ..., clip_factor: _Optional[float] = ..., learning_rate: _Optional[float] = ...) -> None: ...

class Withdraw(_message.Message):
    __slots__ = ("term", "optimizer", "version")
    TERM_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    term: int
    optimizer: str
    version: int
    def __init__(self, term: _Optional[int] = ..., optimizer: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class Replicate(_message.Message):
    __slots__ = ("term", "optimizer", "buddy")
    TERM_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    BUDDY_FIELD_NUMBER: _ClassVar[int]
    term: int
    optimizer: str
    buddy: str
    def __init__(self, term: _Optional[int] = ..., optimizer: _Optional[str] = ..., buddy: _Optional[str] = ...) -> None: ...

class Mirror(_message.Message):
    __slots__ = ("term", "optimizer", "owner", "kind", "settings", "version", "shards", "trainable")
    TERM_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    TRAINABLE_FIELD_NUMBER: _ClassVar[int]
    term: int
    optimizer: str
    owner: str
    kind: str
    settings: _tensor_pb2.Value
    version: int
    shards: _tensor_pb2.Value
    trainable: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, term: _Optional[int] = ..., optimizer: _Optional[str] = ..., owner: _Optional[str] = ..., kind: _Optional[str] = ..., settings: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., version: _Optional[int] = ..., shards: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., trainable: _Optional[_Iterable[str]] = ...) -> None: ...

class Pin(_message.Message):
    __slots__ = ("term", "optimizer", "owner", "version", "gradients", "buffers")
    TERM_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    BUFFERS_FIELD_NUMBER: _ClassVar[int]
    term: int
    optimizer: str
    owner: str
    version: int
    gradients: _tensor_pb2.Value
    buffers: _tensor_pb2.Value
    def __init__(self, term: _Optional[int] = ..., optimizer: _Optional[str] = ..., owner: _Optional[str] = ..., version: _Optional[int] = ..., gradients: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., buffers: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ...) -> None: ...

class ReadReplica(_message.Message):
    __slots__ = ("optimizer", "owner", "shard")
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    optimizer: str
    owner: str
    shard: str
    def __init__(self, optimizer: _Optional[str] = ..., owner: _Optional[str] = ..., shard: _Optional[str] = ...) -> None: ...

class ReadStanding(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Standing(_message.Message):
    __slots__ = ("held",)
    HELD_FIELD_NUMBER: _ClassVar[int]
    held: _containers.RepeatedCompositeFieldContainer[Held]
    def __init__(self, held: _Optional[_Iterable[_Union[Held, _Mapping]]] = ...) -> None: ...

class Held(_message.Message):
    __slots__ = ("optimizer", "owner", "version", "prepared", "shards")
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PREPARED_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    optimizer: str
    owner: str
    version: int
    prepared: int
    shards: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, optimizer: _Optional[str] = ..., owner: _Optional[str] = ..., version: _Optional[int] = ..., prepared: _Optional[int] = ..., shards: _Optional[_Iterable[str]] = ...) -> None: ...

class Shutdown(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Statistics(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Counts(_message.Message):
    __slots__ = ("counts", "work", "waits")
    class CountsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class WorkEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Work
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Work, _Mapping]] = ...) -> None: ...
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    WORK_FIELD_NUMBER: _ClassVar[int]
    WAITS_FIELD_NUMBER: _ClassVar[int]
    counts: _containers.ScalarMap[str, int]
    work: _containers.MessageMap[str, Work]
    waits: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, counts: _Optional[_Mapping[str, int]] = ..., work: _Optional[_Mapping[str, Work]] = ..., waits: _Optional[_Iterable[str]] = ...) -> None: ...

class Work(_message.Message):
    __slots__ = ("runs", "seconds")
    RUNS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    runs: int
    seconds: float
    def __init__(self, runs: _Optional[int] = ..., seconds: _Optional[float] = ...) -> None: ...
