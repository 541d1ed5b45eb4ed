"""Workers on Ray: a real one, with several nodes on this machine."""

from __future__ import annotations

import functools
import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.coordinator.server import Coordinator
from distgrad.errors import ConfigError, Timeout, WorkerLost
from distgrad.transport.settings import TransportSettings
from tests.processes import DEADLINE, eventually, with_environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ray,
    # Ray starts its nodes by fork and exec; JAX, when other tests of this process have used it, warns of every fork.
    pytest.mark.filterwarnings(r"ignore:os\.fork\(\) was called:RuntimeWarning"),
]

ray = pytest.importorskip("ray")

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "workers"


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A Ray of two nodes with two CPUs each, which this process has joined."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
        nodes.add_node(num_cpus=2)
        ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
        yield nodes
        assert not list(Path(tempfile.gettempdir()).glob("distgrad*")), "workers on Ray leave nothing on their nodes"
        ray.shutdown()
        nodes.shutdown()


@pytest.fixture(scope="module")
def address(nodes: Any) -> str:
    return nodes.address


@pytest.fixture(scope="module")
def cluster(address: str) -> Iterator[dg.RayCluster]:
    with dg.RayCluster(workers=2, programs=PROGRAMS) as cluster:
        yield cluster


def test_workers_are_spread_over_rays_nodes(cluster: dg.RayCluster) -> None:
    nodes = {node for node, _ in cluster._workers.wait(DEADLINE).values()}
    assert len(nodes) == 2
    assert [worker.name for worker in cluster.workers] == ["w0", "w1"]


def test_a_pass_through_them_gives_the_gradients_of_local_workers(cluster: dg.RayCluster) -> None:
    def gradients(cluster: dg.RayCluster | dg.LocalCluster) -> dict[str, np.ndarray]:
        a = cluster.place("a", "mlp.py:Stage", worker="w0", config={"inputs": 4, "outputs": 8})
        b = cluster.place("b", "mlp.py:Classifier", worker="w1", config={"inputs": 8, "outputs": 3})
        with cluster.context(step=0) as ctx:
            ctx.backward(b.loss(a.forward(np.ones((5, 4), np.float32)), np.arange(5) % 3))
            return ctx.gradients(a)

    with dg.LocalCluster(workers=2, programs=PROGRAMS) as local:
        expected = gradients(local)
    found = gradients(cluster)
    assert found.keys() == expected.keys()
    assert all(found[name].tobytes() == expected[name].tobytes() for name in expected)


def test_a_killed_worker_comes_back_under_its_name_in_a_new_life(cluster: dg.RayCluster) -> None:
    def w1() -> object:
        return next(worker for worker in cluster.workers if worker.name == "w1")

    before = w1()
    os.kill(before.pid, signal.SIGKILL)
    assert eventually(lambda: w1().state == "alive" and w1().incarnation != before.incarnation)
    again = cluster.place("again", "mlp.py:Stage", worker="w1", config={"inputs": 2, "outputs": 2})
    assert again.state_dict().keys() == {"linear.weight", "linear.bias"}


def test_what_ray_has_no_room_for_is_said(address: str) -> None:
    with pytest.raises(Timeout, match=r"no room for 2 workers of 100 CPU each within 0.5 s: .* of its 4 CPUs are free"):
        dg.RayCluster(workers=2, programs=PROGRAMS, cpus=100, timeout=0.5)


RIGHT, WRONG = TransportSettings(token="right"), TransportSettings(token="wrong")


def test_a_worker_that_cannot_start_says_why(address: str, tmp_path: Path) -> None:
    from distgrad.cluster.ray_workers import RayWorkers

    with Coordinator(RIGHT, "127.0.0.1:0") as coordinator, RayWorkers(["w0"], tmp_path) as workers:
        workers.start(coordinator.process.identity.address, WRONG)
        with pytest.raises(WorkerLost, match=r"worker w0 did not start on Ray: .*the token is not accepted there"):
            workers.wait(DEADLINE)


