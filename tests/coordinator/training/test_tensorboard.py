"""Event files: TensorBoard's own reader decides what is in them."""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distgrad.coordinator.training.metrics import StepMetrics
from distgrad.coordinator.training.tensorboard import TensorBoardFile
from distgrad.errors import ConfigError

events = pytest.importorskip("tensorboardX.proto.event_pb2")


def records(file: Path) -> Iterator[Any]:
    """The events of a file: length, its checksum, event, its checksum, each (TFRecord)."""
    content = file.read_bytes()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        yield events.Event.FromString(content[12 : 12 + length])
        content = content[16 + length :]


def scalars(directory: Path) -> dict[tuple[str, int], float]:
    found = (event for file in sorted(directory.iterdir()) for event in records(file))
    return {(value.tag, event.step): value.simple_value for event in found for value in event.summary.value}


def test_what_was_measured_is_shown_at_its_step(tmp_path: Path) -> None:
    with TensorBoardFile(tmp_path / "tensorboard") as file:
        file.write(StepMetrics(1, 100.0, loss=0.5, learning_rate=0.25))
        file.write(StepMetrics(2, 101.0, loss=math.inf, held_out_loss=0.75, accuracy=1.0))
    assert scalars(tmp_path / "tensorboard") == {
        ("loss", 1): 0.5,
        ("learning_rate", 1): 0.25,
        ("loss", 2): math.inf,
        ("held_out_loss", 2): 0.75,
        ("accuracy", 2): 1.0,
    }
    (file_,) = (tmp_path / "tensorboard").iterdir()
    assert [event.wall_time for event in records(file_) if event.summary.value] == [100.0] * 2 + [101.0] * 3


def test_a_run_that_goes_on_takes_the_place_of_later_steps(tmp_path: Path) -> None:
    with TensorBoardFile(tmp_path, resumed_step=7):
        pass
    (file,) = tmp_path.iterdir()
    starts = [e.step for e in records(file) if e.session_log.status == events.SessionLog.START]
    assert starts == [8]


def test_without_the_package_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ConfigError, match=r'pip install "distgrad\[tensorboard\]"'):
        TensorBoardFile(tmp_path)
