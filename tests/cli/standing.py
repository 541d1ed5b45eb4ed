"""A cluster of the commands that an operator starts: `distgrad coordinator`, and several times `distgrad worker`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.faults.namespaces import Network

PROGRAMS = Path(__file__).parent / "programs"
TOKEN = {"DISTGRAD_TOKEN": "of the cluster", "DISTGRAD_INSECURE": "1"}


class Standing:
    """A coordinator with its journal, and workers w0, w1, ...; at the end of the stack nothing is left of them.

    Arguments:
        network: workers have a machine each in it; None: all are here.

    Attributes:
        address: of the coordinator, which keeps it.
    """

    def __init__(self, folder: Path, stack: ExitStack, workers: int = 3, network: Network | None = None) -> None:
        self._folder = folder
        self._stack = stack
        self.address = f"{network.here if network is not None else '127.0.0.1'}:0"
        self.coordinator = self.start_coordinator()
        for name in [f"w{number}" for number in range(workers)]:
            if network is not None:
                network.add(name)
            prefix = network.prefix(name) if network is not None else []
            self._start("worker", "--join", self.address, "--programs", str(PROGRAMS), "--name", name, prefix=prefix)

    def start_coordinator(self) -> subprocess.Popen[str]:
        """Starts it, as the service manager of its machine would do after its loss."""
        options = ("--listen", self.address, "--journal", str(self._folder / "journal"))
        self.coordinator = self._start("coordinator", *options)
        assert self.coordinator.stdout is not None
        said = re.search(r"at (\S+)$", self.coordinator.stdout.readline())
        assert said is not None
        self.address = said[1]
        return self.coordinator

    def _start(self, *command: str, prefix: list[str] | None = None) -> subprocess.Popen[str]:
        with open(self._folder / "errors", "ab") as errors:
            process = subprocess.Popen(
                [*(prefix or []), sys.executable, "-u", "-m", "distgrad", *command],
                cwd=self._folder,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | TOKEN,
            )
        self._stack.callback(_end, process)
        return process


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
