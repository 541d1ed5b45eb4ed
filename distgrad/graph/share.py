"""What one process holds of a context."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from distgrad.autograd import tape
from distgrad.autograd.sums import Total
from distgrad.autograd.tape import Frame, Leaf, Node, Path
from distgrad.autograd.tensor import Tensor
from distgrad.errors import ContextClosed, ContextError, DistgradError
from distgrad.nn.parameter import BufferUpdate
from distgrad.wire import pb

from .edges import EdgeId, Recv, Send
from .tangents import Jvps
from .waiting import Promise

if TYPE_CHECKING:
    from distgrad.transport.interfaces import Identity

    from .backward import LocalPass
    from .process import Process
    from .refs import Issued

T = TypeVar("T")

# The share that calls issued here and now belong to. Set by `with context:` and around every call that runs.
active: ContextVar[Share | None] = ContextVar("distgrad_share", default=None)

# How the name of a share of calls made outside any context ends.
INFERENCE = "/inference"

# How many ended contexts and lost processes are remembered; a message later than that many has long been refused.
REMEMBERED = 10_000


def remember(table: dict[str, T], key: str, value: T) -> None:
    """Notes something for late comers, and forgets the oldest note when there are too many."""
    table[key] = value
    if len(table) > REMEMBERED:
        del table[next(iter(table))]


def owner_tag(owner: Identity) -> str:
    """What the names of an owner's contexts begin with; unique over incarnations."""
    return f"{owner!r}{owner.incarnation:x}"


def _tag_of(context: str) -> str:
    return context.rpartition("/")[0]


class Called:
    """A call that came to a process.

    Attributes:
        caller: process that issued it.
        label: "shard.method".
        seconds: between its method's beginning and return; 0 before.
        private: its value is not given to other processes.
    """

    __slots__ = ("caller", "label", "private", "seconds")

    def __init__(self, caller: str, label: str) -> None:
        self.caller = caller
        self.label = label
        self.seconds = 0.0
        self.private = False


