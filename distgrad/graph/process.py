"""One process of the graph: receives every message and knows who handles it."""

from __future__ import annotations

import contextvars
import itertools
import logging
import os
import time
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from distgrad.autograd.tape import Frame, Mode, mode
from distgrad.autograd.tensor import Tensor
from distgrad.errors import (
    ConfigError,
    ContextClosed,
    DistgradError,
    PermissionDenied,
    ProgramError,
    WireError,
    WorkerLost,
)
from distgrad.observe import usage
from distgrad.transport.interfaces import Identity, Lanes, Link
from distgrad.wire import RefName, pb

from .callee import Callee
from .caller import Caller
from .edges import EdgeId, result_edge
from .executor import Executor
from .fetching import Fetcher
from .handles import ShardHandle
from .lossy import Encoder
from .passes import Passes
from .peers import OwnLink, Peers
from .references import References
from .releases import Releases
from .share import INFERENCE, Share, Shares, owner_tag
from .stitched import own_part
from .waiting import Priority, Promise

if TYPE_CHECKING:
    from distgrad.transport.settings import TransportSettings

    from .callee import Resolve

_log = logging.getLogger(__name__)

Reply = Callable[..., None]

# Answers a request: (body, arrays) -> (reply, arrays).
Handler = Callable[[Any, list[Any]], tuple[Any, list[Any]]]


# Those of this process of the operating system, to be told when it is forked.
_living: weakref.WeakSet[Process] = weakref.WeakSet()


