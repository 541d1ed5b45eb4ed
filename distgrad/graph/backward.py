"""A distributed backward pass as one process runs it: `part.py` with a thread to compute in and links to speak over.

The algorithm is stated in `protocol.py`. Here messages become frames and frames messages, the snapshot of first contact
is taken, and whatever goes wrong ends the pass everywhere.

Threads: `lock` guards `_working` and, while nobody works, the part. While somebody works, which is the one job that
`_schedule` submitted, the part is that job's; others only append to its inbox. Nothing that may wait is sent with the
lock held.
"""

from __future__ import annotations

import contextvars
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from distgrad.autograd import tape
from distgrad.autograd.rows import Rows
from distgrad.autograd.tape import Frame, Node
from distgrad.autograd.tensor import Tensor
from distgrad.errors import DistgradError, GradientError
from distgrad.wire import (
    Recorded,
    decode_value,
    edge_to_pb,
    encode_value,
    error_from_pb,
    error_to_pb,
    normalise,
    pb,
    ref_from_pb,
)

from .edges import EdgeId, edge_from_wire
from .part import Part
from .protocol import Acknowledgement, Complete, Gradients, Mark, Message, Outgoing, Resume, Start
from .share import Share, active
from .values import arrays_of, select
from .waiting import Priority, Promise

if TYPE_CHECKING:
    from .process import Process


