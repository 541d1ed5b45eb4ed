"""References: the promise of a value on a worker."""

from __future__ import annotations

import weakref
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from distgrad.autograd.tape import Path, mode
from distgrad.autograd.tensor import Tensor
from distgrad.errors import ContextClosed
from distgrad.wire import RefName

from .share import Share
from .waiting import Promise

if TYPE_CHECKING:
    from .process import Process


class Outcome:
    """What the caller knows of one call it issued, shared by the Refs to its value and to items of it.

    Attributes:
        label: "SHARD.METHOD on WORKER", for messages.
        done: set when the call has ended.
        sources: outcomes of the calls whose Refs were its arguments.
        observed: whether somebody has seen the call's error.
    """

    __slots__ = ("__weakref__", "done", "fetched", "label", "observed", "sources")

    def __init__(self, label: str, sources: tuple[Outcome, ...] = ()) -> None:
        self.label = label
        self.done: Promise[None] = Promise()
        self.sources = sources
        self.observed = False
        # Values fetched so far, by steps and whether an edge was left.
        self.fetched: dict[tuple[tuple[int | str, ...], bool], Promise[Any]] = {}

    def observe(self) -> None:
        """The error of this call, and so of the failed calls it came from, has been seen."""
        pending = [self]
        while pending:
            outcome = pending.pop()
            if not outcome.observed:
                outcome.observed = True
                pending.extend(outcome.sources)


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
            weakref.finalize(outcome, process.forget, name).atexit = False

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

    def __getitem__(self, step: int | str) -> Ref:
        """The item of the value, still on its owner."""
        if not isinstance(step, int | str):
            raise TypeError(f"a Ref is indexed by int or str, not by {type(step).__name__}; use .get()[...] for slices")
        name = RefName(self.name.owner, self.name.context, self.name.path, (*self.name.steps, step))
        return Ref(self._process, self._share, name, self._outcome)

    def __iter__(self) -> Iterator[Any]:
        raise TypeError(
            "a Ref cannot be unpacked, since nobody knows yet how many items it will have; declare the method with "
            "@dg.remote(outputs=N) to get N Refs, or index it: ref[0]"
        )

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

    async def get_async(self, timeout: float | None = None) -> Any:
        """`get` for coroutines."""
        import asyncio

        promise = self._fetch(self._share.records and mode.get().record)
        try:
            async with asyncio.timeout(timeout):
                return await promise
        except TimeoutError as error:
            from distgrad.errors import Timeout

            raise Timeout(f"the value of {self._outcome.label} did not come within {timeout:g} s") from error
        finally:
            if promise.done and promise.error is not None:
                self._outcome.observe()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.get_async().__await__()

    def _fetch(self, recorded: bool) -> Promise[Any]:
        """The promise of the value here, asked for once."""
        key = (self.name.steps, recorded)
        promise = self._outcome.fetched.get(key)
        if promise is None:
            if self._share.closed is not None:
                raise ContextClosed(f"{self!r} was not fetched before its context was released")
            promise = self._outcome.fetched[key] = self._process.fetch_result(self._share, self.name, recorded)
        return promise

    def _await(self, promise: Promise[Any], timeout: float | None) -> Any:
        self._process.executor.wait(promise, timeout, what=f"the value of {self._outcome.label}")
        if promise.error is not None:
            self._outcome.observe()
        return promise.result()

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
