"""A context: one recorded pass over any number of processes, as its owner sees it."""

from __future__ import annotations

import operator
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from distgrad.autograd import tape
from distgrad.autograd.tape import Frame, Path
from distgrad.autograd.tensor import Tensor
from distgrad.errors import ContextError, GradientError
from distgrad.wire import decode_value, pb

from .caller import issued
from .deadlines import Deadline
from .functional import next_path
from .gathering import Gathering
from .handles import ShardHandle
from .initiator import Initiator, Run
from .inputs import Input, find_inputs, find_variables
from .refs import Issued, Ref
from .share import Share, active
from .stitched import Graph, read_graph
from .waiting import settled

if TYPE_CHECKING:
    import asyncio
    from contextvars import Token
    from types import TracebackType

    from .process import Process

    Who = threading.Thread | asyncio.Task[Any]


# So many branches have paths that travel, and are no shard's; see `shard_frame`.
BRANCHES = 2**31 - 1


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
        self._initiator = Initiator(process, self._share)
        self._lock = threading.Lock()
        # Tokens of the context variables, by who entered.
        self._inside: dict[Who, list[list[tuple[Any, Token[Any]]]]] = {}
        # Whether somebody has entered it, not only a branch of it.
        self._entered = False
        # Where calls are numbered: () for those made directly in the context, (-1 - i,) for those of branch i.
        self._frames: dict[Path, Frame] = {}
        # Who made the latest call of each frame.
        self._issuers: dict[Path, Who] = {}
        self._frame = self._numbered(())
        self._share.frame = self._frame
        self._share.issued = self._issued = Issued()

    @property
    def share(self) -> Share:
        """What this process holds of it."""
        return self._share

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
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._leave():
            self.end(failed=kind is not None)

    def end(self, *, failed: bool) -> None:
        """What leaving it last does: waits for its calls and raises their errors, unless something else `failed`; then
        closes it."""
        try:
            if not failed and not self.closed:
                self.wait()
        finally:
            self.close()

    async def __aenter__(self) -> Context:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._leave():
            return
        try:
            if kind is None and not self.closed:
                await self.wait_async()
        finally:
            await self.close_async()

    def _enter(self, frame: Frame) -> None:
        self._share.check_open()
        variables: list[tuple[Any, Any]] = [
            (active, self._share),
            (tape.mode, tape.mode.get().but(frame=frame)),
            (issued, self._issued),
        ]
        tokens = [(variable, variable.set(value)) for variable, value in variables]
        with self._lock:
            self._inside.setdefault(_who(), []).append(tokens)

    def _leave(self) -> bool:
        """Undoes the latest `_enter` of this thread or task, or of one that has ended inside. True when it was entered
        and nobody is left inside."""
        here = _who()
        with self._lock:
            who = here if here in self._inside else next((who for who in self._inside if not _alive(who)), None)
            if who is None:
                inside = ", ".join(map(_name, self._inside)) or "nobody"
                raise ContextError(
                    f"{_name(here)} leaves context {self.id}, inside of which is {inside}: whoever enters it leaves "
                    "it, and close() ends it from anywhere"
                )
            tokens = self._inside[who].pop()
            if not self._inside[who]:
                del self._inside[who]
                self._issuers = {path: issuer for path, issuer in self._issuers.items() if issuer is not who}
            last = self._entered and not self._inside
        if who is here:  # those of one that has ended are gone
            for variable, token in tokens:
                variable.reset(token)
        return last

    def wait(self) -> None:
        """Waits until the calls made in it have ended, and raises the first error nobody has seen."""
        for outcome in self._issued:
            self._process.executor.wait(outcome.done, what=outcome.label)
            outcome.raise_unseen()

    async def wait_async(self) -> None:
        """`wait` for coroutines."""
        for outcome in self._issued:
            await settled(outcome.done)
            outcome.raise_unseen()

    def close(self) -> None:
        """Releases the context on every process it reached, and waits until they have. Values that were fetched stay
        usable."""
        released = self._process.releases.release([self.id])
        self._process.executor.wait(released, what=f"the release of context {self.id}")

    async def close_async(self) -> None:
        """`close` for coroutines."""
        await self._process.releases.release([self.id])

    # ---- the order of calls ------------------------------------------------------------------------------------------

    @contextmanager
    def branch(self, index: int) -> Iterator[None]:
        """For a thread or task that makes calls beside others in this context: its calls get paths of their own, named
        by `index`, so that the order of sums does not depend on which thread is faster. A branch that is left after the
        context was ends the context."""
        if not 0 <= operator.index(index) < BRANCHES:
            raise ContextError(f"a branch is numbered from 0 to {BRANCHES - 1}, not {index}")
        self._enter(self._numbered((-1 - index,)))
        with ExitStack() as stack:
            stack.push(self)
            yield

    def _numbered(self, path: Path) -> Frame:
        """The frame of that path, whose calls only one thread or task at a time may make."""
        with self._lock:
            frame = self._frames.get(path)
            if frame is None:
                frame = self._frames[path] = Frame(path, tape.mode.get().frame.next_op)
                frame.next_call = partial(self._next_call, path, frame.next_call)
            return frame

    def _next_call(self, path: Path, number: Callable[[], int]) -> int:
        """The index of the next call in that frame."""
        who = _who()
        with self._lock:
            last = self._issuers.get(path)
            if last is not None and last is not who and _alive(last):
                raise ContextError(
                    f"{_name(last)} and another make calls side by side in context {self.id}, so their order would "
                    "depend on timing; let each thread or task enter `with ctx.branch(i):` with an i of its own"
                )
            self._issuers[path] = who
            return number()

    # ---- gradients ---------------------------------------------------------------------------------------------------

    def backward(
        self,
        roots: Ref | Tensor | Sequence[Ref | Tensor],
        gradient: Any = None,
        *,
        inputs: Any = None,
        retain_graph: bool = False,
        create_graph: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Computes the gradients of `roots`, wherever they and what they depend on are, and adds them to this
        context's.

        Arguments:
            roots: a Ref or tensor, or several, that were recorded in this context.
            gradient: seed (or seeds, for several roots) of the root's shape; may be left out for scalars.
            inputs: only these get a gradient: one or more of the caller's variables and shards' handles.
            retain_graph: keep what the graph saved, for another pass over it.
            create_graph: record this pass itself.
            timeout: seconds, after which the pass is aborted everywhere.

        Raises:
            RemoteError: a vjp or hook failed on some worker, or a call the roots depend on.
            WorkerLost, ContextClosed, Timeout, GradientError, FreedGraphError
        """
        deadline = Deadline(timeout)
        wanted = None if inputs is None else find_variables(self._process, inputs)
        run = self._initiator.accumulate(
            next_path(self._share, self._process), roots, gradient, wanted, retain=retain_graph, record=create_graph
        )
        run.wait(deadline)

    async def backward_async(
        self,
        roots: Ref | Tensor | Sequence[Ref | Tensor],
        gradient: Any = None,
        *,
        inputs: Any = None,
        retain_graph: bool = False,
        create_graph: bool = False,
        timeout: float | None = None,
    ) -> None:
        """`backward` for coroutines. Cancelling it aborts the pass everywhere."""
        import asyncio

        deadline = Deadline(timeout)
        wanted = None if inputs is None else await asyncio.to_thread(find_variables, self._process, inputs)
        run = self._initiator.accumulate(
            next_path(self._share, self._process), roots, gradient, wanted, retain=retain_graph, record=create_graph
        )
        await run.wait_async(deadline)

    def grad(
        self,
        roots: Ref | Tensor | Sequence[Ref | Tensor],
        inputs: Any,
        gradient: Any = None,
        *,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """The gradients of `roots` with respect to `inputs`; what passes have accumulated is left alone.

        Arguments:
            roots, gradient: as for `backward`.
            inputs: one, or a list or tuple, of: a tensor of the caller that was recorded, not only a variable; a Ref to
                a tensor; a shard's handle, for all its parameters.
            retain_graph: keep what the graph saved; by default when `create_graph`.
            create_graph: record this pass, so that the gradients can be differentiated in turn.
            timeout: seconds, after which the pass is aborted everywhere.

        Returns:
            for a tensor a tensor, for a Ref a Ref, for a handle a dict of Refs by the parameters' names. None where
            there is no gradient; parameters without one are absent.
        """
        deadline = Deadline(timeout)
        run = self._restricted(roots, find_inputs(self._process, inputs), gradient, retain_graph, create_graph)
        run.wait(deadline)
        answers = run.finish()
        for peer, answer in answers.items():
            self._process.executor.wait(answer, deadline.left, what=f"the gradients found by {peer}")
        found = run.gradients({peer: answer.result() for peer, answer in answers.items()})
        return found if isinstance(inputs, list | tuple) else found[0]

    async def grad_async(
        self,
        roots: Ref | Tensor | Sequence[Ref | Tensor],
        inputs: Any,
        gradient: Any = None,
        *,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """`grad` for coroutines. Cancelling it aborts the pass everywhere."""
        import asyncio

        deadline = Deadline(timeout)
        wanted = await asyncio.to_thread(find_inputs, self._process, inputs)
        run = self._restricted(roots, wanted, gradient, retain_graph, create_graph)
        await run.wait_async(deadline)
        found = run.gradients({peer: await answer for peer, answer in run.finish().items()})
        return found if isinstance(inputs, list | tuple) else found[0]

    def _restricted(self, roots: Any, wanted: list[Input], gradient: Any, retain: bool | None, record: bool) -> Run:
        keep = record if retain is None else retain
        path = next_path(self._share, self._process)
        return self._initiator.restricted(path, roots, gradient, wanted, retain=keep, record=record, cut=False)

    def gather(self, *others: Context) -> None:
        """From now on the gradients of `others` are added to this context's, in this order, as their passes end, so
        that no process keeps more than the sum. Each of them, and this one first, makes one pass; they have the same
        owner and live as long.
        """
        gathering = Gathering(self._share)
        for number, context in enumerate((self, *others)):
            context._initiator.gathered = gathering, number

    def settle(self) -> None:
        """Waits until the gradients of all passes are merged on every process."""
        for merge in self._initiator.merging():
            self._process.executor.wait(merge, what="the end of a backward pass")
            merge.result()

    def gradient(self, tensor: Tensor) -> Any:
        """The gradient of one of the caller's own variables, as an array (`Rows` when sparse); None when it received
        none. A tensor that can be differentiated in turn, when a recorded pass was among those that gave it.

        Raises:
            GradientError: it is no tensor; `ctx.gradients` has those of shards, `ctx.grad` finds those of Refs.
        """
        if not isinstance(tensor, Tensor):
            raise GradientError(
                f"gradient() takes a variable of the caller, not {type(tensor).__name__}; ctx.gradients(shard) has "
                "those of a shard's parameters, ctx.grad(roots, ref) finds that of a Ref's value"
            )
        self.settle()
        self._share.check_open()
        return self._share.gradient(tensor.node)

    async def gradient_async(self, tensor: Tensor) -> Any:
        """`gradient` for coroutines."""
        import asyncio

        return await asyncio.to_thread(self.gradient, tensor)

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

    async def gradients_async(self, shard: ShardHandle | str) -> dict[str, Any]:
        """`gradients` for coroutines."""
        import asyncio

        return await asyncio.to_thread(self.gradients, shard)

    def graph(self, timeout: float | None = None) -> Graph:
        """The global graph as it is now: calls, and the edges between them, of every process the context has reached.

            print(ctx.graph())

        Arguments:
            timeout: seconds to hear from all processes.

        Raises:
            WorkerLost, ContextClosed, Timeout
        """
        self._share.check_open()
        return read_graph(self._process, self._share, Deadline(timeout))

    async def graph_async(self, timeout: float | None = None) -> Graph:
        """`graph` for coroutines."""
        import asyncio

        return await asyncio.to_thread(self.graph, timeout)

    def __repr__(self) -> str:
        return f"<Context {self.id}{', closed' if self.closed else ''}>"


def _who() -> Who:
    """Who runs here: the asyncio task if there is one, else the thread."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None:
        try:
            task = asyncio.current_task()
        except RuntimeError:  # no event loop runs in this thread
            task = None
        if task is not None:
            return task  # type: ignore[no-any-return]
    return threading.current_thread()


def _alive(who: Who) -> bool:
    return who.is_alive() if isinstance(who, threading.Thread) else not who.done()


def _name(who: Who) -> str:
    return who.name if isinstance(who, threading.Thread) else who.get_name()
