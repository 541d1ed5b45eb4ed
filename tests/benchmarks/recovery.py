"""What surviving costs, and how long it takes: `python -m tests.benchmarks.recovery [losses] [cluster] [ray]
[overhead] [checkpoint]`.

losses       seconds from a fault in the middle of a job on three workers until it is noticed, and until the next step
             has been committed, under both policies; what is left behind
cluster      the same on a cluster of the commands for several machines: a worker that is cut off from the network
             (needs root), whose place another takes; the coordinator and the trainer killed
ray          the same on a Ray of two nodes, whose second is removed in the end; with copies
overhead     seconds and CPU seconds a step of the gpt job: as it is, with copies, with a checkpoint every ten steps,
             in turns. To reach: at most 5 % more
checkpoint   bytes and seconds of a checkpoint of 500 MB, and how long it holds up steps
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import distgrad as dg
from tests.cli.points import JOB
from tests.cli.standing import TOKEN, Standing
from tests.faults.namespaces import Network, without_proxies
from tests.processes import with_environment

PROGRAMS = Path(__file__).parent / "programs"
GPT = Path(__file__).parents[2] / "deploy" / "jobs" / "gpt.toml"

# What differs from the job of the command line's tests.
OF_THE_JOB = (
    "steps=100000",
    "data.config.batch=64",
    "checkpoint.every=50",
    "evaluation.every=100000",
    "shard.stem.program='stuck.py:Stage'",
    "shard.middle.program='stuck.py:Stage'",
)

Event = dict[str, Any]


class Training:
    """`distgrad train` of a job, and its events with the time each came."""

    def __init__(self, folder: Path, job: Path, *settings: str, options: Sequence[str] = ()) -> None:
        self.hold = folder / "hold"
        self.places: dict[str, Event] = {}  # worker -> what was said of it when it was ready
        self._folder = folder
        self._environment = {"TMPDIR": str(folder / "tmp"), "DISTGRAD_HOLD": str(self.hold)}
        (folder / "tmp").mkdir()
        self.errors = folder / "errors"
        given = [option for setting in settings for option in ("--set", setting)]
        with open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "distgrad", "train", str(job), "--json", *given, *options],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | self._environment,
            )

    def events(self) -> Iterator[tuple[float, Event]]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):  # Ray itself prints words about what is lost
                yield time.monotonic(), json.loads(line)

    def child(self, name: str) -> int:
        found = with_environment(f"TMPDIR={self._environment['TMPDIR']}")
        return next(pid for pid, command in found.items() if command.split()[-1].startswith(name))

    def left_behind(self) -> list[object]:
        """Ends the run; returns what is still there."""
        self.process.send_signal(signal.SIGINT)
        self.process.communicate()
        tmp = self._environment["TMPDIR"]
        return [*with_environment(f"TMPDIR={tmp}").values(), *os.listdir(tmp)]


# ---- losses ----------------------------------------------------------------------------------------------------------


def strike(number: signal.Signals) -> Callable[..., None]:
    return lambda run, victim: os.kill(run.child(victim), number)


def hold(run: Training, victim: str) -> None:
    run.hold.write_text(victim)


FAULTS: dict[str, tuple[str, Callable[..., None]]] = {
    "worker killed": ("w1", strike(signal.SIGKILL)),
    "worker stopped": ("w1", strike(signal.SIGSTOP)),
    "worker's interpreter held": ("w1", hold),
    "coordinator killed": ("coordinator", strike(signal.SIGKILL)),
    "coordinator stopped": ("coordinator", strike(signal.SIGSTOP)),
}


HEAD = f"{'fault':>26}  {'policy':>11}  noticed  next step  lost steps  left behind"


def losses() -> None:
    print(HEAD)
    for name, (victim, fault) in FAULTS.items():
        for replicate in (False, True):
            _show(name, functools.partial(fault, victim=victim), replicate)


def _show(name: str, fault: Callable[[Training], None], replicate: bool, *options: str) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        noticed, went_on, lost, left = _loss(Path(folder), fault, replicate, options)
    policy = "copies" if replicate else "checkpoints"
    print(f"{name:>26}  {policy:>11}  {noticed:5.2f} s    {went_on:5.2f} s  {lost:10}  {left or 'nothing'}", flush=True)


def _loss(
    folder: Path, fault: Callable[[Training], None], replicate: bool, options: Sequence[str]
) -> tuple[float, float, int, list[object]]:
    job = folder / "job.toml"
    job.write_text(JOB)
    run = Training(folder, job, *OF_THE_JOB, f"recovery.replicate={str(replicate).lower()}", options=options)
    struck = noticed = 0.0
    taken = 0
    recovered: Event | None = None
    for now, event in run.events():
        if event["event"] == "ready":
            run.places[event["worker"]] = event
        if event["event"] == "step" and recovered is not None:
            return noticed - struck, now - struck, taken - recovered["step"], run.left_behind()
        if event["event"] == "step":
            taken = event["step"]
            if not struck and taken >= 75:
                struck = time.monotonic()
                fault(run)
        elif event["event"] == "failure" and not noticed:
            noticed = now
        elif event["event"] == "recovered":
            recovered = event
    raise AssertionError(f"the run ended:\n{run.errors.read_text()}")


# ---- on a cluster of its own -----------------------------------------------------------------------------------------


def on_cluster() -> None:
    print(HEAD)
    for replicate in (False, True):
        with ExitStack() as stack:
            stack.enter_context(without_proxies())
            network = Network(stack)
            cut = functools.partial(_cut_off, network=network)
            standing = _stand(stack, workers=4, network=network)
            _show("worker cut off", cut, replicate, "--cluster", standing.address)
        with ExitStack() as stack:
            standing = _stand(stack)
            restart = functools.partial(_restart, standing=standing)
            _show("coordinator killed", restart, replicate, "--cluster", standing.address)
            kill = functools.partial(strike(signal.SIGKILL), victim="trainer")
            _show("trainer killed", kill, replicate, "--cluster", standing.address)


def _cut_off(run: Training, network: Network) -> None:
    network.pull("w1")


def _restart(run: Training, standing: Standing) -> None:
    standing.coordinator.kill()
    standing.start_coordinator()


def _stand(stack: ExitStack, **how: Any) -> Standing:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp")))
    os.environ.update(TOKEN | {"DISTGRAD_HOLD": os.devnull})
    return Standing(folder, stack, **how)


# ---- on Ray ----------------------------------------------------------------------------------------------------------


def on_ray() -> None:
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["DISTGRAD_HOLD"] = os.devnull  # what programs on its nodes see
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, "include_dashboard": False})
    second = nodes.add_node(num_cpus=1)

    def actor(number: signal.Signals) -> Callable[[Training], None]:
        return lambda run: os.kill(run.places["w1"]["process"], number)

    faults: dict[str, Callable[[Training], None]] = {
        "Ray's actor killed": actor(signal.SIGKILL),
        "Ray's actor stopped": actor(signal.SIGSTOP),
        "Ray's coordinator killed": functools.partial(strike(signal.SIGKILL), victim="coordinator"),
        "Ray's coordinator stopped": functools.partial(strike(signal.SIGSTOP), victim="coordinator"),
        "Ray's node killed": lambda run: nodes.remove_node(second, allow_graceful=False),
    }
    print(HEAD)
    for name, fault in faults.items():
        _show(name, fault, True, "--ray", nodes.address)
    nodes.shutdown()


# ---- overhead --------------------------------------------------------------------------------------------------------

STEPS = 30
REPEATS = 3
VARIANTS = {
    "as it is": ["checkpoint.every=100000"],
    "with copies": ["checkpoint.every=100000", "recovery.replicate=true"],
    "a checkpoint every 10 steps": ["checkpoint.every=10"],
}


def overhead() -> None:
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    work: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(REPEATS):
        for name, settings in VARIANTS.items():
            wall, cpu = _per_step(settings)
            seconds[name].append(wall)
            work[name].append(cpu)
    base, base_work = (statistics.median(it["as it is"]) for it in (seconds, work))
    for name in VARIANTS:
        wall, cpu = statistics.median(seconds[name]), statistics.median(work[name])
        print(
            f"{name:>28}: {1e3 * wall:6.1f} ms a step ({wall / base - 1:+.1%}), {1e3 * cpu:6.1f} ms of CPU a step "
            f"({cpu / base_work - 1:+.1%})"
        )


def _per_step(settings: list[str]) -> tuple[float, float]:
    """Median seconds of a step, and CPU seconds of all processes for a step, of a run of the gpt job."""
    costs = {}
    times: list[float] = []
    for steps in (3, 3 + STEPS):  # the difference is what steps cost
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            run = Training(
                Path(folder), GPT, f"steps={steps}", f"checkpoint.directory='{folder}/run'",
                "evaluation.every=100000", *settings,
            )  # fmt: skip
            times = [now for now, event in run.events() if event["event"] == "step"]
            run.process.wait()
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs[steps] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    gaps = [later - sooner for sooner, later in itertools.pairwise(times[3:])]
    return statistics.mean(sorted(gaps)[: -len(gaps) // 5 or None]), (costs[3 + STEPS] - costs[3]) / STEPS


# ---- a large checkpoint ----------------------------------------------------------------------------------------------

MEGABYTES = 500


def checkpoint() -> None:
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as folder,
        dg.LocalCluster(workers=2, programs=PROGRAMS) as cluster,
    ):
        shards = [
            cluster.place(f"large{number}", "large.py:Large", f"w{number}", {"megabytes": MEGABYTES // 2})
            for number in range(2)
        ]
        optimizer = cluster.optimizer(dg.optim.SGD(0.1), shards, "sgd")

        def step() -> float:
            began = time.monotonic()
            with cluster.context() as context:
                context.backward([shard.use(0) for shard in shards])
                optimizer.step(context)
            return time.monotonic() - began

        step()
        alone = statistics.median(step() for _ in range(10))
        began = time.monotonic()
        saved = cluster.begin_save(folder)
        during = [step()]
        while not saved.done:
            during.append(step())
        seconds = time.monotonic() - began
        size = sum(file.stat().st_size for file in Path(saved.result()).iterdir())
        print(f"{size / 1e6:.0f} MB in {seconds:.2f} s ({size / seconds / 1e6:.0f} MB/s), with hashes and synced")
        print(
            f"steps meanwhile: {len(during)}; the first took {1e3 * during[0]:.1f} ms, the slowest "
            f"{1e3 * max(during):.1f} ms, the median {1e3 * statistics.median(during):.1f} ms; a step alone takes "
            f"{1e3 * alone:.1f} ms"
        )


PARTS = {"losses": losses, "cluster": on_cluster, "ray": on_ray, "overhead": overhead, "checkpoint": checkpoint}

if __name__ == "__main__":
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
