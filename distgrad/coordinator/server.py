"""The coordinator: knows the members, places shards, sequences updates, writes checkpoints."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distgrad.errors import DistgradError, PermissionDenied, WorkerLost
from distgrad.graph.process import Handler, Process, Reply
from distgrad.graph.waiting import Priority
from distgrad.transport.interfaces import Identity, Lanes, Link
from distgrad.transport.settings import TransportSettings
from distgrad.wire import decode_value, encode_value, pb
from distgrad.worker.member import COORDINATOR

from .checkpoint import (
    incomplete_checkpoints,
    latest_checkpoint,
    require_writable,
    saved_with,
)
from .journal import Decision, Journal
from .membership import Member, Membership
from .news import News
from .recovery import Recovery
from .rounds import Rounds
from .running import RunningJob
from .shards import Shards
from .states import States
from .update import Updates

# How a link words the loss of a peer that said goodbye, and of one that has said nothing for as long as is borne.
_GOODBYE = "it closed the link: "
_SILENT = "silent for "
# Seconds for which those who are gone are listed.
_REMEMBERED = 3600.0


class Coordinator:
    """The one process of a cluster that everybody has joined.

    Arguments:
        listen: "HOST:PORT" (port 0: a free one) or "unix:PATH".
        journal: file in which updates are decided; None keeps decisions in memory, for a cluster that ends with this
            process.
        checkpoints: the directory below which clients may save and restore, and which their relative paths start from.
            None: anywhere this process may; or nowhere, when clients have tokens of their own, as such clients are not
            trusted with its files.

    Attributes:
        on_event: told, in order, of every member that joins, leaves or is lost; must not block.
    """

    def __init__(
        self,
        settings: TransportSettings,
        listen: str,
        journal: Path | None = None,
        *,
        checkpoints: Path | None = None,
        lanes: Lanes | None = None,
    ) -> None:
        self._listen = listen
        self._checkpoints = checkpoints
        self._trusts_clients = not settings.client_tokens
        self._silence = settings.silence
        self._closing = False
        self._lock = threading.RLock()  # guards the tables of members and shards
        self._membership = Membership()
        self._described: dict[str, pb.Member] = {}  # the members, as others are told of them
        self.on_event: list[Callable[[Member], None]] = []
        self.journal = Journal.open(journal) if journal is not None else None
        self.term = self.journal.term if self.journal is not None else 1
        self.process = Process(Identity.new(COORDINATOR, "coordinator"), settings, lanes=lanes)
        self._news = News(self._lock, lambda: [member.name for member in self._membership.living()], self.process.send)
        self.shards = Shards(self.process, self._membership, self._lock)
        self.updates = Updates(self.process, self.term, self.journal)
        self.rounds = Rounds(self.process, self._take_step)
        self.states = States(self.process, self.shards, self.updates)
        self.recovery = Recovery(self.process, self.shards, self.updates, self.states)
        self.running = RunningJob(self.process, self.shards, self.updates, self.rounds)
        self.process.on_lost.append(self._lost)
        self.process.requests.update(
            {
                pb.ChooseName: self._choose_name,
                pb.Join: self._join,
                pb.ListMembers: self._list,
                pb.FindShard: self._find,
                pb.BeginJob: self._begin_job,
            }
        )
        orders: dict[type, Handler] = {
            pb.Place: self._place,
            pb.CreateOptimizer: self._create_optimizer,
            pb.UpdateStep: self._update,
            pb.ReadState: self._read_state,
            pb.WriteState: self._write_state,
            pb.Save: self._save,
            pb.Restore: self._restore,
            pb.FindCheckpoint: self._find_checkpoint,
            pb.RemoveCheckpoints: self._remove_checkpoints,
            pb.Recover: self._recover,
        }
        for body, handler in orders.items():
            self.process.serve(body, handler, Priority.CALL)
        self.process.accept({"client"}, [*orders, pb.BeginJob])
        self.process.accept({"client", "worker"}, [pb.Join])
        self.process.accept({"worker"}, [pb.ChooseName])

    # ---- life --------------------------------------------------------------------------------------------------------

    def start(self) -> str:
        """Listens; returns the address that was bound."""
        bound = self.process.listen(self._listen)
        self.process.endpoint.health.serves(True)
        return bound

    def close(self) -> None:
        """Ends the cluster: workers that lose their coordinator end as well."""
        self._closing = True
        self.process.endpoint.health.serves(False)
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

    def _choose_name(self, link: Link, body: pb.ChooseName, arrays: list[Any], reply: Reply) -> None:
        with self._lock:
            reply(pb.NameChosen(name=self._membership.choose_name(time.monotonic())))

    def _join(self, link: Link, body: pb.Join, arrays: list[Any], reply: Reply) -> None:
        peer = link.peer
        newcomer = Member(
            peer.name,
            peer.incarnation,
            peer.role,  # type: ignore[arg-type]
            peer.address,
            peer.pid,
            tuple(body.programs),
            body.host,
            body.log,
        )
        with self._lock:
            now = time.monotonic()
            for name in self._membership.forget(before=now - _REMEMBERED):
                del self._described[name]
            joined = self._membership.join(newcomer, now)
            reply(pb.Joined(name=peer.name, term=self.term, members=self._described.values()))
            self._note(joined)
        self._news.tell()

    def _lost(self, peer: Identity, error: DistgradError) -> None:
        if self._closing:  # it is this process that goes: whoever comes back for the next one may not be turned away
            return
        reason = str(error).removeprefix(f"{peer.name} is lost: ")
        with self._lock:
            end = self._membership.leave if reason.startswith(_GOODBYE) else self._membership.lose
            heard = time.monotonic() - (self._silence if reason.startswith(_SILENT) else 0.0)
            changed = end(peer.name, peer.incarnation, reason.removeprefix(_GOODBYE), heard)
            self._note(changed)
        self._news.tell()
        if changed is not None:  # it was a member, and never will be again
            self.process.gone(peer, error)
        self.running.lost(peer)

    def declare_lost(self, name: str, incarnation: int, reason: str) -> None:
        """For whoever started the process and knows that it has ended: no need to wait for silence."""
        identity = Identity(name, incarnation, "worker")
        self.process.gone(identity, WorkerLost(f"{name} is lost: {reason}"))

    def give_up(self, name: str, reason: str) -> None:
        """For whoever starts the workers: nobody will come in the place of one that was lost."""
        with self._lock:
            self._note(self._membership.give_up(name, reason))
        self._news.tell()

    def _note(self, changed: Member | None) -> None:
        """A change that members are to be told of; the listeners here are told at once. Called with the lock held, so
        that all hear all changes in one order."""
        if changed is None:
            return
        self._described[changed.name] = _describe(changed)
        if self._closing:
            return
        self._news.add(self._described[changed.name])
        for listener in self.on_event:
            listener(changed)

    def _list(self, link: Link, body: pb.ListMembers, arrays: list[Any], reply: Reply) -> None:
        with self._lock:
            members = [self._described[member.name] for member in self._membership]
        reply(pb.Members(members=members, job=self.running.status()))

    def _begin_job(self, link: Link, body: pb.BeginJob, arrays: list[Any], reply: Reply) -> None:
        self.running.begin(link.peer, body, reply)

    # ---- shards ------------------------------------------------------------------------------------------------------

    def _place(self, body: pb.Place, arrays: list[Any]) -> tuple[Any, list[Any]]:
        fresh = self.running.makes(body.job, shard=body.name)
        self._news.settle()  # whoever calls the shard must know its worker
        config = decode_value(body.config, arrays)
        return self.shards.place(body.name, body.program, config, body.seed, body.worker, fresh=fresh), []

    def _find(self, link: Link, body: pb.FindShard, arrays: list[Any], reply: Reply) -> None:
        found = self.shards.find(body.name)
        found.add_callback(lambda promise: reply(promise.error or promise.result()))

    def _read_state(self, body: pb.ReadState, arrays: list[Any]) -> tuple[Any, list[Any]]:
        return self.states.read(body.shard)

    def _write_state(self, body: pb.WriteState, arrays: list[Any]) -> tuple[Any, list[Any]]:
        self.states.write(body.shard, body.state, arrays)
        return pb.Empty(), []

    # ---- optimizers --------------------------------------------------------------------------------------------------

    def _create_optimizer(self, body: pb.CreateOptimizer, arrays: list[Any]) -> tuple[Any, list[Any]]:
        self.running.makes(body.job, optimizer=body.name)
        workers = {shard: self.shards.worker(shard) for shard in body.shards}
        version = self.updates.create(
            body.name, workers, body.kind, decode_value(body.settings, arrays), body.replicate
        )
        return pb.OptimizerCreated(name=body.name, version=version), []

    def _update(self, body: pb.UpdateStep, arrays: list[Any]) -> tuple[Any, list[Any]]:
        self.updates.require(body.optimizer)  # else it would wait for other trainers of a job that has ended
        return self.rounds.step(body), []

    def _take_step(self, body: pb.UpdateStep) -> Decision:
        rate = body.learning_rate if body.HasField("learning_rate") else None
        return self.updates.step(body.optimizer, body.version, list(body.contexts), body.clip_norm, rate)

    # ---- checkpoints -------------------------------------------------------------------------------------------------

    def _save(self, body: pb.Save, arrays: list[Any]) -> tuple[Any, list[Any]]:
        extra = decode_value(body.extra, arrays) if body.HasField("extra") else {}
        return self.states.save(self._allowed(body.directory), extra, body.keep), []

    def _restore(self, body: pb.Restore, arrays: list[Any]) -> tuple[Any, list[Any]]:
        path, extra = self.states.restore(self._allowed(body.directory), body.job)
        out: list[Any] = []
        user = encode_value(extra, out, "extra")
        return pb.Restored(path=str(path), extra=user, versions=self.updates.versions()), out

    def _find_checkpoint(self, body: pb.FindCheckpoint, arrays: list[Any]) -> tuple[Any, list[Any]]:
        directory = self._allowed(body.directory)
        require_writable(directory)
        found = pb.CheckpointFound(damaged=[path.name for path in incomplete_checkpoints(directory)])
        out: list[Any] = []
        if (newest := latest_checkpoint(directory)) is not None:
            found.path = str(newest)
            found.extra.CopyFrom(encode_value(saved_with(newest).get("user", {}), out, "extra"))
        return found, out

    def _remove_checkpoints(self, body: pb.RemoveCheckpoints, arrays: list[Any]) -> tuple[Any, list[Any]]:
        self.states.remove(self._allowed(body.directory))
        return pb.Empty(), []

    def _allowed(self, directory: str) -> Path:
        """The directory that a client means. Raises PermissionDenied when it is none of its business."""
        root = self._checkpoints
        if root is None and self._trusts_clients:
            return Path(directory)
        if root is None:
            raise PermissionDenied(
                "clients of this cluster have tokens of their own, and there is no directory for their checkpoints: "
                "start the coordinator with one (--checkpoints DIR)"
            )
        path = (root / directory).resolve()  # links followed
        if not path.is_relative_to(root.resolve()):
            raise PermissionDenied(
                f"checkpoints of this cluster lie below {root.resolve()} on {socket.gethostname()}, and {directory} "
                "does not: choose another directory (checkpoint.directory of a job)"
            )
        return path

    def _recover(self, body: pb.Recover, arrays: list[Any]) -> tuple[Any, list[Any]]:
        directory = self._allowed(body.directory) if body.directory else None
        self.rounds.abandon(self.updates.versions(), "the cluster has recovered from a loss")
        self._news.settle()
        done = self.recovery.recover(directory, body.job, body.patience, body.standby_after, max(body.round, 1))
        out: list[Any] = []
        extra = encode_value(dict(done.extra), out, "extra")
        return pb.Recovered(versions=done.versions, source=done.source, path=done.path, extra=extra), out

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
        host=member.host,
        log=member.log,
    )
