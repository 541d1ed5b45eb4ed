"""A coordinator in a process of its own that stops in the middle of an update, as by a machine that stands still:
`python -m tests.faults.old_coordinator LISTEN JOURNAL BOUNDARY ARMED`.

Says "listening", and how each update has ended: "commit", or the error. It stops itself at the boundary as soon as
there is a file ARMED.
"""

from __future__ import annotations

import functools
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from distgrad.coordinator.server import Coordinator
from distgrad.coordinator.update import Updates

from .boundaries import OF_THE_COORDINATOR, strike_at
from .world import quick_settings


def main() -> None:
    listen, journal, boundary, armed = sys.argv[1:]

    def stop() -> None:
        if Path(armed).exists():
            Path(armed).unlink()
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # this thread goes not one step further

    strike_at(OF_THE_COORDINATOR[boundary], stop)
    step = Updates.step

    @functools.wraps(step)
    def told(*arguments: Any) -> Any:
        try:
            decision = step(*arguments)
        except Exception as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            raise
        print(decision.outcome, flush=True)
        return decision

    Updates.step = told  # type: ignore[method-assign]
    with Coordinator(quick_settings(), listen, Path(journal)):
        print("listening", flush=True)
        signal.sigwait([signal.SIGTERM])


if __name__ == "__main__":
    main()
