"""The command `distgrad`. A file for each subcommand, imported when it is asked for; what they do is elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

# What shells make of a process that Ctrl-C has ended.
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs a command line and ends the process."""
    try:
        from .commands import run  # which takes its time, and may be interrupted too

        run(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
