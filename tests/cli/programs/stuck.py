"""The small network, one of whose workers can be told to hold its interpreter, as foreign code does that never ends."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

import distgrad as dg

from . import net


class Stage(net.Stage):
    """Holds the interpreter for a minute where the file DISTGRAD_HOLD names this worker."""

    @dg.remote
    def forward(self, x: Any) -> Any:
        hold = Path(os.environ["DISTGRAD_HOLD"])
        if hold.exists() and hold.read_text() == sys.argv[-1]:
            hold.unlink()
            ctypes.PyDLL(None).sleep(60)  # a PyDLL does not let go of the interpreter
        return super().forward(x)
