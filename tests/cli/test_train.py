"""`distgrad train`, from the outside."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from tests.processes import eventually, is_gone

from .conftest import Run, Start, held
from .points import PROGRAMS

# For tests that are not about several workers.
ALONE = ("--workers", "1")


def shards(run: Run, step: int = 12) -> dict[str, bytes]:
    """The files of a checkpoint's shards: parameters and optimizer state, bit for bit."""
    return {file.name: file.read_bytes() for file in (run.directory / f"step-{step:08d}").glob("*.safetensors")}


# ---- a run -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of the whole job on three workers, over."""
    run = Run(tmp_path_factory.mktemp("complete"))
    run.end()
    run.close()
    return run


@pytest.fixture(scope="module")
def undisturbed(complete: Run) -> dict[str, bytes]:
    """Its shards."""
    return shards(complete)


def test_a_run_shows_the_job_its_course_and_how_it_ended(complete: Run) -> None:
    assert (complete.process.returncode, complete.errors) == (0, "")
    job, _, course = complete.out.partition("worker w")
    assert "# points.toml:3" in job
    assert "# default" in job
    assert "shards placed: stem, middle, head" in course
    assert "step 12/12  loss " in course
    last = course.splitlines()[-1]
    assert last.startswith("done: held-out loss ")
    assert all(unit in last for unit in ("%", " s,", "steps/s", "MB sent by workers", "step-00000012"))


WIDE = ("shard.stem.config.outputs=512", "shard.middle.config.inputs=512", "data.config.batch=64", "steps=4")


@pytest.mark.slow
def test_a_job_with_lossy_links_sends_fewer_bytes(start: Start) -> None:
    sent = []
    for lossy in ("", "int8"):
        wide = [option for value in (*WIDE, f'cluster.lossy_values="{lossy}"') for option in ("--set", value)]
        run = start("--json", *wide, folder=lossy or "exact")
        sent.append(run.until("done")["bytes_sent"])
        run.end()
    assert 0 < sent[1] < 0.8 * sent[0]  # the gradients are exact in both


@pytest.mark.slow
def test_quiet_prints_the_last_line_only(start: Start) -> None:
    out, _ = start("--quiet", *ALONE, "--set", "steps=1").end()
    (line,) = out.splitlines()
    assert line.startswith("done: ")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(ALONE, id="one worker"),
        pytest.param((), id="three workers again", marks=pytest.mark.slow),
    ],
)
def test_bits_depend_neither_on_the_run_nor_on_the_number_of_workers(
    start: Start, undisturbed: dict[str, bytes], options: tuple[str, ...]
) -> None:
    run = start("--quiet", *options)
    run.end()
    assert set(undisturbed) == {"stem.safetensors", "middle.safetensors", "head.safetensors"}
    assert shards(run) == undisturbed


def test_a_run_survives_a_killed_worker_and_ends_at_the_bits_of_an_undisturbed_one(
    start: Start, undisturbed: dict[str, bytes]
) -> None:
    run = start("--json", *held(6))
    run.until("step", 5)
    pid = run.children()["w1"]
    os.kill(pid, signal.SIGKILL)
    run.go_on()
    failure = run.until("failure")
    assert f"process {pid} was killed by signal 9 (SIGKILL)" in failure["reason"]
    assert (failure["failures"], failure["max_failures"]) == (1, 10)
    assert run.until("recovered")["step"] in (0, 4)
    run.end()
    assert (run.process.returncode, run.errors) == (0, "")
    assert shards(run) == undisturbed
    assert run.left_behind == []


# A run that one loss ends.
MORTAL = ("--json", "--set", "recovery.max_failures=0")


@pytest.mark.slow
def test_without_failures_to_spare_a_killed_worker_is_named_and_resuming_ends_at_the_same_bits(
    start: Start, undisturbed: dict[str, bytes]
) -> None:
    killed = start(*MORTAL, *held(6))
    killed.until("step", 5)
    assert eventually((killed.directory / "step-00000004").exists)  # complete, from the moment it has that name
    pid = killed.children()["w1"]
    os.kill(pid, signal.SIGKILL)
    killed.go_on()
    _, errors = killed.end()
    assert killed.process.returncode == 1
    # In between it may say who waited for whom.
    assert errors.startswith(f"error: worker w1 is lost: process {pid} was killed by signal 9 (SIGKILL)\n")
    assert errors.endswith(f"\nthe newest checkpoint is {killed.directory}/step-00000004: continue with --resume\n")
    assert killed.left_behind == []
    resumed = start("--json", "--resume", *held(6))
    assert resumed.until("resumed")["step"] == 4
    resumed.end()
    assert resumed.process.returncode == 0
    assert shards(resumed) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("replicate", ["false", "true"])
