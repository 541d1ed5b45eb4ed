"""The worker process: a process of the graph with shards, joined to a cluster."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

from distgrad.errors import ContextClosed, PermissionDenied
from distgrad.graph.process import Handler, Process, Reply
from distgrad.graph.waiting import Priority, Promise
from distgrad.transport.interfaces import Identity, Lanes, Link
from distgrad.transport.settings import TransportSettings
from distgrad.wire import decode_value, encode_value, pb
from distgrad.wire.dtypes import dtype_name

from .holding import Holding
from .host import Host, Hosted
from .member import Membership, Whereabouts
from .programs import Programs
from .reduction import Reductions
from .replica import Replicas, pin_request

# How long, in seconds, a thread may hold the interpreter while a link's thread wants it. Python's default of 5 ms would
# make each message that arrives during computation wait that long.
SWITCH_INTERVAL = 1e-4


class Worker:
    """Hosts shards for a cluster.

    Arguments:
        name: of this worker.
        coordinator: address of the coordinator.
        programs: the folder of programs it can load; it runs nothing else.
        listen: "HOST:PORT" (port 0: a free one) or "unix:PATH" for links from others.
        advertise: "HOST:PORT" or "HOST" at which others reach it, if not there.
        max_depth: how deep calls may nest.
        patience: seconds to wait for another coordinator when the one there was is lost; 0: end with it.
        whereabouts: told to the others, for their errors.
    """

    def __init__(
        self,
        name: str,
        coordinator: str,
        programs: Path | str,
        settings: TransportSettings,
        listen: str,
        *,
        advertise: str = "",
        max_depth: int = 1000,
        patience: float = 0.0,
        whereabouts: Whereabouts = Whereabouts(),  # noqa: B008 - it is frozen
        lanes: Lanes | None = None,
    ) -> None:
        self._coordinator = coordinator
        self._listen = listen
        self._advertise = advertise
        self.host = Host(Programs(programs), name)
        self.process = Process(
            Identity.new(name, "worker"), settings, resolve=self.host.resolve, max_depth=max_depth, lanes=lanes
        )
        self.replicas = Replicas()
        self.reductions = Reductions(self.process)
        self.membership = Membership(self.process, patience=patience, whereabouts=whereabouts)
        self._stopped: Promise[str] = Promise()
        self.process.requests[pb.ReadGradients] = self._read_gradients
        self.process.find_parameters = lambda name: dict(self.host.hosted(name).shard.named_parameters())
        self.process.requests[pb.Shutdown] = self._shutdown
        orders: dict[type, Handler] = {
            pb.LoadShard: self._load,
            pb.UnloadShards: self._unload,
            pb.Adopt: self._adopt,
            pb.Prepare: self._prepare,
            pb.Commit: self._commit,
            pb.Withdraw: self._withdraw,
            pb.ReadState: self._read_state,
            pb.CheckState: self._check_state,
            pb.WriteState: self._write_state,
            pb.TakeSnapshot: self._take_snapshot,
            pb.ReadStanding: self._read_standing,
            pb.Replicate: self._replicate,
            pb.ReadReplica: self._read_replica,
        }
        self.process.requests[pb.ReadSum] = self.reductions.answer
        of_others: dict[type, Handler] = {pb.Mirror: self._mirror, pb.Pin: self._pin}
        for body, handler in {**orders, **of_others}.items():
            self.process.serve(body, handler, Priority.GRADIENT)
        # Anybody in the cluster may call shards; what becomes of them is for the coordinator to say.
        self.process.accept({"coordinator"}, [*orders, pb.Shutdown])
        self.process.accept({"worker"}, [*of_others, pb.ReadSum])

    # ---- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listens and joins."""
        sys.setswitchinterval(SWITCH_INTERVAL)
        self.process.listen(self._listen, self._advertise)
        self.membership.ended.add_callback(lambda promise: self.stop(str(promise.error)))
        self.membership.join(self._coordinator, self.host.programs.names())
        self.process.endpoint.health.serves(True)

    def stop(self, reason: str) -> None:
        """Makes `wait` return. May be called from any thread."""
        self.process.endpoint.health.serves(False)
        self._stopped.set_result(reason)

    def wait(self) -> str:
        """Blocks until the worker is told to stop or the coordinator is lost; returns why."""
        return self._stopped.result()

    def close(self, reason: str = "") -> None:
        """Leaves the cluster, which is told the reason if there is one. Harmless when repeated."""
        self.membership.close()
        self.process.close(reason)

    # ---- requests ----------------------------------------------------------------------------------------------------

    def _load(self, body: pb.LoadShard, arrays: list[Any]) -> tuple[Any, list[Any]]:
        hosted = self.host.load(body.name, body.program, decode_value(body.config, arrays), body.seed, body.anew)
        return _describe(hosted), []

    def _unload(self, body: pb.UnloadShards, arrays: list[Any]) -> tuple[Any, list[Any]]:
        held = {*self.host.shards, *self.replicas.shards()}
        names = held - set(body.names) if body.others else held & set(body.names)
        for name in names:
            self.host.unload(name)
        self.replicas.forget(names)
        return pb.Empty(), []

    def _adopt(self, body: pb.Adopt, arrays: list[Any]) -> tuple[Any, list[Any]]:
        self.host.adopt(body, decode_value(body.settings, arrays))
        return pb.Empty(), []

    def _prepare(self, body: pb.Prepare, arrays: list[Any]) -> tuple[Any, list[Any]]:
        owner = self.host.owner(body.optimizer)
        shares = self.process.shares
        met = [share for context in body.contexts if (share := shares.get(context)) is not None]
        reduce = partial(self.reductions.reduce, body, owner.trainable()) if body.twins else None
        norms = owner.prepare(body.term, body.version, met, reduce)
        for context in body.contexts:
            # Its gradients may be gone here and not elsewhere: if that passed for having none, only some would move.
            if shares.released(context):
                owner.withdraw(body.term, body.version)
                raise ContextClosed(f"context {context} has been released, and its gradients with it")
        buddy = body.buddies.get(self.process.name)
        if buddy and owner.pending is not None:
            pin, out = pin_request(self.process.name, body.term, owner.name, owner.pending)
            self.process.ask(buddy, pin, out)
        return pb.Prepared(norms=[pb.Norm(parameter=n.parameter, norm=n.norm, finite=n.finite) for n in norms]), []

    def _commit(self, body: pb.Commit, arrays: list[Any]) -> tuple[Any, list[Any]]:
        self.reductions.drop(body.optimizer, body.version)
        self.replicas.drop_stale(body.optimizer, body.version)
        try:
            for holding in self._holdings(body.optimizer):
                holding.commit(body.term, body.version, body.clip_factor, body.learning_rate)
        except PermissionDenied:
            raise
        except Exception as error:
            # Decided is decided: an owner that cannot apply must not go on as if it had, nor as if it had not.
            self.stop(f"update {body.version} of {body.optimizer} could not be applied: {error}")
            raise
        return pb.Empty(), []

    def _withdraw(self, body: pb.Withdraw, arrays: list[Any]) -> tuple[Any, list[Any]]:
        self.reductions.drop(body.optimizer, body.version)
        for holding in self._holdings(body.optimizer):
            holding.withdraw(body.term, body.version)
        return pb.Empty(), []

    def _holdings(self, optimizer: str) -> list[Holding]:
        """What this worker owns under an optimizer, and its copies of what others do."""
        copies = self.replicas.of(optimizer)
        if copies and optimizer not in self.host.owners:
            return [*copies]
        return [self.host.owner(optimizer), *copies]

    def _read_standing(self, body: pb.ReadStanding, arrays: list[Any]) -> tuple[Any, list[Any]]:
        name = self.process.name
        holdings = [(name, owner) for owner in self.host.owners.values()] + [(it.owner, it) for it in self.replicas]
        held = [
            pb.Held(
                optimizer=it.name,
                owner=owner,
                version=it.version,
                prepared=it.prepared,
                shards=it.shards_at_version(),
            )
            for owner, it in holdings
        ]
        return pb.Standing(held=held), []

    # ---- copies of state ---------------------------------------------------------------------------------------------

    def _replicate(self, body: pb.Replicate, arrays: list[Any]) -> tuple[Any, list[Any]]:
        owner = self.host.owner(body.optimizer)
        owner.check_term(body.term)
        out: list[Any] = []
        mirror = pb.Mirror(
            term=body.term,
            optimizer=owner.name,
            owner=self.process.name,
            kind=owner.optimizer.kind,
            settings=encode_value(owner.optimizer.to_settings(), out, "settings"),
            version=owner.version,
            shards=encode_value({name: self.host.state(name)[0] for name in owner.shards}, out, "shards"),
            trainable=owner.trainable(),
        )
        self.process.ask(body.buddy, mirror, out)
        return pb.Empty(), []

    def _mirror(self, body: pb.Mirror, arrays: list[Any]) -> tuple[Any, list[Any]]:
        self.replicas.take(body, arrays)
        return pb.Empty(), []

    def _pin(self, body: pb.Pin, arrays: list[Any]) -> tuple[Any, list[Any]]:
        self.replicas.pin(body, arrays)
        return pb.Empty(), []

    def _read_replica(self, body: pb.ReadReplica, arrays: list[Any]) -> tuple[Any, list[Any]]:
        replica = self.replicas.find(body.optimizer, body.owner)
        out: list[Any] = []
        state = encode_value(replica.shard(body.shard), out, f"copy of {body.shard}")
        return pb.StateRead(state=state, version=replica.version), out

    # ---- state -------------------------------------------------------------------------------------------------------

    def _take_snapshot(self, body: pb.TakeSnapshot, arrays: list[Any]) -> tuple[Any, list[Any]]:
        self.host.take_snapshot(body.shards)
        return pb.Empty(), []

    def _read_state(self, body: pb.ReadState, arrays: list[Any]) -> tuple[Any, list[Any]]:
        state, version = (self.host.snapshot if body.snapshot else self.host.state)(body.shard)
        out: list[Any] = []
        return pb.StateRead(state=encode_value(state, out, f"state of {body.shard}"), version=version), out

    def _check_state(self, body: pb.CheckState, arrays: list[Any]) -> tuple[Any, list[Any]]:
        self.host.check_state(body.shard, {array.name: (array.dtype, tuple(array.shape)) for array in body.arrays})
        return pb.Empty(), []

    def _write_state(self, body: pb.WriteState, arrays: list[Any]) -> tuple[Any, list[Any]]:
        version = body.version if body.HasField("version") else None
        self.host.load_state(body.shard, decode_value(body.state, arrays), version)
        return pb.Empty(), []

    def _read_gradients(self, link: Link, body: pb.ReadGradients, arrays: list[Any], reply: Reply) -> None:
        share = self.process.shares.get(body.context)
        named = self.host.hosted(body.shard).shard.named_parameters() if share is not None else ()
        found = {name: share.gradient(parameter.node) for name, parameter in named} if share is not None else {}
        out: list[Any] = []
        present = {name: _plain(gradient) for name, gradient in found.items() if gradient is not None}
        reply(pb.GradientsRead(gradients=encode_value(present, out, f"gradients of {body.shard}")), out)

    def _shutdown(self, link: Link, body: pb.Shutdown, arrays: list[Any], reply: Reply) -> None:
        reply(pb.Empty())
        self.stop(body.reason)

    def __repr__(self) -> str:
        return f"<Worker {self.process.identity!r}: {len(self.host.shards)} shards>"


def _describe(hosted: Hosted) -> pb.ShardLoaded:
    parameters = [
        pb.ParameterInfo(name=name, dtype=dtype_name(parameter.dtype), shape=parameter.shape)
        for name, parameter in hosted.shard.named_parameters()
    ]
    methods = [pb.MethodInfo(name=name, outputs=outputs) for name, outputs in hosted.methods.items()]
    return pb.ShardLoaded(parameters=parameters, methods=methods)


def _plain(gradient: Any) -> Any:
    return gradient.data if hasattr(gradient, "node") else gradient
