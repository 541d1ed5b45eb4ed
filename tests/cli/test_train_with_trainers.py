"""`distgrad train` on a job with several trainers: the same bits in every run, and no trainer is missed or left."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Start, held
from tests.processes import eventually, with_environment

TRAINERS = ["--set", "trainers=2"]
NO_LOSS = ["--set", "recovery.max_failures=0"]


def losses(out: str) -> dict[int, float]:
    events: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    return {event["step"]: event["loss"] for event in events if event["event"] == "step"}


def bits(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (directory / "step-00000012").glob("*.safetensors")}


def test_the_steps_of_all_trainers_are_told_and_written_down_in_turn(start: Start) -> None:
    run = start("--json", *TRAINERS)
    told = losses(run.end()[0])
    assert list(told) == list(range(1, 13))
    metrics = [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]
    assert {record["step"]: record["loss"] for record in metrics} == told
    assert len(bits(run.directory)) == 3
    assert run.left_behind == []


@pytest.mark.slow
def test_trainers_come_to_the_same_bits_in_every_run_and_placement_and_to_others_than_one_trainer(start: Start) -> None:
    first = start("--json", *TRAINERS, folder="first")
    told = losses(first.end()[0])
    again = start("--json", *TRAINERS, "--workers", "1", folder="again")
    assert losses(again.end()[0]) == told
    assert bits(again.directory) == bits(first.directory)
    alone = start("--json", folder="alone")
    other = losses(alone.end()[0])
    assert other[1] == told[1]
    assert other[2] != told[2]  # there the second step sees the first


@pytest.mark.slow
def test_a_trainer_that_is_killed_is_started_again_and_no_bit_differs(start: Start) -> None:
    long = ["--json", *TRAINERS, "--set", "steps=120", "--set", "evaluation.every=120"]
    undisturbed = losses(start(*long, folder="undisturbed").end()[0])
    run = start(*long, *held(22), folder="killed")
    run.until("step", 20)
    os.kill(run.children()["trainer-1"], signal.SIGKILL)
    run.go_on()
    failure = run.until("failure")
    assert "trainer trainer-1 is lost: process" in failure["reason"]
    assert failure["failures"] == 1
    after = losses(run.end()[0])
    assert after == {step: undisturbed[step] for step in after}
    assert max(after) == 120


@pytest.mark.slow
def test_a_trainer_that_is_killed_ends_a_run_that_survives_no_loss(start: Start) -> None:
    run = start("--json", *TRAINERS, *NO_LOSS, "--set", "steps=100000")
    run.until("step", 2)
    os.kill(run.children()["trainer-1"], signal.SIGKILL)
    _, errors = run.end()
    assert run.process.returncode == 1
    assert "trainer trainer-1 is lost: process" in errors
    assert run.left_behind == []


@pytest.mark.slow
def test_a_trainer_that_has_forked_is_heard_to_have_ended_and_nothing_of_it_is_left(start: Start) -> None:
    forking = ["--set", 'data.program="net.py:Forking"', "--set", "steps=100000"]
    run = start("--json", *TRAINERS, *NO_LOSS, *forking)
    run.until("step", 2)
    processes = with_environment(f"TMPDIR={run.temporary}")
    trainer, _ = (pid for pid, command in sorted(processes.items()) if command.endswith("trainer-1"))
    os.kill(trainer, signal.SIGKILL)
    _, errors = run.end()
    assert f"trainer trainer-1 is lost: process {trainer} was killed by signal 9 (SIGKILL)" in errors
    assert run.left_behind == []


@pytest.mark.slow
def test_what_trainers_have_forked_ends_with_a_run_that_is_killed(start: Start) -> None:
    run = start("--json", *TRAINERS, "--set", 'data.program="net.py:Forking"', "--set", "steps=100000")
    run.until("step", 2)
    run.process.kill()
    run.end()
    assert eventually(lambda: not run.left_behind)


@pytest.mark.slow
def test_an_error_of_one_trainer_is_the_error_of_the_run(start: Start) -> None:
    run = start("--quiet", *TRAINERS, "--set", 'data.program="net.py:Short"')
    _, errors = run.end()
    assert run.process.returncode == 1
    assert "data net.py:Short: batch(5) raised IndexError: there is no step 5" in errors
    assert "Traceback" not in errors


@pytest.mark.slow
def test_trainers_end_with_the_first_one(start: Start) -> None:
    run = start("--json", *TRAINERS, *NO_LOSS, "--set", "steps=100000")
    run.until("step", 2)
    os.kill(run.children()["coordinator"], signal.SIGKILL)
    run.end()
    assert eventually(lambda: not run.left_behind)