@pytest.mark.parametrize("step", [1, 7])
@pytest.mark.parametrize("victim", ["w1", "coordinator"])
def test_a_kill_at_no_moment_changes_the_bits(
    start: Start, undisturbed: dict[str, bytes], victim: str, step: int, replicate: str
) -> None:
    run = start("--json", "--set", f"recovery.replicate={replicate}", *held(step + 2))
    run.until("step", step)
    os.kill(run.children()[victim], signal.SIGKILL)
    run.go_on()
    run.end()
    assert (run.process.returncode, run.errors) == (0, "")
    assert shards(run) == undisturbed
    assert run.left_behind == []


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["w1", "coordinator"])
def test_a_run_survives_a_process_that_is_stopped(start: Start, undisturbed: dict[str, bytes], victim: str) -> None:
    run = start("--json", *held(3))
    run.until("step", 1)
    pid = run.children()[victim]
    os.kill(pid, signal.SIGSTOP)
    run.go_on()
    assert "silent for 3 s" in run.until("failure")["reason"]
    run.end()
    assert is_gone(pid)
    assert run.process.returncode == 0
    assert shards(run) == undisturbed
    assert run.left_behind == []


@pytest.mark.slow
def test_a_run_survives_a_worker_whose_interpreter_is_held_by_foreign_code(
    start: Start, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    hold = tmp_path / "hold"
    stuck = ("--set", "shard.middle.program='stuck.py:Stage'")
    run = start("--json", *held(3), *stuck, environment={"DISTGRAD_HOLD": str(hold)})
    run.until("step", 1)
    hold.write_text("w1")
    run.go_on()
    assert "is lost: silent for 3 s" in run.until("failure")["reason"]
    assert run.until("recovered")["source"] in ("a checkpoint", "the beginning")
    run.end()
    assert run.process.returncode == 0
    assert shards(run) == undisturbed
    assert run.left_behind == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "number", "message"),
    [
        ("w1", signal.SIGSTOP, r"error: (worker )?w1\S* is lost: .*silent for 3 s"),
        ("coordinator", signal.SIGKILL, r"error: coordinator is lost: process \d+ was killed by signal 9 \(SIGKILL\)"),
    ],
)
def test_without_failures_to_spare_a_lost_process_ends_the_run_and_is_named(
    start: Start, victim: str, number: signal.Signals, message: str
) -> None:
    run = start(*MORTAL, "--set", "steps=100000")
    run.until("step", 1)
    os.kill(run.children()[victim], number)
    _, errors = run.end()
    assert run.process.returncode == 1
    assert re.match(message, errors)
    assert run.left_behind == []


