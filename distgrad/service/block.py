"""A server for as long as a block lasts, for notebooks, tests and programs that are clients themselves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from .server import Server
from .settings import ServiceSettings

R = TypeVar("R")


@dataclass(frozen=True)
class RunningServer:
    """A server that runs in a thread of this process; what it serves runs in processes of its own."""

    server: Server
    loop: asyncio.AbstractEventLoop

    @property
    def address(self) -> str:
        """Where clients reach it."""
        return self.server.address

    def do(self, work: Coroutine[Any, Any, R], timeout: float | None = None) -> R:
        """Awaits something in the server's thread. Raises what it raises, or TimeoutError."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout)


@contextmanager
def serve(
    targets: Sequence[str],
    settings: ServiceSettings | None = None,
    *,
    listen: str = "localhost:0",
    metrics: int | None = None,
    um_bridge: int | None = None,
) -> Iterator[RunningServer]:
    """Does within a block what `distgrad serve` does until a signal comes.

        with dg.serve(["models.py:rosenbrock"]) as server:
            f = dg.client(server.address)["rosenbrock"]

    Arguments:
        targets: "[NAME=]FILE.py:FUNCTION" or "[NAME=]FILE.py:CLASS".
        settings: by default one process that runs requests, and no guard, on this machine alone.
        listen: HOST:PORT; port 0 for a free one.
        metrics: port for Prometheus; None for none.
        um_bridge: port for UM-Bridge's protocol; None for none.

    Raises:
        ConfigError, LinkError, ProgramError, WorkerLost: it could not start, or there is nothing to serve.
    """
    server = Server(targets, settings or ServiceSettings(workers=1), listen, metrics, um_bridge)
    loop = asyncio.new_event_loop()
    started: Future[None] = Future()
    serving = loop.create_task(_serve(server, started))
    thread = threading.Thread(
        target=lambda: loop.run_until_complete(asyncio.wait([serving])), name="distgrad-server", daemon=True
    )
    thread.start()
    try:
        started.result()
        yield RunningServer(server, loop)
    finally:
        loop.call_soon_threadsafe(serving.cancel)
        thread.join()
        loop.close()
        if not serving.cancelled():
            serving.result()  # what went wrong at its end


async def _serve(server: Server, started: Future[None]) -> None:
    """Serves until it is cancelled, also while it starts; then nothing is left of the server."""
    try:
        await server.start()
    except BaseException as error:
        started.set_exception(error)
        return
    started.set_result(None)
    try:
        await asyncio.Event().wait()
    finally:
        await server.close()
