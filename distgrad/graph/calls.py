"""Calls: issuing one, and running one that came."""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

from distgrad.autograd import tape
from distgrad.autograd.tape import Frame, Path
from distgrad.errors import ContextError, DistgradError, ResourceExhausted
from distgrad.transport.interfaces import Link
from distgrad.wire import RefName, decode_value, encode_value, error_from_pb, error_to_pb, pb

from .edges import EdgeId
from .refs import Outcome, Ref
from .share import Share, active
from .values import Inward, Outward, map_leaves, references
from .waiting import Priority, Promise, all_done

if TYPE_CHECKING:
    from .process import Process

# How many calls enclose the code that runs here and now.
depth: ContextVar[int] = ContextVar("distgrad_depth", default=0)

# What a worker does to run a method: (shard or "", method or "FILE.py:FUNCTION", context's versions) -> the bound
# function. May return a promise of it, when the shard has yet to reach a version.
Resolve = Callable[[pb.Call], "Callable[..., Any] | Promise[Callable[..., Any]]"]


class Caller:
    """Issues calls from this process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._issued: dict[tuple[str, Path], Outcome] = {}

    def issue(
        self, worker: str, shard: str, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: int = 1
    ) -> Any:
        """Sends a call to `worker` and returns the Ref of its value at once; a tuple of Refs when `outputs` is more
        than 1."""
        process = self._process
        refs = _refs(args, kwargs)
        share = self._share_of(refs)
        mode = tape.mode.get()
        frame = mode.frame if share.records or depth.get() else process.outside
        path = (*frame.path, frame.next_call())
        record = share.records and mode.record
        outward = Outward(share, worker, partial(EdgeId, path, pb.DIRECTION_ARGUMENT) if record else None)
        call = pb.Call(
            context=share.identity, path=path, shard=shard, method=method, record=record, depth=depth.get() + 1
        )
        arrays: list[Any] = []
        label = f"{shard}.{method}" if shard else method
        call.arguments.CopyFrom(encode_value(outward.pack(args), arrays, f"arguments of {label}"))
        if kwargs:
            call.keywords.CopyFrom(encode_value(outward.pack(kwargs), arrays, f"keywords of {label}"))
        outcome = Outcome(f"{label} on {worker}", tuple(ref.outcome for ref in refs))
        ref = Ref(process, share, RefName(worker, share.id, path), outcome)
        with share.lock:
            share.check_open()
            share.peers.add(worker)
            if share.issued is not None:
                share.issued.append(outcome)
        self._issued[share.id, path] = outcome
        process.send(worker, call, arrays)
        return ref if outputs == 1 else tuple(ref[k] for k in range(outputs))

    def _share_of(self, refs: list[Ref]) -> Share:
        """The context a call belongs to: that of its Refs, else the active one, else none."""
        current = active.get()
        shares = {id(ref.share): ref.share for ref in refs if ref.share.records}
        if len(shares) > 1:
            names = sorted(share.id for share in shares.values())
            raise ContextError(f"the arguments of one call belong to different contexts: {', '.join(names)}")
        for share in shares.values():
            if current is not None and current.records and current is not share:
                raise ContextError(f"a Ref of context {share.id} was passed to a call made in context {current.id}")
            return share
        return current or self._process.inference

    def ended(self, link: Link, done: pb.Done, arrays: Any) -> None:
        """A Done came."""
        outcome = self._issued.pop((done.context, tuple(done.path)), None)
        if outcome is None:
            return
        if done.HasField("error"):
            outcome.done.set_error(error_from_pb(done.error))
        else:
            outcome.done.set_result(None)

    def pending(self, share: Share) -> list[Outcome]:
        """Calls issued in a context that have not ended."""
        return [outcome for (context, _), outcome in list(self._issued.items()) if context == share.id]

    def lost(self, worker: str, error: DistgradError) -> None:
        """Calls to a process that is gone end with `error`."""
        for key, outcome in list(self._issued.items()):
            if outcome.label.endswith(f" on {worker}") and self._issued.pop(key, None):
                outcome.done.set_error(error)

    def forget(self, share: Share, error: DistgradError) -> None:
        """The context is released: what is still pending in it ends with `error`."""
        for key, outcome in list(self._issued.items()):
            if key[0] == share.id and self._issued.pop(key, None):
                outcome.done.set_error(error)

    def __len__(self) -> int:
        return len(self._issued)


def _refs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Ref]:
    found: list[Ref] = []
    map_leaves((args, kwargs), lambda leaf: found.append(leaf) if isinstance(leaf, Ref) else None)
    return found


class Callee:
    """Runs the calls that come to this process.

    Calls of one caller to one shard start in the order of issue; their arguments are fetched before they take the
    compute slot.
    """

    def __init__(self, process: Process, resolve: Resolve, max_depth: int) -> None:
        self._process = process
        self._resolve = resolve
        self._max_depth = max_depth
        # Calls that came, by caller and shard, whose start is still to come.
        self._lines: dict[tuple[str, Path, str], deque[_Arrived]] = {}
        self._lock = threading.RLock()

    def receive(self, link: Link, call: pb.Call, arrays: list[Any]) -> None:
        """A call came: fetch what it needs, line it up, run it."""
        path = tuple(call.path)
        try:
            share = self._process.shares.meet(call.context, records=not call.context.id.endswith("/inference"))
            with share.lock:
                share.peers.add(link.peer.name)
            if call.depth > self._max_depth:
                raise ResourceExhausted(
                    f"calls are nested {call.depth} deep, more than max_depth={self._max_depth}: does a method call "
                    "itself without end?"
                )
        except DistgradError as error:
            self._report(link, call, error)
            return
        arrived = _Arrived(link, call, arrays, share, share.value(path))
        caller = (call.context.id, path[:-1], call.shard)
        with self._lock:
            self._lines.setdefault(caller, deque()).append(arrived)
        arrived.gather(self._process, self._resolve).add_callback(lambda _: self._advance(caller))

    def _advance(self, caller: tuple[str, Path, str]) -> None:
        """Submits the calls of one caller to one shard, from the head of the line as far as their arguments are
        there."""
        failed: list[tuple[_Arrived, BaseException]] = []
        with self._lock:
            line = self._lines.get(caller, deque())
            while line and line[0].ready.done:
                head = line.popleft()
                error = head.ready.error
                if error is not None:
                    failed.append((head, error))
                else:
                    self._submit(head)
            if not line:
                self._lines.pop(caller, None)
        for arrived, error in failed:
            self._fail(arrived, error)

    def _submit(self, arrived: _Arrived) -> None:
        self._process.executor.submit(
            partial(self._run, arrived),
            Priority.CALL,
            context=contextvars.Context(),
            cancelled=lambda error: self._fail(arrived, error),
        )

    def _run(self, arrived: _Arrived) -> None:
        call, share = arrived.call, arrived.share
        frame = Frame(tuple(call.path))
        tape.mode.set(tape.Mode(call.record, frame))
        active.set(share)
        depth.set(call.depth)
        try:
            share.check_open()
            args, kwargs = arrived.arguments(self._process, frame)
            value = arrived.function(*args, **kwargs)
        except BaseException as error:  # whatever user code raises belongs to the caller
            self._fail(arrived, error)
            return
        arrived.value.set_result(value)
        self._process.send(arrived.link.peer.name, pb.Done(context=call.context.id, path=call.path))

    def _fail(self, arrived: _Arrived, error: BaseException) -> None:
        """The value of the call becomes the error, translated once, and the caller is told."""
        message = error_to_pb(error, self._process.name, _label(arrived.call))
        arrived.value.set_error(error_from_pb(message))
        self._report(arrived.link, arrived.call, error)

    def _report(self, link: Link, call: pb.Call, error: BaseException) -> None:
        message = error_to_pb(error, self._process.name, _label(call))
        self._process.send(link.peer.name, pb.Done(context=call.context.id, path=call.path, error=message))

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))


def _label(call: pb.Call) -> str:
    return f"{call.shard}.{call.method}" if call.shard else call.method


class _Arrived:
    """A call that came, while its arguments are gathered."""

    def __init__(self, link: Link, call: pb.Call, arrays: list[Any], share: Share, value: Promise[Any]) -> None:
        self.link = link
        self.call = call
        self.share = share
        self.value = value
        self.ready: Promise[None] = Promise()
        self.function: Callable[..., Any] = _not_resolved
        self._arrays = arrays
        self._trees: tuple[Any, Any] = ((), {})
        self._fetched: dict[int, Any] = {}

    def gather(self, process: Process, resolve: Resolve) -> Promise[None]:
        """Fetches the references among the arguments and finds the function. Done when the call can run, or cannot."""
        call = self.call
        try:
            keywords = decode_value(call.keywords, self._arrays) if call.HasField("keywords") else {}
            self._trees = decode_value(call.arguments, self._arrays), keywords
            found = resolve(call)
            names = references(self._trees)
        except Exception as error:
            self.ready.set_error(error)
            return self.ready
        finally:
            self._arrays = []
        waits: list[Promise[Any]] = []
        if isinstance(found, Promise):
            waits.append(found)
            found.add_callback(lambda p: setattr(self, "function", p.result()) if p.error is None else None)
        else:
            self.function = found
        path = tuple(call.path)
        for number, name in names.items():
            edge = EdgeId(path, pb.DIRECTION_ARGUMENT, number) if call.record else None
            promise = process.fetch(self.share, name, edge, Frame(path))
            promise.add_callback(partial(self._keep, number))
            waits.append(promise)
        all_done(waits, self.ready)
        return self.ready

    def _keep(self, number: int, promise: Promise[Any]) -> None:
        if promise.error is None:
            self._fetched[number] = promise.result()

    def arguments(self, process: Process, frame: Frame) -> tuple[Any, Any]:
        """The arguments as the method gets them."""
        edge = partial(EdgeId, tuple(self.call.path), pb.DIRECTION_ARGUMENT)
        inward = Inward(process, self.share, self.link.peer.name, edge, frame, fetched=self._fetched)
        args, kwargs = inward.unpack(self._trees)
        self._trees, self._fetched = ((), {}), {}
        return args, kwargs


def _not_resolved(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("a call ran before its function was found")
