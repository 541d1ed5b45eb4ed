"""A run of training, as people and programs see it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from distgrad.show.progress import DISPLAYS, summary

DONE = {
    "event": "done", "steps": 2, "loss": 0.5, "held_out_loss": 0.25, "accuracy": 0.975, "seconds": 4.0,
    "steps_per_second": 0.5, "bytes_sent": 1_500_000, "checkpoint": "/elsewhere/step-00000002",
}  # fmt: skip
EVENTS = [
    {"event": "job", "text": "steps = 2  # [points.toml:3]"},
    {"event": "ready", "worker": "w0", "process": 17, "log": "w0.log"},
    {"event": "placed", "shards": ["stem", "head"], "steps": 2},
    {"event": "resumed", "step": 0, "checkpoint": "/elsewhere/step-00000000"},
    {"event": "step", "step": 1, "steps": 2, "loss": 0.75, "rate": 2.0},
    {"event": "step", "step": 2, "steps": 2, "loss": 0.5, "rate": 2.0},
    {"event": "evaluated", "step": 2, "accuracy": 0.975, "loss": 0.25},
    {"event": "saved", "step": 2, "checkpoint": "/elsewhere/step-00000002"},
    {"event": "notice", "text": "it rains"},
    {"event": "sample", "text": "once upon a time"},
    DONE,
]


def shown(display: str, terminal: bool = False) -> str:
    stream = io.StringIO()
    with DISPLAYS[display](Console(file=stream, force_terminal=terminal, width=100)) as show:
        for event in EVENTS:
            show(event)
    return stream.getvalue()


def test_plain_lines_tell_what_happens() -> None:
    assert shown("plain").splitlines() == [
        "steps = 2  # [points.toml:3]",
        "worker w0 is ready (process 17)",
        "shards placed: stem, head",
        "continuing after step 0 from /elsewhere/step-00000000",
        "step 1/2  loss 0.7500  2 steps/s",
        "step 2/2  loss 0.5000  2 steps/s",
        "step 2  held-out loss 0.2500, accuracy 97.5%",
        "step 2  saved /elsewhere/step-00000002",
        "note: it rains",
        "sample:",
        "once upon a time",
        summary(DONE),
    ]


def test_plain_lines_leave_out_steps_that_follow_quickly() -> None:
    stream = io.StringIO()
    with DISPLAYS["plain"](Console(file=stream)) as show:
        for step in range(1, 1001):
            show({"event": "step", "step": step, "steps": 1000, "loss": 1.0, "rate": 1000.0})
    lines = stream.getvalue().splitlines()
    assert (lines[0][:11], lines[-1][:14]) == ("step 1/1000", "step 1000/1000")
    assert len(lines) < 500


def test_quiet_shows_the_summary_alone() -> None:
    assert shown("quiet") == summary(DONE) + "\n"


def test_json_shows_every_event_as_it_is() -> None:
    assert [json.loads(line) for line in shown("json").splitlines()] == EVENTS


def test_a_bar_shows_the_newest_loss_and_what_is_saved_and_ends_with_the_summary() -> None:
    text = shown("bar", terminal=True)
    assert "2/2" in text
    assert "loss 0.5000  2 steps/s  held-out loss 0.2500, accuracy 97.5%" in text
    assert "step 2  saved /elsewhere/step-00000002" in text
    assert summary(DONE) in text


def test_the_summary_has_accuracy_time_speed_traffic_and_checkpoint() -> None:
    expected = (
        "done: held-out loss 0.2500, accuracy 97.5%, 4.0 s, 0.5 steps/s, 1.5 MB sent by workers, "
        "checkpoint /elsewhere/step-00000002"
    )
    assert summary(DONE) == expected


def test_a_job_without_evaluation_and_checkpoints_ends_with_its_loss() -> None:
    done = DONE | {"held_out_loss": None, "accuracy": None, "checkpoint": ""}
    assert summary(done) == "done: loss 0.5000, 4.0 s, 0.5 steps/s, 1.5 MB sent by workers"


def test_a_checkpoint_below_here_is_shown_as_seen_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert summary(DONE | {"checkpoint": str(tmp_path / "runs" / "step-1")}).endswith("checkpoint runs/step-1")
