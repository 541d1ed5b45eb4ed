"""Handles: names of shards that can be called."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from .process import Process


class ShardHandle:
    """The name of a shard on some worker. Its remote methods are called like local ones and return Refs:

        loss = head.loss(stem.forward(x), y)

    A handle is only a name: it can be passed to other shards, and is resolved when a method is called.

    Arrays are taken as they are at the call, which copies those that can be written to. Tensors are not copied, and
    must not be written to before the call has ended.
    """

    __slots__ = ("_process", "shard_name")

    def __init__(self, process: Process, name: str) -> None:
        self._process = process
        self.shard_name = name

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method.startswith("_"):
            raise AttributeError(method)
        return RemoteMethod(self._process, self.shard_name, method)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShardHandle) and other.shard_name == self.shard_name

    def __hash__(self) -> int:
        return hash(self.shard_name)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"the handle of shard {self.shard_name!r} belongs to this process: pass it to a shard as it is; another "
            f"program gets its own by cluster.shard({self.shard_name!r})"
        )

    def __repr__(self) -> str:
        return f"<shard {self.shard_name}>"


class RemoteMethod:
    """A remote method of a shard; calling it issues a call."""

    __slots__ = ("_method", "_process", "_shard")

    def __init__(self, process: Process, shard: str, method: str) -> None:
        self._process = process
        self._shard = shard
        self._method = method

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        found = self._process.find_shard(self._shard)
        if not found.done:
            self._process.executor.wait(found, what=f"where shard {self._shard!r} is")
        worker, methods = found.result()
        if self._method not in methods:
            raise AttributeError(
                f"shard {self._shard!r} on {worker} has no remote method {self._method!r}; it has "
                f"{', '.join(sorted(methods)) or 'none'} (mark methods with @dg.remote)"
            )
        return self._process.caller.issue(worker, self._shard, self._method, args, kwargs, methods[self._method])

    def __repr__(self) -> str:
        return f"<remote method {self._shard}.{self._method}>"
