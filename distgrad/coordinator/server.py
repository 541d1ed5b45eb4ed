"""The coordinator: knows the members, places shards, sequences updates, writes checkpoints."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distgrad.errors import ConfigError, DistgradError, WorkerLost
from distgrad.graph.process import Process, Reply
from distgrad.graph.waiting import Priority
from distgrad.transport.interfaces import Identity, Lanes, Link
from distgrad.transport.settings import TransportSettings
from distgrad.wire import decode_value, encode_value, pb
from distgrad.worker.member import COORDINATOR

from .checkpoint import Checkpoint, OnDemand, latest_checkpoint, read_checkpoint, write_checkpoint
from .journal import Journal
from .membership import Member, Membership
from .placement import Placement, Placements
from .update import Updates


class Coordinator:
    """The one process of a cluster that everybody has joined.

    Arguments:
        listen: "HOST:PORT" (port 0: a free one) or "unix:PATH".
        journal: file in which updates are decided; None keeps decisions in memory, for a cluster that ends with this
            process.
    """

    def __init__(
        self,
        settings: TransportSettings,
        listen: str,
        journal: Path | None = None,
        *,
        lanes: Lanes | None = None,
    ) -> None:
        self._listen = listen
        self._lock = threading.RLock()
        self._membership = Membership()
        self._placements = Placements()
        self._shards: dict[str, pb.ShardFound] = {}
        self.journal = Journal.open(journal) if journal is not None else None
        self.term = self.journal.term if self.journal is not None else 1
        self.process = Process(Identity.new(COORDINATOR, "coordinator"), settings, lanes=lanes)
        self.updates = Updates(self.process, self.term, self.journal)
        self.process.on_lost.append(self._lost)
        # Told of every member that joins, leaves or is lost.
        self.on_event: list[Callable[[Member], None]] = []
        self.process.requests.update(
            {
                pb.Join: self._join,
                pb.ListMembers: self._list,
                pb.FindShard: self._find,
            }
        )
        for body, handler in {
            pb.Place: self._place,
            pb.CreateOptimizer: self._create_optimizer,
            pb.UpdateStep: self._update,
            pb.Save: self._save,
            pb.Restore: self._restore,
        }.items():
            self.process.serve(body, handler, Priority.CALL)

    # ---- life --------------------------------------------------------------------------------------------------------

    def start(self) -> str:
        """Listens; returns the address that was bound."""
        return self.process.listen(self._listen)

    def close(self) -> None:
        self.process.close()
        if self.journal is not None:
            self.journal.close()

    def __enter__(self) -> Coordinator:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- members -----------------------------------------------------------------------------------------------------

    def workers(self) -> list[Member]:
        """The living workers, w2 before w10."""
        with self._lock:
            return self._membership.workers()

    def _join(self, link: Link, body: pb.Join, arrays: list[Any], reply: Reply) -> None:
        peer = link.peer
        newcomer = Member(peer.name, peer.incarnation, peer.role, peer.address, peer.pid, tuple(body.programs))  # type: ignore[arg-type]
        with self._lock:
            joined = self._membership.join(newcomer, time.monotonic())
            members = [_describe(member) for member in self._membership if member.name != peer.name]
        reply(pb.Joined(name=peer.name, term=self.term, members=members))
        if joined is not None:
            self._announce(joined)

    def _lost(self, peer: Identity, error: DistgradError) -> None:
        with self._lock:
            reason = str(error).removeprefix(f"{peer.name} is lost: ")
            member = self._membership.lose(peer.name, peer.incarnation, reason, time.monotonic())
        if member is not None:
            self._announce(member)

    def declare_lost(self, name: str, incarnation: int, reason: str) -> None:
        """For whoever started the process and knows that it has ended: no need to wait for silence."""
        self.process.gone(Identity(name, incarnation, "worker"), WorkerLost(f"{name} is lost: {reason}"))

    def _announce(self, member: Member) -> None:
        """Tells every other living member, and the listeners here."""
        event = pb.MemberEvent(member=_describe(member))
        with self._lock:
            names = [other.name for other in self._membership if other.alive and other.name != member.name]
        for name in names:
            self.process.send(name, event)
        for listener in self.on_event:
            listener(member)

    def _list(self, link: Link, body: pb.ListMembers, arrays: list[Any], reply: Reply) -> None:
        with self._lock:
            reply(pb.Members(members=map(_describe, self._membership)))

    # ---- shards ------------------------------------------------------------------------------------------------------

    def _place(self, body: pb.Place, arrays: list[Any]) -> tuple[Any, list[Any]]:
        config = decode_value(body.config, arrays)
        with self._lock:
            workers = [member.name for member in self._membership.workers()]
            known = body.name in self._placements
            placement = self._placements.place(body.name, body.program, config, body.seed, workers, body.worker)
        if known:
            return self._shards[body.name], []
        try:
            return self._build(placement), []
        except BaseException:
            with self._lock:
                self._placements.remove(body.name)
            raise

    def _build(self, placement: Placement) -> pb.ShardFound:
        """Has a shard built on its worker."""
        out: list[Any] = []
        load = pb.LoadShard(
            name=placement.shard,
            program=placement.program,
            config=encode_value(dict(placement.config), out, "config"),
            seed=placement.seed,
        )
        loaded, _ = self.process.ask(placement.worker, load, out)
        found = pb.ShardFound(
            name=placement.shard,
            program=placement.program,
            worker=placement.worker,
            parameters=loaded.parameters,
            methods=loaded.methods,
        )
        with self._lock:
            self._shards[placement.shard] = found
        return found

    def _find(self, link: Link, body: pb.FindShard, arrays: list[Any], reply: Reply) -> None:
        with self._lock:
            found = self._shards.get(body.name)
            if found is None:
                self._placements[body.name]  # raises, saying what there is
                raise ConfigError(f"shard {body.name!r} is still being built")
            worker = self._membership.get(found.worker)
        if worker is None or not worker.alive:
            raise WorkerLost(
                f"shard {body.name!r} was on {found.worker}, which is lost: {worker.reason if worker else ''}"
            )
        reply(found)

    # ---- optimizers --------------------------------------------------------------------------------------------------

    def _create_optimizer(self, body: pb.CreateOptimizer, arrays: list[Any]) -> tuple[Any, list[Any]]:
        with self._lock:
            workers = {name: self._placements[name].worker for name in body.shards}
        version = self.updates.create(body.name, workers, body.kind, decode_value(body.settings, arrays))
        return pb.OptimizerCreated(name=body.name, version=version), []

    def _update(self, body: pb.UpdateStep, arrays: list[Any]) -> tuple[Any, list[Any]]:
        update = self.updates.step(
            body.optimizer, body.version, list(body.contexts), body.clip_norm, body.learning_rate
        )
        return pb.Updated(version=update.version, norm=update.norm, applied=update.outcome == "commit"), []

    # ---- checkpoints -------------------------------------------------------------------------------------------------

    def _save(self, body: pb.Save, arrays: list[Any]) -> tuple[Any, list[Any]]:
        """Writes every shard at one version: updates wait meanwhile."""
        extra = decode_value(body.extra, arrays) if body.HasField("extra") else {}
        with self.updates.paused():
            with self._lock:
                placements = list(self._placements)
            checkpoint = Checkpoint(
                job=str(extra.get("job", "")),
                version=self.updates.latest_version(),
                seed=placements[0].seed if placements else 0,
                shards=OnDemand([placement.shard for placement in placements], self._read_shard),
                extra={"user": extra, "optimizers": self.updates.versions()},
            )
            path = write_checkpoint(body.directory, checkpoint)
        size = sum(file.stat().st_size for file in path.iterdir())
        return pb.Saved(path=str(path), bytes=size), []

    def _read_shard(self, name: str) -> dict[str, Any]:
        reply, arrays = self.process.ask(self._placements[name].worker, pb.ReadState(shard=name))
        state: dict[str, Any] = decode_value(reply.state, arrays)
        return state

    def _restore(self, body: pb.Restore, arrays: list[Any]) -> tuple[Any, list[Any]]:
        """Gives every placed shard the state of a checkpoint: all of them, after the whole of it has been verified."""
        path = Path(body.directory)
        if not (path / "manifest.json").exists():
            newest = latest_checkpoint(path)
            if newest is None:
                raise ConfigError(f"there is no complete checkpoint in {path}")
            path = newest
        checkpoint = read_checkpoint(path)
        with self._lock:
            placements = list(self._placements)
        missing = [placement.shard for placement in placements if placement.shard not in checkpoint.shards]
        if missing:
            raise ConfigError(
                f"checkpoint {path} has no state of shard {missing[0]!r}; it has {', '.join(checkpoint.shards)}"
            )
        versions = checkpoint.extra.get("optimizers", {})
        with self.updates.paused():
            for placement in placements:
                out: list[Any] = []
                version = versions.get(self.updates.of(placement.shard), checkpoint.version)
                state = encode_value(dict(checkpoint.shards[placement.shard]), out, f"state of {placement.shard}")
                write = pb.WriteState(shard=placement.shard, state=state, version=version)
                self.process.ask(placement.worker, write, out)
            self.updates.restore(versions)
        out = []
        extra = encode_value(checkpoint.extra.get("user", {}), out, "extra")
        return pb.Restored(path=str(path), extra=extra, versions=self.updates.versions()), out

    def __repr__(self) -> str:
        return f"<Coordinator of term {self.term}: {self._membership!r}>"


def _describe(member: Member) -> pb.Member:
    return pb.Member(
        name=member.name,
        incarnation=member.incarnation,
        role=member.role,
        address=member.address,
        pid=member.pid,
        state=member.state,
        reason=member.reason,
    )
