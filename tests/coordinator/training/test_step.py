"""A step: the same bits by every schedule, no more microbatches alive than allowed, and nothing left when it fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from distgrad.coordinator.client import Client
from distgrad.coordinator.training.batches import Batches, open_batches
from distgrad.coordinator.training.job import Job, twin_places
from distgrad.coordinator.training.schedule import SCHEDULES, Shape
from distgrad.coordinator.training.step import Steps
from distgrad.errors import RemoteError
from distgrad.optim import from_settings
from tests.coordinator.cluster import PROGRAMS, Cluster, cluster
from tests.coordinator.training.test_trainer import Run, job

# Four stages of which the second counts how many microbatches it holds activations of.
JOB = """
name = "counted"
steps = 2
microbatches = 8
cluster = {{ workers = 2, programs = {programs!r} }}
data = {{ program = "parts.py:Data", config = {{ batch = 16 }} }}
optimizer = {{ kind = "SGD", settings = {{ lr = 0.1 }} }}
shard = [
    {{ name = "a", program = "parts.py:Layer", worker = "{workers[0]}", config = {{ inputs = 3, outputs = 4 }} }},
    {{ name = "b", program = "parts.py:Counted", worker = "{workers[1]}" }},
    {{ name = "c", program = "parts.py:Counted", worker = "{workers[2]}" }},
    {{ name = "d", program = "parts.py:Layer", worker = "{workers[3]}", config = {{ inputs = 4, outputs = 3 }} }},
]
pipeline = {{ forward = ["a.forward", "b.forward", "c.forward", "d.loss"] }}
"""
IN_A_ROW = ("w0", "w0", "w1", "w1")
IN_ROUNDS = ("w0", "w1", "w0", "w1")


def counted(folder: Path, workers: tuple[str, ...], *changes: str) -> Job:
    file = folder / "counted.toml"
    file.write_text(JOB.format(programs=str(PROGRAMS), workers=workers))
    return Job.load(file, changes)


# ---- the same bits ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(job(tmp_path_factory.mktemp("reference"), workers=1))


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_schedule_changes_a_bit(reference: Run, tmp_path: Path, schedule: str, workers: int) -> None:
    run = Run(job(tmp_path, f"pipeline.schedule={schedule}", workers=workers), seed=workers)
    assert run.state == reference.state
    assert run.losses() == reference.losses()


@pytest.mark.parametrize("warm_up", [0, 1])
def test_no_warm_up_changes_a_bit(reference: Run, tmp_path: Path, warm_up: int) -> None:
    run = Run(job(tmp_path, f"pipeline.warm_up={warm_up}"))
    assert run.state == reference.state


@pytest.mark.parametrize("shards", [["stem"], ["noise"], ["stem", "noise", "head"]])
def test_computing_again_changes_no_bit(reference: Run, tmp_path: Path, shards: list[str]) -> None:
    run = Run(job(tmp_path, *(f"shard.{name}.recompute=true" for name in shards)))
    assert run.state == reference.state
    assert run.losses() == reference.losses()


# ---- replicas --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(job(tmp_path_factory.mktemp("replicated"), "replicas=2", workers=1))


@pytest.mark.parametrize(("workers", "schedule"), [(2, "1f1b"), (3, "zero-bubble"), (6, "gpipe")])
def test_replicas_give_the_same_bits_wherever_they_are(
    replicated: Run, tmp_path: Path, workers: int, schedule: str
) -> None:
    run = Run(job(tmp_path, "replicas=2", f"pipeline.schedule={schedule}", workers=workers), seed=workers)
    assert run.losses() == replicated.losses()
    assert run.state == replicated.state


@pytest.mark.parametrize("replicas", [2, 3])
def test_replicas_come_to_what_one_pipeline_comes_to_and_agree(tmp_path: Path, replicas: int) -> None:
    """But for the order of sums, on which the last digits depend."""
    changes = ["data.config.batch=6", f"microbatches={6 // replicas}", f"replicas={replicas}"]
    several = Run(job(tmp_path / "several", *changes, workers=3))
    one = Run(job(tmp_path / "one", "data.config.batch=6", "microbatches=6", workers=3))
    assert list(several.losses().values()) == pytest.approx(list(one.losses().values()), rel=1e-9)
    for name, array in several.state.items():
        shard, _, rest = name.partition("/")
        if "@" in shard or rest.startswith("buffers/"):
            continue  # each replica has the statistics of its own data
        np.testing.assert_allclose(np.frombuffer(array), np.frombuffer(one.state[name]), rtol=1e-6, atol=1e-12)
        assert array == several.state[f"{shard}@{replicas - 1}/{rest}"]


@pytest.mark.parametrize(
    ("workers", "replicas", "expected"),
    [(4, 2, ["w0", "w2"]), (2, 2, ["w0", "w1"]), (1, 3, ["w0", "w0", "w0"]), (6, 3, ["w0", "w2", "w4"])],
)
def test_replicas_move_on_by_as_many_workers_as_each_has(
    tmp_path: Path, workers: int, replicas: int, expected: list[str]
) -> None:
    made = job(tmp_path, f"replicas={replicas}", workers=workers)
    assert twin_places(made, made.shards[0]) == expected


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(24))
def test_no_schedule_placement_or_order_of_messages_changes_a_bit_of_replicas(
    replicated: Run, tmp_path: Path, seed: int
) -> None:
    changes = [f"pipeline.schedule={list(SCHEDULES)[seed % 4]}", "replicas=2", f"shard.noise.recompute={seed % 3 == 0}"]
    run = Run(job(tmp_path, *(change.lower() for change in changes), workers=1 + seed % 5), seed=seed)
    assert run.state == replicated.state


# ---- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [IN_A_ROW, IN_ROUNDS])
@pytest.mark.parametrize(("schedule", "warm_up"), [("1f1b", 0), ("1f1b", 2), ("interleaved", 1), ("zero-bubble", 0)])
def test_no_stage_holds_more_microbatches_than_the_schedule_allows(
    tmp_path: Path, workers: tuple[str, ...], schedule: str, warm_up: int
) -> None:
    made = counted(tmp_path, workers, f"pipeline.schedule={schedule}", f"pipeline.warm_up={warm_up}")
    window = SCHEDULES[schedule].window(Shape(workers, made.microbatches, warm_up))
    assert window < made.microbatches
    with stepping(made) as (hosts, _, steps, batches):
        kinds = [type(hosts.workers[workers[k]].host.shards[name].shard) for k, name in ((1, "b"), (2, "c"))]
        for step in range(2):
            steps.take(step, batches.microbatches(step))
        for kind in kinds:
            assert 1 <= kind.most <= window
            assert kind.alive == 0


# ---- failure ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_step_that_failed_leaves_nothing_and_can_be_taken_again(tmp_path: Path, schedule: str) -> None:
    made = counted(tmp_path, IN_A_ROW, f"pipeline.schedule={schedule}")
    with stepping(made) as (_, client, steps, batches):
        undisturbed = steps.take(0, batches.microbatches(0))
        state = client.read_state("a")["parameters"]["linear.weight"]
    with stepping(made) as (hosts, client, steps, batches):
        kind = type(hosts.workers["w1"].host.shards["c"].shard)
        kind.fails = 1
        with pytest.raises(RemoteError, match="no luck"):
            steps.take(0, batches.microbatches(0))
        for name in ("w0", "w1"):
            counts = client.counts(name)
            assert (counts["contexts"], counts["passes"], counts["calls"]) == (0, 0, 0)
        assert client.process.counts()["contexts"] == 0
        assert steps.take(0, batches.microbatches(0)) == undisturbed
        np.testing.assert_array_equal(client.read_state("a")["parameters"]["linear.weight"], state)


@contextmanager
def stepping(job: Job, seed: int = 0) -> Iterator[tuple[Cluster, Client, Steps, Batches]]:
    """What takes the steps of a job, in a cluster of its own."""
    with cluster(PROGRAMS, *job.cluster.workers, seed=seed) as (hosts, client):
        shards = {s.name: client.place(s.name, s.program, s.worker or "", s.config, job.seed) for s in job.shards}
        optimizer = client.optimizer(from_settings(job.optimizer.kind, job.optimizer.settings), list(shards.values()))
        with Steps(client, job, shards, optimizer) as steps:
            yield hosts, client, steps, open_batches(job)
