"""References: the promise of a value on a worker."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from distgrad.autograd.tape import Mode, Path, mode
from distgrad.autograd.tensor import Tensor
from distgrad.errors import CannotTravel, ContextClosed, DistgradError
from distgrad.wire import RefName

from .deadlines import seconds_of
from .share import Share
from .tangents import primal_of
from .waiting import Promise, all_done, settled

if TYPE_CHECKING:
    from .process import Process


# From a call's value to an item in it: indices and keys.
Steps = tuple[int | str, ...]


class Outcome:
    """What the caller knows of one call it issued, shared by the Refs to its value and to items of it.

    Attributes:
        method, worker: "SHARD.METHOD" and where it runs.
        done: set when the call has ended: its method has returned, and the calls it made have ended.
        returned: set when its method has returned, or failed.
        comes: whether the value is expected to come by itself then, since that of the method's last call did.
        brings: whether the value was asked for with the call, recorded; if it is not too large it comes then.
        brought: that value, as it came; None when it did not.
        sources: outcomes of the calls whose Refs were its arguments; let go of when the call has succeeded.
        followed: whether the call was made in a jvp of this process, which sees how it ends.
        observed: whether somebody has seen the call's error.
        lost: why the value of a call made outside any context is gone: its process was lost, or the way to it, and it
            was dropped there.
        forwards: parts of the value that are values of other calls: where they really are, by the steps to the part.
        fetched: values fetched so far, by steps and whether an edge was left.
    """

    __slots__ = (
        "__weakref__",
        "brings",
        "brought",
        "comes",
        "done",
        "fetched",
        "followed",
        "forwards",
        "lost",
        "method",
        "observed",
        "returned",
        "sources",
        "worker",
    )

    def __init__(self, method: str, worker: str, sources: Sequence[Outcome] = (), comes: bool = False) -> None:
        self.method = method
        self.worker = worker
        self.comes = comes
        self.followed = False
        self.brings = False
        self.brought: Any = None
        self.done: Promise[None] = Promise()
        self.returned: Promise[None] = Promise()
        self.sources = sources
        self.observed = False
        self.lost: DistgradError | None = None
        self.forwards: dict[Steps, RefName] = {}
        self.fetched: dict[tuple[Steps, bool], Promise[Any]] = {}

    @property
    def label(self) -> str:
        return f"{self.method} on {self.worker}"

    def bring(self, value: Any) -> None:
        """The value came by itself, as plain data."""
        self.fetched.setdefault(((), False), Promise()).set_result(value)

    def succeed(self, forwards: dict[Steps, RefName]) -> None:
        """The call has ended well."""
        self.forwards = forwards
        self.sources = ()
        self.done.set_result(None)
        self.returned.set_result(None)

    def fail(self, error: DistgradError) -> None:
        """The call has ended with an error."""
        self.done.set_error(error)
        self.returned.set_error(error)

    def observe(self) -> None:
        """The error of this call, and so of the failed calls it came from, has been seen."""
        pending = [self]
        while pending:
            outcome = pending.pop()
            if not outcome.observed:
                outcome.observed = True
                pending.extend(outcome.sources)

    @property
    def seen(self) -> bool:
        """Whether somebody has seen the call's error, or the error of the failed call that it comes from."""
        outcome: Outcome | None = self
        while outcome is not None:
            if outcome.observed:
                return True
            outcome = next((source for source in outcome.sources if source.done.error is not None), None)
        return False

    def raise_unseen(self) -> None:
        """Raises the call's error if it failed and nobody has seen why; now it is seen.

        That tangents of a jvp could not go on is no error of the program's: the jvp finds its result in another way.
        """
        if self.followed and isinstance(self.done.error, CannotTravel):
            return
        if self.done.error is not None and not self.seen:
            self.observe()
            raise self.done.error


class Issued:
    """The calls made in a context or by a call, until they have ended well."""

    def __init__(self) -> None:
        self._open: dict[Outcome, None] = {}

    def add(self, outcome: Outcome) -> None:
        self._open[outcome] = None
        outcome.done.add_callback(lambda done: self._ended(outcome) if done.error is None else None)

    def _ended(self, outcome: Outcome) -> None:
        self._open.pop(outcome, None)

    @property
    def all_ended(self) -> bool:
        """Whether all calls made so far have ended, well or not."""
        return not self._open or all(outcome.done.done for outcome in self)

    def ended(self) -> Promise[None]:
        """Done, well or not, when all calls made so far have ended."""
        ended: Promise[None] = Promise()
        all_done([settled(outcome.done) for outcome in self], ended)
        return ended

    def raise_unseen(self) -> None:
        """Raises the error of the first call that failed and whose error nobody has seen; now it is seen."""
        if self._open:
            for outcome in self:
                outcome.raise_unseen()

    def __iter__(self) -> Iterator[Outcome]:
        """Those that have not ended well, in order."""
        return iter(list(self._open))


