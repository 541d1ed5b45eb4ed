"""Everything the local engine is measured by, in one run: `python -m tests.benchmarks.local_engine`.

Prints the machine's state and a table: our time, and how many times ours each peer takes, by one and two threads; then
peak memory. Above 1 we are faster, or smaller.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys

from . import memory
from .ratio import THREADS, Times, in_child

BENCHMARKS = ("tape_cost", "mlp_step", "transformer_block", "conv_net", "adam_10m", "rnn")
PEERS = ("torch", "torch fused", "jax.jit", "HIPS autograd", "MyGrad")


def row(label: str, unit: str, times: Times) -> str:
    mine = times["distgrad"]
    ratios = (f"{times[peer] / mine:.2f}" if peer in times else "" for peer in PEERS)
    return f"| {label} | {mine:.2f} {unit} | {' | '.join(ratios)} |"


def main() -> None:
    packages = ", ".join(f"{name} {_version(name)}" for name in ("numpy", "torch", "jax", "autograd", "mygrad"))
    load = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    print(f"{_processor()}, {os.cpu_count()} processors, load {load}; Python {platform.python_version()}, {packages}\n")
    print(f"| what | distgrad | {' | '.join(PEERS)} |")
    print("|---" * (2 + len(PEERS)) + "|")
    for benchmark in BENCHMARKS:
        module = f"tests.benchmarks.{benchmark}"
        for threads in THREADS:
            label = f"{importlib.import_module(module).LABEL}, {threads} thread{'s' * (threads > 1)}"
            print(row(label, "ms", in_child(module, threads)), flush=True)
    for benchmark in memory.BENCHMARKS:
        print(row(memory.label(benchmark), "MiB", memory.rises(benchmark)), flush=True)
    print(f"\nload at the end {os.getloadavg()[0]:.1f}", file=sys.stderr)


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _processor() -> str:
    with open("/proc/cpuinfo") as lines:
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
