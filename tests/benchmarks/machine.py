"""How much of this machine's processor time goes to whom, so that a busy machine is known from a slow program."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_TICK: int = os.sysconf("SC_CLK_TCK")


def spent(processes: Iterable[int]) -> float:
    """Seconds of processor time that these processes have used so far."""
    total = 0
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICK


def spent_by_all() -> float:
    """Seconds of processor time that anybody on this machine has used so far."""
    user, nice, system, _, _, irq, softirq = map(int, Path("/proc/stat").read_text().split(None, 8)[1:8])
    return (user + nice + system + irq + softirq) / _TICK
