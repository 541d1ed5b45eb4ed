from distgrad.wire.v1 import tensor_pb2 as _tensor_pb2
from distgrad.wire.v1 import worker_pb2 as _worker_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Source(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SOURCE_UNSPECIFIED: _ClassVar[Source]
    SOURCE_OWNERS: _ClassVar[Source]
    SOURCE_REPLICAS: _ClassVar[Source]
    SOURCE_CHECKPOINT: _ClassVar[Source]
    SOURCE_INITIAL: _ClassVar[Source]
SOURCE_UNSPECIFIED: Source
SOURCE_OWNERS: Source
SOURCE_REPLICAS: Source
SOURCE_CHECKPOINT: Source
SOURCE_INITIAL: Source

class ChooseName(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class NameChosen(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class Join(_message.Message):
    __slots__ = ("name", "programs", "host", "log")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROGRAMS_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    name: str
    programs: _containers.RepeatedScalarFieldContainer[str]
    host: str
    log: str
    def __init__(self, name: _Optional[str] = ..., programs: _Optional[_Iterable[str]] = ..., host: _Optional[str] = ..., log: _Optional[str] = ...) -> None: ...

class Joined(_message.Message):
    __slots__ = ("name", "term", "members")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    name: str
    term: int
    members: _containers.RepeatedCompositeFieldContainer[Member]
    def __init__(self, name: _Optional[str] = ..., term: _Optional[int] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("name", "incarnation", "role", "address", "pid", "state", "reason", "host", "log")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    name: str
    incarnation: int
    role: str
    address: str
    pid: int
    state: str
    reason: str
    host: str
    log: str
    def __init__(self, name: _Optional[str] = ..., incarnation: _Optional[int] = ..., role: _Optional[str] = ..., address: _Optional[str] = ..., pid: _Optional[int] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., host: _Optional[str] = ..., log: _Optional[str] = ...) -> None: ...

class MemberEvents(_message.Message):
    __slots__ = ("members",)
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[Member]
    def __init__(self, members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ...) -> None: ...

class ListMembers(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Members(_message.Message):
    __slots__ = ("members", "job")
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[Member]
    job: JobStatus
    def __init__(self, members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ..., job: _Optional[_Union[JobStatus, _Mapping]] = ...) -> None: ...

class BeginJob(_message.Message):
    __slots__ = ("name", "steps", "continues")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    CONTINUES_FIELD_NUMBER: _ClassVar[int]
    name: str
    steps: int
    continues: bool
    def __init__(self, name: _Optional[str] = ..., steps: _Optional[int] = ..., continues: bool = ...) -> None: ...

class JobStatus(_message.Message):
    __slots__ = ("name", "trainer", "step", "steps", "seconds", "shards")
    class ShardsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    TRAINER_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    name: str
    trainer: str
    step: int
    steps: int
    seconds: float
    shards: _containers.ScalarMap[str, str]
    def __init__(self, name: _Optional[str] = ..., trainer: _Optional[str] = ..., step: _Optional[int] = ..., steps: _Optional[int] = ..., seconds: _Optional[float] = ..., shards: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Place(_message.Message):
    __slots__ = ("name", "program", "worker", "config", "seed", "job")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    name: str
    program: str
    worker: str
    config: _tensor_pb2.Value
    seed: int
    job: str
    def __init__(self, name: _Optional[str] = ..., program: _Optional[str] = ..., worker: _Optional[str] = ..., config: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., seed: _Optional[int] = ..., job: _Optional[str] = ...) -> None: ...

class FindShard(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ShardFound(_message.Message):
    __slots__ = ("name", "program", "worker", "parameters", "methods")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    METHODS_FIELD_NUMBER: _ClassVar[int]
    name: str
    program: str
    worker: str
    parameters: _containers.RepeatedCompositeFieldContainer[_worker_pb2.ParameterInfo]
    methods: _containers.RepeatedCompositeFieldContainer[_worker_pb2.MethodInfo]
    def __init__(self, name: _Optional[str] = ..., program: _Optional[str] = ..., worker: _Optional[str] = ..., parameters: _Optional[_Iterable[_Union[_worker_pb2.ParameterInfo, _Mapping]]] = ..., methods: _Optional[_Iterable[_Union[_worker_pb2.MethodInfo, _Mapping]]] = ...) -> None: ...

class CreateOptimizer(_message.Message):
    __slots__ = ("name", "shards", "kind", "settings", "replicate", "job")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    REPLICATE_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    name: str
    shards: _containers.RepeatedScalarFieldContainer[str]
    kind: str
    settings: _tensor_pb2.Value
    replicate: bool
    job: str
    def __init__(self, name: _Optional[str] = ..., shards: _Optional[_Iterable[str]] = ..., kind: _Optional[str] = ..., settings: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., replicate: bool = ..., job: _Optional[str] = ...) -> None: ...

class OptimizerCreated(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class UpdateStep(_message.Message):
    __slots__ = ("optimizer", "version", "contexts", "clip_norm", "learning_rate", "turn", "turns", "loss")
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CONTEXTS_FIELD_NUMBER: _ClassVar[int]
    CLIP_NORM_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    TURNS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    optimizer: str
    version: int
    contexts: _containers.RepeatedScalarFieldContainer[str]
    clip_norm: float
    learning_rate: float
    turn: int
    turns: int
    loss: float
    def __init__(self, optimizer: _Optional[str] = ..., version: _Optional[int] = ..., contexts: _Optional[_Iterable[str]] = ..., clip_norm: _Optional[float] = ..., learning_rate: _Optional[float] = ..., turn: _Optional[int] = ..., turns: _Optional[int] = ..., loss: _Optional[float] = ...) -> None: ...

class Updated(_message.Message):
    __slots__ = ("version", "norm", "applied", "losses")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NORM_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    LOSSES_FIELD_NUMBER: _ClassVar[int]
    version: int
    norm: float
    applied: bool
    losses: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, version: _Optional[int] = ..., norm: _Optional[float] = ..., applied: bool = ..., losses: _Optional[_Iterable[float]] = ...) -> None: ...

class Save(_message.Message):
    __slots__ = ("directory", "extra", "keep")
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    directory: str
    extra: _tensor_pb2.Value
    keep: int
    def __init__(self, directory: _Optional[str] = ..., extra: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., keep: _Optional[int] = ...) -> None: ...

class Saved(_message.Message):
    __slots__ = ("path", "bytes")
    PATH_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    path: str
    bytes: int
    def __init__(self, path: _Optional[str] = ..., bytes: _Optional[int] = ...) -> None: ...

class FindCheckpoint(_message.Message):
    __slots__ = ("directory",)
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    directory: str
    def __init__(self, directory: _Optional[str] = ...) -> None: ...

class CheckpointFound(_message.Message):
    __slots__ = ("path", "extra", "damaged")
    PATH_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    DAMAGED_FIELD_NUMBER: _ClassVar[int]
    path: str
    extra: _tensor_pb2.Value
    damaged: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, path: _Optional[str] = ..., extra: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., damaged: _Optional[_Iterable[str]] = ...) -> None: ...

class RemoveCheckpoints(_message.Message):
    __slots__ = ("directory",)
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    directory: str
    def __init__(self, directory: _Optional[str] = ...) -> None: ...

class Restore(_message.Message):
    __slots__ = ("directory", "job")
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    directory: str
    job: str
    def __init__(self, directory: _Optional[str] = ..., job: _Optional[str] = ...) -> None: ...

class Restored(_message.Message):
    __slots__ = ("path", "extra", "versions")
    class VersionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    PATH_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    path: str
    extra: _tensor_pb2.Value
    versions: _containers.ScalarMap[str, int]
    def __init__(self, path: _Optional[str] = ..., extra: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ..., versions: _Optional[_Mapping[str, int]] = ...) -> None: ...

class Recover(_message.Message):
    __slots__ = ("directory", "job", "patience", "standby_after", "round")
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    PATIENCE_FIELD_NUMBER: _ClassVar[int]
    STANDBY_AFTER_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    directory: str
    job: str
    patience: float
    standby_after: float
    round: int
    def __init__(self, directory: _Optional[str] = ..., job: _Optional[str] = ..., patience: _Optional[float] = ..., standby_after: _Optional[float] = ..., round: _Optional[int] = ...) -> None: ...

class Recovered(_message.Message):
    __slots__ = ("versions", "source", "path", "extra")
    class VersionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.ScalarMap[str, int]
    source: Source
    path: str
    extra: _tensor_pb2.Value
    def __init__(self, versions: _Optional[_Mapping[str, int]] = ..., source: _Optional[_Union[Source, str]] = ..., path: _Optional[str] = ..., extra: _Optional[_Union[_tensor_pb2.Value, _Mapping]] = ...) -> None: ...
