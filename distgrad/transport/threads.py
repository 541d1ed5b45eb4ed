"""Daemon threads that can be joined together: a process that forgets to close can still end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Threads:
    """The threads of one owner."""

    def __init__(self) -> None:
        self._running: set[threading.Thread] = set()
        self._lock = threading.Lock()

    def start(self, name: str, task: Callable[..., Any], *arguments: Any) -> threading.Thread:
        def run() -> None:
            try:
                task(*arguments)
            finally:
                with self._lock:
                    self._running.discard(threading.current_thread())

        thread = threading.Thread(target=run, name=name, daemon=True)
        with self._lock:
            self._running.add(thread)
        try:
            thread.start()
        except BaseException:  # the system has no more threads to give
            with self._lock:
                self._running.discard(thread)
            raise
        return thread

    def join(self) -> None:
        """Waits until all have ended, the calling one excepted."""
        with self._lock:
            threads = [thread for thread in self._running if thread is not threading.current_thread()]
        for thread in threads:
            thread.join()
