"""A distributed backward pass as one process runs it: `part.py` with a thread to compute in and links to speak over.

The algorithm is stated in `protocol.py`. Here messages become frames and frames messages, the snapshot of first contact
is taken, and whatever goes wrong ends the pass everywhere.

Threads: `lock` guards `_working` and, while nobody works, the part. While somebody works, which is the one job that
`_schedule` submitted, the part is that job's; others only append to the inbox. Nothing that may wait is sent with the
lock held.
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from distgrad.autograd import tape
from distgrad.autograd.backward import require_node
from distgrad.autograd.rows import Rows
from distgrad.autograd.tape import Node, Path
from distgrad.autograd.tensor import Tensor
from distgrad.errors import DistgradError, GradientError, WireError
from distgrad.wire import Recorded, edge_to_pb, error_from_pb, error_to_pb, normalise, pb, ref_from_pb

from .edges import EdgeId, edge_from_wire
from .messages import message_to_pb, roots_of
from .part import Part, Snapshot
from .protocol import Acknowledgement, Complete, Message, Outgoing, Start
from .share import Share, active
from .urgency import USUAL, urgency_from_wire
from .values import arrays_of, select
from .waiting import Promise

if TYPE_CHECKING:
    from .process import Process

# Kinds of work: gradients that other processes wait for, and those of a process's own variables.
GRADIENTS, WEIGHTS = "gradients", "weights"


class LocalPass:
    """A backward pass in one process, from first contact to finish or abort.

    Arguments:
        header: what every process must know of the pass.
        roots, inputs: the initiator's own, by position.
        cut: at the initiator, the graph ends at the inputs.

    Attributes:
        path: names the pass in its context.
        ended: set when the pass has ended; at the initiator, to what its end was like.
        interrupted: by what the thread that computed was, if it was by the user.
    """

    def __init__(
        self,
        process: Process,
        share: Share,
        header: pb.Pass,
        roots: Mapping[int, Tensor] | None = None,
        inputs: Mapping[int, Tensor] | None = None,
        cut: bool = False,
    ) -> None:
        self.path: Path = tuple(header.path)
        self.ended: Promise[Complete] = Promise()
        self.interrupted: KeyboardInterrupt | None = None
        self.lock = threading.RLock()
        self._process = process
        self._share = share
        self._header = header
        self._urgency = urgency_from_wire(header.urgency, USUAL.gradient)
        self._weight_urgency = urgency_from_wire(header.weight_urgency, USUAL.weight)
        self._roots = dict(roots or {})
        self._inputs: dict[int, Any] = dict(inputs or {})
        self._cut = cut
        self._inbox: deque[tuple[str, Message]] = deque()
        self._part: Part | None = None
        self._working = False
        # Whether the job that is to work next lets everything else go first.
        self._leisure = False
        self._jobs = 0

    # ---- messages ----------------------------------------------------------------------------------------------------

    def initiate(self, others: dict[str, dict[int, Any]], own: dict[int, Any], here: bool) -> None:
        """The initiator begins, given the seeds of all roots by owner and position; in the calling thread, if so wished
        and possible."""
        self._inbox.append((self._process.name, Start(own, others)))
        self._schedule(here=here)

    def receive(self, sender: str, message: Message) -> None:
        """A message came."""
        with self.lock:
            if self.ended.done:
                return
            self._inbox.append((sender, message))
            if self._leisure:
                self._schedule()
            if self._working:
                return
            if self._part is None or not isinstance(message, Acknowledgement):
                self._schedule()
                return
            # Not worth a change of threads: it computes nothing.
            try:
                self._part.step()
                self._settle(self._part)
            except Exception as error:
                self._broken(error)

    def _schedule(self, *, leisure: bool = False, here: bool = False) -> None:
        """Submits a job to work in. One that was submitted before and has not begun does nothing then.

        `leisure`: nobody waits for what it has to do. `here`: the calling thread waits for it.
        """
        self._working = True
        self._leisure = leisure
        self._jobs += 1
        self._process.executor.submit(
            partial(self._work, self._jobs),
            *(self._weight_urgency if leisure else self._urgency),
            context=contextvars.Context(),
            cancelled=self.abort,
            kind=WEIGHTS if leisure else GRADIENTS,
            here=here,
        )

    # ---- work, in the compute slot -----------------------------------------------------------------------------------

    def _work(self, job: int) -> None:
        """Handles what came and runs what is ready, until nothing is left, or only what can wait for others in line."""
        with self.lock:
            if job != self._jobs:
                return
            leisure, self._leisure = self._leisure, False
        record = self._header.create_graph
        active.set(self._share)
        try:
            if self._part is None:
                self._part = self._first_contact()
            # A recorded pass is a transform to the rules of custom functions: derivatives inside them are recorded too.
            tape.mode.set(tape.Mode(record, self._part.frame, tape.next_level() if record else 0))
            # Infinite and undefined gradients at the edge of a domain are values, of which NumPy need not warn.
            with np.errstate(all="ignore"):
                while not self.ended.done:
                    leisurely = self._part.leisurely
                    if leisurely and self._step_aside():
                        return
                    if leisurely is not leisure:
                        leisure = leisurely
                        self._process.executor.timesheet.begin(WEIGHTS if leisure else GRADIENTS)
                    messages = self._part.step()
                    if messages:
                        self._send(messages)
                    elif messages is None and self._stop(self._part):
                        return
        except BaseException as error:  # a vjp, a hook or a seed went wrong: the whole pass ends
            if isinstance(error, KeyboardInterrupt):
                self.interrupted = error
            self._broken(error)

    def _step_aside(self) -> bool:
        """Lets others in line compute first. False: nobody is, or something has come that others wait for."""
        if not self._process.executor.keeps_waiting(self._weight_urgency):
            return False
        with self.lock:
            if self._inbox:
                return False
            self._schedule(leisure=True)
            return True

    def _stop(self, part: Part) -> bool:
        """Ends the job if there is no work."""
        with self.lock:
            if self._inbox:
                return False
            self._working = False
            self._settle(part)
            return True

    def _settle(self, part: Part) -> None:
        """There is no work: lets the protocol decide what follows. Called with the lock held."""
        self._send(part.settle())
        outcome = part.outcome
        if outcome is None:
            if self._inbox:
                self._schedule()
        elif isinstance(outcome, Complete):
            self.ended.set_result(outcome)
        else:
            self.abort(
                DistgradError(
                    f"internal error: {outcome.waiting} nodes of {self} still wait after the mark; please report the "
                    "program"
                )
            )

    # ---- first contact -----------------------------------------------------------------------------------------------

    def _first_contact(self) -> Part:
        """Takes the snapshot of this process's edges, roots and inputs that the pass counts over."""
        process, header = self._process, self._header
        for root in roots_of(header, process.name):
            self._roots[root.position] = self._tensor(root.ref, f"root {root.position}")
        for wanted in header.inputs:
            if wanted.ref.owner == process.name:
                what = f"input {wanted.position}"
                self._inputs[wanted.position] = (
                    process.find_parameters(wanted.shard) if wanted.shard else self._tensor(wanted.ref, what)
                )
        nodes = None
        if header.restricted:
            nodes = frozenset(
                require_node(tensor, f"input {k}") for k, found in self._inputs.items() for tensor in _each(found)
            )
        with self._share.lock:
            sends, recvs = dict(self._share.sends), dict(self._share.recvs)
        dead = [edge_from_wire(edge) for edge in header.dead]
        part = Part(
            process.name,
            header.initiator,
            Snapshot(self._roots, sends, recvs, dead, nodes, self._cut),
            path=self.path,
            record=header.create_graph,
            retain=header.retain_graph,
            lost=self._share.lost,
            pack=self._pack,
            unpack=self._unpack,
            inbox=self._inbox,
        )
        if process.name == header.initiator:
            header.dead.extend(edge_to_pb(recv.edge) for recv in part.unreached)
        return part

    def _tensor(self, ref: pb.RefId, what: str) -> Tensor:
        """The value, or an item of the value, of a call that ran here, which must be one tensor."""
        name = ref_from_pb(ref)
        value, _ = select(self._share.value(name.path).result(timeout=0), name.steps, what)
        arrays = arrays_of(value)
        if len(arrays) != 1 or not isinstance(arrays[0], Tensor):
            found = f"{len(arrays)} arrays" if len(arrays) != 1 else f"a {type(arrays[0]).__name__}"
            raise GradientError(
                f"{what} must be one tensor, but its value on {self._process.name} has {found}; index the Ref"
            )
        return arrays[0]

    # ---- gradients on their way --------------------------------------------------------------------------------------

    def _send(self, messages: list[Outgoing]) -> None:
        # The context may never have led there: a method may have returned what another process computed.
        with self._share.lock:
            for peer, _ in messages:
                self._share.meet_peer(peer)
        for peer, message in messages:
            self._process.send(peer, *message_to_pb(message, self._header))

    def _pack(self, edge: EdgeId, gradient: Any, peer: str) -> Any:
        """A gradient as it travels; under create_graph it leaves a send node of its own."""
        if gradient is None:
            return None
        data = gradient.data if isinstance(gradient, Tensor) else gradient
        if isinstance(data, Rows):
            array: Any = data
        elif peer == self._process.name:
            array = normalise(np.asarray(data))
        else:  # the link does the same
            array = np.asarray(data)
        if self._process.encoder is not None:
            context = self._share.identity
            way = (context.microbatch, self.path, edge)
            array = self._process.encoder.gradient(array, peer, context.owner, way)
        if not isinstance(gradient, Tensor) or gradient.node is None:
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
        return EdgeId(self.path, pb.DIRECTION_GRADIENT, 0, 0, edge)

    # ---- the end -----------------------------------------------------------------------------------------------------

    def finish(self, into: Share | None = None) -> pb.Finished:
        """The pass has ended everywhere: its gradients become part of the context, or of the one given; those of inputs
        become values, and are named in what it returns.

        Raises:
            WireError: it has not begun here.
        """
        gradients = self.gradients
        self._share.end_pass(self.path)
        self.ended.set_result(Complete(()))
        if self._header.accumulate:
            if gradients:
                (into or self._share).merge(self.path, gradients)
            return pb.Finished()
        finished = pb.Finished()
        for wanted in self._header.inputs:
            if wanted.ref.owner == self._process.name:
                value = _gradients_of(self._inputs[wanted.position], gradients)
                if value is not None:
                    self._share.value((*self.path, -1 - wanted.position)).set_result(value)
                    parameters = list(value) if isinstance(value, dict) else []
                    finished.found.add(position=wanted.position, parameters=parameters)
        return finished

    @property
    def gradients(self) -> Mapping[Node, Any]:
        """What the pass has found in this process. Raises WireError when it has not begun here, and cannot be over."""
        if self._part is None:
            raise WireError(f"the end of {self!r}, which has not begun")
        return self._part.gradients

    def gradient(self, tensor: Tensor) -> Tensor | None:
        """At the initiator, what the pass has found for one of its own inputs."""
        found: Tensor | None = _gradients_of(tensor, self.gradients)
        return found

    def abort(self, error: DistgradError) -> None:
        """The pass has failed: every process that shares the context is told, once."""
        if self.fail(error):
            flood_abort(self._process, self._share, self.path, error)

    def fail(self, error: DistgradError) -> bool:
        """Frees this process's part of a failed pass. False when it had ended before."""
        self._share.end_pass(self.path)
        return self.ended.set_error(error)

    def _broken(self, error: BaseException) -> None:
        """What went wrong here ends the pass everywhere."""
        if not isinstance(error, DistgradError):
            error = error_from_pb(error_to_pb(error, self._process.name, f"backward of context {self._share.id}"))
        self.abort(error)

    def __repr__(self) -> str:
        return f"<pass {'/'.join(map(str, self.path))} of {self._share.id} on {self._process.name}: {self._part}>"


