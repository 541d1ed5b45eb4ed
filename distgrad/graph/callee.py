"""Running calls that came: their arguments are fetched, they wait in line, and run in the compute slot."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any

import numpy as np

from distgrad.autograd import tape
from distgrad.autograd.checkpoint import checkpoint
from distgrad.autograd.tape import Frame, Path
from distgrad.autograd.tensor import Tensor
from distgrad.errors import DistgradError, ResourceExhausted, WireError
from distgrad.transport.interfaces import Link
from distgrad.wire import (
    RefName,
    decode_value,
    encode_into,
    error_from_pb,
    error_to_pb,
    jvp_from_pb,
    normalise,
    pb,
    ref_to_pb,
)

from .caller import depth, issued
from .edges import EdgeId, result_edge
from .refs import Issued, Ref, Steps
from .share import Called, Share, active
from .urgency import USUAL, urgencies, urgency_from_wire
from .values import Inward, Outward, arrays_of, as_it_is_now, in_words, map_leaves, references, references_in
from .waiting import Promise, all_done

if TYPE_CHECKING:
    from .process import Process

# Elements of an array that travels with the news of its call's end.
SMALL_VALUE = 512
# Of a value that does so because it was asked for with the call; others are worth a journey of their own.
BROUGHT_BYTES = 2**16
_SMALL_KINDS = (np.ndarray, np.generic, int, float, type(None))

# What a worker does to run a method: the call -> the bound function, or the promise of it when the shard has yet to
# reach a version.
Resolve = Callable[[pb.Call], "Callable[..., Any] | Promise[Callable[..., Any]]"]


class Callee:
    """Runs the calls that come to this process.

    Calls of one caller to one shard start in the order of issue. A call has ended when its method has returned and the
    calls that it made have ended; it fails when one of those failed and nobody looked.
    """

    def __init__(self, process: Process, resolve: Resolve, max_depth: int) -> None:
        self._process = process
        self._resolve = resolve
        self.max_depth = max_depth
        # Calls that came, by caller and shard, whose start is still to come.
        self._lines: dict[tuple[str, Path, str], deque[_Arrived]] = {}
        self._lock = threading.RLock()

    def receive(self, link: Link, call: pb.Call, arrays: list[Any]) -> None:
        """A call came: fetch what it needs, line it up, run it."""
        path = tuple(call.path)
        if call.forgotten:
            self._process.references.drop(call.forgotten)
        try:
            share = self._process.shares.meet(call.context)
            with share.lock:
                share.meet_peer(link.peer.name)
                called = share.call(path, link.peer.name, _label(call))
        except DistgradError as error:
            self._report(link, call, error)
            return
        arrived = _Arrived(link, call, path, arrays, share, called)
        if call.depth > self.max_depth:
            arrived.fail(
                ResourceExhausted(
                    f"calls are nested {call.depth} deep, more than max_depth={self.max_depth}: does a method call "
                    "itself without end?"
                )
            )
        else:
            arrived.gather(self._process, self._resolve)
        ready = arrived.ready
        caller = (share.id, path[:-1], call.shard)
        with self._lock:
            if ready is None and caller not in self._lines:
                self._submit(arrived)
                return
            self._lines.setdefault(caller, deque()).append(arrived)
        if ready is not None:  # else it goes after those that stood in line before
            ready.add_callback(lambda _: self._advance(caller))

    def _advance(self, caller: tuple[str, Path, str]) -> None:
        """Submits the calls of one caller to one shard, from the head of the line as far as their arguments are
        there."""
        failed: list[tuple[_Arrived, BaseException]] = []
        with self._lock:
            line = self._lines.get(caller, deque())
            while line and (line[0].ready is None or line[0].ready.done):
                head = line.popleft()
                error = head.ready.error if head.ready is not None else None
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
            *arrived.urgency,
            cancelled=partial(self._fail, arrived),
            kind=arrived.called.label,
        )

    def _run(self, arrived: _Arrived) -> None:
        call, share = arrived.call, arrived.share
        made = Issued()
        tape.mode.set(arrived.mode)
        active.set(share)
        depth.set(call.depth)
        issued.set(made)
        if arrived.urgency is not USUAL.call:
            urgencies.set(USUAL._replace(call=arrived.urgency))
        args: Sequence[Any] = ()
        kwargs: Mapping[str, Any] = {}
        began = time.perf_counter()
        try:
            share.check_open()
            args, kwargs = arrived.arguments(self._process)
            completed = checkpoint(self._completed) if call.recompute else self._completed
            value = completed(arrived.function, *args, **kwargs)
            forwarded: list[tuple[Steps, Ref]] = []
            if not isinstance(value, Tensor):
                value = map_leaves(value, as_it_is_now)  # the shard may keep it, and write to it
                forwarded = references_in(value)
        except BaseException as error:  # whatever user code raises belongs to the caller
            self._fail(arrived, error, in_words(args, kwargs))
            return
        arrived.called.seconds = time.perf_counter() - began
        arrived.value.set_result(value)
        for _, ref in forwarded:
            made.add(ref.outcome)
        arrays: list[Any] = []
        done = pb.Done(context=call.context.id, path=call.path)
        if call.bring and not (forwarded or arrived.called.private):
            self._bring(value, arrived, done, arrays)
        else:
            self._add_small(value, arrived, done, arrays)
        if made.all_ended:
            self._end(arrived, made, forwarded, done, arrays)
            return
        done.going_on = True
        self._process.send(arrived.link.peer.name, done, arrays)
        done = pb.Done(context=call.context.id, path=call.path)
        made.ended().add_callback(lambda _: self._end(arrived, made, forwarded, done, []))

    def _completed(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What a method returns, or its coroutine."""
        value = function(*args, **kwargs)
        if iscoroutine(value):
            from .coroutines import run

            value = run(value, self._process.executor)
        return value

    def _bring(self, value: Any, arrived: _Arrived, done: pb.Done, arrays: list[Any]) -> None:
        """Adds a value to the news of its call's end, with its edges, unless it is large."""
        share, link = arrived.share, arrived.link
        if sum(_array_of(leaf).nbytes for leaf in arrays_of(value)) > BROUGHT_BYTES:
            return
        edge = result_edge(arrived.mode.frame.path)
        outward = Outward(share, link.peer.name, lambda item: edge._replace(item=item))
        with suppress(DistgradError):  # of what cannot travel: so will hear who asks for it
            encode_into(done.value, outward.pack(value), arrays, "value")
            done.brought = done.value.ByteSize() <= BROUGHT_BYTES  # it may hold text
        if not done.brought:
            done.ClearField("value")
            arrays.clear()

    def _add_small(self, value: Any, arrived: _Arrived, done: pb.Done, arrays: list[Any]) -> None:
        """Adds a value to the news of its call's end when it is one array or number of little size.

        Values of recorded calls are seldom wanted as plain data, except losses.
        """
        data = value.data if isinstance(value, Tensor) else value
        most = 0 if arrived.called.private else 1 if arrived.share.records else SMALL_VALUE
        if not isinstance(data, _SMALL_KINDS) or getattr(data, "size", 1) > most:
            return
        if isinstance(value, Tensor):
            data = np.asarray(data)  # also of a number that NumPy computed, as if it were fetched
        try:
            encode_into(done.value, normalise(data) if isinstance(data, np.ndarray) else data, arrays)
        except WireError:  # it cannot travel, which concerns only those who ask for it
            done.ClearField("value")

    def _end(
        self,
        arrived: _Arrived,
        made: Issued,
        forwarded: list[tuple[Steps, Ref]],
        done: pb.Done,
        arrays: list[Any],
    ) -> None:
        """The method has returned, and the calls it made have ended."""
        try:
            made.raise_unseen()
        except BaseException as error:
            self._report(arrived.link, arrived.call, error)
            return
        call = arrived.call
        for steps, ref in forwarded:
            for rest, origin in ref.origins().items():
                part = RefName(self._process.name, call.context.id, tuple(call.path), (*steps, *rest))
                done.forwards.add(part=ref_to_pb(part), origin=ref_to_pb(origin))
        self._process.send(arrived.link.peer.name, done, arrays)

    def _fail(self, arrived: _Arrived, error: BaseException, arguments: str = "") -> None:
        """The value of the call becomes the error, translated once, and the caller is told."""
        message = error_to_pb(error, self._process.name, _label(arrived.call), arguments)
        arrived.value.set_error(error_from_pb(message))
        self._report(arrived.link, arrived.call, error, arguments)

    def _report(self, link: Link, call: pb.Call, error: BaseException, arguments: str = "") -> None:
        message = error_to_pb(error, self._process.name, _label(call), arguments)
        self._process.send(link.peer.name, pb.Done(context=call.context.id, path=call.path, error=message))

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))