class Process:
    """A process with its links, compute slot and share of every context.

    The layers above enter their own handlers in `messages` (body type -> function of link, body, arrays) and `requests`
    (the same, with reply), say with `accept` whom they listen to, and enter functions in `on_lost`.

    Arguments:
        identity: who this process is; the address is filled in by `listen`.
        resolve: finds the function a call means; None for a process that runs no calls.
        max_depth: how deep calls may nest.
        lanes: how to reach others; gRPC when not given.

    Attributes:
        forked: in a fork of the operating system's process that made this one, the error that says so; else None. A
            fork can use none of it: what it sent would come between the messages of the other.
    """

    def __init__(
        self,
        identity: Identity,
        settings: TransportSettings,
        *,
        resolve: Resolve | None = None,
        max_depth: int = 1000,
        lanes: Lanes | None = None,
    ) -> None:
        from distgrad.transport.endpoint import Endpoint

        self.forked: ConfigError | None = None
        self.identity = identity
        self.name = identity.name
        self.encoder = Encoder.of(settings.lossy, identity.name)
        self.executor = Executor(name=f"compute-{identity.name}")
        self.shares = Shares(self)
        # The share and frame of calls made outside any context.
        self.inference = self.shares.meet(self.context_id(INFERENCE.strip("/")))
        self.outside = Frame((), itertools.count().__next__)
        self.caller = Caller(self)
        self.callee = Callee(self, resolve or _runs_no_calls, max_depth)
        self.fetcher = Fetcher(self)
        self.passes = Passes(self)
        self.references = References(self)
        self.releases = Releases(self)
        self.find_shard: Callable[[str], Promise[tuple[str, dict[str, int]]]] = _finds_no_shards
        # The parameters of a shard of this process, by name. Set by the layer that hosts shards.
        self.find_parameters: Callable[[str], Mapping[str, Tensor]] = _hosts_no_shards
        self.on_lost: list[Callable[[Identity, DistgradError], None]] = []
        self._contexts = itertools.count()
        self._accepted: dict[type, frozenset[str]] = {}
        self.messages: dict[type, Callable[[Link, Any, list[Any]], None]] = {
            pb.Call: self.callee.receive,
            pb.Done: self.caller.ended,
            pb.Drop: self.references.receive,
            **self.passes.messages,
        }
        self.requests: dict[type, Callable[[Link, Any, list[Any], Reply], None]] = {
            pb.Fetch: self.fetcher.answer,
            pb.AwaitCall: self.caller.tell_end,
            pb.Release: self.releases.answer,
            pb.Enlist: self.releases.enlisted,
            pb.Finish: self.passes.finish,
            pb.Statistics: self._statistics,
            pb.ReadGraph: self._read_graph,
        }
        # Last, since its heartbeats ask for the progress of all above.
        self.endpoint = Endpoint(identity, settings, self, lanes)
        self.peers = Peers(self.endpoint, OwnLink(identity, self), self._unreachable, self.caller.refused)
        _living.add(self)

    def listen(self, address: str, advertise: str = "") -> str:
        """Lets others open links to this process; returns the address that was bound. `advertise`: see `Endpoint`."""
        bound = self.endpoint.listen(address, advertise)
        self.identity = self.endpoint.identity
        return bound

    def accept(self, roles: Collection[str], bodies: Collection[type]) -> None:
        """Takes messages and requests of these types from processes of these roles only; others from everybody."""
        self._accepted.update(dict.fromkeys(bodies, frozenset(roles)))

    def serve(self, body: type, handler: Handler, priority: Priority) -> None:
        """Answers requests of one type by a handler (body, arrays) -> (reply, arrays) that runs in the compute slot,
        between calls, where it may touch what calls touch and wait for other processes.
        """

        def answer(link: Link, body: Any, arrays: list[Any], reply: Reply) -> None:
            def job() -> None:
                try:
                    answered, out = handler(body, arrays)
                except BaseException as error:  # belongs to whoever asked
                    reply(error)
                else:
                    reply(answered, out)

            self.executor.submit(job, priority, context=contextvars.Context(), cancelled=reply)

        self.requests[body] = answer

    # ---- for the program ---------------------------------------------------------------------------------------------

    def context_id(
        self, name: str, versions: dict[str, int] | None = None, step: int = 0, microbatch: int = 0
    ) -> pb.ContextId:
        """The identity of a context of this process, unique over incarnations."""
        identity = self.identity
        return pb.ContextId(
            id=f"{owner_tag(identity)}/{name}",
            owner=identity.name,
            owner_incarnation=identity.incarnation,
            versions=versions or {},
            step=step,
            microbatch=microbatch,
        )

    def new_context_id(self, versions: dict[str, int], step: int = 0, microbatch: int = 0) -> pb.ContextId:
        return self.context_id(str(next(self._contexts)), versions, step, microbatch)

    def handle(self, name: str) -> ShardHandle:
        """A handle to a shard, resolved when it is called."""
        return ShardHandle(self, name)

    def send(self, peer: str, body: Any, arrays: Sequence[Any] = ()) -> None:
        if self.forked is not None:
            raise self.forked
        self.peers.send(peer, body, arrays)

    def request(self, peer: str, body: Any, arrays: Sequence[Any] = ()) -> Promise[Any]:
        if self.forked is not None:
            raise self.forked
        return self.peers.request(peer, body, arrays)

    def ask(
        self, peer: str, body: Any, arrays: Sequence[Any] = (), timeout: float | None = None
    ) -> tuple[Any, list[Any]]:
        """Sends a request and waits for the reply and its arrays."""
        promise = self.request(peer, body, arrays)
        self.executor.wait(promise, timeout, what=f"the answer of {peer} to {type(body).__name__}")
        result: tuple[Any, list[Any]] = promise.result()
        return result

    def fetch(self, share: Share, name: RefName, edge: EdgeId | None, into: Mode) -> Promise[Any]:
        return self.fetcher.fetch(share, name, edge, into)

    def fetch_result(self, share: Share, name: RefName, recorded: bool, into: Mode | None = None) -> Promise[Any]:
        """The value of a reference, for the program of this process, which goes on in that mode: the present one
        unless it is given."""
        edge = result_edge(name.path) if recorded else None
        return self.fetcher.fetch(share, name, edge, into or mode.get())

    # ---- Receiver: what links tell -----------------------------------------------------------------------------------

    def receive(self, link: Link, body: Any, arrays: list[Any]) -> None:
        handler = self.messages.get(type(body))
        try:
            if handler is None:
                raise WireError(f"{self.name} takes no {type(body).__name__}")
            self._check_role(link, body)
            handler(link, body, arrays)
        except ContextClosed:
            # Ordinary: messages cross with the release of their context.
            _log.debug("%s: a %s from %s came after its context's release", self.name, type(body).__name__, link.peer)
        except DistgradError as error:
            _log.warning("%s: a %s from %s was refused: %s", self.name, type(body).__name__, link.peer, error)

    def answer(self, link: Link, body: Any, arrays: list[Any], reply: Reply) -> None:
        handler = self.requests.get(type(body))
        try:
            if handler is None:
                raise WireError(f"{self.name} answers no {type(body).__name__}")
            self._check_role(link, body)
            handler(link, body, arrays, reply)
        except Exception as error:
            reply(error)

    def _check_role(self, link: Link, body: Any) -> None:
        roles = self._accepted.get(type(body))
        if roles is not None and link.peer.role not in roles:
            raise PermissionDenied(
                f"{self.name} takes {type(body).__name__} from a {' or '.join(sorted(roles))} only; {link.peer} is a "
                f"{link.peer.role}"
            )

    def linked(self, link: Link) -> None:
        if link.peer.address and self.peers.role(link.peer.name) in ("", link.peer.role):
            self.peers.greet(link.peer)

    def lost(self, peer: Identity, reason: str) -> None:
        self._cut_off(peer, WorkerLost(f"{peer.name} is lost: {reason}"))
        self.peers.leave(peer)

    def progress(self) -> tuple[int, int]:
        now = time.monotonic()
        self.references.tell_forgotten()
        self.fetcher.missing.look(now)
        self.releases.release_orphans(now)
        statistics = self.executor.statistics()
        return self.executor.progress, statistics.running + sum(statistics.queued.values())

    # ---- processes that are gone -------------------------------------------------------------------------------------

    def gone(self, peer: Identity, error: DistgradError) -> None:
        """That incarnation of a process is gone for good, so the cluster has decided: nothing of it is listened to any
        more, and its contexts are not met again, however late their messages come.
        """
        self.shares.end_owner(peer, error)
        self.peers.dismiss(peer, error)
        self._cut_off(peer, error)
        self.endpoint.banish(peer, str(error).rpartition(" is lost: ")[2])

    def _cut_off(self, peer: Identity, error: DistgradError) -> None:
        """The way to a process is lost: what waits for it fails, what it owned is released. If it lives, and others may
        know, it can be reached again."""
        for share in self.shares.release_owned(peer, error):
            # Only here: others may still reach the owner, and those that do not are told of its loss as this was.
            self.caller.forget(share, error)
        if self.peers.incarnation(peer.name) in (0, peer.incarnation):
            self._unreachable(peer.name, error)
        if self.encoder is not None:
            self.encoder.forget(peer.name)
        for listener in self.on_lost:
            listener(peer, error)

    def _unreachable(self, name: str, error: DistgradError) -> None:
        self.caller.lost(name, error)
        self.fetcher.lost(name, error)
        self.references.lost(name, error)
        for share in self.shares:
            if share.lose(name, error):
                self.passes.abort(share, error)
                self.releases.enlist(share)

    # ---- looking in --------------------------------------------------------------------------------------------------

    def _statistics(self, link: Link, body: pb.Statistics, arrays: list[Any], reply: Reply) -> None:
        work = {kind: pb.Work(runs=runs, seconds=s) for kind, (runs, s) in self.executor.timesheet.read().items()}
        waits = [*self.caller.waits(), *self.fetcher.waits()]
        reply(pb.Counts(counts={**self.counts(), **usage()}, work=work, waits=waits))

    def _read_graph(self, link: Link, body: pb.ReadGraph, arrays: list[Any], reply: Reply) -> None:
        reply(own_part(self.shares.require(body.context)))

    def counts(self) -> dict[str, int]:
        """How much of everything this process holds, for operators and leak tests.

        Returns:
            "contexts" and, of all of them, "values" of calls, "sends" and "recvs" (ends of edges), "passes" under way;
            "calls" made from here that have not ended: zero when nothing goes on.
            "links" to other processes, the "bytes_sent" over them, and "threads" of the compute slot.
        """
        shares, links = list(self.shares), list(self.endpoint.links())
        recording = [share for share in shares if share.records]
        return {
            "contexts": len(recording),
            "values": sum(len(share.values) for share in shares),
            "sends": sum(len(share.sends) for share in recording),
            "recvs": sum(len(share.recvs) for share in recording),
            "passes": sum(len(share.passes) for share in recording),
            "calls": len(self.caller),
            "links": len(links),
            "bytes_sent": sum(link.statistics()["bytes_sent"] for link in links),
            "threads": self.executor.statistics().threads,
        }

    # ---- the end -----------------------------------------------------------------------------------------------------

    def disown(self) -> None:
        """This is a fork, first thing: its only thread must not wait for locks, which others may have held."""
        self.forked = self.executor.forked = ConfigError(
            f"{self.name} belongs to process {os.getppid()}, of which this one, {os.getpid()}, is a fork: connect to "
            "the cluster here"
        )

    def close(self, reason: str = "") -> None:
        """Closes every link, so that others know at once that this process is gone, and why, and releases every
        context. Harmless in a fork."""
        if self.forked is not None:
            return
        error = ContextClosed(f"{self.name} has closed")
        self.endpoint.say_goodbye(reason)
        self.peers.close(error)
        self.endpoint.close(reason)
        for share in self.shares:
            self.shares.release(share.id, error)
            self.caller.forget(share, error)
        self.executor.close(grace=1.0)

    def __repr__(self) -> str:
        return f"<Process {self.identity!r}: {len(self.shares)} contexts, {len(self.caller)} calls pending>"


def _runs_no_calls(call: pb.Call) -> Any:
    raise ProgramError("this process runs no calls; only workers do")


def _hosts_no_shards(name: str) -> Mapping[str, Tensor]:
    raise ProgramError(f"shard {name!r} is not in this process: it hosts none")


def _finds_no_shards(name: str) -> Promise[Any]:
    raise ProgramError(f"shard {name!r} cannot be found: this process has not joined a cluster")


def _disown_all() -> None:
    for process in _living:
        process.disown()


os.register_at_fork(after_in_child=_disown_all)
