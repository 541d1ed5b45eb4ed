"""A job on a cluster that stays: one at a time, and nothing is left of it when its client has gone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import distgrad as dg
from distgrad.coordinator.client import Client
from distgrad.errors import ConfigError, ContextError
from distgrad.wire import pb

from .cluster import PATIENCE, PROGRAMS, SIZES, Cluster, cluster, place, trained


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(PROGRAMS, "w0", "w1", journal=tmp_path / "journal") as (made, _):
        yield made


def train(made: Cluster, steps: int = 2) -> Client:
    """A client that trains a job of two shards and has taken all steps but one."""
    trainer = made.client("trainer")
    trainer.begin_job("points", steps + 1)
    trained(trainer, place(trainer, "a", "w0"), place(trainer, "b", "w1"), steps=steps)
    return trainer


def status(client: Client) -> pb.JobStatus:
    reply, _ = client.process.ask("coordinator", pb.ListMembers())
    return reply.job


def test_everybody_can_see_what_runs_and_how_far_it_has_come(made: Cluster) -> None:
    onlooker = made.client("onlooker")
    assert status(onlooker) == pb.JobStatus()
    train(made)
    job = status(onlooker)
    assert (job.name, job.trainer, job.step, job.steps) == ("points", "trainer", 2, 3)
    assert dict(job.shards) == {"a": "w0", "b": "w1"}


def test_nothing_is_left_of_a_job_whose_client_has_gone(made: Cluster) -> None:
    trainer = train(made)
    assert len(made.coordinator.journal) == 2
    made.leave(trainer)
    after = made.client("next")
    after.begin_job("other", 1)
    assert len(made.coordinator.shards) == len(made.coordinator.journal) == 0
    assert made.coordinator.updates.versions() == {}
    for name, worker in made.workers.items():
        place(after, f"on-{name}", name)  # workers do one thing after the other
        assert (list(worker.host.shards), worker.host.owners) == ([f"on-{name}"], {})


def test_the_journal_keeps_the_steps_of_a_job_whatever_checkpoints_the_one_before_has_left(
    made: Cluster, tmp_path: Path
) -> None:
    before = train(made, steps=3)
    before.save(str(tmp_path / "before"))
    made.leave(before)
    trainer = train(made, steps=2)
    trainer.save(str(tmp_path / "after"))  # what no second checkpoint holds may yet be asked for
    assert len(made.coordinator.journal) == 2


def test_a_step_that_waits_for_other_trainers_of_the_job_is_given_up(made: Cluster) -> None:
    trainer, companion = train(made), made.client("companion")
    step = pb.UpdateStep(optimizer="adam", version=4, turn=1, turns=2)  # the first turn is never asked for
    asked = companion.process.request("coordinator", step)
    place(companion, "after-it", "w0")
    made.leave(trainer)
    with pytest.raises(ContextError, match="given up"):
        asked.result(timeout=PATIENCE)
    with pytest.raises(ConfigError, match="there is no optimizer 'adam'"):  # one that asks too late does not wait
        companion.process.ask("coordinator", step, timeout=PATIENCE)


def test_nothing_is_left_of_copies_of_its_state_either(made: Cluster) -> None:
    trainer = made.client("trainer")
    trainer.begin_job("points", 1)
    shards = [place(trainer, "a", "w0"), place(trainer, "b", "w1")]
    trainer.optimizer(dg.optim.SGD(0.1), shards, "sgd", replicate=True)
    assert all(list(worker.replicas) for worker in made.workers.values())
    made.leave(trainer)
    after = made.client("next")
    after.begin_job("other", 1)
    for name, worker in made.workers.items():
        place(after, f"on-{name}", name)
        assert list(worker.replicas) == []


def test_the_same_job_can_be_trained_again_with_the_same_bits(made: Cluster) -> None:
    states = []
    for _ in range(2):
        trainer = train(made)
        states.append(trainer.read_state("a"))
        made.leave(trainer)
    first, second = states
    assert first["parameters"]["linear.weight"].tobytes() == second["parameters"]["linear.weight"].tobytes()
    assert first["optimizer"].keys() == second["optimizer"].keys()


def test_what_workers_hold_from_a_coordinator_before_is_no_part_of_a_job(made: Cluster) -> None:
    trainer = train(made, steps=0)
    expected = trainer.read_state("a")
    made.leave(trainer)
    made.client("meanwhile").begin_job("none", 1)
    made.leave(made._clients[-1])
    for name in ("a", "stray"):
        host = made.workers["w0"].host
        host.load(name, "parts.py:Layer", SIZES, 0)
        host.load_state(name, {"parameters": {"linear.weight": np.zeros((2, 3)), "linear.bias": np.ones(2)}})
    found = train(made, steps=0).read_state("a")
    assert list(made.workers["w0"].host.shards) == ["a"]
    assert found["parameters"]["linear.bias"].tobytes() == expected["parameters"]["linear.bias"].tobytes()


def test_a_second_job_is_refused_while_one_runs(made: Cluster) -> None:
    train(made)
    with pytest.raises(ConfigError, match=r"job 'points' is being trained here by trainer, .*use another cluster"):
        made.client("late").begin_job("other", 1)


def test_a_trainer_whose_connection_comes_back_is_not_waited_for(
    made: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(made)
    looks = iter([False])
    monkeypatch.setattr(made.coordinator.running, "_is_connected", lambda trainer: next(looks, True))
    asked = made.client("late").process.request("coordinator", pb.BeginJob(name="other", steps=1))
    with pytest.raises(ConfigError, match=r"job 'points' is being trained here by trainer"):
        asked.result(timeout=PATIENCE)


def test_whoever_leaves_while_waiting_for_the_end_of_a_job_does_not_begin_one(
    made: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, impatient, patient = train(made), made.client("impatient"), made.client("patient")
    monkeypatch.setattr(made.coordinator.running, "_is_connected", lambda trainer: False)
    impatient.process.request("coordinator", pb.BeginJob(name="other", steps=1))
    assert status(impatient).name == "points"  # the coordinator has heard that it wants to begin another
    made.leave(impatient)
    made.leave(trainer)
    asked = patient.process.request("coordinator", pb.BeginJob(name="third", steps=1))
    asked.result(timeout=PATIENCE)
    assert status(patient).name == "third"


def test_of_several_that_wait_for_the_end_of_a_job_one_is_let_in(made: Cluster) -> None:
    made.leave(train(made))
    clients = [made.client(f"next{number}") for number in range(3)]
    outcomes: list[str] = []

    def begin(client: Client) -> None:
        try:
            client.begin_job("other", 1)
            outcomes.append("begun")
        except ConfigError:
            outcomes.append("refused")

    threads = [threading.Thread(target=begin, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["begun", "refused", "refused"]


def test_what_others_have_placed_stays_and_is_not_taken_for_the_jobs(made: Cluster) -> None:
    other = made.client("other")
    kept = place(other, "a", "w0")
    trainer = made.client("trainer")
    trainer.begin_job("points", 1)
    with pytest.raises(ConfigError, match="shard 'a' of job 'points' cannot be placed: somebody else has placed one"):
        place(trainer, "a", "w0")
    place(trainer, "b", "w0")
    made.leave(trainer)
    made.client("next").begin_job("next", 1)
    assert kept.state_dict().keys() == {"linear.weight", "linear.bias"}  # asked of w0, which has let go of b by then
    assert list(made.workers["w0"].host.shards) == ["a"]


def test_what_is_placed_in_the_name_of_a_job_that_has_ended_is_refused(made: Cluster) -> None:
    late = train(made)
    late._job = "another"
    with pytest.raises(ContextError, match="job 'another' has ended here, or never began"):
        place(late, "c", "w0")