def test_a_worker_whose_node_is_lost_waits_for_room_elsewhere_and_says_so(
    nodes: Any, cluster: dg.RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers of `cluster` have left one CPU on each of the other nodes."""
    from distgrad.cluster import ray_workers

    monkeypatch.setattr(ray_workers, "_UNREMARKED", 0.1)
    node = nodes.add_node(num_cpus=2)
    notices: queue.SimpleQueue[str] = queue.SimpleQueue()
    with (
        Coordinator(RIGHT, "127.0.0.1:0") as coordinator,
        ray_workers.RayWorkers(["w0"], tmp_path, cpus=2, notice=notices.put) as workers,
    ):
        coordinator.on_event.append(lambda member: workers.replace("w0") if not member.alive else None)
        workers.start(coordinator.process.identity.address, RIGHT)
        assert workers.wait(DEADLINE)["w0"][0] == node.node_id
        nodes.remove_node(node, allow_graceful=False)
        assert re.fullmatch(
            r"worker w0 is not back on Ray: it needs 2 CPU, and \S+ of its \d CPUs are free; add a node if "
            "that is too few",
            notices.get(timeout=DEADLINE),
        )
        new = nodes.add_node(num_cpus=2)
        assert eventually(lambda: len(coordinator.workers()) == 1)
    nodes.remove_node(new)


@pytest.mark.parametrize(
    ("programs", "options", "message"),
    [
        ("no/such/folder", {}, "no/such/folder is not a folder of programs"),
        (str(PROGRAMS), {"workers": 0}, "expected a number of at least 1"),
    ],
)
def test_mistakes_are_explained(address: str, programs: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dg.RayCluster(programs=programs, **options)


class Run:
    """`distgrad train` of the digits for 120 steps, in a folder of its own."""

    def __init__(self, directory: Path, *options: str) -> None:
        self._directory = directory
        changes = ["steps=120", f"checkpoint.directory={directory}", "checkpoint.every=40", "evaluation.every=120"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "distgrad", "train", "deploy/jobs/digits.toml", "--json"]
            + [word for change in changes for word in ("--set", change)]
            + list(options),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"DISTGRAD_TEST_RUN": str(directory)},
        )

    def events(self) -> Iterator[dict[str, Any]]:
        assert self.process.stdout is not None
        # Ray itself prints words about an actor that was killed.
        return (json.loads(line) for line in self.process.stdout if line.startswith("{"))

    def coordinator(self) -> int:
        found = with_environment(f"DISTGRAD_TEST_RUN={self._directory}")
        return next(pid for pid, command in found.items() if "-m distgrad.coordinator" in command)

    def checkpoint(self) -> dict[str, bytes]:
        """The files of the last one, once the run has ended."""
        with self.process:  # closes the pipe
            assert self.process.wait(DEADLINE) == 0
        return {path.name: path.read_bytes() for path in (self._directory / "step-00000120").iterdir()}


def end(process: int) -> None:
    """Ends a process, which may have ended with its node."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def test_a_job_comes_to_the_same_bits_on_ray_as_on_this_machine_whatever_is_lost(
    nodes: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """First an actor is killed, then a node is lost without a word to anybody, then the coordinator is killed."""
    added = [nodes.add_node(num_cpus=1) for _ in range(2)]  # of four nodes, three are used
    here = Run(tmp_path / "here")
    assert [event["event"] for event in here.events()][-1] == "done"
    run = Run(tmp_path / "ray", "--ray", nodes.address, "--ray-cpus", "0.5")
    places: dict[str, tuple[str, int]] = {}  # worker -> node, process
    recovered: list[str] = []
    hit = 0
    for event in run.events():
        if event["event"] == "ready":
            places[event["worker"]] = event["address"].removeprefix("Ray's node "), event["process"]
        elif event["event"] == "recovered":
            recovered.append(event["source"])
        elif event["event"] == "step" and event["step"] >= 5 and len(recovered) == hit and len(places) == 3:
            match hit:
                case 0:
                    used = {node for node, _ in places.values()}
                    lost = next(node for node in added if node.node_id[:8] in used)
                    there = [process for node, process in places.values() if node == lost.node_id[:8]]
                    others = [process for _, process in places.values() if process not in there]
                    os.kill(others[0], signal.SIGKILL)
                case 1:
                    nodes.remove_node(lost, allow_graceful=False)
                    for process in there:
                        os.kill(process, signal.SIGSTOP)
                        request.addfinalizer(functools.partial(end, process))
                case 2:
                    os.kill(run.coordinator(), signal.SIGKILL)
            hit += 1
    assert event["event"] == "done"
    assert len(recovered) == 3
    assert recovered[2] == "what the workers hold"
    assert run.checkpoint() == here.checkpoint()
