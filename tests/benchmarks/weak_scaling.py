"""Weak scaling: a pipeline of one transformer block on each of 1, 2, 4 and 8 workers.

    python -m tests.benchmarks.weak_scaling [ROUNDS]

A step is forward and backward of 32 microbatches and an SGD update, so each worker has the same to do whatever their
number. Where there are more workers than cores, the cores are what is shared: the ideal is the time of one worker times
the workers for each core.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from contextlib import ExitStack

import distgrad as dg

from .pipeline import PROGRAMS, Ours, Sample, job, quietest, sample
from .ratio import VARIABLES

COUNTS = (1, 2, 4, 8)
MODULE = "tests.benchmarks.weak_scaling"


def measure(rounds: int) -> None:
    """Has all clusters take steps in turns."""
    cores = os.cpu_count() or 1
    with ExitStack() as stack:
        clusters = {}
        for count in COUNTS:
            cluster = stack.enter_context(dg.LocalCluster(workers=count, programs=PROGRAMS))
            made = job(f"on-{count}", [f"w{number}" for number in range(count)], "1f1b")
            clusters[count] = Ours(stack, cluster, made)
        samples: dict[int, list[Sample]] = {count: [] for count in COUNTS}
        for number in range(rounds + 1):
            for count, take in clusters.items():
                one = sample(take)
                if number:
                    samples[count].append(one)
        single = statistics.median(one.seconds for one in quietest(samples[1]))
        processor = statistics.median(one.processor for one in quietest(samples[1]))
        for count, taken in samples.items():
            quiet = quietest(taken)
            seconds = statistics.median(one.seconds for one in quiet)
            own = statistics.median(one.processor for one in quiet) / count
            ideal = single * max(1.0, count / cores)
            others = statistics.mean(one.others for one in quiet)
            print(
                f"{count} workers: {1e3 * seconds:6.0f} ms a step, {ideal / seconds:.2f} of the ideal; {own:.2f} s of "
                f"processor time a worker, {processor / own:.2f} of one alone; others used {others:.0%}",
                flush=True,
            )


def main(arguments: list[str]) -> None:
    match arguments:
        case ["--measure", rounds]:
            measure(int(rounds))
        case _:
            command = [sys.executable, "-m", MODULE, "--measure", *(arguments or ["6"])]
            subprocess.run(command, env=os.environ | dict.fromkeys(VARIABLES, "1"), check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