def _each(found: Tensor | Mapping[str, Tensor]) -> list[Tensor]:
    """The tensor, or the parameters that have gradients."""
    return [found] if isinstance(found, Tensor) else [x for x in found.values() if x.requires_grad]


def _gradients_of(wanted: Tensor | Mapping[str, Tensor], gradients: Mapping[Node, Any]) -> Any:
    """The gradient of a tensor as a tensor, or None; of parameters as a dict of those that have one, or None."""
    if isinstance(wanted, Tensor):
        gradient = gradients.get(require_node(wanted, "an input"))
        if isinstance(gradient, Rows):
            gradient = gradient.dense()
        return gradient if gradient is None or isinstance(gradient, Tensor) else Tensor(gradient)
    found = {name: _gradients_of(tensor, gradients) for name, tensor in wanted.items() if tensor.requires_grad}
    return {name: gradient for name, gradient in found.items() if gradient is not None} or None


def flood_abort(process: Process, share: Share, path: Path, error: DistgradError) -> None:
    """Tells every process that this one shares the context with that a pass has failed."""
    message = pb.Abort(context=share.id, path=path, error=error_to_pb(error, process.name, "backward"))
    with share.lock:
        peers = sorted(share.peers - {process.name})
    for peer in peers:
        process.send(peer, message)
