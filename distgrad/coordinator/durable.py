"""Files that survive a crash: `fsync` for a file's bytes, and for the directory that holds its name."""

from __future__ import annotations

import os
from pathlib import Path


def sync_file(path: Path) -> None:
    """Returns when the bytes of `path` are on the disk."""
    _sync(path, os.O_RDONLY)


def sync_directory(path: Path) -> None:
    """Returns when the names in `path` are on the disk: without it, a file that was created or renamed may be gone."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def create_directory(path: Path) -> None:
    """Makes `path` and its missing parents; their names are on the disk at return."""
    if path.is_dir():
        return
    create_directory(path.parent)
    path.mkdir(exist_ok=True)
    sync_directory(path.parent)


def write_file(path: Path, content: bytes) -> None:
    """Writes `path` whole; its bytes are on the disk at return, its name only after `sync_directory`."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
