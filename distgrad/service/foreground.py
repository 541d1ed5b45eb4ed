"""A server run in the foreground until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distgrad.cluster.signals import ENDING, Interrupted

from .access import audit_log
from .server import Server
from .settings import ServiceSettings


def serve_until_signalled(
    targets: Sequence[str],
    settings: ServiceSettings,
    listen: str,
    metrics: int | None,
    um_bridge: int | None,
    audit: Path | None,
    announce: Callable[[str], None],
) -> None:
    """Serves until Ctrl-C or SIGTERM, then drains; a second signal ends it at once.

    Arguments:
        audit: file for a line about every refused call; None: they are logged.
        announce: told what is served where.

    Raises:
        Interrupted: by a second signal.
        ConfigError, LinkError, ProgramError, WorkerLost: it could not start.
    """
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s")
    if audit is not None:
        audit.touch(mode=0o600)
        handler = logging.FileHandler(audit)
        handler.setFormatter(logging.Formatter("%(message)s"))
        audit_log.addHandler(handler)
        audit_log.propagate = False
    server = Server(targets, settings, listen, metrics, um_bridge)
    asyncio.run(_serve(server, announce))


async def _serve(server: Server, announce: Callable[[str], None]) -> None:
    with _signals() as signals:
        await _unless_signalled(server.start(), signals)
        try:
            announce(f"serving {', '.join(server.functions)} at {server.address}")
            if server.um_bridge_port is not None:
                announce(f"UM-Bridge at {server.um_bridge_url}")
            if server.metrics_port is not None:
                announce(f"metrics at http://127.0.0.1:{server.metrics_port}/metrics")
            name = (await signals.get()).name
            announce(f"{name}: ending when requests under way have their answers; a second one ends it now")
            await _unless_signalled(server.drain(), signals)
        finally:
            await server.close()


@contextmanager
def _signals() -> Iterator[asyncio.Queue[signal.Signals]]:
    """Signals that ask this process to end, while the block runs. What is to be ignored (nohup) stays so."""
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    heeded = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    for number in heeded:
        loop.add_signal_handler(number, signals.put_nowait, number)
    try:
        yield signals
    finally:
        for number in heeded:
            loop.remove_signal_handler(number)


async def _unless_signalled(work: Coroutine[Any, Any, object], signals: asyncio.Queue[signal.Signals]) -> None:
    """Waits for some work; a signal cancels it. Raises Interrupted then."""
    working = asyncio.ensure_future(work)
    signalled = asyncio.ensure_future(signals.get())
    await asyncio.wait({working, signalled}, return_when=asyncio.FIRST_COMPLETED)
    if working.done():
        signalled.cancel()
        working.result()
        return
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    raise Interrupted(signalled.result().name)
