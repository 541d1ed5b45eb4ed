"""The same jobs on processes of this machine, on hosts of their own, and on Ray: what they come to, and how long it
takes.

    python -m tests.benchmarks.places digits conv --set steps=100

Hosts are network namespaces whose cables carry 200 Mbit/s and take a millisecond each way, so it needs root. The
parameters at the end are compared bit for bit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click

from distgrad.coordinator.training.job import open_job
from tests.cluster.hosts import hosts

ROOT = Path(__file__).parents[2]
DISTGRAD = [sys.executable, "-m", "distgrad"]
ADDRESS = "node0:7400"


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        wall: seconds from the command to its end.
        training: of these, seconds of taking steps.
        result: the loss on held-out data and the accuracy, where the job evaluates; else the loss.
        parameters: the files of the newest checkpoint.
    """

    wall: float
    training: float
    result: str
    parameters: dict[str, bytes]


def on_processes(job: Path, options: Sequence[str], directory: Path) -> Outcome:
    return train(["train", str(job), *options], directory)


def on_ray(job: Path, options: Sequence[str], directory: Path) -> Outcome:
    return train(["train", str(job), "--ray", "local", "--ray-cpus", "0.25", *options], directory)


def on_hosts(job: Path, options: Sequence[str], directory: Path) -> Outcome:
    """A host for the coordinator and the trainer, and one for every worker."""
    workers = [f"node{number}" for number in range(1, 1 + len(open_job(job, options[1::2]).cluster.workers))]
    with ExitStack() as stack:
        network = stack.enter_context(hosts("node0", *workers, rate="200mbit", delay=0.001))

        def start(host: str, *command: str) -> None:
            process = subprocess.Popen([*network.prefix(host), *DISTGRAD, *command, "--insecure"], env=environment())
            stack.callback(process.wait)
            stack.callback(process.terminate)

        start("node0", "coordinator", "--listen", "0.0.0.0:7400")
        for host in workers:
            start(host, "worker", "--join", ADDRESS, "--programs", str(ROOT / "workers"))
        command = ["train", str(job), "--cluster", ADDRESS, "--insecure", *options]
        return train(command, directory, network.prefix("node0"))


def train(command: Sequence[str], directory: Path, prefix: Sequence[str] = ()) -> Outcome:
    began = time.monotonic()
    keep = ["--json", "--set", f"checkpoint.directory={directory}"]
    done = subprocess.run([*prefix, *DISTGRAD, *command, *keep], capture_output=True, text=True, env=environment())
    wall = time.monotonic() - began
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    last = json.loads(done.stdout.splitlines()[-1])
    loss = last["loss"] if last["held_out_loss"] is None else last["held_out_loss"]
    result = f"loss {loss:.4f}" if last["accuracy"] is None else f"loss {loss:.4f}, {last['accuracy']:.2%} right"
    newest = sorted(directory.glob("step-*"))[-1]
    return Outcome(
        wall, last["seconds"], result, {file.name: file.read_bytes() for file in newest.glob("*.safetensors")}
    )


def environment() -> dict[str, str]:
    """No proxies: gRPC would use them off this machine."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**kept, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}


PLACES: dict[str, Callable[[Path, Sequence[str], Path], Outcome]] = {
    "processes": on_processes,
    "hosts": on_hosts,
    "ray": on_ray,
}


@click.command()
@click.argument("jobs", nargs=-1, required=True)
@click.option("--set", "overrides", multiple=True, metavar="A.B=VALUE")
@click.option("--place", "places", multiple=True, type=click.Choice(list(PLACES)), default=list(PLACES))
def main(jobs: Sequence[str], overrides: Sequence[str], places: Sequence[str]) -> None:
    """Trains JOBS, names of deploy/jobs, in each place."""
    options = [word for override in overrides for word in ("--set", override)]
    print(f"{'job':<10} {'place':<10} {'result':<26} {'wall s':>7} {'steps s':>8}  parameters")
    for name in jobs:
        first: dict[str, bytes] = {}
        for place in places:
            with tempfile.TemporaryDirectory() as directory:
                found = PLACES[place](ROOT / "deploy" / "jobs" / f"{name}.toml", options, Path(directory) / "run")
            first = first or found.parameters
            same = "identical" if found.parameters == first else "DIFFERENT"
            row = f"{name:<10} {place:<10} {found.result:<26} {found.wall:>7.1f} {found.training:>8.1f}  {same}"
            print(row, flush=True)
    print(f"load of this machine at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
