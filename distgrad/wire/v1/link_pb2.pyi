from distgrad.wire.v1 import coordinator_pb2 as _coordinator_pb2
from distgrad.wire.v1 import tensor_pb2 as _tensor_pb2
from distgrad.wire.v1 import worker_pb2 as _worker_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_CLIENT: _ClassVar[Role]
    ROLE_WORKER: _ClassVar[Role]
    ROLE_COORDINATOR: _ClassVar[Role]

class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_UNSPECIFIED: _ClassVar[Reason]
    REASON_CLOSED: _ClassVar[Reason]
    REASON_PROTOCOL_MISMATCH: _ClassVar[Reason]
    REASON_UNAUTHENTICATED: _ClassVar[Reason]
    REASON_WRONG_CLUSTER: _ClassVar[Reason]
    REASON_STALE: _ClassVar[Reason]
    REASON_DUPLICATE: _ClassVar[Reason]
    REASON_BAD_FRAME: _ClassVar[Reason]
    REASON_RESOURCE_EXHAUSTED: _ClassVar[Reason]
ROLE_UNSPECIFIED: Role
ROLE_CLIENT: Role
ROLE_WORKER: Role
ROLE_COORDINATOR: Role
REASON_UNSPECIFIED: Reason
REASON_CLOSED: Reason
REASON_PROTOCOL_MISMATCH: Reason
REASON_UNAUTHENTICATED: Reason
REASON_WRONG_CLUSTER: Reason
REASON_STALE: Reason
REASON_DUPLICATE: Reason
REASON_BAD_FRAME: Reason
REASON_RESOURCE_EXHAUSTED: Reason