class Share:
    """One process's part of one context: its ends of edges, values of the calls it ran, gradients, passes.

    Calls made outside any context belong to an *inference* share, one for each calling process, which records nothing.

    `lock` guards every table; they are touched by threads of links and by the computing thread. A share lives from
    first contact until the context is released or its owner is lost.
    """

    def __init__(self, identity: pb.ContextId, process: Process | None = None) -> None:
        self.process = process
        # Its owner is unknown when somebody asked for a value here before the call that makes it arrived.
        self.identity = identity
        self.id: str = identity.id
        self.records = not identity.id.endswith(INFERENCE)
        self.lock = threading.RLock()
        self.sends: dict[EdgeId, Send] = {}
        self.recvs: dict[EdgeId, Recv] = {}
        # Values of calls that ran or will run here, by path, and gradients that restricted passes have found. A value
        # may be asked for before its call has arrived.
        self.values: dict[Path, Promise[Any]] = {}
        self.calls: dict[Path, Called] = {}  # that have come, by path
        # What passes have accumulated, by the frame they were started in: the order of threads must not be seen.
        self.gradients: dict[Path, dict[Node, Total]] = {}
        self.passes: dict[Path, LocalPass] = {}
        # Passes that ended, well or not: late messages of theirs are dropped.
        self.ended: set[Path] = set()
        # Changes of buffers (batch statistics), by path of the call; they become valid with the update that uses them.
        self.staged: dict[Path, list[BufferUpdate]] = {}
        self.jvps = Jvps()
        # Processes this one has met in the context, and those of them that are gone.
        self.peers: set[str] = set()
        self.lost: dict[str, DistgradError] = {}
        # At the owner of the context: where its calls are numbered, and those that have not ended well.
        self.frame: Frame | None = None
        self.issued: Issued | None = None
        self.closed: DistgradError | None = None
        self.met = time.monotonic()

    # ---- other processes ---------------------------------------------------------------------------------------------

    def meet_peer(self, name: str) -> None:
        """Notes that the context reaches to that process, before anything is sent there. Called with the lock held.

        Raises:
            ContextClosed: the context has been released, and nobody would release what is made there.
            WorkerLost: that process is gone, and with it its part of the context; another of its name has none.
        """
        if self.closed is not None:
            raise self.closed
        if name in self.lost:
            raise self.lost[name]
        self.peers.add(name)

    def lose(self, peer: str, error: DistgradError) -> bool:
        """A process is gone, and with it what the context had there, and what it wanted of this one. False when the
        context did not reach it."""
        with self.lock:
            if peer not in self.peers:
                return False
            if self.records:
                self.lost[peer] = error
            else:  # calls outside any context can be made again, to another process of that name
                self.peers.discard(peer)
                for path in [path for path, call in self.calls.items() if call.caller == peer]:
                    self.drop(path)
        return True

    # ---- edges -------------------------------------------------------------------------------------------------------

    def send(self, edge: EdgeId, source: Node, peer: str) -> None:
        """Notes that the value of `source` leaves for `peer` over `edge`. Asked twice for one edge, it stays one
        edge."""
        with self.lock:
            self.check_open()
            if edge not in self.sends:
                self.sends[edge] = Send(source, edge, peer)

    def receive(self, edge: EdgeId, array: Any, peer: str, frame: Frame) -> Tensor:
        """The tensor for a recorded value that came over `edge`."""
        with self.lock:
            self.check_open()
            node = self.recvs.get(edge)
            if node is None:
                node = self.recvs[edge] = Recv(frame, edge, peer, array.shape, array.dtype, self)
        return Tensor(array, node)

    # ---- values ------------------------------------------------------------------------------------------------------

    def value(self, path: Path) -> Promise[Any]:
        """The promise of the value of the call at `path`, made at first mention."""
        with self.lock:
            promise = self.values.get(path)
            if promise is None:
                promise = self.values[path] = Promise()
                if self.closed is not None:
                    promise.set_error(self.closed)
            return promise

    def call(self, path: Path, caller: str, label: str) -> Called:
        """Notes that the call at `path` has come.

        Raises:
            ContextError: another one had that path.
        """
        with self.lock:
            if path in self.calls:
                raise ContextError(
                    f"two calls have the path {'/'.join(map(str, path))} in context {self.id}: threads or tasks make "
                    "calls side by side; let each enter `with ctx.branch(i):`"
                )
            called = self.calls[path] = Called(caller, label)
            return called

    def drop(self, path: Path) -> None:
        """Forgets the value of a call made outside any context."""
        with self.lock:
            self.values.pop(path, None)
            self.calls.pop(path, None)

    # ---- gradients ---------------------------------------------------------------------------------------------------

    def merge(self, path: Path, gradients: Mapping[Node, Any]) -> None:
        """Adds the gradients of the pass of that path. Within a frame the initiator has passes merged in order."""
        # Gradients of recorded passes are tensors, and so may be their sum: it is numbered by the pass, not by now.
        with self.lock, tape.entered(record=True, frame=Frame((*path, 0))):
            self.check_open()
            totals = self.gradients.setdefault(path[:-1], {})
            for node, gradient in gradients.items():
                totals.setdefault(node, Total()).accumulate(gradient)

    def end_pass(self, path: Path) -> None:
        """A pass has ended here: what comes for it from now on is late."""
        with self.lock:
            self.passes.pop(path, None)
            self.ended.add(path)

    def gradient(self, node: Node | None) -> Any:
        """What passes have accumulated for a variable: an array or rows, a tensor when a recorded pass was among them,
        None when there is nothing."""
        if not isinstance(node, Leaf):
            return None
        sums = Total()
        with self.lock:
            for _, totals in sorted(self.gradients.items()):
                if node in totals:
                    sums.accumulate(totals[node].seen())
        return sums.total

    # ---- the end -----------------------------------------------------------------------------------------------------

    def check_open(self) -> None:
        if self.closed is not None:
            raise self.closed

    def close(self, reason: DistgradError | None = None) -> None:
        """Lets go of everything. What still waits for a value of this context gets `reason`."""
        with self.lock:
            if self.closed is not None:
                return
            self.closed = reason or ContextClosed(f"context {self.id} has been released")
            values, passes = list(self.values.values()), list(self.passes.values())
            for table in (self.sends, self.recvs, self.gradients, self.passes, self.staged, self.calls):
                table.clear()
        for promise in values:
            promise.set_error(self.closed)
        for backward_pass in passes:
            backward_pass.fail(self.closed)
        with self.lock:
            self.values.clear()

    def __repr__(self) -> str:
        return (
            f"<Share of {self.id}: {len(self.sends)} sends, {len(self.recvs)} recvs, {len(self.values)} values"
            f"{', closed' if self.closed else ''}>"
        )