def _label(call: pb.Call) -> str:
    return f"{call.shard}.{call.method}" if call.shard else call.method


class _Arrived:
    """A call that came, while its arguments are gathered."""

    __slots__ = (
        "_arrays",
        "_fetched",
        "_found",
        "_trees",
        "call",
        "called",
        "link",
        "mode",
        "ready",
        "share",
        "urgency",
        "value",
    )

    _found: Callable[..., Any] | Promise[Callable[..., Any]]  # unset until it is looked for

    def __init__(self, link: Link, call: pb.Call, path: Path, arrays: list[Any], share: Share, called: Called) -> None:
        self.link = link
        self.call = call
        self.share = share
        self.called = called
        self.value = share.value(path)
        # Of what it waits for before it can run; None when it can.
        self.ready: Promise[None] | None = None
        self.mode = _mode_of(call, path, share)
        self.urgency = USUAL.call
        self._arrays = arrays
        self._trees: tuple[Any, Any] = ((), {})
        self._fetched: dict[int, Promise[Any]] = {}

    def fail(self, error: Exception) -> None:
        """It will not run."""
        self.ready = Promise()
        self.ready.set_error(error)

    def gather(self, process: Process, resolve: Resolve) -> None:
        """Fetches the references among the arguments and finds the function."""
        call = self.call
        try:
            arguments = decode_value(call.arguments, self._arrays)
            keywords = decode_value(call.keywords, self._arrays) if call.HasField("keywords") else {}
            if not (isinstance(arguments, tuple) and isinstance(keywords, dict)):
                raise WireError(
                    f"the arguments of {_label(call)} must be a tuple and a dict, found {type(arguments).__name__} and "
                    f"{type(keywords).__name__}"
                )
            self._trees = arguments, keywords
            if call.urgency:
                self.urgency = urgency_from_wire(call.urgency, USUAL.call)
            self._found = resolve(call)
            names = references(self._trees if keywords else arguments)
        except Exception as error:
            self.fail(error)
            return
        finally:
            self._arrays = []
        for number, name in names.items():
            edge = EdgeId(self.mode.frame.path, pb.DIRECTION_ARGUMENT, number) if call.record else None
            self._fetched[number] = process.fetch(self.share, name, edge, self.mode)
        waits: list[Promise[Any]] = [self._found] if isinstance(self._found, Promise) else []
        waits += self._fetched.values()
        if waits:
            self.ready = Promise()
            all_done(waits, self.ready)

    @property
    def function(self) -> Callable[..., Any]:
        """What runs, when it is ready."""
        return self._found.result() if isinstance(self._found, Promise) else self._found

    def arguments(self, process: Process) -> tuple[Any, Any]:
        """The arguments as the method gets them, when it is ready."""
        edge = partial(EdgeId, self.mode.frame.path, pb.DIRECTION_ARGUMENT)
        fetched = {number: promise.result() for number, promise in self._fetched.items()}
        inward = Inward(process, self.share, self.link.peer.name, edge, self.mode, fetched=fetched)
        arguments, keywords = self._trees
        self._trees, self._fetched = ((), {}), {}
        return inward.unpack(arguments), inward.unpack(keywords) if keywords else {}


def _mode_of(call: pb.Call, path: Path, share: Share) -> tape.Mode:
    """The mode in which the method of a call runs."""
    if not call.jvps:
        return tape.Mode(call.record, Frame(path))
    jvps = share.jvps.arrive([jvp_from_pb(jvp) for jvp in call.jvps])
    return tape.Mode(call.record, Frame(path), jvps[-1], boxes=True, jvps=jvps)


def _array_of(leaf: Any) -> Any:
    while isinstance(leaf, Tensor):
        leaf = leaf.data
    return leaf
