"""A run goes on when workers are lost, and ends at the bits of a run in which none was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distgrad.coordinator.client import Client
from distgrad.coordinator.training.survival import Survival
from distgrad.coordinator.training.trainer import Trainer
from distgrad.errors import RemoteError, Timeout, WorkerLost
from tests.coordinator.cluster import Cluster, cluster
from tests.coordinator.training.test_trainer import PROGRAMS, Run, job, state

Events = list[dict[str, Any]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return Run(job(tmp_path_factory.mktemp("undisturbed"))).state


def losing(*losses: tuple[str, int, str], back: bool = True) -> Callable[[Cluster, dict[str, Any]], None]:
    """Ends workers when an event of a step is told, (event, step, worker) each, and starts them again."""
    pending = list(losses)

    def report(made: Cluster, event: dict[str, Any]) -> None:
        for loss in list(pending):
            if (event["event"], event.get("step", 0)) == loss[:2]:
                pending.remove(loss)
                made.end(loss[2])
                if back:
                    made.start(loss[2])

    return report


def sources(run: Run) -> list[tuple[str, int]]:
    return [(event["source"], event["step"]) for event in run.events if event["event"] == "recovered"]


@pytest.mark.parametrize(
    ("event", "step", "newest"),
    [
        ("step", 1, 0),
        ("step", 3, 2),
        ("evaluated", 4, 4),
        ("saved", 4, 4),
        ("evaluated", 6, 4),
    ],
)
def test_without_copies_a_run_returns_to_a_checkpoint_or_the_beginning_and_ends_at_the_same_bits(
    tmp_path: Path, undisturbed: dict[str, bytes], event: str, step: int, newest: int
) -> None:
    run = Run(job(tmp_path), report=losing((event, step, "w1")))
    assert run.state == undisturbed
    assert len(sources(run)) == 1
    # A checkpoint is written while the run goes on: it may come too late to be returned to.
    (source, taken) = sources(run)[0]
    assert taken <= newest
    assert taken % 2 == 0
    assert (source == "the beginning") == (taken == 0)
    assert list(run.losses()) == [1, 2, 3, 4, 5, 6]


def test_a_worker_that_is_lost_before_the_first_step_is_waited_for(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    run = Run(job(tmp_path), report=losing(("placed", 0, "w1")))
    assert run.state == undisturbed
    assert run.kinds()[:3] == ["placed", "failure", "placed"]


def test_a_worker_that_is_lost_while_a_run_sets_out_again_is_waited_for(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    with cluster(PROGRAMS, "w0", "w1", "w2", journal=tmp_path / "journal") as (made, client):
        Trainer(client, job(tmp_path, "steps=4")).run()
        recover = client.recover

        def lose_first(*how: Any) -> Any:
            client.recover = recover  # type: ignore[method-assign]
            made.end("w1")
            made.start("w1")
            raise WorkerLost("w1 is lost")

        client.recover = lose_first  # type: ignore[method-assign]
        Trainer(client, job(tmp_path), failures=1).run()
        assert state(client, job(tmp_path)) == undisturbed


@pytest.mark.parametrize("worker", ["w0", "w1"])
@pytest.mark.parametrize(("event", "step"), [("step", 1), ("step", 3), ("evaluated", 4), ("evaluated", 6)])
def test_with_copies_no_step_is_taken_twice(
    tmp_path: Path, undisturbed: dict[str, bytes], event: str, step: int, worker: str
) -> None:
    run = Run(job(tmp_path, "recovery.replicate=true"), report=losing((event, step, worker)))
    assert run.state == undisturbed
    assert sources(run) == [("the copies of other workers", step)]
    assert [event["step"] for event in run.events if event["event"] == "step"] == [1, 2, 3, 4, 5, 6]


def test_when_an_owner_and_its_copy_are_lost_a_run_returns_to_a_checkpoint(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    both = losing(("step", 5, "w0"), ("step", 5, "w1"))
    run = Run(job(tmp_path, "recovery.replicate=true"), report=both)
    assert run.state == undisturbed
    assert [source for source, _ in sources(run)] == ["a checkpoint"]


def test_a_run_is_lost_again_and_again_and_ends_at_the_same_bits(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    losses = [("step", 1, "w0"), ("step", 2, "w1"), ("step", 4, "w0"), ("evaluated", 4, "w1"), ("step", 6, "w0")]
    run = Run(job(tmp_path, "recovery.replicate=true"), report=losing(*losses))
    assert run.state == undisturbed
    failures = [event["failures"] for event in run.events if event["event"] == "failure"]
    assert failures == list(range(1, len(failures) + 1))
    assert len(failures) >= len(losses)


def test_a_worker_without_shards_takes_the_place_of_one_that_does_not_come_back(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    def report(made: Cluster, event: dict[str, Any]) -> None:
        if event["event"] == "placed":
            made.start("spare")
        if event["event"] == "step" and event["step"] == 3 and "w1" in made.workers:
            made.end("w1")

    run = Run(job(tmp_path, "recovery.replicate=true"), report=report, standby_after=0.0)
    assert run.state == undisturbed
    assert sources(run) == [("the copies of other workers", 3)]


def test_more_failures_than_may_be_end_the_run_with_the_last_of_them(tmp_path: Path) -> None:
    losses = losing(("step", 1, "w0"), ("step", 2, "w1"))
    with pytest.raises(WorkerLost, match="w1"):
        Run(job(tmp_path, "recovery.max_failures=1"), report=losses)


def test_a_worker_that_does_not_come_back_is_waited_for_no_longer_than_the_job_says(tmp_path: Path) -> None:
    losses = losing(("step", 1, "w1"), back=False)
    with pytest.raises(Timeout, match=r"w1.*did not come back within 0\.2 s, and no worker without shards"):
        Run(job(tmp_path, "recovery.patience_seconds=0.2"), report=losses)


def test_an_error_of_the_job_is_not_survived(tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match="fail"):
        Run(job(tmp_path, 'pipeline.forward=["stem.fail", "head.error"]'))


@pytest.mark.parametrize("spare", [0, 1])
def test_a_failure_tells_who_waited_for_whom(tmp_path: Path, pair: tuple[Cluster, Client], spare: int) -> None:
    _, client = pair
    events: Events = []
    survival = Survival(client, job(tmp_path, f"recovery.max_failures={spare}"), events.append, 0, 0.0)
    client.process.caller.waits_at_loss = ["driver waits for head.loss on w1", "another waits for it"]
    told = ""
    try:
        survival.note(WorkerLost("w1 is lost: it fell silent"))
    except WorkerLost as error:
        told = str(error)
    assert (told or events[0]["reason"]).splitlines() == [
        "w1 is lost: it fell silent",
        "when it was lost, driver waits for head.loss on w1; another waits for it",
    ]
    assert bool(told) == (spare == 0)
    assert client.process.caller.waits_at_loss == []
