"""Training a job: the same bits wherever, however often interrupted, and clear words when it cannot go on."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distgrad import nn
from distgrad.coordinator.checkpoint import latest_checkpoint
from distgrad.coordinator.client import Client
from distgrad.coordinator.journal import Decision, Journal
from distgrad.coordinator.training.batches import open_batches
from distgrad.coordinator.training.job import Job, with_workers
from distgrad.coordinator.training.metrics import read_metrics
from distgrad.coordinator.training.trainer import Result, Trainer
from distgrad.errors import ConfigError, DistgradError, GradientError, RemoteError, WorkerLost
from distgrad.optim import from_settings
from distgrad.worker.programs import Programs
from distgrad.worker.twins import twin
from tests.coordinator.cluster import PROGRAMS, Cluster, cluster

# Three shards with everything that could make a difference: dropout, batch statistics, clipping, uneven microbatches.
JOB = """
name = "tiny"
steps = 6
microbatches = 3
seed = 3

[cluster]
workers = ["w0", "w1", "w2"]
programs = {programs!r}

[[shard]]
name = "stem"
program = "parts.py:Layer"
worker = "w0"
config = {{ inputs = 3, outputs = 4 }}

[[shard]]
name = "noise"
program = "parts.py:Statistics"
worker = "w1"
config = {{ width = 4 }}

[[shard]]
name = "head"
program = "parts.py:Layer"
worker = "w2"
config = {{ inputs = 4, outputs = 3 }}

[pipeline]
forward = ["stem.forward", "noise.forward", "head.error"]
evaluate = ["stem.forward", "noise.forward", "head.predict"]

[optimizer]
kind = "Adam"
settings = {{ lr = 0.05 }}
clip_norm = 0.5

[data]
program = "parts.py:Data"
config = {{ batch = 7 }}

[evaluation]
every = 4

