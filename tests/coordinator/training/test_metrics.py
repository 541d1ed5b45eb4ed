"""Metrics: readable while they are written, and continued where a job resumes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from distgrad.coordinator.training.metrics import MetricsFile, StepMetrics, read_metrics
from distgrad.errors import ConfigError


def write(path: Path, steps: range, resumed_step: int = 0) -> list[StepMetrics]:
    records = [StepMetrics(step, time=float(step), loss=1 / step) for step in steps]
    with MetricsFile(path, resumed_step) as file:
        for record in records:
            file.write(record)
    return records


def test_records_can_be_read_while_the_file_is_open(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "metrics.jsonl"
    full = StepMetrics(1, 1.5e9, loss=0.1 + 0.2, accuracy=0.98, steps_per_second=12.5, learning_rate=2**-40)
    with MetricsFile(path) as file:
        file.write(full)
        file.write(StepMetrics(2, 1.5e9))
        assert read_metrics(path) == [full, StepMetrics(2, 1.5e9)]
        assert repr(file) == f"<MetricsFile {path} open>"
    assert json.loads(path.read_text().splitlines()[1]) == {"step": 2, "time": 1.5e9}


@pytest.mark.parametrize("resumed_step", [0, 1, 3, 5, 9])
def test_resuming_drops_the_records_after_the_resumed_step(tmp_path: Path, resumed_step: int) -> None:
    path = tmp_path / "metrics.jsonl"
    before = write(path, range(1, 6))
    after = write(path, range(resumed_step + 1, resumed_step + 3), resumed_step)
    assert read_metrics(path) == before[:resumed_step] + after


def test_a_line_torn_at_any_byte_is_left_out_and_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first, second = write(path, range(1, 3))
    whole = path.read_bytes()
    for cut in range(whole.index(b"\n") + 1, len(whole)):
        path.write_bytes(whole[:cut])
        assert read_metrics(path) == [first]
        write(path, range(2, 3), resumed_step=1)
        assert read_metrics(path) == [first, second]


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_stays_readable_json(tmp_path: Path, loss: float) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsFile(path) as file:
        file.write(StepMetrics(1, 0.0, loss=loss))
    json.loads(path.read_text(), parse_constant=pytest.fail)
    (record,) = read_metrics(path)
    assert record.loss == pytest.approx(loss, nan_ok=True)


@pytest.mark.parametrize("line", ["garbage", "[1]", '{"step": 1}', '{"step": 2, "time": 0, "lost": 1}'])
def test_a_foreign_file_is_refused_and_left_alone(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, range(1, 2))
    content = path.read_text() + line + "\n"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"metrics\.jsonl:2: expected a record of metrics \(step, time, loss"):
        MetricsFile(path, resumed_step=5)
    assert path.read_text() == content