class Shares:
    """All shares of a process, and the names of those that are gone, so that late messages do not bring them back."""

    def __init__(self, process: Process | None = None) -> None:
        self._process = process
        self._lock = threading.Lock()
        self._shares: dict[str, Share] = {}
        self._gone: dict[str, None] = {}
        self._ended_owners: dict[str, DistgradError] = {}

    def get(self, identifier: str) -> Share | None:
        return self._shares.get(identifier)

    def meet(self, identity: pb.ContextId) -> Share:
        """The share of a context, made at first contact. Raises ContextClosed for one that has been released, or whose
        owner is gone."""
        share = self._shares.get(identity.id)
        if share is None:
            with self._lock:
                if identity.id in self._gone:
                    raise ContextClosed(f"context {identity.id} has been released")
                ended = self._ended_owners.get(_tag_of(identity.id))
                if ended is not None:
                    raise ContextClosed(f"context {identity.id} has been released: {ended}")
                share = self._shares.setdefault(identity.id, Share(identity, self._process))
        if not share.identity.owner:
            share.identity = identity
        return share

    def require(self, identifier: str) -> Share:
        """The share of a context that must be known here."""
        share = self._shares.get(identifier)
        if share is None:
            raise ContextClosed(f"context {identifier} is not known here: it was never met or has been released")
        return share

    def released(self, identifier: str) -> bool:
        """Whether that context was released here."""
        return identifier in self._gone

    def release(self, identifier: str, reason: DistgradError | None = None) -> Share | None:
        """Closes a share and remembers that it is gone. Returns it the first time."""
        with self._lock:
            share = self._shares.pop(identifier, None)
            remember(self._gone, identifier, None)
        if share is not None:
            share.close(reason)
        return share

    def release_owned(self, owner: Identity, reason: DistgradError) -> list[Share]:
        """Closes the shares of one owner's contexts and returns them. Calls outside any context can be made again."""
        tag = owner_tag(owner)
        with self._lock:
            owned = [share for share in self._shares.values() if _tag_of(share.id) == tag]
            for share in owned:
                del self._shares[share.id]
                if share.records:
                    remember(self._gone, share.id, None)
        for share in owned:
            share.close(reason)
        return owned

    def orphans(self, living: Collection[str], met_before: float) -> list[Share]:
        """The shares met before a time whose owners' tags are not among the living."""
        with self._lock:
            shares = list(self._shares.values())
        return [share for share in shares if share.met < met_before and _tag_of(share.id) not in living]

    def end_owner(self, owner: Identity, reason: DistgradError) -> None:
        """None of an owner's contexts is met from now on."""
        with self._lock:
            remember(self._ended_owners, owner_tag(owner), reason)

    def __iter__(self) -> Iterator[Share]:
        return iter(list(self._shares.values()))

    def __len__(self) -> int:
        return len(self._shares)
