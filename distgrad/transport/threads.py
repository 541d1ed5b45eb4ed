"""Daemon threads that can be joined together: a process that forgets to close can still end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any


class Threads:
    """The threads of one owner."""

    def __init__(self) -> None:
        self._running: set[threading.Thread] = set()
        self._changed = threading.Condition()  # guards the set; notified when it shrinks

    def start(self, name: str, task: Callable[..., Any], *arguments: Any) -> threading.Thread:
        """Starts a thread. Raises RuntimeError when the system has none to give."""

        def run() -> None:
            try:
                task(*arguments)
            finally:
                self._discard(threading.current_thread())

        thread = threading.Thread(target=run, name=name, daemon=True)
        with self._changed:
            self._running.add(thread)
        try:
            thread.start()
        except BaseException:
            self._discard(thread)
            raise
        return thread

    def hand_over(self, old: threading.Thread, name: str, task: Callable[..., Any]) -> threading.Thread:
        """Starts a thread in place of `old`, which need not be waited for any more."""
        thread = self.start(name, task)
        self._discard(old)
        return thread

    def _discard(self, thread: threading.Thread) -> None:
        with self._changed:
            self._running.discard(thread)
            self._changed.notify_all()

    def join(self) -> None:
        """Waits until all have ended, the calling one excepted."""
        me = threading.current_thread()
        with self._changed:
            self._changed.wait_for(lambda: self._running <= {me})


class ThreadForEach(Executor):
    """A thread for every task, for servers of gRPC: a stream holds its thread for life, so a bound would only limit the
    number of streams."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    def submit(self, task: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(task(*arguments, **keywords))
            except BaseException as error:
                future.set_exception(error)

        self._threads.start("distgrad-grpc", run)
        return future