class Frame(_message.Message):
    __slots__ = ("sequence", "acknowledged", "hello", "welcome", "goodbye", "heartbeat", "chunk", "request", "reply", "call", "done", "start", "gradients", "pass_ack", "mark", "resume", "finish", "abort", "member_events", "drop", "arrays", "padding", "payload")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    GOODBYE_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    PASS_ACK_FIELD_NUMBER: _ClassVar[int]
    MARK_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    ABORT_FIELD_NUMBER: _ClassVar[int]
    MEMBER_EVENTS_FIELD_NUMBER: _ClassVar[int]
    DROP_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    acknowledged: int
    hello: Hello
    welcome: Welcome
    goodbye: Goodbye
    heartbeat: Heartbeat
    chunk: _tensor_pb2.Chunk
    request: Request
    reply: Reply
    call: _worker_pb2.Call
    done: _worker_pb2.Done
    start: _worker_pb2.Start
    gradients: _worker_pb2.Gradients
    pass_ack: _worker_pb2.PassAck
    mark: _worker_pb2.Mark
    resume: _worker_pb2.Resume
    finish: _worker_pb2.Finish
    abort: _worker_pb2.Abort
    member_events: _coordinator_pb2.MemberEvents
    drop: _worker_pb2.Drop
    arrays: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Array]
    padding: bytes
    payload: bytes
    def __init__(self, sequence: _Optional[int] = ..., acknowledged: _Optional[int] = ..., hello: _Optional[_Union[Hello, _Mapping]] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ..., goodbye: _Optional[_Union[Goodbye, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., chunk: _Optional[_Union[_tensor_pb2.Chunk, _Mapping]] = ..., request: _Optional[_Union[Request, _Mapping]] = ..., reply: _Optional[_Union[Reply, _Mapping]] = ..., call: _Optional[_Union[_worker_pb2.Call, _Mapping]] = ..., done: _Optional[_Union[_worker_pb2.Done, _Mapping]] = ..., start: _Optional[_Union[_worker_pb2.Start, _Mapping]] = ..., gradients: _Optional[_Union[_worker_pb2.Gradients, _Mapping]] = ..., pass_ack: _Optional[_Union[_worker_pb2.PassAck, _Mapping]] = ..., mark: _Optional[_Union[_worker_pb2.Mark, _Mapping]] = ..., resume: _Optional[_Union[_worker_pb2.Resume, _Mapping]] = ..., finish: _Optional[_Union[_worker_pb2.Finish, _Mapping]] = ..., abort: _Optional[_Union[_worker_pb2.Abort, _Mapping]] = ..., member_events: _Optional[_Union[_coordinator_pb2.MemberEvents, _Mapping]] = ..., drop: _Optional[_Union[_worker_pb2.Drop, _Mapping]] = ..., arrays: _Optional[_Iterable[_Union[_tensor_pb2.Array, _Mapping]]] = ..., padding: _Optional[bytes] = ..., payload: _Optional[bytes] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol", "cluster", "token", "identity", "expected_incarnation", "session", "received")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_INCARNATION_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    cluster: str
    token: str
    identity: Identity
    expected_incarnation: int
    session: str
    received: int
    def __init__(self, protocol: _Optional[int] = ..., cluster: _Optional[str] = ..., token: _Optional[str] = ..., identity: _Optional[_Union[Identity, _Mapping]] = ..., expected_incarnation: _Optional[int] = ..., session: _Optional[str] = ..., received: _Optional[int] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("identity", "session", "received", "max_frame_bytes", "offers")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAME_BYTES_FIELD_NUMBER: _ClassVar[int]
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    identity: Identity
    session: str
    received: int
    max_frame_bytes: int
    offers: _containers.RepeatedCompositeFieldContainer[Offer]
    def __init__(self, identity: _Optional[_Union[Identity, _Mapping]] = ..., session: _Optional[str] = ..., received: _Optional[int] = ..., max_frame_bytes: _Optional[int] = ..., offers: _Optional[_Iterable[_Union[Offer, _Mapping]]] = ...) -> None: ...

class Offer(_message.Message):
    __slots__ = ("kind", "path", "host", "port")
    KIND_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    kind: str
    path: str
    host: str
    port: int
    def __init__(self, kind: _Optional[str] = ..., path: _Optional[str] = ..., host: _Optional[str] = ..., port: _Optional[int] = ...) -> None: ...

class Identity(_message.Message):
    __slots__ = ("name", "incarnation", "role", "address", "pid")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    name: str
    incarnation: int
    role: Role
    address: str
    pid: int
    def __init__(self, name: _Optional[str] = ..., incarnation: _Optional[int] = ..., role: _Optional[_Union[Role, str]] = ..., address: _Optional[str] = ..., pid: _Optional[int] = ...) -> None: ...

class Goodbye(_message.Message):
    __slots__ = ("reason", "message")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    reason: Reason
    message: str
    def __init__(self, reason: _Optional[_Union[Reason, str]] = ..., message: _Optional[str] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("progress", "busy")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    BUSY_FIELD_NUMBER: _ClassVar[int]
    progress: int
    busy: int
    def __init__(self, progress: _Optional[int] = ..., busy: _Optional[int] = ...) -> None: ...

class Request(_message.Message):
    __slots__ = ("id", "fetch", "release", "finish", "enlist", "await_call", "read_gradients", "statistics", "read_graph", "load_shard", "read_state", "write_state", "prepare", "commit", "withdraw", "adopt", "shutdown", "check_state", "take_snapshot", "replicate", "mirror", "pin", "read_replica", "read_standing", "unload_shards", "read_sum", "join", "choose_name", "begin_job", "place", "find_shard", "list_members", "create_optimizer", "update_step", "save", "restore", "recover", "find_checkpoint", "remove_checkpoints")
    ID_FIELD_NUMBER: _ClassVar[int]
    FETCH_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    ENLIST_FIELD_NUMBER: _ClassVar[int]
    AWAIT_CALL_FIELD_NUMBER: _ClassVar[int]
    READ_GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    READ_GRAPH_FIELD_NUMBER: _ClassVar[int]
    LOAD_SHARD_FIELD_NUMBER: _ClassVar[int]
    READ_STATE_FIELD_NUMBER: _ClassVar[int]
    WRITE_STATE_FIELD_NUMBER: _ClassVar[int]
    PREPARE_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    WITHDRAW_FIELD_NUMBER: _ClassVar[int]
    ADOPT_FIELD_NUMBER: _ClassVar[int]
    SHUTDOWN_FIELD_NUMBER: _ClassVar[int]
    CHECK_STATE_FIELD_NUMBER: _ClassVar[int]
    TAKE_SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    REPLICATE_FIELD_NUMBER: _ClassVar[int]
    MIRROR_FIELD_NUMBER: _ClassVar[int]
    PIN_FIELD_NUMBER: _ClassVar[int]
    READ_REPLICA_FIELD_NUMBER: _ClassVar[int]
    READ_STANDING_FIELD_NUMBER: _ClassVar[int]
    UNLOAD_SHARDS_FIELD_NUMBER: _ClassVar[int]
    READ_SUM_FIELD_NUMBER: _ClassVar[int]
    JOIN_FIELD_NUMBER: _ClassVar[int]
    CHOOSE_NAME_FIELD_NUMBER: _ClassVar[int]
    BEGIN_JOB_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    FIND_SHARD_FIELD_NUMBER: _ClassVar[int]
    LIST_MEMBERS_FIELD_NUMBER: _ClassVar[int]
    CREATE_OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    UPDATE_STEP_FIELD_NUMBER: _ClassVar[int]
    SAVE_FIELD_NUMBER: _ClassVar[int]
    RESTORE_FIELD_NUMBER: _ClassVar[int]
    RECOVER_FIELD_NUMBER: _ClassVar[int]
    FIND_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    REMOVE_CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    id: int
    fetch: _worker_pb2.Fetch
    release: _worker_pb2.Release
    finish: _worker_pb2.Finish
    enlist: _worker_pb2.Enlist
    await_call: _worker_pb2.AwaitCall
    read_gradients: _worker_pb2.ReadGradients
    statistics: _worker_pb2.Statistics
    read_graph: _worker_pb2.ReadGraph
    load_shard: _worker_pb2.LoadShard
    read_state: _worker_pb2.ReadState
    write_state: _worker_pb2.WriteState
    prepare: _worker_pb2.Prepare
    commit: _worker_pb2.Commit
    withdraw: _worker_pb2.Withdraw
    adopt: _worker_pb2.Adopt
    shutdown: _worker_pb2.Shutdown
    check_state: _worker_pb2.CheckState
    take_snapshot: _worker_pb2.TakeSnapshot
    replicate: _worker_pb2.Replicate
    mirror: _worker_pb2.Mirror
    pin: _worker_pb2.Pin
    read_replica: _worker_pb2.ReadReplica
    read_standing: _worker_pb2.ReadStanding
    unload_shards: _worker_pb2.UnloadShards
    read_sum: _worker_pb2.ReadSum
    join: _coordinator_pb2.Join
    choose_name: _coordinator_pb2.ChooseName
    begin_job: _coordinator_pb2.BeginJob
    place: _coordinator_pb2.Place
    find_shard: _coordinator_pb2.FindShard
    list_members: _coordinator_pb2.ListMembers
    create_optimizer: _coordinator_pb2.CreateOptimizer
    update_step: _coordinator_pb2.UpdateStep
    save: _coordinator_pb2.Save
    restore: _coordinator_pb2.Restore
    recover: _coordinator_pb2.Recover
    find_checkpoint: _coordinator_pb2.FindCheckpoint
    remove_checkpoints: _coordinator_pb2.RemoveCheckpoints
    def __init__(self, id: _Optional[int] = ..., fetch: _Optional[_Union[_worker_pb2.Fetch, _Mapping]] = ..., release: _Optional[_Union[_worker_pb2.Release, _Mapping]] = ..., finish: _Optional[_Union[_worker_pb2.Finish, _Mapping]] = ..., enlist: _Optional[_Union[_worker_pb2.Enlist, _Mapping]] = ..., await_call: _Optional[_Union[_worker_pb2.AwaitCall, _Mapping]] = ..., read_gradients: _Optional[_Union[_worker_pb2.ReadGradients, _Mapping]] = ..., statistics: _Optional[_Union[_worker_pb2.Statistics, _Mapping]] = ..., read_graph: _Optional[_Union[_worker_pb2.ReadGraph, _Mapping]] = ..., load_shard: _Optional[_Union[_worker_pb2.LoadShard, _Mapping]] = ..., read_state: _Optional[_Union[_worker_pb2.ReadState, _Mapping]] = ..., write_state: _Optional[_Union[_worker_pb2.WriteState, _Mapping]] = ..., prepare: _Optional[_Union[_worker_pb2.Prepare, _Mapping]] = ..., commit: _Optional[_Union[_worker_pb2.Commit, _Mapping]] = ..., withdraw: _Optional[_Union[_worker_pb2.Withdraw, _Mapping]] = ..., adopt: _Optional[_Union[_worker_pb2.Adopt, _Mapping]] = ..., shutdown: _Optional[_Union[_worker_pb2.Shutdown, _Mapping]] = ..., check_state: _Optional[_Union[_worker_pb2.CheckState, _Mapping]] = ..., take_snapshot: _Optional[_Union[_worker_pb2.TakeSnapshot, _Mapping]] = ..., replicate: _Optional[_Union[_worker_pb2.Replicate, _Mapping]] = ..., mirror: _Optional[_Union[_worker_pb2.Mirror, _Mapping]] = ..., pin: _Optional[_Union[_worker_pb2.Pin, _Mapping]] = ..., read_replica: _Optional[_Union[_worker_pb2.ReadReplica, _Mapping]] = ..., read_standing: _Optional[_Union[_worker_pb2.ReadStanding, _Mapping]] = ..., unload_shards: _Optional[_Union[_worker_pb2.UnloadShards, _Mapping]] = ..., read_sum: _Optional[_Union[_worker_pb2.ReadSum, _Mapping]] = ..., join: _Optional[_Union[_coordinator_pb2.Join, _Mapping]] = ..., choose_name: _Optional[_Union[_coordinator_pb2.ChooseName, _Mapping]] = ..., begin_job: _Optional[_Union[_coordinator_pb2.BeginJob, _Mapping]] = ..., place: _Optional[_Union[_coordinator_pb2.Place, _Mapping]] = ..., find_shard: _Optional[_Union[_coordinator_pb2.FindShard, _Mapping]] = ..., list_members: _Optional[_Union[_coordinator_pb2.ListMembers, _Mapping]] = ..., create_optimizer: _Optional[_Union[_coordinator_pb2.CreateOptimizer, _Mapping]] = ..., update_step: _Optional[_Union[_coordinator_pb2.UpdateStep, _Mapping]] = ..., save: _Optional[_Union[_coordinator_pb2.Save, _Mapping]] = ..., restore: _Optional[_Union[_coordinator_pb2.Restore, _Mapping]] = ..., recover: _Optional[_Union[_coordinator_pb2.Recover, _Mapping]] = ..., find_checkpoint: _Optional[_Union[_coordinator_pb2.FindCheckpoint, _Mapping]] = ..., remove_checkpoints: _Optional[_Union[_coordinator_pb2.RemoveCheckpoints, _Mapping]] = ...) -> None: ...

class Reply(_message.Message):
    __slots__ = ("id", "error", "empty", "fetched", "gradients_read", "graph_read", "counts", "finished", "shard_loaded", "state_read", "prepared", "joined", "name_chosen", "shard_found", "members", "optimizer_created", "updated", "saved", "restored", "standing", "recovered", "checkpoint_found")
    ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    EMPTY_FIELD_NUMBER: _ClassVar[int]
    FETCHED_FIELD_NUMBER: _ClassVar[int]
    GRADIENTS_READ_FIELD_NUMBER: _ClassVar[int]
    GRAPH_READ_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    SHARD_LOADED_FIELD_NUMBER: _ClassVar[int]
    STATE_READ_FIELD_NUMBER: _ClassVar[int]
    PREPARED_FIELD_NUMBER: _ClassVar[int]
    JOINED_FIELD_NUMBER: _ClassVar[int]
    NAME_CHOSEN_FIELD_NUMBER: _ClassVar[int]
    SHARD_FOUND_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_CREATED_FIELD_NUMBER: _ClassVar[int]
    UPDATED_FIELD_NUMBER: _ClassVar[int]
    SAVED_FIELD_NUMBER: _ClassVar[int]
    RESTORED_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    RECOVERED_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FOUND_FIELD_NUMBER: _ClassVar[int]
    id: int
    error: _worker_pb2.Error
    empty: Empty
    fetched: _worker_pb2.Fetched
    gradients_read: _worker_pb2.GradientsRead
    graph_read: _worker_pb2.GraphRead
    counts: _worker_pb2.Counts
    finished: _worker_pb2.Finished
    shard_loaded: _worker_pb2.ShardLoaded
    state_read: _worker_pb2.StateRead
    prepared: _worker_pb2.Prepared
    joined: _coordinator_pb2.Joined
    name_chosen: _coordinator_pb2.NameChosen
    shard_found: _coordinator_pb2.ShardFound
    members: _coordinator_pb2.Members
    optimizer_created: _coordinator_pb2.OptimizerCreated
    updated: _coordinator_pb2.Updated
    saved: _coordinator_pb2.Saved
    restored: _coordinator_pb2.Restored
    standing: _worker_pb2.Standing
    recovered: _coordinator_pb2.Recovered
    checkpoint_found: _coordinator_pb2.CheckpointFound
    def __init__(self, id: _Optional[int] = ..., error: _Optional[_Union[_worker_pb2.Error, _Mapping]] = ..., empty: _Optional[_Union[Empty, _Mapping]] = ..., fetched: _Optional[_Union[_worker_pb2.Fetched, _Mapping]] = ..., gradients_read: _Optional[_Union[_worker_pb2.GradientsRead, _Mapping]] = ..., graph_read: _Optional[_Union[_worker_pb2.GraphRead, _Mapping]] = ..., counts: _Optional[_Union[_worker_pb2.Counts, _Mapping]] = ..., finished: _Optional[_Union[_worker_pb2.Finished, _Mapping]] = ..., shard_loaded: _Optional[_Union[_worker_pb2.ShardLoaded, _Mapping]] = ..., state_read: _Optional[_Union[_worker_pb2.StateRead, _Mapping]] = ..., prepared: _Optional[_Union[_worker_pb2.Prepared, _Mapping]] = ..., joined: _Optional[_Union[_coordinator_pb2.Joined, _Mapping]] = ..., name_chosen: _Optional[_Union[_coordinator_pb2.NameChosen, _Mapping]] = ..., shard_found: _Optional[_Union[_coordinator_pb2.ShardFound, _Mapping]] = ..., members: _Optional[_Union[_coordinator_pb2.Members, _Mapping]] = ..., optimizer_created: _Optional[_Union[_coordinator_pb2.OptimizerCreated, _Mapping]] = ..., updated: _Optional[_Union[_coordinator_pb2.Updated, _Mapping]] = ..., saved: _Optional[_Union[_coordinator_pb2.Saved, _Mapping]] = ..., restored: _Optional[_Union[_coordinator_pb2.Restored, _Mapping]] = ..., standing: _Optional[_Union[_worker_pb2.Standing, _Mapping]] = ..., recovered: _Optional[_Union[_coordinator_pb2.Recovered, _Mapping]] = ..., checkpoint_found: _Optional[_Union[_coordinator_pb2.CheckpointFound, _Mapping]] = ...) -> None: ...

class Empty(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
