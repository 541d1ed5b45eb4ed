"""Issuing calls: a call leaves at once, and its caller gets a reference to the value it will have."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

from distgrad.autograd import tape
from distgrad.autograd.deferred import Deferred
from distgrad.autograd.tape import Path
from distgrad.autograd.tensor import Tensor
from distgrad.errors import CannotTravel, ContextError, DistgradError, WireError
from distgrad.transport.interfaces import Link
from distgrad.wire import RefName, decode_value, encode_into, error_from_pb, jvp_to_pb, pb, ref_from_pb

from .edges import EdgeId, Recv
from .functional import next_path, opened
from .refs import Issued, Outcome, Ref, Steps
from .share import Share, active
from .tangents import arrays_within
from .urgency import USUAL, urgencies, urgency_to_wire
from .values import Outward, leaves_of

if TYPE_CHECKING:
    from .process import Process

_log = logging.getLogger(__name__)

# How many calls in a row may be asked for their values because so many before them were fetched.
MOST_TAKEN = 1000

# How many calls enclose the code that runs here and now.
depth: ContextVar[int] = ContextVar("distgrad_depth", default=0)
# The calls made by the call or context that the code here and now belongs to.
issued: ContextVar[Issued | None] = ContextVar("distgrad_issued", default=None)


class Caller:
    """Issues calls from this process, and hears how they end."""

    def __init__(self, process: Process) -> None:
        self._process = process
        # Calls that have not ended, by context and path.
        self._pending: dict[tuple[str, Path], Outcome] = {}
        # Methods whose latest value was small enough to come by itself.
        self._small: set[str] = set()
        # By method, how many values have been fetched, recorded, beyond those that were asked for with their calls.
        self._taken: Counter[str] = Counter()
        # Who waited for whom when a process was lost that calls were made to; the latest such time.
        self.waits_at_loss: list[str] = []
        # Of several threads that tell of one loss, the first alone finds somebody waiting.
        self._losing = threading.Lock()

    def issue(
        self, worker: str, shard: str, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: int = 1
    ) -> Any:
        """Sends a call to `worker` and returns the Ref of its value at once; a tuple of Refs when `outputs` is more
        than 1.

        Raises:
            ContextError: its Refs and tensors belong to different contexts, or another thread or task makes calls in
                the same one beside this.
            ContextClosed, WorkerLost: its context has been released, or has lost that worker, or a Ref's value is lost.
            WireError: an argument cannot travel.
            ResourceExhausted: the arguments are too large, arrays aside.
        """
        leaves = leaves_of((args, kwargs) if kwargs else args)
        mode = tape.mode.get()
        share = self._share_of(list(arrays_within(leaves)) if mode.jvps else leaves)
        share.check_open()
        path = next_path(share, self._process)
        record = share.records and mode.record
        label = f"{shard}.{method}" if shard else method
        call = pb.Call(
            context=share.identity, path=path, shard=shard, method=method, record=record, depth=depth.get() + 1
        )
        if record and mode.recomputed is not None:
            call.recompute = mode.recomputed.calls_shards = True
        if record and mode.jvps:
            call.jvps.extend(map(jvp_to_pb, share.jvps.leave(mode.jvps, self._process.name)))
        urgency = urgencies.get().call
        if urgency is not USUAL.call:
            call.urgency.extend(urgency_to_wire(urgency, USUAL.call))
        arrays: list[Any] = []
        outward = Outward(share, worker, partial(EdgeId, path, pb.DIRECTION_ARGUMENT) if record else None)
        encode_into(call.arguments, outward.pack(args), arrays, f"arguments of {label}")
        if kwargs:
            encode_into(call.keywords, outward.pack(kwargs), arrays, f"keywords of {label}")
        sources = [leaf.outcome for leaf in leaves if isinstance(leaf, Ref)]
        outcome = Outcome(label, worker, sources, comes=label in self._small)
        if mode.jvps and (followed := tape.followed.get()) is not None:
            outcome.followed = True
            followed.append(partial(self._follow, outcome))
        if record and self._taken[label] > 0:
            self._taken[label] -= 1
            outcome.brings = call.bring = True
        incarnation = self._process.peers.incarnation(worker)
        name = RefName(worker, share.id, path, (), incarnation, self._process.name)
        ref = Ref(self._process, share, name, outcome)
        with share.lock:
            share.meet_peer(worker)
            self._pending[share.id, path] = outcome
        made = issued.get() or share.issued
        if made is not None:
            made.add(outcome)
        forgotten = self._process.references.forgotten(worker)
        if forgotten:
            call.forgotten.extend(forgotten)
        try:
            self._process.send(worker, call, arrays)
        except DistgradError as error:
            outcome.observe()
            self.refused(call, error)
            raise
        return ref if outputs == 1 else tuple(ref[k] for k in range(outputs))

    def _share_of(self, leaves: list[Any]) -> Share:
        """The context a call belongs to: that of its Refs and of the tensors that came in one; else the active one;
        else none."""
        around = active.get()
        # A context of another cluster that this program is connected to is none of this one's.
        current = around if around is not None and around.process is self._process else None
        found = current if current is not None and current.records else None
        for leaf in leaves:
            share = _recorded_in(leaf) if isinstance(leaf, (Ref, Tensor)) else None
            if share is None or share is found:
                continue
            if found is not None:
                names = " and ".join(sorted((share.id, found.id)))
                raise ContextError(
                    f"one call cannot belong to the contexts {names}: make it inside the context of its arguments, or "
                    "detach() what comes from another"
                )
            if share.process is not self._process:
                raise ContextError(
                    f"an argument belongs to context {share.id} of another cluster; pass its value on by .numpy()"
                )
            found = share
        if found is not None:
            return found
        share = opened(self._process) or current or self._process.inference
        mode = tape.mode.get()
        elsewhere = around if around is not current and around is not None and around.records else None
        if (mode.level or elsewhere) and mode.record and not share.records and any(map(_moves, leaves)):
            what = "a function that is being differentiated calls a shard outside any context"
            if elsewhere is not None:
                what = f"a call in context {elsewhere.id} is to a shard of another cluster"
            raise ContextError(f"{what}, so nothing would be recorded: write `with cluster.context():` around it")
        return share

    def takes(self, method: str) -> None:
        """The value of a call is wanted here, recorded: that of another will be asked for with the call."""
        self._taken[method] = min(self._taken[method] + 1, MOST_TAKEN)

    def _follow(self, outcome: Outcome) -> None:
        """Waits for a call that was made in a jvp. Raises CannotTravel when that could not take its tangents, and
        nobody has seen so."""
        self._process.executor.wait(outcome.done, what=outcome.label)
        if isinstance(outcome.done.error, CannotTravel) and not outcome.seen:
            raise outcome.done.error

    # ---- how calls end -----------------------------------------------------------------------------------------------

    def ended(self, link: Link, done: pb.Done, arrays: Any) -> None:
        """A Done came."""
        key = done.context, tuple(done.path)
        outcome = self._pending.get(key) if done.going_on else self._pending.pop(key, None)
        if outcome is None:
            return
        if done.HasField("error"):
            outcome.fail(error_from_pb(done.error))
            return
        self._take_value(outcome, done, arrays)
        if done.going_on:
            outcome.returned.set_result(None)
        else:
            outcome.succeed(_forwards(done) if done.forwards else {})

    def _take_value(self, outcome: Outcome, done: pb.Done, arrays: list[Any]) -> None:
        """Keeps a value that came with the news, and learns whether such values do."""
        if outcome.returned.done:
            return
        if not done.HasField("value"):
            self._small.discard(outcome.method)
            return
        try:
            if done.brought:
                outcome.brought = decode_value(done.value, arrays)
                return
            self._small.add(outcome.method)
            outcome.bring(self._process.fetcher.plain(decode_value(done.value, arrays)))
        except WireError as error:  # an element type unknown here; those who fetch the value will hear of it
            _log.debug("the value of %s came and cannot be read: %s", outcome.label, error)

    def tell_end(self, link: Link, body: pb.AwaitCall, arrays: list[Any], reply: Callable[..., None]) -> None:
        """The process that a call was sent to asks for its end, since the call has not come there."""
        outcome = self._pending.get((body.ref.context, tuple(body.ref.path)))
        if outcome is None:
            reply(pb.Empty())
        else:
            outcome.returned.add_callback(lambda returned: reply(returned.error or pb.Empty()))

    def refused(self, message: Any, error: DistgradError) -> None:
        """A message cannot travel: if it is a call, it ends with `error`."""
        if isinstance(message, pb.Call):
            self._fail([(message.context.id, tuple(message.path))], error)

    def lost(self, worker: str, error: DistgradError) -> None:
        """Calls to a process that is gone end with `error`."""
        with self._losing:
            calls = [key for key, outcome in list(self._pending.items()) if outcome.worker == worker]
            if calls:
                self.waits_at_loss = self.waits()
            outcomes = self._withdraw(calls)
        for outcome in outcomes:
            outcome.fail(error)

    def waits(self) -> list[str]:
        """Who waits for whom, by the calls from here that have not ended: "head.loss on w2 waits for hidden.forward on
        w1 (2 calls)"."""
        counts: Counter[str] = Counter()
        for outcome in list(self._pending.values()):
            sources = [source.label for source in outcome.sources if not source.returned.done]
            if sources:
                counts[f"{outcome.label} waits for {' and '.join(sources)}"] += 1
            else:
                counts[f"{self._process.name} waits for {outcome.label}"] += 1
        return [f"{text} ({count} calls)" if count > 1 else text for text, count in counts.items()]

    def forget(self, share: Share, error: DistgradError) -> None:
        """The context is released: what is still pending in it ends with `error`."""
        self._fail([key for key in list(self._pending) if key[0] == share.id], error)

    def _fail(self, calls: list[tuple[str, Path]], error: DistgradError) -> None:
        for outcome in self._withdraw(calls):
            outcome.fail(error)

    def _withdraw(self, calls: list[tuple[str, Path]]) -> list[Outcome]:
        """The outcomes of calls that are to be waited for no longer."""
        return [outcome for call in calls if (outcome := self._pending.pop(call, None)) is not None]

    def __len__(self) -> int:
        return len(self._pending)


def _forwards(done: pb.Done) -> dict[Steps, RefName]:
    return {ref_from_pb(forward.part).steps: ref_from_pb(forward.origin) for forward in done.forwards}


def _recorded_in(leaf: Ref | Tensor) -> Share | None:
    """The context that an argument belongs to."""
    if isinstance(leaf, Ref):
        return leaf.share if leaf.share.records else None
    return leaf.node.share if isinstance(leaf.node, Recv) else None


def _moves(leaf: Any) -> bool:
    """Whether a value may depend on the variables of a transform that is going on."""
    return type(leaf) in (Tensor, Deferred) and leaf.requires_grad