class LocalPass:
    """A backward pass in one process, from first contact to finish or abort.

    Arguments:
        header: what every process must know of the pass.
        local_roots: the initiator's own roots, by position.

    Attributes:
        ended: set when the pass has ended; at the initiator, to the processes that took part.
    """

    def __init__(
        self, process: Process, share: Share, header: pb.Pass, local_roots: dict[int, Tensor] | None = None
    ) -> None:
        self.number: int = header.number
        self.ended: Promise[tuple[str, ...]] = Promise()
        self.lock = threading.RLock()
        self._process = process
        self._share = share
        self._header = header
        self._roots = local_roots or {}
        self._part = Part(
            process.name,
            header.initiator,
            record=header.create_graph,
            retain=header.retain_graph,
            lost=share.lost,
            pack=self._pack,
            unpack=self._unpack,
        )
        self._begun = False
        self._working = False

    @property
    def gradients(self) -> dict[Node, Any]:
        return self._part.gradients

    # ---- messages ----------------------------------------------------------------------------------------------------

    def initiate(self, others: dict[str, dict[int, Any]], own: dict[int, Any]) -> None:
        """The initiator begins, given the seeds of all roots by owner and position."""
        self.receive(self._process.name, Start(own, others))

    def receive(self, sender: str, message: Message) -> None:
        """A message came."""
        with self.lock:
            if self.ended.done:
                return
            self._part.inbox.append((sender, message))
            if self._working:
                return
            if not isinstance(message, Acknowledgement):
                self._schedule()
                return
            # Not worth a change of threads: it computes nothing.
            try:
                self._part.step()
                self._settle()
            except Exception as error:
                self._broken(error)

    def _schedule(self) -> None:
        self._working = True
        self._process.executor.submit(
            self._work, Priority.GRADIENT, context=contextvars.Context(), cancelled=self.abort
        )

    # ---- work, in the compute slot -----------------------------------------------------------------------------------

    def _work(self) -> None:
        """Handles what came and runs what is ready, until nothing is left."""
        tape.mode.set(tape.Mode(self._header.create_graph, Frame(tuple(self._header.path))))
        active.set(self._share)
        try:
            if not self._begun:
                self._begin()
            # Infinite and undefined gradients at the edge of a domain are values, of which NumPy need not warn.
            with np.errstate(all="ignore"):
                while not self.ended.done:
                    messages = self._part.step()
                    if messages is not None:
                        self._send(messages)
                    elif self._stop():
                        return
        except BaseException as error:  # a vjp, a hook or a seed went wrong: the whole pass ends
            self._broken(error)

    def _broken(self, error: BaseException) -> None:
        """What went wrong here ends the pass everywhere."""
        if not isinstance(error, DistgradError):
            error = error_from_pb(error_to_pb(error, self._process.name, f"backward of context {self._share.id}"))
        self.abort(error)

    def _stop(self) -> bool:
        """Ends the job if there is no work."""
        with self.lock:
            if self._part.inbox:
                return False
            self._working = False
            self._settle()
            return True

    def _settle(self) -> None:
        """There is no work: lets the protocol decide what follows. Called with the lock held."""
        self._send(self._part.settle())
        outcome = self._part.outcome
        if outcome is None:
            if self._part.inbox:
                self._schedule()
        elif isinstance(outcome, Complete):
            self.ended.set_result(outcome.met)
        else:
            self.abort(
                DistgradError(
                    f"internal error: {outcome.waiting} nodes of pass {self.number} in context {self._share.id} still "
                    "wait after the mark; please report the program"
                )
            )

    # ---- first contact -----------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Takes the snapshot of this process's edges and roots that the pass counts over."""
        self._begun = True
        for root in self._own_roots():
            self._roots[root.position] = self._root(root)
        with self._share.lock:
            sends, recvs = dict(self._share.sends), dict(self._share.recvs)
        dead = [edge_from_wire(edge) for edge in self._header.dead]
        unreached = self._part.begin(self._roots, sends, recvs, dead)
        if self._process.name == self._header.initiator:
            self._header.dead.extend(edge_to_pb(edge) for edge in unreached)

    def _own_roots(self) -> list[pb.Root]:
        """The roots that are values of calls of this process, by position."""
        tables = [table.roots for table in self._header.roots if table.process == self._process.name]
        return sorted((root for roots in tables for root in roots), key=lambda root: root.position)

    def _root(self, root: pb.Root) -> Tensor:
        """The tensor a root names: the value, or an item of the value, of a call that ran here."""
        what = f"root {root.position}"
        name = ref_from_pb(root.ref)
        value, _ = select(self._share.value(name.path).result(timeout=0), name.steps, what)
        arrays = arrays_of(value)
        if len(arrays) != 1 or not isinstance(arrays[0], Tensor):
            found = f"{len(arrays)} arrays" if len(arrays) != 1 else f"a {type(arrays[0]).__name__}"
            raise GradientError(
                f"{what} must be one tensor, but its value on {self._process.name} has {found}; index the Ref"
            )
        return arrays[0]

    # ---- the wire ----------------------------------------------------------------------------------------------------

    def _send(self, messages: list[Outgoing]) -> None:
        for peer, message in messages:
            body, arrays = self._to_wire(message)
            self._process.send(peer, body, arrays)

    def _to_wire(self, message: Message) -> tuple[Any, list[Any]]:
        arrays: list[Any] = []
        body: Any
        match message:
            case Start(seeds):
                body = pb.Start(header=self._header)
                body.seeds.extend(encode_value(seed, arrays, "gradient") for _, seed in sorted(seeds.items()))
            case Gradients(gradients):
                body = pb.Gradients(header=self._header)
                for edge, gradient in gradients:
                    value = encode_value(gradient, arrays, f"gradient of the {edge}")
                    body.gradients.add(edge=edge_to_pb(edge), gradient=value)
            case Mark(reached, begin):
                body = pb.Mark(header=self._header, reached=[edge_to_pb(edge) for edge in reached], begin=begin)
            case Resume():
                body = pb.Resume(header=self._header)
            case Acknowledgement(count, waiting, met):
                body = pb.PassAck(context=self._share.id, number=self.number, waiting=waiting, met=met, count=count)
        return body, arrays

    def from_wire(self, body: Any, arrays: list[Any]) -> Message:
        """The message of a frame. Raises WireError when it is malformed."""
        match body:
            case pb.Start():
                positions = [root.position for root in self._own_roots()]
                seeds = [decode_value(seed, arrays) for seed in body.seeds]
                return Start(dict(zip(positions, seeds, strict=True)))
            case pb.Gradients():
                return Gradients([(edge_from_wire(g.edge), decode_value(g.gradient, arrays)) for g in body.gradients])
            case pb.Mark():
                return Mark([edge_from_wire(edge) for edge in body.reached], body.begin)
            case pb.PassAck():
                return Acknowledgement(body.count, body.waiting, tuple(body.met))
            case _:
                return Resume()

    # ---- gradients on their way --------------------------------------------------------------------------------------

    def _pack(self, edge: EdgeId, gradient: Any, peer: str) -> Any:
        """A gradient as it travels; under create_graph it leaves a send node of its own."""
        if not isinstance(gradient, Tensor):
            return gradient if gradient is None or isinstance(gradient, Rows) else normalise(np.asarray(gradient))
        array = normalise(np.asarray(gradient.data))
        if gradient.node is None:
            return array
        self._share.send(self._gradient_edge(edge), gradient.node, peer)
        return Recorded(array)

    def _unpack(self, edge: EdgeId, gradient: Any, sender: str) -> Any:
        """A gradient as the engine takes it; under create_graph a tensor, joined to the sender's tape when it was
        recorded there."""
        if not self._header.create_graph:
            return gradient
        if isinstance(gradient, Recorded):
            return self._share.receive(self._gradient_edge(edge), gradient.array, sender, tape.mode.get().frame)
        return Tensor(gradient)

    def _gradient_edge(self, edge: EdgeId) -> EdgeId:
        return EdgeId(tuple(self._header.path), pb.DIRECTION_GRADIENT, 0, 0, edge)

    # ---- the end -----------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """The pass has ended everywhere: its gradients become part of the context."""
        self._share.end_pass(self.number)
        self._share.merge(tuple(self._header.path), self.gradients)
        self.ended.set_result(())

    def abort(self, error: DistgradError) -> None:
        """The pass has failed: every process that shares the context is told, once."""
        if self.fail(error):
            flood_abort(self._process, self._share, self.number, error)

    def fail(self, error: DistgradError) -> bool:
        """Frees this process's part of a failed pass. False when it had ended before."""
        self._share.end_pass(self.number)
        return self.ended.set_error(error)

    def statistics(self) -> dict[str, Any]:
        """What operators see of a pass that does not end."""
        return {"number": self.number, **self._part.statistics()}

    def __repr__(self) -> str:
        return f"<LocalPass {self.number} of {self._share.id}: {self._part!r}>"


def flood_abort(process: Process, share: Share, number: int, error: DistgradError) -> None:
    """Tells every process that this one shares the context with that a pass has failed."""
    message = pb.Abort(context=share.id, number=number, error=error_to_pb(error, process.name, "backward"))
    with share.lock:
        peers = sorted(share.peers - {process.name})
    for peer in peers:
        process.send(peer, message)