# ---- interruptions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("job", signal.SIGINT),
        pytest.param("ready", signal.SIGTERM, marks=pytest.mark.slow),
        ("step", signal.SIGHUP),
        pytest.param("placed", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("job", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("ready", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("evaluated", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("saved", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("done", signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_an_interruption_at_any_moment_leaves_nothing(start: Start, moment: str, number: signal.Signals) -> None:
    run = start("--json", "--set", "steps=100000" if moment != "done" else "steps=1")
    run.until(moment)
    run.signal(number)
    _, errors = run.end()
    assert (run.process.returncode, errors) == (130, "interrupted\n") or moment == "done"
    assert run.left_behind == []


@pytest.mark.slow
def test_a_checkpoint_that_was_being_written_at_an_interruption_is_removed(start: Start) -> None:
    run = start("--json", *ALONE, "--set", "steps=100000", "--set", "checkpoint.every=100000")
    run.until("placed")
    partial = run.directory / ".step-00000004.partial"  # as a write that the interruption cuts off leaves it
    partial.mkdir()
    run.signal(signal.SIGINT)
    run.end()
    assert not partial.exists()


@pytest.mark.slow
def test_children_vanish_when_their_supervisor_is_killed(start: Start) -> None:
    run = start("--json", "--set", "steps=100000")
    run.until("step", 2)
    run.signal(signal.SIGKILL)
    run.close()


# ---- an earlier run's checkpoints ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_new_run_does_not_touch_the_checkpoints_of_an_earlier_one_unless_told_to(start: Start) -> None:
    start("--quiet", *ALONE, "--set", "steps=4").end()
    refused = start("--quiet", *ALONE)
    _, errors = refused.end()
    assert refused.process.returncode == 1
    assert f"there are checkpoints of an earlier run, the newest {refused.directory}/step-00000004" in errors
    assert "--resume" in errors
    assert "--fresh" in errors
    fresh = start("--quiet", *ALONE, "--fresh", "--set", "steps=1")
    fresh.end()
    assert fresh.process.returncode == 0
    assert [path.name for path in fresh.directory.glob("step-*")] == ["step-00000001"]


@pytest.mark.slow
def test_resuming_without_a_checkpoint_says_that_there_is_none(start: Start) -> None:
    run = start("--quiet", *ALONE, "--resume")
    _, errors = run.end()
    assert run.process.returncode == 1
    assert f"nothing to resume: no complete checkpoint in {run.directory}" in errors


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_so_is_the_one_that_still_stands(
    start: Start, complete: Run, tmp_path: Path
) -> None:
    checkpoints = Path(shutil.copytree(complete.directory, tmp_path / "checkpoints"))
    damaged = checkpoints / "step-00000012" / "stem.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    resumed = start("--quiet", "--resume")
    _, errors = resumed.end()
    assert resumed.process.returncode == 1
    assert f"checkpoint {damaged.parent}: stem.safetensors has SHA-256 " in errors
    assert "step-00000008 still stands" in errors


@pytest.mark.slow
def test_a_directory_in_use_by_another_run_is_left_alone(start: Start) -> None:
    running = start("--json", *ALONE, "--set", "steps=100000", "--set", "checkpoint.every=100000")
    running.until("placed")
    second = start("--quiet", *ALONE)
    _, errors = second.end()
    assert second.process.returncode == 1
    assert f"is in use by another coordinator (process {running.children()['coordinator']} " in errors


# ---- errors: one screen, no traceback --------------------------------------------------------------------------------


def slow(*values: str) -> ParameterSet:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ('shard.stem.program="nets.py:Stage"', "there is no program 'nets.py' in .*; it has .*net.py"),
        ("shard.middle.config.inputs=9", r"middle.forward on w0 raised ValueError: .*size 9.*float32\[8, 8\]"),
        slow('shard.stem.program="net.py:Stag"', "program net.py has no 'Stag' .*did you mean 'Stage'"),
        slow("shard.stem.config.depth=3", "shard 'stem': .* on w0: TypeError: .*'depth'"),
        slow('data.program="net.py:Images"', "program net.py has no 'Images'"),
        slow('optimizer.kind="Adamant"', "no optimizer 'Adamant'"),
        slow("optimizer.settings.lr=3e38", "lower the learning rate"),
    ],
)
def test_a_mistake_that_workers_find_is_explained_on_one_screen(start: Start, override: str, message: str) -> None:
    run = start("--quiet", *ALONE, "--set", override)
    out, errors = run.end()
    assert run.process.returncode == 1
    assert out == ""
    assert errors.startswith("error: ")
    assert "Traceback" not in errors
    assert len(errors.splitlines()) <= 24
    assert re.search(message, errors, re.DOTALL), errors
    assert run.left_behind == []


@pytest.mark.slow
def test_data_that_needs_a_package_says_how_to_get_it(start: Start, tmp_path: Path) -> None:
    missing = tmp_path / "without" / "sklearn"
    missing.mkdir(parents=True)
    (missing / "__init__.py").write_text("raise ImportError('No module named sklearn')")
    workers = PROGRAMS.parents[2] / "workers"
    run = start(
        *ALONE, "--set", f'cluster.programs="{workers}"', "--set", 'data.program="digits.py:Digits"',
        environment={"PYTHONPATH": os.pathsep.join([str(missing.parent), os.environ.get("PYTHONPATH", "")])},
    )  # fmt: skip
    _, errors = run.end()
    assert run.process.returncode == 1
    assert 'pip install "distgrad[examples]"' in errors
    assert "Traceback" not in errors


@pytest.mark.slow
def test_json_shows_every_event(start: Start) -> None:
    out, _ = start("--json", "--set", "steps=4").end()
    kinds = [json.loads(line)["event"] for line in out.splitlines()]
    assert kinds == ["job", *["ready"] * 3, "placed", *["step"] * 4, "evaluated", "saved", "done"]