class Ref:
    """The promise of a call's value, or of an item in it, on the worker that runs the call.

    Calling a shard returns a Ref at once. Given to another call, the value travels straight from its owner. `get()`
    brings it here: a recorded tensor, so that a backward pass can go through it; `numpy()`, `item()` and `print(ref)`
    bring plain data.
    """

    __slots__ = ("__weakref__", "_outcome", "_process", "_share", "name")

    def __init__(self, process: Process, share: Share, name: RefName, outcome: Outcome) -> None:
        self._process = process
        self._share = share
        self._outcome = outcome
        self.name = name
        if not share.records and not name.steps:
            process.references.hold(outcome, name)

    # ---- where it is -------------------------------------------------------------------------------------------------

    @property
    def owner(self) -> str:
        """Name of the process that has or will have the value."""
        return self.name.owner

    @property
    def share(self) -> Share:
        return self._share

    @property
    def outcome(self) -> Outcome:
        return self._outcome

    @property
    def path(self) -> Path:
        return self.name.path

    @property
    def done(self) -> bool:
        """Whether the call has ended, well or not."""
        return self._outcome.done.done

    def require(self) -> RefName:
        """Its name, for others to ask for the value by.

        Raises:
            WorkerLost: the value of a call made outside any context is gone with its process.
        """
        if self._outcome.lost is not None:
            raise self._outcome.lost
        return self.name

    def origin(self) -> RefName:
        """Where the value really is, once the call has ended: methods may return references."""
        steps = self.name.steps
        for length in range(len(steps), -1, -1):
            origin = self._outcome.forwards.get(steps[:length])
            if origin is not None:
                return origin._replace(steps=(*origin.steps, *steps[length:]))
        return self.name

    def origins(self) -> dict[Steps, RefName]:
        """The origin of the value, by (), and of those of its parts that come from elsewhere, by the steps to them."""
        steps = self.name.steps
        within = {
            place[len(steps) :]: origin
            for place, origin in self._outcome.forwards.items()
            if len(place) > len(steps) and place[: len(steps)] == steps
        }
        return {(): self.origin(), **within}

    def __getitem__(self, step: int | str) -> Ref:
        """The item of the value, still on its owner."""
        if not isinstance(step, int | str):
            raise TypeError(f"a Ref is indexed by int or str, not by {type(step).__name__}; use .get()[...] for slices")
        name = self.name._replace(steps=(*self.name.steps, step))
        return Ref(self._process, self._share, name, self._outcome)

    def __iter__(self) -> Iterator[Any]:
        raise TypeError(
            "a Ref cannot be unpacked, since nobody knows yet how many items it will have; declare the method with "
            "@dg.remote(outputs=N) to get N Refs, or index it: ref[0]"
        )

    def __bool__(self) -> bool:
        raise TypeError("a Ref is not its value: ask `if ref.item():`, or `if ref is not None:`")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Ref belongs to this process: pass it to a shard as it is, or bring its value here by .get()")

    # ---- its value ---------------------------------------------------------------------------------------------------

    def get(self, timeout: float | None = None) -> Any:
        """The value, brought here. Arrays come as tensors; in a recording context they are part of the graph.

        Arguments:
            timeout: seconds to wait; the call runs on when they have passed.

        Raises:
            RemoteError: the call, or one it depended on, failed.
            WorkerLost, ContextClosed, Timeout
        """
        return self._await(self._fetch(self._share.records and mode.get().record), timeout)

    def numpy(self, timeout: float | None = None) -> Any:
        """The value as plain arrays; leaves no edge."""
        from .values import map_leaves

        value = self._await(self._fetch(False), timeout)
        return map_leaves(value, lambda leaf: leaf.numpy() if isinstance(leaf, Tensor) else leaf)

    def item(self, timeout: float | None = None) -> Any:
        """The value of a call that returned one number, as a Python number; leaves no edge."""
        value = self.numpy(timeout)
        return value.item() if isinstance(value, np.ndarray | np.generic) else value

    def wait(self, timeout: float | None = None) -> None:
        """Returns when the call has ended, and raises its error if it failed."""
        self._await(self._outcome.done, timeout)

    async def wait_async(self) -> None:
        """`wait` for coroutines."""
        try:
            await self._outcome.done
        finally:
            if self._outcome.done.error is not None:
                self._outcome.observe()

    async def get_async(self, timeout: float | None = None) -> Any:
        """`get` for coroutines."""
        import asyncio

        seconds = seconds_of(timeout)
        promise = self._fetch(self._share.records and mode.get().record)
        try:
            async with asyncio.timeout(seconds) as limit:
                return await promise
        except TimeoutError as error:
            if not limit.expired():
                raise  # it is the error of the call
            from distgrad.errors import Timeout

            raise Timeout(f"the value of {self._outcome.label} did not come within {seconds:g} s") from error
        finally:
            if promise.done and promise.error is not None:
                self._outcome.observe()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.get_async().__await__()

    def _fetch(self, recorded: bool) -> Promise[Any]:
        """The promise of the value here, asked for once."""
        fetched, steps = self._outcome.fetched, self.name.steps
        promise = fetched.get((steps, recorded))
        if promise is None and not recorded and (steps, True) in fetched:
            promise = fetched[steps, False] = _constant(fetched[steps, True])
        if promise is None and self._share.closed is not None:
            promise = self._fetched_before()
        if promise is None and not steps and self._may_come(recorded):
            promise = self._once_returned(recorded)
        if promise is None:
            promise = fetched[steps, recorded] = self._fetch_now(recorded)
        return promise

    def _fetch_now(self, recorded: bool, into: Mode | None = None) -> Promise[Any]:
        """The promise of the value, asked for at its owner."""
        if self._outcome.lost is None:
            return self._process.fetch_result(self._share, self.name, recorded, into)
        promise: Promise[Any] = Promise()
        promise.set_error(self._outcome.lost)
        return promise

    def _may_come(self, recorded: bool) -> bool:
        """Whether the value has come by itself, or may still do so."""
        outcome = self._outcome
        if recorded and self.name.issuer:  # a gradient is the value of no method
            self._process.caller.takes(outcome.method)
        expected = outcome.brings or (outcome.comes and not recorded)
        return expected and (outcome.brought is not None or not outcome.returned.done)

    def _once_returned(self, recorded: bool) -> Promise[Any]:
        """The value when it has come by itself, or else been fetched after all."""
        value = self._outcome.fetched.setdefault(((), recorded), Promise())
        into = mode.get() if recorded else None

        def settle(returned: Promise[None]) -> None:
            if returned.error is not None:
                value.set_error(returned.error)
            elif self._outcome.brought is not None:
                self._process.fetcher.brought(self._share, self.name, into, self._outcome.brought, value)
            elif not value.done:
                self._fetch_now(recorded, into).pass_to(value)

        self._outcome.returned.add_callback(settle)
        return value

    def _fetched_before(self) -> Promise[Any]:
        """The value from before the context was released: as it was fetched, or as part of what was fetched."""
        from .values import select

        steps = self.name.steps
        for length in range(len(steps), -1, -1):
            for recorded in (True, False):
                whole = self._outcome.fetched.get((steps[:length], recorded))
                if whole is not None:
                    part: Promise[Any] = Promise()
                    part.set_result(select(whole.result(timeout=0), steps[length:], self._outcome.label)[0])
                    return part
        raise ContextClosed(f"{self!r} was not fetched before its context was released")

    def _await(self, promise: Promise[Any], timeout: float | None) -> Any:
        self._process.executor.wait(promise, timeout, what=f"the value of {self._outcome.label}")
        if promise.error is not None:
            self._outcome.observe()
        return promise.result()

    def __distgrad_tensor__(self) -> Any:
        """What `dg.grad` and its like take for the result when a function returns a Ref."""
        return self.get()

    def __str__(self) -> str:
        return str(self.numpy())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec)

    def __float__(self) -> float:
        return float(self.item())

    def __repr__(self) -> str:
        steps = "".join(f"[{step!r}]" for step in self.name.steps)
        state = "failed" if self._outcome.done.error else "done" if self.done else "pending"
        return f"<Ref {self._outcome.label} {'/'.join(map(str, self.name.path))}{steps}, {state}>"


def _constant(recorded: Promise[Any]) -> Promise[Any]:
    """The promise of a value that comes recorded, as one that is not."""
    from .values import map_leaves

    constant: Promise[Any] = Promise()

    def settle(_: Promise[Any]) -> None:
        if recorded.error is not None:
            constant.set_error(recorded.error)
        else:
            constant.set_result(map_leaves(recorded.result(), _detached))

    recorded.add_callback(settle)
    return constant


def _detached(leaf: Any) -> Any:
    return primal_of(leaf).detach() if isinstance(leaf, Tensor) else leaf
