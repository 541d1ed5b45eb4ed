"""Other processes, as Linux's /proc shows them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

# How long, in seconds, something that must happen soon may take on a busy machine.
DEADLINE = 20.0


def with_environment(setting: str) -> dict[int, str]:
    """The living processes whose environment holds `NAME=VALUE`, which children inherit: number -> command."""
    found = {}
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                variables = (directory / "environ").read_bytes().split(b"\0")
                command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:  # it has ended, or is another user's
                continue
            if setting.encode() in variables:
                found[int(directory.name)] = command
    return found


def eventually(condition: Callable[[], object]) -> bool:
    """Whether `condition` comes true before the deadline."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)  # nothing tells of the end of a process that is not ours
    return True


def is_gone(pid: int) -> bool:
    """Whether a process has ended, also when nobody has waited for it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def blocks() -> int:
    """Descriptors of shared memory that this process has open."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{name}").startswith("/memfd:distgrad")
        except OSError:
            continue
    return found
