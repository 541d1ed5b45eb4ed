"""Two programs measured in turns, so that a noisy machine is noisy for both; each number of BLAS threads in a process
of its own.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from distgrad.autograd.allocator import keep_freed_memory

THREADS = (1, 2)
VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
MARK = "DISTGRAD_BENCHMARK_THREADS"


def compare(label: str, ours: Callable[[], object], theirs: Callable[[], object], rounds: int = 30) -> float:
    """Prints and returns theirs / ours: above 1, ours is faster. Medians of `rounds` runs of each, in turns."""
    times: dict[Callable[[], object], list[float]] = {ours: [], theirs: []}
    for _ in range(3):
        ours()
        theirs()
    for _ in range(rounds):
        for run, found in times.items():
            start = time.perf_counter()
            run()
            found.append(1e3 * (time.perf_counter() - start))
    mine, peer = (statistics.median(found) for found in times.values())
    threads = os.environ.get(MARK, "?")
    print(
        f"{label:28} {threads} threads: distgrad {mine:8.2f} ms, torch {peer:8.2f} ms, ratio {peer / mine:5.2f}",
        flush=True,
    )
    return peer / mine


def in_processes(main: Callable[[], None], module: str) -> None:
    """Runs `main` once for each number of threads: this process starts itself anew, since BLAS reads the number at
    import.
    """
    if MARK in os.environ:
        import torch

        # As a worker does; it serves both programs.
        keep_freed_memory()
        torch.set_num_threads(int(os.environ[MARK]))
        main()
        return
    for threads in THREADS:
        environment = os.environ | dict.fromkeys(VARIABLES, str(threads)) | {MARK: str(threads)}
        subprocess.run([sys.executable, "-m", module], env=environment, check=True)
