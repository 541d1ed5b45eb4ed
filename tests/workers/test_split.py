"""Data that never leaves its owners: the split job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distgrad.coordinator.client import Client, PlacedShard
from distgrad.coordinator.training.job import Job
from distgrad.coordinator.training.trainer import Trainer
from distgrad.errors import DistgradError, PermissionDenied
from distgrad.worker.programs import Programs
from tests.coordinator.cluster import cluster

TOP = Path(__file__).parents[2]
WORKERS = TOP / "workers"
SIZES = {"batch": 8, "seed": 0}


@pytest.fixture
def owners() -> Iterator[tuple[Client, PlacedShard, PlacedShard]]:
    with cluster(WORKERS, "clinic", "registry") as (_, client):
        clinic = client.place("clinic", "split.py:Clinic", "clinic", {**SIZES, "outputs": 4})
        yield client, clinic, client.place("registry", "split.py:Registry", "registry", {**SIZES, "inputs": 4})


@pytest.mark.parametrize("recorded", [False, True])
def test_data_is_given_to_its_own_worker_and_to_nobody_else(
    owners: tuple[Client, PlacedShard, PlacedShard], recorded: bool
) -> None:
    client, clinic, registry = owners
    with client.context() if recorded else nullcontext():
        measured, known = clinic.measurements(0, 0, 1), registry.diagnoses(0, 0, 1)
        assert registry.loss(clinic.forward(measured), known).item() > 0
        for ref, where in ((measured, "clinic.measurements"), (known, "registry.diagnoses")):
            with pytest.raises(PermissionDenied, match=f"{where} keeps its values on {where.split('.')[0]}"):
                ref.numpy()
        with pytest.raises(DistgradError, match=r"clinic.measurements keeps its values on clinic"):
            registry.loss(measured, known).item()


def test_little_of_what_crosses_could_be_data(tmp_path: Path) -> None:
    job = Job.load(
        TOP / "deploy" / "jobs" / "split.toml",
        ["steps=4", "evaluation.every=4", "checkpoint.every=4", f"checkpoint.directory={str(tmp_path)!r}"],
    )
    with cluster(WORKERS, "clinic", "registry") as (_, client):
        result = Trainer(client, job).run()
    assert result.accuracy is not None
    batch, held_out = 4 * 32, 113
    left = batch * 4 * 2 + held_out * 4 * 2  # numbers that leave the clinic and gradients of them; looked at twice
    assert result.bytes_sent < 4 * left + 40_000  # and what is said besides
    data = 30 * 4 * (batch + held_out)
    assert 4 * left < data


def test_both_owners_choose_the_same_cases() -> None:
    programs = Programs(WORKERS)
    clinic, registry = (programs.shard_class(f"split.py:{kind}") for kind in ("Clinic", "Registry"))
    one: Any = clinic(batch=9, outputs=1, seed=3)
    two: Any = registry(batch=9, inputs=1, seed=3)
    for step in range(3):
        pieces = [one.cases.chosen(step, number, 2) for number in range(2)]
        np.testing.assert_array_equal(np.concatenate(pieces), two.cases.chosen(step, 0, 1))
        assert set(np.concatenate(pieces)).isdisjoint(one.cases.test)
    assert len(one.held_out()) == len(two.held_out()) == 113