[checkpoint]
directory = "run"
every = 2
keep = 2
"""


def job(folder: Path, *changes: str, workers: int | None = None) -> Job:
    folder.mkdir(exist_ok=True)
    file = folder / "tiny.toml"
    file.write_text(JOB.format(programs=str(PROGRAMS)))
    made = Job.load(file, changes)
    return made if workers is None else with_workers(made, workers)


def state(client: Client, job: Job) -> dict[str, bytes]:
    """What the shards of a job hold."""
    return {
        f"{shard}/{part}/{name}": array.tobytes()
        for shard in [twin(shard.name, number) for shard in job.shards for number in range(job.replicas)]
        for part, arrays in client.read_state(shard).items()
        for name, array in arrays.items()
    }


class Run:
    """A job trained in a cluster of its own, and all that came of it."""

    def __init__(
        self,
        job: Job,
        seed: int = 0,
        resume: bool = False,
        report: Callable[..., None] | None = None,
        standby_after: float = math.inf,
    ) -> None:
        self.events: list[dict[str, Any]] = []
        journal = job.checkpoint.directory / "journal" if job.checkpoint else None
        with cluster(PROGRAMS, *job.cluster.workers, journal=journal, seed=seed) as (made, client):

            def heard(event: dict[str, Any]) -> None:
                self.events.append(event)
                if report is not None:
                    report(made, event)

            self.result: Result = Trainer(client, job, report=heard, resume=resume, standby_after=standby_after).run()
            self.state = state(client, job)

    def losses(self) -> dict[int, float]:
        return {event["step"]: event["loss"] for event in self.events if event["event"] == "step"}

    def kinds(self) -> list[str]:
        return [event["event"] for event in self.events]


# ---- the same bits ---------------------------------------------------------------------------------------------------


def trained_alone(job: Job) -> tuple[dict[int, float], dict[str, bytes]]:
    """The job in one process, without any cluster: losses by step, and the parameters and buffers at the end."""
    programs, batches, shards = Programs(PROGRAMS), open_batches(job), {}
    for spec in job.shards:
        with nn.random.seeded(job.seed, spec.name):
            shards[spec.name] = programs.shard_class(spec.program)(**spec.config)
    rule = from_settings(job.optimizer.kind, job.optimizer.settings)
    bound = {name: rule.bind(shard) for name, shard in shards.items()}
    losses = {}
    for step in range(job.steps):
        staged: list[nn.BufferUpdate] = []
        total = []
        for number, piece in enumerate(batches.microbatches(step)):
            value = piece.inputs
            for position, stage in enumerate(job.pipeline.forward):
                extra = (piece.targets,) if position == len(job.pipeline.forward) - 1 else ()
                random = nn.random.seeded(job.seed, stage.shard, step, number, position)
                with random, nn.staged_buffers() as updates:
                    value = getattr(shards[stage.shard], stage.method)(value, *extra)
                staged += updates
            value.backward(np.asarray(piece.share))
            total.append(piece.share * value.item())
        losses[step + 1] = math.fsum(total)
        parameters = [p for shard in shards.values() for p in shard.parameters() if p.grad is not None]
        norms = [float(np.sqrt(np.dot(p.grad.ravel(), p.grad.ravel()))) for p in parameters]
        norm = math.sqrt(math.fsum(norm * norm for norm in norms))
        factor = job.optimizer.clip_norm / norm if norm > job.optimizer.clip_norm else 1.0
        for parameter in parameters:
            parameter.grad = parameter.grad * factor
        for optimizer in bound.values():
            optimizer.step()
            optimizer.zero_grad()
        for update in staged:
            update.apply()
    state = {}
    for name, shard in shards.items():
        state |= {f"{name}/parameters/{key}": parameter.data.tobytes() for key, parameter in shard.named_parameters()}
        state |= {f"{name}/buffers/{key}": buffer.data.tobytes() for key, buffer in shard.named_buffers()}
    return losses, state


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(job(tmp_path_factory.mktemp("reference")))


def test_a_job_comes_to_what_one_process_comes_to_bit_for_bit(reference: Run, tmp_path: Path) -> None:
    losses, state = trained_alone(job(tmp_path))
    assert reference.losses() == losses
    assert {name: array for name, array in reference.state.items() if "/optimizer/" not in name} == state


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("seed", [1, 2])
def test_neither_the_number_of_workers_nor_the_order_of_messages_changes_a_bit(
    reference: Run, tmp_path: Path, workers: int, seed: int
) -> None:
    run = Run(job(tmp_path, workers=workers), seed)
    assert run.state == reference.state
    assert run.losses() == reference.losses()
    assert run.result.accuracy == reference.result.accuracy


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 43))
def test_no_order_of_messages_changes_a_bit(reference: Run, tmp_path: Path, seed: int) -> None:
    run = Run(job(tmp_path, workers=1 + seed % 3), seed)
    assert run.state == reference.state


def test_what_should_make_a_difference_does(reference: Run, tmp_path: Path) -> None:
    for number, change in enumerate(["seed=4", "microbatches=2", "optimizer.clip_norm=0.4", "data.config.batch=6"]):
        assert Run(job(tmp_path / str(number), change)).state != reference.state, change


def test_evaluating_and_saving_leave_no_trace(reference: Run, tmp_path: Path) -> None:
    run = Run(job(tmp_path, "evaluation.every=1", "checkpoint.every=1"))
    assert run.state == reference.state


def test_without_checkpoints_and_evaluation_a_job_trains_as_well(
    reference: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "tiny.toml"
    file.write_text(JOB.format(programs=str(PROGRAMS)).split("[evaluation]")[0])
    run = Run(Job.load(file))
    assert run.state == reference.state
    assert (run.result.checkpoint, run.result.accuracy) == ("", None)
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert written == ["runs/tiny/job.txt", "runs/tiny/metrics.jsonl", "tiny.toml"]
    assert {record.step: record.loss for record in read_metrics("runs/tiny/metrics.jsonl")} == run.losses()


# ---- interrupted -----------------------------------------------------------------------------------------------------


class Interruption(Exception):
    """What a test raises in the middle of a run."""


def interrupted(job: Job, step: int, seed: int = 0) -> None:
    """A run that ends after a step, as if its process had been killed: nothing more is saved."""

    def report(made: Cluster, event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == step:
            raise Interruption

    with pytest.raises(Interruption):
        Run(job, seed, report=report)


@pytest.mark.parametrize("step", [3, 4, 5])
@pytest.mark.parametrize("workers", [3, 1])
def test_a_run_that_is_resumed_is_the_undisturbed_one_bit_for_bit(
    reference: Run, tmp_path: Path, step: int, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    interrupted(job(tmp_path), step, seed=7)
    run = Run(job(tmp_path, workers=workers), seed=8, resume=True)
    began = (step - 1) // 2 * 2  # step 4 was reported, but its checkpoint not begun
    assert run.events[1] == {"event": "resumed", "step": began, "checkpoint": run.events[1]["checkpoint"]}
    assert run.state == reference.state
    assert run.losses() == {k: loss for k, loss in reference.losses().items() if k > began}
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert {record.step: record.loss for record in records} == reference.losses()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("written", [False, True])
def test_a_coordinator_may_die_on_either_side_of_a_decision(reference: Run, tmp_path: Path, written: bool) -> None:
    """Whether the decision was on the disk or not, no owner has been told; the resumed run takes the step again."""

    def report(made: Cluster, event: dict[str, Any]) -> None:
        journal = made.coordinator.journal
        assert journal is not None
        append = journal.append

        def die(decision: Decision) -> Decision:
            if written:
                append(decision)
            raise Interruption

        if event["event"] == "step" and event["step"] == 4:
            journal.append = die  # type: ignore[method-assign]

    with pytest.raises(DistgradError, match="Interruption"):
        Run(job(tmp_path), report=report)
    with Journal.open(tmp_path / "run" / "journal") as journal:
        assert (journal.find("job", 5) is not None) == written
    run = Run(job(tmp_path), resume=True)
    assert list(run.losses()) == [5, 6]
    assert run.state == reference.state


def test_steps_that_come_out_differently_when_taken_again_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    interrupted(job(tmp_path), 5)
    Run(job(tmp_path, "optimizer.clip_norm=0.1"), resume=True)
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [text.split(",")[0] for text in warned] == ["step 5 of optimizer 'job'"]


def test_a_job_that_is_done_is_only_evaluated_when_it_is_resumed(reference: Run, tmp_path: Path) -> None:
    Run(job(tmp_path))
    run = Run(job(tmp_path), resume=True)
    assert run.kinds() == ["placed", "resumed", "evaluated"]
    assert run.state == reference.state
    assert (run.result.steps, run.result.accuracy) == (6, reference.result.accuracy)
    assert math.isnan(run.result.loss)


def test_a_job_may_be_given_more_steps(reference: Run, tmp_path: Path) -> None:
    Run(job(tmp_path, "steps=4"))
    run = Run(job(tmp_path), resume=True)
    assert list(run.losses()) == [5, 6]
    assert run.state == reference.state


REFUSED = {
    "seed=4": "seed was 3 and is 4",
    "data.config.batch=8": "data.config.batch was 7 and is 8",
    "shard.head.config.outputs=5": "shard.head.config.outputs was 3 and is 5",
    "optimizer.kind=SGD": 'optimizer.kind was "Adam" and is "SGD"',
    "pipeline.forward=['stem.forward', 'head.error']": "pipeline.forward was .* and is",
}


def test_a_run_is_not_resumed_as_another_job(tmp_path: Path) -> None:
    Run(job(tmp_path, "steps=2"))
    for change, told in REFUSED.items():
        with pytest.raises(ConfigError, match=f"step-00000002 was written by another job than this one: {told}"):
            Run(job(tmp_path, change), resume=True)


def test_what_may_change_between_runs_is_told(reference: Run, tmp_path: Path) -> None:
    Run(job(tmp_path, "steps=2"))
    run = Run(job(tmp_path, "shard.stem.recompute=true", "checkpoint.keep=5", workers=2), resume=True)
    changed = "steps was 2 and is 6"
    notices = [event["text"] for event in run.events if event["event"] == "notice"]
    assert notices == [f"the job has changed since: {changed}"]
    assert run.state == reference.state


def test_there_must_be_something_to_resume(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"nothing to resume: no complete checkpoint in {tmp_path}/run"):
        Run(job(tmp_path), resume=True)
    damaged = tmp_path / "run" / "step-00000001"
    damaged.mkdir(parents=True)
    (damaged / "manifest.json").write_text("garbage")
    with pytest.raises(ConfigError, match=r"nothing to resume: .*; step-00000001 there is damaged"):
        Run(job(tmp_path), resume=True)
    shutil.rmtree(damaged)
    Run(job(tmp_path, "steps=2"))
    with pytest.raises(ConfigError, match="is of job 'tiny', not of 'other'"):
        Run(job(tmp_path, "name=other"), resume=True)
    file = tmp_path / "tiny.toml"
    file.write_text(JOB.format(programs=str(PROGRAMS)).split("[checkpoint]")[0])
    with pytest.raises(ConfigError, match="job 'tiny' keeps no checkpoints to resume from"):
        Run(Job.load(file), resume=True)


# ---- what is told and kept -------------------------------------------------------------------------------------------


def test_what_happens_is_told_in_order(reference: Run) -> None:
    steps = ["step", "step", "step", "step", "evaluated", "step", "step", "evaluated"]
    assert [kind for kind in reference.kinds() if kind != "saved"] == ["placed", *steps]
    saved = [event for event in reference.events if event["event"] == "saved"]  # each before the next is begun
    assert [event["step"] for event in saved] == [2, 4, 6]
    assert reference.events[-1] == saved[-1]
    first = reference.events[1]
    assert (first["step"], first["steps"]) == (1, 6)
    assert first["rate"] > 0
    evaluated = [event for event in reference.events if event["event"] == "evaluated"]
    assert [event["step"] for event in evaluated] == [4, 6]
    assert evaluated[-1]["accuracy"] == reference.result.accuracy
    result = reference.result
    assert (result.steps, result.loss) == (6, reference.losses()[6])
    assert result.bytes_sent > 0
    assert result.steps_per_second == pytest.approx(6 / result.seconds)


def test_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    run = Run(job(tmp_path))
    kept = sorted(path.name for path in (tmp_path / "run").iterdir() if path.is_dir())
    assert kept == ["step-00000004", "step-00000006"]
    assert run.result.checkpoint == str(latest_checkpoint(tmp_path / "run"))


def test_metrics_hold_what_was_measured(tmp_path: Path) -> None:
    run = Run(job(tmp_path))
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert {record.step: record.loss for record in records} == run.losses()
    assert [record.step for record in records if record.accuracy is not None] == [4, 6]


def test_a_job_learns(tmp_path: Path) -> None:
    run = Run(
        job(
            tmp_path,
            "steps=60",
            "data.config.batch=32",
            "pipeline.forward=['stem.forward', 'head.error']",
            "pipeline.evaluate=['stem.forward', 'head.predict']",
            "optimizer.clip_norm=0",
        )
    )
    assert run.losses()[60] < run.losses()[1] / 2
    assert run.result.accuracy is not None
    assert run.result.accuracy > 0.8


def test_without_predictions_the_loss_on_held_out_examples_is_told(tmp_path: Path) -> None:
    run = Run(job(tmp_path, "pipeline.evaluate=[]", "pipeline.forward=['stem.forward', 'noise.forward', 'head.error']"))
    evaluated = [event for event in run.events if event["event"] == "evaluated"]
    assert [event["accuracy"] for event in evaluated] == [None, None]
    assert all(event["loss"] > 0 for event in evaluated)
    assert run.result.accuracy is None


# ---- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.config.spoil=undefined", "step 3: the loss is nan, so the step was not taken; lower the learning rate"),
        ("data.config.spoil=infinite", "step 3: the loss is inf, so the step was not taken"),
    ],
)
def test_a_loss_that_is_not_finite_names_the_step(tmp_path: Path, change: str, message: str) -> None:
    with pytest.raises(GradientError, match=message):
        Run(job(tmp_path, change, "data.config.at=2"))
    assert latest_checkpoint(tmp_path / "run") == tmp_path / "run" / "step-00000002"


def test_a_gradient_that_is_not_finite_names_the_step(tmp_path: Path) -> None:
    changes = ["shard.stem.program=parts.py:Sum", "shard.stem.config={}", "pipeline.forward=['stem.length']"]
    with pytest.raises(GradientError, match=r"step 1: a gradient is not finite .loss 0., so the step was not taken"):
        Run(job(tmp_path, *changes, "pipeline.evaluate=[]"))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (["data.config.spoil=raise", "data.config.at=1"], ConfigError, r"batch\(1\) raised RuntimeError: the file"),
        (["data.program=parts.py:Nothing"], ConfigError, "program parts.py has no 'Nothing'"),
        (["shard.head.program=parts.py:Failing"], ConfigError, "shard 'head': parts.py:Failing.* failed on w2"),
        (["shard.head.config.inputs=5"], RemoteError, "head.error on w2 raised .*"),
        (["pipeline.forward=['stem.forward']"], DistgradError, r"stem.forward\(\) takes|takes 2 positional arguments"),
        (["pipeline.forward=['stem.fail']"], RemoteError, r"stem.fail on w0 raised TypeError"),
        (["pipeline.forward=['stem.secret']"], AttributeError, "shard 'stem' on w0 has no remote method 'secret'"),
        (["pipeline.evaluate=['stem.forward']"], ConfigError, r"stem.forward returned predictions of shape \(7, 4\)"),
        (["optimizer.kind=Adm"], ConfigError, "there is no optimizer 'Adm'"),
        (["optimizer.settings.rate=1"], ConfigError, "Adam has no setting 'rate'"),
    ],
)
def test_a_job_that_cannot_be_trained_says_why(
    tmp_path: Path, changes: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Run(job(tmp_path, *changes))


def test_without_failures_to_spare_a_lost_worker_ends_the_run_and_its_checkpoints_stay(tmp_path: Path) -> None:
    def report(made: Cluster, event: dict[str, Any]) -> None:
        if event["event"] == "saved" and event["step"] == 2:
            made.end("w1")

    with pytest.raises(WorkerLost, match="w1"):
        Run(job(tmp_path, "recovery.max_failures=0"), report=report)
    assert latest_checkpoint(tmp_path / "run") == tmp_path / "run" / "step-00000002"


def test_an_error_while_reporting_ends_the_run_and_releases_everything(tmp_path: Path) -> None:
    interrupted(job(tmp_path), 1)
