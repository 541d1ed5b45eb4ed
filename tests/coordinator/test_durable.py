"""Durable files: what is synced, and when."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from distgrad.coordinator.durable import create_directory, sync_directory, sync_file, write_file


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths in the order in which they reached the disk."""
    order: list[str] = []
    real = os.fsync

    def fsync(file: int) -> None:
        real(file)
        order.append(os.readlink(f"/proc/self/fd/{file}"))

    monkeypatch.setattr(os, "fsync", fsync)
    return order


def test_a_new_directory_is_synced_in_its_parent_from_the_top(tmp_path: Path, synced: list[str]) -> None:
    create_directory(tmp_path / "a" / "b")
    create_directory(tmp_path / "a" / "b")
    assert synced == [str(tmp_path), str(tmp_path / "a")]
    assert (tmp_path / "a" / "b").is_dir()


def test_a_file_in_the_place_of_a_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(OSError, match="File exists"):
        create_directory(tmp_path / "a")


def test_files_and_directories_are_synced_by_name(tmp_path: Path, synced: list[str]) -> None:
    write_file(tmp_path / "x", b"content")
    sync_file(tmp_path / "x")
    sync_directory(tmp_path)
    assert synced == [str(tmp_path / "x"), str(tmp_path / "x"), str(tmp_path)]
    assert (tmp_path / "x").read_bytes() == b"content"
