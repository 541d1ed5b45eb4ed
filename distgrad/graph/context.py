"""A context: one recorded pass over any number of processes, as its owner sees it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from distgrad.autograd import tape
from distgrad.autograd.tape import Frame
from distgrad.autograd.tensor import Tensor
from distgrad.errors import ContextError, GradientError, Timeout
from distgrad.wire import decode_value, pb, ref_to_pb

from .backward import LocalPass
from .handles import ShardHandle
from .refs import Ref
from .share import Share, active
from .waiting import Promise

if TYPE_CHECKING:
    from types import TracebackType

    from .process import Process


class Context:
    """One recorded pass. Calls made inside it are recorded on every process they reach; leaving it releases all of
    that.

        with cluster.context() as ctx:
            loss = b.loss(a.forward(x), y)
            ctx.backward(loss)
            print(ctx.gradients(a))

    `with ctx:` may be entered again, also in another thread; the last exit ends it. Leaving normally waits for the
    calls made in it and raises the first error nobody has seen; leaving by an exception gives up what still runs.

    Attributes:
        id: unique over all processes and their incarnations.
        versions: parameter version of each optimizer when the context began.
    """

    def __init__(
        self, process: Process, versions: dict[str, int] | None = None, step: int = 0, microbatch: int = 0
    ) -> None:
        self._process = process
        self._share: Share = process.shares.meet(process.new_context_id(versions or {}, step, microbatch))
        self._share.issued = []
        self._frame = Frame((), tape.mode.get().frame.next_op)
        self._number_call = self._frame.next_call
        self._frame.next_call = self._next_call
        self._lock = threading.Lock()
        # Tokens of the context variables, by who entered.
        self._inside: dict[tuple[int, int], list[tuple[Any, Any]]] = {}
        # Who made the latest call directly in this context, not in a branch.
        self._issuer: tuple[int, int] | None = None
        self._passes = 0
        self._ended: dict[int, tuple[str, ...] | None] = {}
        self._next_to_finish = 0
        self._merging: list[Promise[Any]] = []

    @property
    def id(self) -> str:
        return self._share.id

    @property
    def versions(self) -> dict[str, int]:
        return dict(self._share.identity.versions)

    @property
    def closed(self) -> bool:
        return self._share.closed is not None

    # ---- with --------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Context:
        self._enter(self._frame)
        return self

    def _enter(self, frame: Frame) -> None:
        self._share.check_open()
        tokens = active.set(self._share), tape.mode.set(tape.mode.get().but(frame=frame))
        with self._lock:
            self._inside.setdefault(_thread_and_task(), []).append(tokens)

    def _leave(self) -> bool:
        """Undoes the latest `_enter` of this thread or task. True when nobody is left inside."""
        who = _thread_and_task()
        with self._lock:
            tokens = self._inside[who].pop()
            if not self._inside[who]:
                del self._inside[who]
            last = not self._inside
        active.reset(tokens[0])
        tape.mode.reset(tokens[1])
        return last

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._leave():
            return
        try:
            if kind is None and not self.closed:
                self.wait()
        finally:
            self.close()

    async def __aenter__(self) -> Context:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import asyncio

        if not self._leave():
            return
        try:
            if kind is None and not self.closed:
                await asyncio.to_thread(self.wait)
        finally:
            await asyncio.to_thread(self.close)

    def wait(self) -> None:
        """Waits until the calls made in it have ended, and raises the first error nobody has seen."""
        for outcome in list(self._share.issued or ()):
            self._process.executor.wait(outcome.done, what=outcome.label)
            if outcome.done.error is not None and not outcome.observed:
                outcome.observe()
                raise outcome.done.error

    def close(self) -> None:
        """Releases the context on every process it reached, and waits until they have. Values that were fetched stay
        usable."""
        released = self._process.release(self.id)
        self._process.executor.wait(released, what=f"the release of context {self.id}")

    @contextmanager
    def branch(self, index: int) -> Iterator[None]:
        """For a thread or task that makes calls beside others in this context: its calls get paths of their own, named
        by `index`, so that the order of sums does not depend on which thread is faster."""
        frame = Frame((*self._frame.path, -1 - index), self._frame.next_op)
        self._enter(frame)
        try:
            yield
        finally:
            self._leave()

    def _next_call(self) -> int:
        """The index of the next call made directly in this context."""
        who = _thread_and_task()
        with self._lock:
            if self._issuer != who and self._issuer in self._inside:
                raise ContextError(
                    f"two threads or tasks make calls side by side in context {self.id}, so their order would depend "
                    "on timing; let each enter `with ctx.branch(i):`"
                )
            self._issuer = who
        return self._number_call()

    # ---- gradients ---------------------------------------------------------------------------------------------------

    def backward(
        self,
        roots: Ref | Tensor | Sequence[Ref | Tensor],
        gradient: Any = None,
        *,
        retain_graph: bool = False,
        create_graph: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Computes the gradients of `roots`, wherever they and what they depend on are, and adds them to this
        context's.

        Arguments:
            roots: a Ref or tensor, or several, that were recorded in this context.
            gradient: seed (or seeds, for several roots) of the root's shape; may be left out for scalars.
            retain_graph: keep what the graph saved, for another pass over it.
            create_graph: record this pass itself.
            timeout: seconds, after which the pass is aborted everywhere.

        Raises:
            RemoteError: a vjp or hook failed on some worker, or a call the roots depend on.
            WorkerLost, ContextClosed, Timeout, GradientError, FreedGraphError
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        several = isinstance(roots, list | tuple)
        all_roots: list[Any] = list(roots) if several else [roots]  # type: ignore[arg-type]
        seeds: list[Any] = list(gradient) if several and gradient is not None else [gradient] * len(all_roots)
        if len(seeds) != len(all_roots):
            raise GradientError(f"{len(all_roots)} roots came with {len(seeds)} gradients")
        for root in all_roots:
            if isinstance(root, Ref):
                root._await(root.outcome.done, _left(deadline))
        local = self._begin(all_roots, seeds, retain_graph, create_graph)
        met = None
        try:
            self._process.executor.wait(local.ended, _left(deadline), what=f"backward of context {self.id}")
            met = local.ended.result()
        except Timeout as error:
            local.abort(error)
            raise
        finally:
            self._end(local, met)

    async def backward_async(self, *args: Any, **kwargs: Any) -> None:
        """`backward` for coroutines."""
        import asyncio

        await asyncio.to_thread(self.backward, *args, **kwargs)

    def _begin(self, roots: list[Any], seeds: list[Any], retain: bool, record: bool) -> LocalPass:
        """Makes the table of roots and starts a pass at their owners."""
        share, process = self._share, self._process
        with self._lock:
            number = self._passes
            self._passes += 1
        header = pb.Pass(
            context=share.identity,
            number=number,
            initiator=process.name,
            create_graph=record,
            retain_graph=retain or record,
            path=(*self._frame.path, self._number_call()),
        )
        local_roots: dict[int, Tensor] = {}
        remote: dict[str, dict[int, Any]] = {}
        tables: dict[str, pb.ProcessRoots] = {}
        for position, (root, seed) in enumerate(zip(roots, seeds, strict=True)):
            plain = seed.data if isinstance(seed, Tensor) else seed
            if isinstance(root, Tensor):
                local_roots[position] = root
                continue
            if not isinstance(root, Ref):
                raise GradientError(f"root {position} must be a Ref or a tensor, not {type(root).__name__}")
            if root.share is not share:
                raise ContextError(f"root {position}, {root!r}, belongs to context {root.share.id}, not to {self.id}")
            table = tables.setdefault(root.owner, pb.ProcessRoots(process=root.owner))
            table.roots.add(ref=ref_to_pb(root.name), position=position)
            remote.setdefault(root.owner, {})[position] = plain
        header.roots.extend(tables.values())
        with share.lock:
            share.check_open()
            try:
                local = share.passes[number] = LocalPass(process, share, header, local_roots)
            except BaseException:
                share.end_pass(number)
                self._finish_in_order(number, None)
                raise
        own = remote.pop(process.name, {})
        local.initiate(remote, {**{k: seeds[k] for k in local_roots}, **own})
        return local

    def _end(self, local: LocalPass, met: tuple[str, ...] | None) -> None:
        self._finish_in_order(local.number, met if met is None else tuple(met))

    def _finish_in_order(self, number: int, met: tuple[str, ...] | None) -> None:
        """Merges gradients of passes in the order of the passes. `met` None: that pass failed and leaves nothing."""
        with self._lock:
            self._ended[number] = met
            while self._next_to_finish in self._ended:
                current = self._next_to_finish
                for peer in self._ended.pop(current) or ():
                    self._merging.append(self._process.request(peer, pb.Finish(context=self.id, number=current)))
                self._next_to_finish += 1

    def settle(self) -> None:
        """Waits until the gradients of all passes are merged on every process."""
        with self._lock:
            merging, self._merging = self._merging, []
        for merge in merging:
            self._process.executor.wait(merge, what="the end of a backward pass")
            merge.result()

    def gradient(self, tensor: Tensor) -> Any:
        """The gradient of one of the caller's own variables, as an array; None when it received none."""
        self.settle()
        self._share.check_open()
        found = self._share.gradient(tensor.node)
        return found.data if isinstance(found, Tensor) else found

    def gradients(self, shard: ShardHandle | str) -> dict[str, Any]:
        """The gradients of a shard's parameters by name; parameters that received none are absent."""
        self.settle()
        self._share.check_open()
        name = shard if isinstance(shard, str) else shard.shard_name
        found = self._process.find_shard(name)
        self._process.executor.wait(found, what=f"where shard {name!r} is")
        worker, _ = found.result()
        reply, arrays = self._process.ask(worker, pb.ReadGradients(context=self.id, shard=name))
        gradients: dict[str, Any] = decode_value(reply.gradients, arrays)
        return gradients

    def __repr__(self) -> str:
        return f"<Context {self.id}{', closed' if self.closed else ''}>"


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _thread_and_task() -> tuple[int, int]:
    """Who runs here: the thread, and the asyncio task if there is one."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return threading.get_ident(), 0
    try:
        return threading.get_ident(), id(asyncio.current_task())
    except RuntimeError:
        return threading.get_ident(), 0
