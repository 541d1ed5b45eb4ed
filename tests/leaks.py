"""What a test may leave behind: nothing.

`Leaks` notes the threads, child processes, open descriptors and temporary files of this process, and later says which
of them are new. All of it is read from the interpreter and from Linux's /proc.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

GRACE_SECONDS = 5.0
"""How long something that is already ending may take to end."""

# Made by the gRPC core at first use and kept for the life of the process.
_OF_THE_RUNTIME = ("anon_inode:[eventpoll]", "anon_inode:[eventfd]")
# Python's own tracker of shared resources, started once per process, and its pipe.
_TRACKER = b"multiprocessing.resource_tracker"


def threads() -> dict[int, str]:
    """The Python threads that are alive."""
    return {thread.ident or 0: f"thread {thread.name!r}" for thread in threading.enumerate()}


def processes() -> dict[int, str]:
    """The children of this process, ended but not waited for included."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        for pid in _read(task / "children").decode().split():
            command = _read(Path("/proc") / pid / "cmdline").replace(b"\0", b" ").strip()
            if _TRACKER not in command:
                found[int(pid)] = f"process {pid} ({command.decode(errors='replace') or 'ended, not waited for'})"
    return found


def descriptors() -> dict[tuple[int, str], str]:
    """The open files, pipes and sockets."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
        if target not in _OF_THE_RUNTIME:
            found[int(number), target] = f"descriptor {number} ({target})"
    return found


def files(directory: Path) -> dict[str, str]:
    """What lies in the directory where the code under test makes its temporary files and sockets."""
    return {name: f"file {directory / name}" for name in os.listdir(directory)}


class Leaks:
    """What there is at construction, to compare with what there is later."""

    def __init__(self, directory: Path) -> None:
        self._inventories: tuple[Callable[[], dict], ...] = (threads, processes, descriptors, lambda: files(directory))
        self._before = [set(inventory()) for inventory in self._inventories]

    def found(self, grace: float = GRACE_SECONDS) -> list[str]:
        """What is new and does not end within `grace` seconds, one line each."""
        if not self._new():
            return []
        gc.collect()  # what only a reference cycle holds open is closed late, not leaked
        deadline = time.monotonic() + grace
        while (new := self._new()) and time.monotonic() < deadline:
            time.sleep(0.01)
        return new

    def _new(self) -> list[str]:
        return [
            line
            for inventory, before in zip(self._inventories, self._before, strict=True)
            for key, line in inventory().items()
            if key not in before
        ]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # the thread or process ended while we looked
        return b""
