"""Programs that do the same, measured in turns, so that a noisy machine is noisy for all; each number of threads in a
process of its own.

A benchmark is a module with `LABEL` and `programs()`: named functions to time, ours first.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable

Programs = dict[str, Callable[[], object]]
# Median time of each program in milliseconds.
Times = dict[str, float]

THREADS = (1, 2)
VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def measure(programs: Programs, rounds: int = 30) -> Times:
    """Runs all programs in turns."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    for run in programs.values():
        for _ in range(3):
            run()
    for _ in range(rounds):
        for name, run in programs.items():
            start = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(found) for name, found in times.items()}


def describe(label: str, threads: int, times: Times, unit: str = "ms") -> str:
    """A line of text: our time, and of each peer its time and how many times ours it is."""
    (own, mine), *peers = times.items()
    against = ", ".join(f"{name} {peer:.2f} ({peer / mine:.2f}×)" for name, peer in peers)
    return f"{label:24} {threads} threads: {own} {mine:.2f} {unit}; {against}"


def installed(programs: dict[str, Callable[[], Callable[[], object]]]) -> Programs:
    """The programs whose packages are there, made; says which are not."""
    found: Programs = {}
    for name, make in programs.items():
        try:
            found[name] = make()
        except ModuleNotFoundError as missing:
            print(f"{name}: not measured, as {missing.name} is not installed", file=sys.stderr)
    return found


def in_child(module: str, threads: int) -> Times:
    """Measures a benchmark in a new process: BLAS reads the number of threads at import."""
    environment = os.environ | dict.fromkeys(VARIABLES, str(threads))
    command = [sys.executable, "-m", "tests.benchmarks.ratio", module, str(threads)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    times: Times = json.loads(done.stdout.splitlines()[-1])
    return times


def report(module: str, threads: Iterable[int] = THREADS) -> None:
    """Measures a benchmark with each number of threads and prints what was found."""
    label = importlib.import_module(module).LABEL
    for n in threads:
        print(describe(label, n, in_child(module, n)), flush=True)


def main() -> None:
    module, threads = sys.argv[1], int(sys.argv[2])
    # XLA takes as many threads as there are processors for it.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    import torch

    import distgrad as dg

    # As in a worker; it serves all programs.
    dg.keep_freed_memory()
    torch.set_num_threads(threads)
    print(json.dumps(measure(importlib.import_module(module).programs())))


if __name__ == "__main__":
    main()
