"""The numbers of a training run, one JSON object a line, so that `tail -f` follows it and pandas reads it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from distgrad.errors import ConfigError

#: Name of the file, in a job's directory.
METRICS = "metrics.jsonl"


@dataclass(frozen=True)
class StepMetrics:
    """What is known after a step. None: not measured at this step.

    Attributes:
        step: number of steps taken.
        time: seconds since the Unix epoch.
        loss: mean over the microbatches of the step.
        held_out_loss: mean over the evaluation data.
        accuracy: on the evaluation data, between 0 and 1.
        steps_per_second: in this run so far.
        learning_rate: of the step.
    """

    step: int
    time: float
    loss: float | None = None
    held_out_loss: float | None = None
    accuracy: float | None = None
    steps_per_second: float | None = None
    learning_rate: float | None = None


class Recorder(Protocol):
    """Writes down what is known after each step."""

    def write(self, metrics: StepMetrics) -> None: ...


class MetricsFile:
    """An open file of metrics.

    Each record is handed whole to the operating system when it is written. None is synced to the disk: steps that are
    replayed after a power cut give the same numbers again.
    """

    def __init__(self, path: str | os.PathLike[str], resumed_step: int = 0) -> None:
        """Opens `path`, dropping the records after `resumed_step`, which will be written again. 0 starts afresh.

        Raises:
            OSError: the file cannot be written.
        """
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        os.truncate(self.path, _size_through(self.path, resumed_step))
        self._file = open(self.path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115

    def write(self, metrics: StepMetrics) -> None:
        record = {name: _finite(value) for name, value in asdict(metrics).items() if value is not None}
        self._file.write(json.dumps(record) + "\n")

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> MetricsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<MetricsFile {self.path} {'closed' if self._file.closed else 'open'}>"


def read_metrics(path: str | os.PathLike[str]) -> list[StepMetrics]:
    """All whole records of a file, in order; a line still being written is left out.

    Raises:
        ConfigError: a line is not a record of metrics.
        OSError: the file cannot be read.
    """
    return [metrics for metrics, _ in _records(Path(path))]


def last_step(path: str | os.PathLike[str]) -> int:
    """The step of the last record; 0 when there is none."""
    return max((metrics.step for metrics in read_metrics(path)), default=0) if Path(path).exists() else 0


def _size_through(path: Path, step: int) -> int:
    """Number of bytes that hold the records up to and including `step`."""
    size = 0
    for metrics, end in _records(path):
        if metrics.step > step:
            break
        size = end
    return size


def _records(path: Path) -> Iterator[tuple[StepMetrics, int]]:
    """Each whole record with the offset at which it ends."""
    end = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            end += len(line)
            yield _parse(path, number, line), end


def _parse(path: Path, number: int, line: bytes) -> StepMetrics:
    try:
        record = json.loads(line)
        numbers: dict[str, Any] = {
            name: float(value) if isinstance(value, str) else value for name, value in record.items()
        }
        return StepMetrics(**numbers)
    except (ValueError, TypeError, AttributeError) as error:
        known = ", ".join(field.name for field in fields(StepMetrics))
        raise ConfigError(f"{path}:{number}: expected a record of metrics ({known}), found {line[:80]!r}") from error


def _finite(value: float) -> float | str:
    """JSON has no NaN and no infinity; as text they stay readable everywhere."""
    return value if math.isfinite(value) else str(value)
