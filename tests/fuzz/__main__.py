"""Fuzzes a target; see `tests/fuzz/__init__.py`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .targets import CORPUS, TARGETS, seeds

# Longest input, in bytes; and seconds for one.
LONGEST, SLOWEST = 2000, 30


def fuzz(name: str, seconds: float, keep: bool = False) -> int:
    """Fuzzes for that long; returns 0 when no harm was done. An input that does harm is written to the working
    directory."""
    with tempfile.TemporaryDirectory() as directory:
        found, seeded = Path(directory) / "found", Path(directory) / "seeds"
        found.mkdir(), seeded.mkdir()
        for k, seed in enumerate(seeds(name)):
            (seeded / str(k)).write_bytes(seed)
        code = run(name, [f"-max_total_time={seconds:.0f}", f"-max_len={LONGEST}", found, seeded, CORPUS / name])
        if keep and code == 0:
            run(name, ["-merge=1", CORPUS / name, found])
        return code


def run(name: str, arguments: Sequence[str | Path]) -> int:
    command = [sys.executable, "-m", "tests.fuzz.fuzzer", name, "-print_final_stats=1", f"-timeout={SLOWEST}"]
    return subprocess.run([*command, *map(str, arguments)]).returncode


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("inputs", nargs="*", type=Path, help="try these and nothing else")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--keep", action="store_true", help="keep inputs that reached something new in the corpus")
    options = parser.parse_args()
    if options.inputs:
        sys.exit(run(options.target, [path.resolve() for path in options.inputs]))
    sys.exit(fuzz(options.target, options.seconds, options.keep))


if __name__ == "__main__":
    main()
