"""`dg.Job` and `dg.Trainer`: a job made in Python, on data that Python brings along."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.coordinator.training.metrics import read_metrics
from distgrad.errors import ConfigError
from tests.coordinator.cluster import PROGRAMS, cluster

BATCH = 6


class ByStep:
    """Points, and which of their numbers is the largest."""

    def batch(self, step: int) -> tuple[Any, Any]:
        x = np.random.default_rng(step).standard_normal((BATCH, 3))
        return x, np.eye(3)[x.argmax(axis=1)]

    def held_out(self) -> tuple[Any, Any]:
        return self.batch(2**31)

    def sample(self, call: Callable[[Any], Any]) -> str:
        return f"of zeros it makes {call(np.zeros((1, 3))).shape}"


class Stateful(ByStep):
    """The same batches, one after the other."""

    def __init__(self) -> None:
        self.step = 0

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        while True:
            self.step += 1
            yield ByStep().batch(self.step - 1)

    batch = None  # type: ignore[assignment]

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]


def once() -> Iterator[tuple[Any, Any]]:
    """The same batches as a generator."""
    return (ByStep().batch(step) for step in range(100))


def job(folder: Path, **tables: Any) -> dg.Job:
    shards = [
        {"name": "stem", "program": "parts.py:Layer", "worker": "w0", "config": {"inputs": 3, "outputs": 4}},
        {"name": "head", "program": "parts.py:Layer", "worker": "w1", "config": {"inputs": 4, "outputs": 3}},
    ]
    made: dict[str, Any] = {
        "name": "tiny",
        "steps": 6,
        "microbatches": 2,
        "shard": shards,
        "pipeline": {"forward": ["stem.forward", "head.loss"]},
        "optimizer": {"kind": "Adam", "settings": {"lr": 0.05}, "schedule": {"kind": "Cosine", "total": 6}},
        "checkpoint": {"directory": folder, "every": 2},
    }
    return dg.Job.of(**made | tables)


class Run:
    """What a training came to."""

    def __init__(self, job: dg.Job, data: object, until: int = 0, resume: bool = False) -> None:
        self.events: list[dict[str, Any]] = []

        def report(event: dict[str, Any]) -> None:
            self.events.append(event)
            if event.get("step") == until and event["event"] == "step":
                raise KeyboardInterrupt

        with cluster(PROGRAMS, "w0", "w1") as (_, client):
            try:
                self.result = dg.Trainer(client, job, data, report=report, resume=resume).run()
            except KeyboardInterrupt:
                return
            states = {shard.name: client.shard(shard.name).state_dict() for shard in job.shards}
        self.state = {f"{shard}/{name}": a.tobytes() for shard, state in states.items() for name, a in state.items()}

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(job(tmp_path_factory.mktemp("reference")), ByStep())


@pytest.mark.parametrize("data", [Stateful, once, lambda: list(once())])
def test_the_same_batches_come_to_the_same_bits_whatever_kind_of_data_gives_them(
    reference: Run, tmp_path: Path, data: Callable[[], object]
) -> None:
    assert Run(job(tmp_path), data()).state == reference.state


@pytest.mark.parametrize("data", [ByStep, Stateful])
@pytest.mark.parametrize("until", [3, 5])
def test_a_run_goes_on_where_its_data_stood(
    reference: Run, tmp_path: Path, data: Callable[[], object], until: int
) -> None:
    Run(job(tmp_path), data(), until)
    run = Run(job(tmp_path), data(), resume=True)
    assert [event["step"] for event in run.told("step")] == list(range(until, 7))
    assert run.state == reference.state


def test_a_plain_iterable_is_announced_and_cannot_be_resumed(
    reference: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (notice,) = Run(job(tmp_path), once(), until=3).told("notice")
    assert notice["text"] in [record.getMessage() for record in caplog.records]
    assert "plain iterable" in notice["text"]
    assert "cannot be resumed" in notice["text"]
    assert not reference.told("notice")
    with pytest.raises(ConfigError, match="data generator is a plain iterable: it cannot go back to where a checkpoin"):
        Run(job(tmp_path), once(), resume=True)


def test_checkpoints_of_an_earlier_run_are_not_written_over(tmp_path: Path) -> None:
    Run(job(tmp_path), ByStep())
    with pytest.raises(ConfigError, match=r"earlier run, the newest .*step-00000006: continue it with resume=True"):
        Run(job(tmp_path), ByStep())


def test_several_trainers_need_data_they_can_make_themselves(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="job 'tiny' has 2 trainers, each a process that needs the batches of its"):
        Run(job(tmp_path, trainers=2), ByStep())


def test_the_last_thing_shown_is_what_the_data_makes_of_the_model(tmp_path: Path) -> None:
    pipeline = {"forward": ["stem.forward", "head.loss"], "sample": ["stem.forward", "head.forward"]}
    run = Run(job(tmp_path, pipeline=pipeline), ByStep())
    assert run.events[-1] == {"event": "sample", "text": "of zeros it makes (1, 3)"}


@pytest.mark.parametrize("batch", [1, 4, 0])
def test_held_out_examples_are_measured_in_pieces(tmp_path: Path, batch: int) -> None:
    whole = Run(job(tmp_path / "whole", evaluation={"every": 3}), ByStep())
    pieces = Run(job(tmp_path / "pieces", evaluation={"every": 3, "batch": batch}), ByStep())
    assert [event["step"] for event in pieces.told("evaluated")] == [3, 6]
    assert pieces.result.held_out_loss == pytest.approx(whole.result.held_out_loss, rel=1e-12)
    assert pieces.result.accuracy is None


def test_a_pipeline_that_takes_the_targets_says_itself_how_many_are_right(tmp_path: Path) -> None:
    pipeline = {"forward": ["stem.forward", "head.loss"], "evaluate": ["stem.forward", "head.loss(previous, targets)"]}
    result = Run(job(tmp_path, pipeline=pipeline, evaluation={"every": 6}), ByStep()).result
    assert result.accuracy == result.held_out_loss


def test_the_numbers_of_every_step_and_the_job_are_kept_beside_the_checkpoints(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    run = Run(job(tmp_path, metrics={"tensorboard": True}, evaluation={"every": 3}), ByStep())
    found = read_metrics(tmp_path / "metrics.jsonl")
    assert [record.loss for record in found] == [event["loss"] for event in run.told("step")]
    expected = [0.025 * (1 + np.cos(np.pi * step / 6)) for step in range(6)]
    np.testing.assert_allclose([record.learning_rate for record in found], expected, rtol=1e-12)
    assert [record.step for record in found if record.held_out_loss is not None] == [3, 6]
    assert "optimizer.settings.lr = 0.05" in (tmp_path / "job.txt").read_text()
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_metrics_go_where_the_job_says(tmp_path: Path) -> None:
    Run(job(tmp_path / "run", metrics={"directory": tmp_path / "numbers"}), ByStep())
    assert sorted(path.name for path in (tmp_path / "numbers").iterdir()) == ["job.txt", "metrics.jsonl"]


def test_a_run_from_the_beginning_does_not_begin_with_trained_shards(tmp_path: Path) -> None:
    with cluster(PROGRAMS, "w0", "w1") as (_, client):
        dg.Trainer(client, job(tmp_path / "first"), ByStep()).run()
        with pytest.raises(ConfigError, match="'tiny' have been trained in this cluster before, 6 steps"):
            dg.Trainer(client, job(tmp_path / "second"), ByStep()).run()
        resumed = dg.Trainer(client, job(tmp_path / "first", steps=8), ByStep(), resume=True).run()
        assert resumed.steps == 8
