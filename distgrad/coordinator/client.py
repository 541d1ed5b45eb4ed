"""A client of a cluster: places shards, opens contexts, steps optimizers."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from distgrad.autograd.tensor import Tensor
from distgrad.errors import ConfigError, Timeout
from distgrad.graph.context import Context
from distgrad.graph.handles import ShardHandle
from distgrad.graph.process import Process
from distgrad.graph.timesheet import Work
from distgrad.graph.waiting import Promise
from distgrad.optim import Optimizer
from distgrad.transport.interfaces import Identity, Lanes
from distgrad.transport.settings import TransportSettings
from distgrad.wire import decode_value, encode_value, pb
from distgrad.worker.member import COORDINATOR, FOR_THE_REASON, Membership

from .arguments import Directory, path_text, require_mapping, require_number, require_text, require_whole
from .assignment import assign_workers
from .coroutines import in_thread
from .names import natural_order
from .optimizer import RemoteOptimizer
from .recovery import Recovered

# Seconds between the checks of `Client.wait_for_workers`.
CHECK_EVERY = 0.05


@dataclass(frozen=True)
class WorkerStatus:
    """A worker at one moment.

    Attributes:
        state: "alive", "lost" or "left".
        reason: why it is no longer alive.
        counts: how many contexts, values, calls, links, ... it holds, and what it has of its system's (see
            `distgrad.observe.usage`); empty when it cannot be asked.
        waits: whom it waits for, in words: "w2 waits for values of w1 (3)".
    """

    name: str
    address: str
    pid: int
    incarnation: int
    state: str
    reason: str
    counts: Mapping[str, int]
    waits: tuple[str, ...] = ()


@dataclass(frozen=True)
class FoundCheckpoint:
    """What is in a directory of checkpoints.

    Attributes:
        path: of the newest that is complete; empty when there is none.
        extra: what it was saved with.
        damaged: names of those that are damaged or were never finished.
    """

    path: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()


class PlacedShard(ShardHandle):
    """A handle whose state can be read and written by the client that placed it."""

    __slots__ = ("_client",)

    def __init__(self, client: Client, name: str) -> None:
        super().__init__(client.process, name)
        self._client = client

    def state_dict(self) -> dict[str, Any]:
        """Copies of the shard's parameters and buffers, by name."""
        state = self._client.read_state(self.shard_name)
        return {**state["parameters"], **state["buffers"]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Gives the shard's parameters and buffers new values: all of them, or, raising, none."""
        self._client.write_state(self.shard_name, state)

    state_dict_async = in_thread(state_dict)
    load_state_dict_async = in_thread(load_state_dict)


class Client:
    """A process that has joined a cluster to use it.

    Arguments:
        coordinator: address of the coordinator.
        name: of this client; by default one that nobody else has.
    """

    def __init__(
        self,
        coordinator: str,
        settings: TransportSettings,
        name: str = "",
        *,
        lanes: Lanes | None = None,
        timeout: float = 5.0,
    ) -> None:
        self.coordinator = coordinator
        self.settings = settings
        self.process = Process(Identity.new(name or f"client-{secrets.token_hex(4)}", "client"), settings, lanes=lanes)
        self._changed = threading.Condition()
        self._contexts = itertools.count()
        self._optimizers: dict[str, RemoteOptimizer] = {}
        self._job = ""
        self.membership = Membership(self.process, on_event=self._member_changed)
        try:
            self.membership.join(coordinator, [], timeout)
        except BaseException:
            self.process.close()
            raise

    # ---- members -----------------------------------------------------------------------------------------------------

    @property
    def workers(self) -> list[WorkerStatus]:
        """The workers as they are now, those that are gone included."""
        reply, _ = self.process.ask(COORDINATOR, pb.ListMembers())
        workers = [member for member in reply.members if member.role == "worker"]
        asked = {w.name: self.process.request(w.name, pb.Statistics()) for w in workers if w.state == "alive"}
        for name, promise in asked.items():
            self.process.executor.wait(promise, what=f"the counts of {name}")
        told = {name: promise.result()[0] for name, promise in asked.items() if promise.error is None}
        found = {w.name: told.get(w.name, pb.Counts()) for w in workers}
        return [
            WorkerStatus(
                w.name,
                w.address,
                w.pid,
                w.incarnation,
                w.state,
                w.reason,
                dict(found[w.name].counts),
                tuple(found[w.name].waits),
            )
            for w in workers
        ]

    @property
    def job(self) -> pb.JobStatus | None:
        """The job that is trained on the cluster now; None when there is none."""
        reply, _ = self.process.ask(COORDINATOR, pb.ListMembers())
        return reply.job if reply.HasField("job") else None

    def counts(self, process: str) -> dict[str, int]:
        """How many contexts, values, edges, links, ... a process ("w0", "coordinator") holds now, and what it has of
        its system's: see `Process.counts` and `distgrad.observe.usage`. `distgrad status` shows the most of it."""
        reply, _ = self.process.ask(process, pb.Statistics())
        return dict(reply.counts)

    def work(self, process: str) -> dict[str, Work]:
        """What a process has spent its compute time on, by kind: "SHARD.METHOD" for calls, "gradients" that other
        processes waited for, "weights" for gradients of its own variables, "other"."""
        reply, _ = self.process.ask(process, pb.Statistics())
        return {kind: Work(work.runs, work.seconds) for kind, work in reply.work.items()}

    def wait_for_workers(self, names: Sequence[str], timeout: float, check: Callable[[], None] = lambda: None) -> None:
        """Returns when all these workers are members. `check` is called now and then, and may raise to end the wait.

        Raises:
            Timeout: some have not come; says which.
        """
        if isinstance(names, str):
            raise ConfigError(f"wait_for_workers() got names={names!r}, expected a list of names")
        require_number("wait_for_workers", timeout=timeout)
        self._wait_until_none(lambda: [name for name in names if name not in self._living()], timeout, check)

    def assign_workers(self, names: Sequence[str], timeout: float) -> dict[str, pb.Member]:
        """The members that stand for the workers a job names, once there are enough: see `assignment`.

        Raises:
            Timeout: some are missing; says which, and who is there.
            WorkerLost: the coordinator is gone.
        """

        def missing() -> list[str]:
            assigned = assign_workers(names, self._living())
            return [name for name in names if name not in assigned]

        self._wait_until_none(missing, timeout, self.check_coordinator)
        living = self._living()
        return {name: living[member] for name, member in assign_workers(names, living).items()}

    def _living(self) -> dict[str, pb.Member]:
        members = dict(self.membership.members)
        return {name: it for name, it in members.items() if it.state == "alive" and it.role == "worker"}

    @property
    def present(self) -> list[str]:
        """The workers that are there, as far as this client has heard; w2 before w10."""
        return sorted(self._living(), key=natural_order)

    def check_coordinator(self) -> None:
        """Raises WorkerLost when the coordinator is gone, and this client with it."""
        link = self.process.endpoint.link(COORDINATOR)
        if link is None or not link.connected:  # lost, or about to be; or connected again in a moment
            self.membership.ended.wait(FOR_THE_REASON)
        if (error := self.membership.ended.error) is not None:
            raise error

    def _wait_until_none(self, missing: Callable[[], list[str]], timeout: float, check: Callable[[], None]) -> None:
        deadline = time.monotonic() + timeout
        with self._changed:
            while absent := missing():
                check()
                left = deadline - time.monotonic()
                if left <= 0:
                    here = ", ".join(self.present) or "none"
                    raise Timeout(
                        f"{', '.join(absent)} did not join within {timeout:g} s; workers that are here: {here}"
                    )
                self._changed.wait(min(left, CHECK_EVERY))

    def _member_changed(self, member: pb.Member) -> None:
        with self._changed:
            self._changed.notify_all()

    # ---- shards ------------------------------------------------------------------------------------------------------

    def place(
        self, name: str, program: str, worker: str = "", config: Mapping[str, Any] | None = None, seed: int = 0
    ) -> PlacedShard:
        """Builds a shard on a worker and returns a handle to it.

        Arguments:
            program: "FILE.py:CLASS" in the workers' programs folder.
            worker: by default the one with the fewest shards.
            config: keyword arguments of the class.
            seed: initial weights derive from it and the names of shard and parameters.

        Raises:
            ConfigError: an argument is wrong: there is no such worker, say, or another shard has the name.
            ProgramError: the program refuses.
            WorkerLost: the worker is gone.
        """
        require_text("place", name=name, program=program, worker=worker)
        require_whole("place", seed=seed)
        require_mapping("place", config={} if config is None else config)
        out: list[Any] = []
        request = pb.Place(name=name, program=program, worker=worker, seed=seed, job=self._job)
        request.config.CopyFrom(encode_value(dict(config or {}), out, "config"))
        self.process.ask(COORDINATOR, request, out)
        return PlacedShard(self, name)

    def shard(self, name: str) -> PlacedShard:
        """A handle to a shard that somebody has placed."""
        require_text("shard", name=name)
        self.worker_of(name)
        return PlacedShard(self, name)

    def worker_of(self, shard: str) -> str:
        """The name of the worker that a shard lives on."""
        found = self.membership.find_shard(shard)
        self.process.executor.wait(found, what=f"where shard {shard!r} is")
        return found.result()[0]

    def call(self, worker: str, function: str, *args: Any, **kwargs: Any) -> Any:
        """Runs one `@dg.remote` function of a program ("FILE.py:FUNCTION") on a worker; returns the Ref of its
        value."""
        return self.process.caller.issue(worker, "", function, args, kwargs)

    def read_state(self, shard: str) -> dict[str, Any]:
        """{"parameters": ..., "buffers": ..., "optimizer": ...} of a shard."""
        reply, arrays = self.process.ask(COORDINATOR, pb.ReadState(shard=shard))
        state: dict[str, Any] = decode_value(reply.state, arrays)
        return state

    def write_state(self, shard: str, values: Mapping[str, Any]) -> None:
        """Gives the parameters and buffers of a shard new values; its optimizer state stays.

        Raises:
            ConfigError: the names, shapes and dtypes are not exactly the shard's; nothing has changed.
        """
        require_mapping("load_state_dict", state=values)
        out: list[Any] = []
        state = encode_value({"parameters": _arrays(values), "buffers": {}}, out, f"state of {shard}")
        self.process.ask(COORDINATOR, pb.WriteState(shard=shard, state=state), out)

    # ---- training ----------------------------------------------------------------------------------------------------

    def begin_job(self, name: str, steps: int, continues: bool = False) -> None:
        """From now on this client trains a job, the only one on the cluster; what it places and optimizes goes when it
        does.

        Arguments:
            continues: it was trained when the coordinator before this one was lost, and goes on with the shards that
                workers have kept.

        Raises:
            ConfigError: another client trains a job.
        """
        self.process.ask(COORDINATOR, pb.BeginJob(name=name, steps=steps, continues=continues))
        self._job = name

    def optimizer(
        self, settings: Optimizer, shards: Sequence[ShardHandle], name: str = "", replicate: bool = False
    ) -> RemoteOptimizer:
        """Puts shards under an optimizer.

        Arguments:
            name: by default one that this client has not used.
            replicate: every worker's part of the state is kept by another worker as well, so that `recover` loses no
                step.

        Raises:
            ConfigError: the arguments are wrong.
        """
        require_text("optimizer", name=name)
        if not isinstance(settings, Optimizer):
            raise ConfigError(f"optimizer() got {settings!r}, expected an optimizer, like dg.optim.Adam(lr=1e-3)")
        handles = [] if isinstance(shards, ShardHandle | None) else list(shards)
        if not handles or not all(isinstance(handle, ShardHandle) for handle in handles):
            raise ConfigError(
                f"optimizer() got shards={shards!r}, expected a list of the handles that place() returned"
            )
        name = name or f"{type(settings).__name__.lower()}{len(self._optimizers)}"
        out: list[Any] = []
        request = pb.CreateOptimizer(
            name=name,
            shards=[handle.shard_name for handle in handles],
            kind=type(settings).__name__,
            replicate=replicate,
            job=self._job,
        )
        request.settings.CopyFrom(encode_value(settings.to_settings(), out, "settings"))
        reply, _ = self.process.ask(COORDINATOR, request, out)
        return self.follow_optimizer(name, settings, reply.version)

    def follow_optimizer(self, name: str, settings: Optimizer, version: int) -> RemoteOptimizer:
        """An optimizer that another client has put shards under, at the version it is at."""
        self._optimizers[name] = RemoteOptimizer(self, name, settings, version)
        return self._optimizers[name]

    def context(self, step: int | None = None, microbatch: int = 0) -> Context:
        """A new context, bound to the present versions of this client's optimizers.

        Arguments:
            step, microbatch: what random numbers of the calls derive from; by default contexts count up.
        """
        require_whole("context", step=0 if step is None else step, microbatch=microbatch)
        versions = {name: optimizer.version for name, optimizer in self._optimizers.items()}
        return Context(self.process, versions, next(self._contexts) if step is None else step, microbatch)

    def save(self, directory: Directory, extra: Mapping[str, Any] | None = None, keep: int = 0) -> str:
        """Writes a checkpoint of every shard into a directory of the coordinator's machine; returns its path.

        Arguments:
            extra: what `restore` is to return; plain data.
            keep: older checkpoints there than the newest so many are removed afterwards; 0: none is.

        Raises:
            CheckpointError: the disk refuses.
            WorkerLost: a worker was lost. Earlier checkpoints are as they were in either case.
        """
        saved = self.begin_save(directory, extra, keep)
        self.process.executor.wait(saved, what="the checkpoint")
        return saved.result()

    def begin_save(self, directory: Directory, extra: Mapping[str, Any] | None = None, keep: int = 0) -> Promise[str]:
        """As `save`, without waiting: the promise of the path. Steps that are asked for from now on are not in the
        checkpoint."""
        require_whole("save", keep=keep)
        require_mapping("save", extra={} if extra is None else extra)
        out: list[Any] = []
        request = pb.Save(directory=path_text("save", directory), keep=keep)
        request.extra.CopyFrom(encode_value(dict(extra or {}), out, "extra"))
        saved: Promise[str] = Promise()

        def pass_on(promise: Promise[Any]) -> None:
            if promise.error is not None:
                saved.set_error(promise.error)
            else:
                saved.set_result(promise.result()[0].path)

        self.process.request(COORDINATOR, request, out).add_callback(pass_on)
        return saved

    def find_checkpoint(self, directory: str) -> FoundCheckpoint:
        """The newest checkpoint in a directory of the coordinator's machine.

        Raises:
            CheckpointError: none could be written there.
            PermissionDenied: the coordinator keeps checkpoints elsewhere.
        """
        reply, arrays = self.process.ask(COORDINATOR, pb.FindCheckpoint(directory=str(directory)))
        if not reply.path:
            return FoundCheckpoint(damaged=tuple(reply.damaged))
        return FoundCheckpoint(reply.path, decode_value(reply.extra, arrays), tuple(reply.damaged))

    def remove_checkpoints(self, directory: str) -> None:
        """Removes all checkpoints in a directory of the coordinator's machine, damaged ones included.

        Raises:
            CheckpointError: the disk refuses.
        """
        self.process.ask(COORDINATOR, pb.RemoveCheckpoints(directory=str(directory)))

    def restore(self, directory: Directory, job: str = "") -> dict[str, Any]:
        """Returns every shard and optimizer to a checkpoint, or to the newest in a directory: all of them or, raising,
        none. Returns its `extra`. Shards that were lost are built anew when a worker of the same name has joined.

        Arguments:
            job: when not empty, a checkpoint of another job is refused.

        Raises:
            ConfigError: there is none, or it does not fit.
            CheckpointError: it is damaged.
            WorkerLost: a shard was lost and no worker of that name is back.
        """
        reply, arrays = self.process.ask(COORDINATOR, pb.Restore(directory=path_text("restore", directory), job=job))
        self._move_to(reply.versions)
        extra: dict[str, Any] = decode_value(reply.extra, arrays)
        return extra

    def recover(
        self,
        directory: Directory = "",
        job: str = "",
        patience: float = 30.0,
        standby_after: float = 0.0,
        steps: int = 1,
    ) -> Recovered:
        """After workers were lost: waits until each is back, or another has taken its place, and has all shards at one
        version again. Copies (`replicate`) are used where there are some, else every shard returns to the newest sound
        checkpoint in `directory`, else to its initial weights; `optimizer.version` says how far.

        Arguments:
            job: when not empty, a checkpoint of another job is refused.
            patience: seconds to wait for workers.
            standby_after: seconds that a worker must not have been heard of before one without shards takes its place.
            steps: that several clients take together: nobody goes on from a version in the middle of them.

        Raises:
            Timeout: a worker has not come back.
            WorkerLost: one was lost again.
        """
        require_number("recover", patience=patience, standby_after=standby_after)
        require_whole("recover", 1, steps=steps)
        directory = path_text("recover", directory) if directory else ""
        request = pb.Recover(directory=directory, job=job, patience=patience, standby_after=standby_after, round=steps)
        reply, arrays = self.process.ask(COORDINATOR, request)
        self._move_to(reply.versions)
        return Recovered(dict(reply.versions), reply.source, reply.path, decode_value(reply.extra, arrays))

    def _move_to(self, versions: Mapping[str, int]) -> None:
        for name, optimizer in self._optimizers.items():
            optimizer.version = versions.get(name, optimizer.version)

    # ---- for coroutines ----------------------------------------------------------------------------------------------

    wait_for_workers_async = in_thread(wait_for_workers)
    place_async = in_thread(place)
    shard_async = in_thread(shard)
    optimizer_async = in_thread(optimizer)
    save_async = in_thread(save)
    restore_async = in_thread(restore)
    recover_async = in_thread(recover)

    # ---- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Leaves the cluster; what this client holds there is released."""
        self.process.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        import asyncio

        await asyncio.to_thread(self.close)

    def __repr__(self) -> str:
        return f"<Client {self.process.identity!r} of term {self.membership.term}>"


def _arrays(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.data if isinstance(value, Tensor) else np.asarray(value) for name, value in values.items()}
