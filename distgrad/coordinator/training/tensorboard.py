"""The numbers of a training run as event files, which TensorBoard shows. Needs the extra `tensorboard`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from distgrad.errors import ConfigError

from .metrics import StepMetrics

# What is not a number of its own.
_NOT_SHOWN = ("step", "time")


class TensorBoardFile:
    """An open event file; see `metrics.Recorder`.

    Arguments:
        directory: of event files; a run that goes on adds one.
        resumed_step: what earlier files say of later steps is not shown any more.

    Raises:
        ConfigError: the package that writes event files is not installed.
    """

    def __init__(self, directory: Path, resumed_step: int = 0) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                'metrics.tensorboard = true needs a package that is not here: pip install "distgrad[tensorboard]"'
            ) from error
        self._writer = SummaryWriter(str(directory), purge_step=resumed_step + 1, write_to_disk=True)

    def write(self, metrics: StepMetrics) -> None:
        for name, value in asdict(metrics).items():
            if value is not None and name not in _NOT_SHOWN:
                self._writer.add_scalar(name, value, metrics.step, walltime=metrics.time)

    def __enter__(self) -> TensorBoardFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.close()
