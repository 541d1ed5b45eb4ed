"""Values on their way: asking an owner for the value of a reference, and answering those who ask."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from distgrad.autograd.tape import Mode
from distgrad.autograd.tensor import Tensor
from distgrad.errors import DistgradError, PermissionDenied, WorkerLost
from distgrad.transport.interfaces import Link
from distgrad.wire import (
    Recorded,
    RefName,
    WithTangent,
    decode_value,
    edge_to_pb,
    encode_value,
    pb,
    ref_from_pb,
    ref_to_pb,
)

from .edges import EdgeId, edge_from_wire, part_path, result_edge
from .missing import MissingCalls
from .share import Share
from .values import Inward, Outward, map_leaves, references, select
from .waiting import Promise, all_done

if TYPE_CHECKING:
    from .process import Process


class Fetcher:
    """Brings values of references here, and gives the values of calls that ran here to those who ask."""

    def __init__(self, process: Process) -> None:
        self._process = process
        # Values under way, and the owner each was asked for at; what it names within itself is fetched from others.
        self._under_way: dict[Promise[Any], str] = {}
        self.missing = MissingCalls(process)
        # That of values that are nobody's in particular.
        self._outside = Mode(False, process.outside)

    # ---- asking ------------------------------------------------------------------------------------------------------

    def fetch(self, share: Share, name: RefName, edge: EdgeId | None, mode: Mode) -> Promise[Any]:
        """The promise of the value of `name` here, for a program that goes on in that mode. With `edge`, its recorded
        arrays are joined to this process's tape by the edges that differ from it in their item; without, they are plain
        data."""
        result: Promise[Any] = Promise()
        try:
            with share.lock:
                share.meet_peer(name.owner)
        except DistgradError as error:
            result.set_error(error)
            return result
        message = pb.Fetch(ref=ref_to_pb(name), edge=None if edge is None else edge_to_pb(edge))
        self._under_way[result] = name.owner  # before the owner can answer, and be lost
        result.add_callback(lambda p: self._under_way.pop(p, None))
        reply = self._process.request(name.owner, message)
        reply.add_callback(lambda p: self._unpack(share, name, edge, mode, p, result))
        return result

    def waits(self) -> list[str]:
        """Whose values this process waits for: "w2 waits for values of w1 (3)"."""
        counts = Counter(self._under_way.copy().values())
        return [f"{self._process.name} waits for values of {owner} ({count})" for owner, count in counts.items()]

    def lost(self, owner: str, error: DistgradError) -> None:
        """Values asked for at a process that is gone do not come, also when it has answered with references to the
        values of others: the calls that make these may have been lost with it."""
        for promise, asked in list(self._under_way.items()):
            if asked == owner:
                promise.set_error(error)

    def _unpack(
        self,
        share: Share,
        name: RefName,
        edge: EdgeId | None,
        mode: Mode,
        reply: Promise[Any],
        result: Promise[Any],
    ) -> None:
        """The owner has answered. References within the value are fetched in turn, from their owners."""
        if reply.error is not None:
            result.set_error(reply.error)
            return
        try:
            body, arrays = reply.result()
            tree = decode_value(body.value, arrays)
            within = references(tree, body.first_item)
            inner = {
                number: self.fetch(
                    share, other, edge and edge._replace(path=part_path(edge.path, number), item=0), mode
                )
                for number, other in within.items()
            }
        except Exception as error:
            result.set_error(error)
            return

        def finish(ready: Promise[None]) -> None:
            try:
                ready.result()
                fetched = {number: promise.result() for number, promise in inner.items()}
                name_edge = (lambda item: edge._replace(item=item)) if edge is not None else _no_edge
                inward = Inward(self._process, share, name.owner, name_edge, mode, body.first_item, fetched)
                value = inward.unpack(tree)
            except BaseException as error:
                result.set_error(error)
            else:
                result.set_result(value)

        ready: Promise[None] = Promise()
        ready.add_callback(finish)
        all_done(list(inner.values()), ready)

    def plain(self, tree: Any) -> Any:
        """A received value without references or edges, as the program gets it."""
        if type(tree) is np.ndarray:  # the usual case
            return Tensor(tree)
        return Inward(self._process, self._process.inference, "", _no_edge, self._outside).unpack(tree)

    def brought(self, share: Share, name: RefName, into: Mode | None, tree: Any, result: Promise[Any]) -> None:
        """Sets `result` to a value that came with the news of its call's end: joined to this process's tape, for a
        program that goes on in that mode, or as plain data when there is none."""
        if into is None:
            result.set_result(self.plain(map_leaves(tree, _without_edges)))
            return
        edge = result_edge(name.path)
        inward = Inward(self._process, share, name.owner, lambda item: edge._replace(item=item), into)
        try:
            value = inward.unpack(tree)
        except DistgradError as error:  # the context has been released
            result.set_error(error)
        else:
            result.set_result(value)

    # ---- answering ---------------------------------------------------------------------------------------------------

    def answer(self, link: Link, fetch: pb.Fetch, arrays: Any, reply: Callable[..., None]) -> None:
        """Somebody asks for a value: answered when its call has ended."""
        name = ref_from_pb(fetch.ref)
        me = self._process.identity
        if name.incarnation not in (0, me.incarnation):
            raise WorkerLost(f"{me.name} was started anew since it got call {'/'.join(map(str, name.path))}")
        # The call itself may still be on its way; it will say whose context this is.
        share = self._process.shares.meet(pb.ContextId(id=name.context))
        edge = edge_from_wire(fetch.edge) if fetch.HasField("edge") and share.records else None
        with share.lock:
            share.meet_peer(link.peer.name)
        value = share.value(name.path)
        if not value.done:
            self.missing.expect(share, name, time.monotonic())
        value.add_callback(lambda value: self._give(share, link.peer.name, name, edge, value, reply))

    def _give(
        self,
        share: Share,
        peer: str,
        name: RefName,
        edge: EdgeId | None,
        value: Promise[Any],
        reply: Callable[..., None],
    ) -> None:
        try:
            what = f"value of call {'/'.join(map(str, name.path))} on {self._process.name}"
            called = share.calls.get(name.path)
            if called is not None and called.private and peer != self._process.name:
                raise PermissionDenied(
                    f"{called.label} keeps its values on {self._process.name}: give its Ref to calls there"
                )
            part, first = select(value.result(), name.steps, what)
            outward = Outward(share, peer, edge and (lambda item: edge._replace(item=item)), first)
            arrays: list[Any] = []
            body = pb.Fetched(value=encode_value(outward.pack(part), arrays, what), first_item=first)
        except BaseException as error:
            reply(error)
        else:
            reply(body, arrays)


def _without_edges(leaf: Any) -> Any:
    while isinstance(leaf, WithTangent):
        leaf = leaf.primal
    return leaf.array if isinstance(leaf, Recorded) else leaf


def _no_edge(item: int) -> EdgeId:
    raise RuntimeError("a recorded value came although none was asked for")
