"""Peak memory of training steps, each program in a process of its own: `python -m tests.benchmarks.memory`.

What is measured is how far the resident memory of a process rises above what it was before the first step, when
packages, weights and data were in place.
"""

from __future__ import annotations

import importlib
import os
import resource
import subprocess
import sys

from .ratio import VARIABLES, Times, describe

BENCHMARKS = ("mlp_step", "transformer_block", "conv_net")
PROGRAMS = {"distgrad": "ours", "torch": "in_torch"}
STEPS = 5


def rise(benchmark: str, program: str) -> float:
    """Peak of a program in MiB, measured in a new process."""
    environment = os.environ | dict.fromkeys(VARIABLES, "1")
    command = [sys.executable, "-m", "tests.benchmarks.memory", benchmark, program]
    return float(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout)


def rises(benchmark: str) -> Times:
    """Peak of each program in MiB."""
    return {name: rise(benchmark, program) for name, program in PROGRAMS.items()}


def label(benchmark: str) -> str:
    return importlib.import_module(f"tests.benchmarks.{benchmark}").LABEL + ", memory"


def main() -> None:
    if len(sys.argv) == 1:
        for benchmark in BENCHMARKS:
            print(describe(label(benchmark), 1, rises(benchmark), "MiB"), flush=True)
        return
    benchmark, program = sys.argv[1:]
    module = importlib.import_module(f"tests.benchmarks.{benchmark}")
    if program == "in_torch":
        import torch

        torch.set_num_threads(1)
    step = getattr(module, program)(module.start())
    pages = int(open("/proc/self/statm").read().split()[1])  # noqa: SIM115
    before = pages * resource.getpagesize()
    for _ in range(STEPS):
        step()
    # Kilobytes on Linux.
    print((1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)


if __name__ == "__main__":
    main()
