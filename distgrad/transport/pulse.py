"""The thread that says that this process lives, and notices that others do not."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .endpoint import Endpoint

logger = logging.getLogger("distgrad.transport")

# Ticks per heartbeat: how finely silence is noticed and idle acknowledgements are sent.
TICKS = 10


class Pulse:
    """Sends heartbeats and idle acknowledgements, and ends links that are silent.

    A thread of its own, so that computing threads cannot delay it: only code that holds the GIL can, and then the
    process is as good as gone.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._thread = threading.Thread(target=self._run, name="distgrad-pulse", daemon=True)
        self._thread.start()

    def join(self) -> None:
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        settings = self._endpoint.settings
        tick = settings.heartbeat / TICKS
        last = beaten = time.monotonic()
        while not self._endpoint.closing.wait(tick):
            now = time.monotonic()
            pause, last = now - last, now
            # By the clock, not by counting ticks: on a busy machine these come late, each of them.
            beats = now - beaten > settings.heartbeat - tick / 2
            if beats:
                beaten = now
            try:
                self._tick(now, pause if pause > settings.silence / 2 else 0.0, beats)
            except Exception:  # what went wrong once must not silence this process on every link
                logger.exception("a heartbeat failed")

    def _tick(self, now: float, own_pause: float, beats: bool) -> None:
        endpoint = self._endpoint
        silence = endpoint.settings.silence
        # The next tick would be too late.
        enough = silence - endpoint.settings.heartbeat / TICKS
        progress, busy = endpoint.receiver.progress() if beats else (0, 0)
        for link in endpoint.links():
            # This process was itself stopped: what the peer sent meanwhile has not been read yet.
            link.excuse(own_pause)
            if beats:
                link.beat(progress, busy)
            link.acknowledge_if_idle()
            if link.silent_for(now) > enough:
                endpoint.lose(
                    link,
                    f"silent for {silence:g} s; its process {link.peer.pid} is stopped, cut off, or in code that lets "
                    "no other thread run",
                )
            elif link.hopeless:
                endpoint.lose(link, "it acknowledges nothing")
        endpoint.relieve_readers(now)
        for plug in endpoint.stale_plugs(now):
            plug.close()
