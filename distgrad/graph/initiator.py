"""The passes that one process starts in one context: where they begin, and in what order they count."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from distgrad.autograd.tape import Node, Path
from distgrad.autograd.tensor import Tensor
from distgrad.errors import Cancelled, ContextError, DistgradError, GradientError, Timeout
from distgrad.wire import RefName, pb, ref_to_pb

from .backward import LocalPass
from .deadlines import Deadline, current
from .gathering import Gathering
from .inputs import Input, Remote
from .protocol import Complete
from .refs import Outcome, Ref
from .share import Share
from .tangents import refuse_passes
from .urgency import USUAL, urgencies, urgency_to_wire
from .waiting import Promise

if TYPE_CHECKING:
    from .process import Process

Root = Ref | Tensor


class Initiator:
    """Starts passes at the owners of their roots, and has their gradients merged as they end: those of one frame, which
    only one thread or task at a time may start, in the order of the program."""

    def __init__(self, process: Process, share: Share) -> None:
        self._process = process
        self._share = share
        self._lock = threading.Lock()
        self._merging: list[Promise[Any]] = []
        # Where this context's gradients are added to another's, and its number there.
        self.gathered: tuple[Gathering, int] | None = None

    def accumulate(
        self,
        path: Path,
        roots: Any,
        gradient: Any,
        inputs: Sequence[Input] | None,
        *,
        retain: bool,
        record: bool,
    ) -> Run:
        """A pass that adds to the context's gradients, and is yet to begin.

        Arguments:
            path: of the pass, as if it were a call.
            roots: a Ref or tensor, or a list or tuple of them.
            gradient: a seed, or as many.
            inputs: only these get a gradient.

        Raises:
            GradientError, ContextError: a root is not one.
        """
        run = self._run(path, roots, gradient, retain, record)
        run.accumulate()
        if inputs is not None:
            run.restrict(inputs, cut=False)
        run.then = self._merge
        return run

    def restricted(
        self, path: Path, roots: Any, gradient: Any, inputs: Sequence[Input], *, retain: bool, record: bool, cut: bool
    ) -> Run:
        """A pass that finds the gradients of `inputs` and adds to none."""
        run = self._run(path, roots, gradient, retain, record)
        for k, item in enumerate(inputs):
            if isinstance(item, Ref):
                self._check_share(item, f"input {k}")
        run.restrict(inputs, cut)
        return run

    def _run(self, path: Path, roots: Any, gradient: Any, retain: bool, record: bool) -> Run:
        if self._process.forked is not None:
            raise self._process.forked
        refuse_passes()
        several = isinstance(roots, list | tuple)
        chosen: list[Root] = list(roots) if several else [roots]
        seeds: list[Any] = list(gradient) if several and gradient is not None else [gradient] * len(chosen)
        if len(seeds) != len(chosen):
            raise GradientError(f"{len(chosen)} roots came with {len(seeds)} gradients")
        for k, (root, seed) in enumerate(zip(chosen, seeds, strict=True)):
            if not isinstance(root, Ref | Tensor):
                raise GradientError(f"root {k} must be a Ref or a tensor, not {type(root).__name__}")
            if isinstance(root, Ref):
                self._check_share(root, f"root {k}")
                if record and isinstance(seed, Tensor) and seed.requires_grad:
                    # The gradients will depend on the seed too: the pass must begin where that is.
                    chosen[k] = root.get()
        self._share.check_open()
        header = pb.Pass(
            context=self._share.identity,
            initiator=self._process.name,
            create_graph=record,
            retain_graph=retain or record,
            path=path,
            urgency=urgency_to_wire(urgencies.get().gradient, USUAL.gradient),
            weight_urgency=urgency_to_wire(urgencies.get().weight, USUAL.weight),
        )
        return Run(self._process, self._share, header, list(zip(chosen, seeds, strict=True)))

    def _check_share(self, ref: Ref, what: str) -> None:
        if ref.share is not self._share:
            raise ContextError(f"{what}, {ref!r}, belongs to context {ref.share.id}, not to {self._share.id}")

    def _merge(self, run: Run) -> None:
        """A pass has ended, well or not."""
        if self.gathered is None:
            self._keep(run, None)
            return
        gathering, number = self.gathered
        gathering.take_turn(number, lambda: self._keep(run, gathering.into))

    def _keep(self, run: Run, into: Share | None) -> None:
        """Adds what a pass has found to this context's gradients, or to another's."""
        try:
            answers = list(run.finish(into).values())
        except BaseException as error:  # as when the user interrupts
            where = "/".join(map(str, run.path))
            partly: Promise[Any] = Promise()
            told = f"not every process was told to keep its gradients of pass {where}: {error!r}"
            partly.set_error(Cancelled(told))
            answers = [partly]
            raise
        finally:
            with self._lock:
                self._merging += answers

    def merging(self) -> list[Promise[Any]]:
        """What to wait for until the gradients of all passes that have ended are merged on every process. What could
        not be merged is told whenever somebody asks: the gradients are incomplete from then on."""
        with self._lock:
            self._merging = [merge for merge in self._merging if not merge.done or merge.error is not None]
            return list(self._merging)


class Run:
    """One pass, as its initiator sees it: `wait`, then `finish`. `wait` is a `with` block that waits for the calls of
    `awaited`, `begin`s, and waits for what that returns.

    Attributes:
        path: of the pass.
        awaited: Refs among the roots and inputs; their calls must have ended before the pass begins, so that all that
            leads to them has.
        end: what its end was like: who took part; nobody, when the pass failed.
        then: called when the block is left.
    """

    def __init__(self, process: Process, share: Share, header: pb.Pass, roots: Sequence[tuple[Root, Any]]) -> None:
        self.path: Path = tuple(header.path)
        self.awaited = [root for root, _ in roots if isinstance(root, Ref)]
        self.end = Complete(())
        self.then: Callable[[Run], None] = lambda run: None
        self._process = process
        self._share = share
        self._header = header
        self._roots = roots
        self._inputs: Sequence[Input] = ()
        self._cut = False
        self._local: LocalPass | None = None

    def accumulate(self) -> None:
        """What is found is added to the context's gradients."""
        self._header.accumulate = True

    def restrict(self, inputs: Sequence[Input], cut: bool) -> None:
        """Only the gradients of these are wanted. `cut`: the graph ends at those that are tensors."""
        self._header.restricted = True
        self._inputs = inputs
        self._cut = cut
        self.awaited += [item for item in inputs if isinstance(item, Ref)]

    def begin(self, *, here: bool = False) -> Promise[Complete]:
        """Engages the owners of the roots; the promise is kept when the pass has ended everywhere. `here`: the calling
        thread does what this process has to do at the beginning, if nothing else is computed now."""
        process, header = self._process, self._header
        tables: dict[str, pb.ProcessRoots] = {}
        seeds: dict[str, dict[int, Any]] = {process.name: {}}
        own: dict[int, Tensor] = {}
        for position, (root, seed) in enumerate(self._roots):
            if isinstance(root, Tensor):
                own[position] = root
                seeds[process.name][position] = seed
                continue
            origin = root.origin()
            table = tables.setdefault(origin.owner, pb.ProcessRoots(process=origin.owner))
            table.roots.add(ref=ref_to_pb(origin), position=position)
            seeds.setdefault(origin.owner, {})[position] = seed.data if isinstance(seed, Tensor) else seed
        header.roots.extend(tables.values())
        for position, item in enumerate(self._inputs):
            if isinstance(item, Ref):
                header.inputs.add(ref=ref_to_pb(item.origin()), position=position)
            elif isinstance(item, Remote):
                header.inputs.add(ref=pb.RefId(owner=item.worker), shard=item.shard, position=position)
        inputs = {position: item for position, item in enumerate(self._inputs) if isinstance(item, Tensor)}
        local = LocalPass(process, self._share, header, own, inputs, self._cut)
        with self._share.lock:
            self._share.check_open()
            self._share.passes[self.path] = self._local = local
        mine = seeds.pop(process.name)
        local.initiate(seeds, mine, here)
        if local.interrupted is not None:
            raise local.interrupted
        return local.ended

    def wait(self, deadline: Deadline) -> None:
        """The pass from begin to end.

        Raises:
            Timeout: it has not ended by then, and is aborted.
        """
        try:
            with self:
                for ref in self.awaited:
                    ref.wait(deadline.left)
                # Computing cannot be interrupted when the time is over, waiting can.
                ended = self.begin(here=deadline.left is None and current().left is None)
                self._process.executor.wait(ended, deadline.left, what="the pass")
                ended.result()
        except Timeout as error:
            if deadline.left != 0.0:
                raise  # it is the error of a call
            raise _too_long(self._share, deadline) from error

    async def wait_async(self, deadline: Deadline) -> None:
        """`wait` for coroutines. Cancelling it aborts the pass everywhere."""
        import asyncio

        try:
            with self:
                async with asyncio.timeout(deadline.left):
                    for ref in self.awaited:
                        await ref.wait_async()
                    await self.begin()
        except TimeoutError as error:
            if deadline.left != 0.0:
                raise
            raise _too_long(self._share, deadline) from error

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Whoever waited goes on: the pass has ended, or is given up everywhere because of an error."""
        local = self._local
        if local is not None and error is not None:
            local.abort(error if isinstance(error, DistgradError) else Cancelled(f"the pass was given up: {error!r}"))
        elif local is not None:
            self.end = local.ended.result(timeout=0)
        self.then(self)

    def finish(self, into: Share | None = None) -> dict[str, Promise[Any]]:
        """Has every process that found something keep it, in another context if one is given; the promises of their
        answers, by process. The others that took part are told, and nobody need wait for them."""
        finish = pb.Finish(context=self._share.id, path=self.path)
        if into is not None:
            finish.into.CopyFrom(into.identity)
            with into.lock:
                for peer in self.end.finds:
                    into.meet_peer(peer)
        me = self._process.name
        answers = {}
        for peer in self.end.met:
            if peer == me and (into is None or me not in self.end.finds):
                answers[me] = self._finish_here()
            elif peer in self.end.finds:
                answers[peer] = self._process.request(peer, finish)
            else:
                self._process.send(peer, finish)
        return answers

    def _finish_here(self) -> Promise[Any]:
        """What a request to this process itself would lead to."""
        assert self._local is not None, "a pass that has ended has begun"
        answer: Promise[Any] = Promise()
        try:
            answer.set_result((self._local.finish(), []))
        except DistgradError as error:  # the context has been released
            answer.set_error(error)
        return answer

    def found(self, node: Node) -> Any:
        """What a restricted pass has found for a node of the initiator."""
        assert self._local is not None, "a pass that has found something has begun"
        return self._local.gradients.get(node)

    def gradients(self, answers: Mapping[str, tuple[pb.Finished, Any]]) -> list[Any]:
        """What a restricted pass has found for each input, given the answers to `finish`: a tensor for one of the
        initiator's own, a Ref for a value elsewhere, a dict of Refs by name for a shard; None (or nothing in the dict)
        where there is no gradient."""
        found = {
            (peer, item.position): list(item.parameters) for peer, (body, _) in answers.items() for item in body.found
        }
        return [self._gradient(position, item, found) for position, item in enumerate(self._inputs)]

    def _gradient(self, position: int, item: Input, found: Mapping[tuple[str, int], list[str]]) -> Any:
        if isinstance(item, Tensor):
            assert self._local is not None, "a pass that has found something has begun"
            return self._local.gradient(item)
        owner = item.worker if isinstance(item, Remote) else item.origin().owner
        names = found.get((owner, position))
        outcome = Outcome(f"gradient {position} of pass {'/'.join(map(str, self.path))}", owner)
        outcome.succeed({})
        name = RefName(owner, self._share.id, (*self.path, -1 - position), (), self._process.peers.incarnation(owner))
        whole = Ref(self._process, self._share, name, outcome)
        if isinstance(item, Remote):
            return {parameter: whole[parameter] for parameter in names or ()}
        return None if names is None else whole


def _too_long(share: Share, deadline: Deadline) -> Timeout:
    return Timeout(f"backward of context {share.id} did not end within {deadline.timeout:g} s")
