"""A temporary directory for the sockets of processes on this machine, which only its owner can enter."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# A Unix socket's path may have 103 bytes. With a longer base there is no room left for a worker's name.
_LONGEST_BASE = 60


@contextmanager
def run_directory() -> Iterator[Path]:
    """A directory with mode 0700, removed at the end with all that is in it."""
    base = tempfile.gettempdir()
    directory = Path(tempfile.mkdtemp(prefix="distgrad-", dir=base if len(base) <= _LONGEST_BASE else "/tmp"))
    try:
        yield directory
    finally:
        # A worker that is being killed may remove its own socket at the same time.
        shutil.rmtree(directory, ignore_errors=True)


def socket_in(directory: Path, name: str) -> str:
    """The address at which process `name` listens."""
    return f"unix:{directory / name}.sock"
