"""Checkpoints are written while a run goes on; a disk that refuses ends it, and the earlier ones stand."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distgrad.coordinator import checkpoint
from distgrad.coordinator.checkpoint import latest_checkpoint, read_checkpoint
from distgrad.errors import CheckpointError, JournalError
from tests.coordinator.cluster import PATIENCE
from tests.coordinator.training.test_trainer import Run, job


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(job(tmp_path_factory.mktemp("undisturbed")))


def test_steps_do_not_wait_for_a_checkpoint_and_none_of_them_is_in_it(
    undisturbed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint of step 2 is held back until step 4 has been taken."""
    taken = threading.Event()
    write = checkpoint._write_shard

    def held_back(*arguments: Any) -> Any:
        assert taken.wait(PATIENCE)
        return write(*arguments)

    monkeypatch.setattr(checkpoint, "_write_shard", held_back)

    def report(_: object, event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == 4:
            taken.set()

    run = Run(job(tmp_path, "checkpoint.keep=9"), report=report)
    assert run.state == undisturbed.state
    kinds = [(event["event"], event["step"]) for event in run.events if event["event"] in ("step", "saved")]
    assert kinds.index(("saved", 2)) > kinds.index(("step", 4))
    early = Run(job(tmp_path / "early", "steps=2"))
    found = read_checkpoint(tmp_path / "run" / "step-00000002")
    arrays = {
        f"{shard}/{part}/{name}": array.tobytes()
        for shard, state in found.shards.items()
        for part, own in state.items()
        for name, array in own.items()
    }
    assert arrays == early.state


def test_a_disk_that_is_full_ends_the_run_and_the_checkpoint_before_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = checkpoint.sync_file
    synced = []

    def full(path: Path) -> None:
        synced.append(path)
        if len(synced) > 4:  # three shards a checkpoint: in the middle of the second
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(path)

    monkeypatch.setattr(checkpoint, "sync_file", full)
    with pytest.raises(
        CheckpointError, match=r"step-0000000[45] could not be written.*No space.*step-00000002 still stands"
    ):
        Run(job(tmp_path))
    assert latest_checkpoint(tmp_path / "run") == tmp_path / "run" / "step-00000002"
    assert not list((tmp_path / "run").glob(".step-*"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for little. Needs root rights."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", str(place)]
    if os.geteuid() != 0 or not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no root rights to mount a small file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_on_a_real_disk_that_fills_up_the_last_whole_checkpoint_can_be_resumed_from(
    undisturbed: Run, small_disk: Path, tmp_path: Path
) -> None:
    settings = [f"checkpoint.directory='{small_disk}'", "checkpoint.keep=100", "checkpoint.every=1", "steps=100"]
    with pytest.raises((CheckpointError, JournalError), match=r"could not be written.*No space left"):
        Run(job(tmp_path, *settings, f"metrics.directory='{tmp_path}'"))
    newest = latest_checkpoint(small_disk)
    assert newest is not None
    elsewhere = Path(shutil.copytree(small_disk, tmp_path / "elsewhere"))
    taken = int(newest.name.removeprefix("step-"))
    assert taken < 100
    resumed = Run(job(tmp_path, f"checkpoint.directory='{elsewhere}'", f"steps={taken + 2}"), resume=True)
    assert list(resumed.losses()) == [taken + 1, taken + 2]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_a_checkpoint_of_three_workers_is_resumed_on_any_number(undisturbed: Run, tmp_path: Path, workers: int) -> None:
    Run(job(tmp_path, "steps=4"))
    resumed = Run(job(tmp_path, workers=workers), resume=True)
    assert list(resumed.losses()) == [5, 6]
    assert resumed.state == undisturbed.state
