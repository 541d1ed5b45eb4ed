"""How long until everyone concerned knows that a worker is gone: `python -m tests.benchmarks.detection`.

With the settings a cluster has by default: seconds from the fault, which strikes in the middle of a backward pass on
w1, until the driver has its error, and until the coordinator has told all members. To reach: 3 s.
"""

from __future__ import annotations

import signal
import time

from tests.faults.moments import Trouble
from tests.faults.world import World, quick_settings, world

# What strikes w1. None: its interpreter is held by foreign code from the moment the pass stands still.
FAULTS = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP, "interpreter held": None}
REPEATS = 3


def measure(found: World, fault: signal.Signals | None) -> tuple[float, float]:
    """Seconds until the driver, and until the coordinator, knows."""
    trouble = Trouble(found, "backward", holding_interpreter=fault is None)
    struck = time.monotonic()
    victim = found.workers["w1"]
    if fault is not None:
        victim.signal(fault)
    driver, _ = trouble.outcome()
    coordinator, _ = found.loss(victim)
    return driver - struck, coordinator - struck


def main() -> None:
    for name, fault in FAULTS.items():
        times = []
        for _ in range(REPEATS):
            with world(
                "w0", "w1", "w2", settings=quick_settings(heartbeat=1.0, silence=3.0, reconnect_window=2.0)
            ) as found:
                times.append(measure(found, fault))
        for who, worst in zip(("driver", "coordinator"), map(max, zip(*times, strict=True)), strict=True):
            print(f"{name:>16}: the {who} knows after {worst:.2f} s at most ({REPEATS} times)")


if __name__ == "__main__":
    main()
