"""The other trainers of a job: that the first hears of their end, whenever it comes."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from distgrad.coordinator.client import Client
from distgrad.coordinator.training.companions import Companions
from distgrad.errors import WorkerLost
from tests.coordinator.cluster import Cluster
from tests.coordinator.training.test_trainer import job


def test_one_that_ends_before_it_has_its_orders_is_lost_like_any_other(
    pair: tuple[Cluster, Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(command: list[str], **pipes: Any) -> subprocess.Popen[bytes]:
        process = start(["true"], **pipes)
        process.wait()
        return process

    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", ended)
    others = Companions(pair[1], job(tmp_path, "trainers=2"), version=0)
    with pytest.raises(WorkerLost, match=r"trainer .*-1 is lost: process \d+ exited with code 0"), others:
        pass
