"""Clusters of processes on this machine, as programs use them."""

from __future__ import annotations

import math
import os
import queue
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

import distgrad as dg
from distgrad.coordinator.membership import Member
from distgrad.errors import ConfigError, ProgramError, RemoteError, Timeout, WorkerLost
from distgrad.wire import pb
from distgrad.worker.child import WorkerOrders
from distgrad.worker.children import Child, Children
from tests.forks import Fork
from tests.processes import DEADLINE, eventually, is_gone

PROGRAMS = Path(__file__).parent / "programs"
X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


@pytest.fixture(scope="module")
def cluster() -> Iterator[dg.LocalCluster]:
    with dg.LocalCluster(workers=2, programs=PROGRAMS) as cluster:
        cluster.place("a", "shards.py:Layer", worker="w0", config={"inputs": 4, "outputs": 5})
        cluster.place("b", "shards.py:Layer", worker="w1", config={"inputs": 5, "outputs": 2})
        yield cluster


def local_loss(x: dg.Tensor, a: dg.Tensor, b: dg.Tensor) -> dg.Tensor:
    return dg.ops.mean(dg.ops.relu(dg.ops.relu(x @ a) @ b) ** 2)


# ---- what it is for --------------------------------------------------------------------------------------------------


def test_gradients_equal_those_of_this_process_alone(cluster: dg.LocalCluster) -> None:
    a, b = cluster.shard("a"), cluster.shard("b")
    with cluster.context() as ctx:
        ctx.backward(b.loss(a.forward(X)))
        found = [ctx.gradients(shard)["weight"] for shard in (a, b)]
    weights = [shard.state_dict()["weight"] for shard in (a, b)]
    expected = dg.grad(lambda a, b: local_loss(X, a, b), argnums=(0, 1))(*weights)
    for gradient, reference in zip(found, expected, strict=True):
        np.testing.assert_array_equal(gradient, reference)


def bytes_and_gradient(lossy: dg.Lossy) -> tuple[int, np.ndarray]:
    """What a worker sends for one gradient of 256 KiB, and the gradient of the shard that it goes to."""
    x = np.random.default_rng(0).standard_normal((64, 8)).astype(np.float32)
    with dg.LocalCluster(workers=2, programs=PROGRAMS, lossy=lossy) as cluster:
        a = cluster.place("a", "shards.py:Layer", worker="w0", config={"inputs": 8, "outputs": 1024})
        b = cluster.place("b", "shards.py:Layer", worker="w1", config={"inputs": 1024, "outputs": 2})
        with cluster.context() as ctx:
            ctx.backward(b.loss(a.forward(x)))
            return cluster.counts("w1")["bytes_sent"], ctx.gradients(a)["weight"]


def test_lossy_links_carry_fewer_bytes_and_nearly_the_same_gradient() -> None:
    exact_bytes, exact = bytes_and_gradient(dg.Lossy())
    fewer_bytes, gradient = bytes_and_gradient(dg.Lossy(gradients="int8"))
    assert fewer_bytes < 0.3 * exact_bytes
    assert 0 < np.abs(gradient - exact).max() < 0.02 * np.abs(exact).max()


def test_the_programs_of_the_repository_train_in_a_loop_of_ones_own(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((8, 64)).astype(np.float32), np.arange(8)
    with dg.LocalCluster(workers=3, programs=PROGRAMS.parents[2] / "workers") as cluster:
        a = cluster.place("a", "mlp.py:Stage", worker="w0", config={"inputs": 64, "outputs": 128})
        b = cluster.place("b", "mlp.py:Classifier", worker="w1", config={"inputs": 128, "outputs": 10})
        adam = cluster.optimizer(dg.optim.Adam(lr=1e-3), [a, b])
        losses = []
        for _ in range(3):
            with cluster.context() as ctx:
                loss = b.loss(a.forward(x), y)  # the activation goes from w0 straight to w1
                ctx.backward(loss)
                adam.step(ctx)
                losses.append(loss.item())
                assert set(ctx.gradients(a)) == {"linear.weight", "linear.bias"}
    assert losses == sorted(losses, reverse=True)


def test_an_update_changes_every_owner_and_training_lowers_the_loss(cluster: dg.LocalCluster) -> None:
    c = cluster.place("c", "shards.py:Layer", worker="w0", config={"inputs": 4, "outputs": 5})
    d = cluster.place("d", "shards.py:Layer", worker="w1", config={"inputs": 5, "outputs": 2})
    adam = cluster.optimizer(dg.optim.Adam(lr=1e-2), [c, d])
    losses = []
    for _ in range(5):
        with cluster.context() as ctx:
            loss = d.loss(c.forward(X))
            ctx.backward(loss)
            adam.step(ctx)
            losses.append(loss.item())
    assert adam.version == 5
    assert losses == sorted(losses, reverse=True)


def test_a_function_of_a_program_runs_where_it_is_called(cluster: dg.LocalCluster) -> None:
    assert cluster.call("w1", "shards.py:threads").get() == "1"


def test_state_is_read_and_written_through_a_handle(cluster: dg.LocalCluster) -> None:
    e = cluster.place("e", "shards.py:Layer", config={"inputs": 2, "outputs": 2})
    e.load_state_dict({"weight": np.eye(2, dtype=np.float32)})
    np.testing.assert_array_equal(e.state_dict()["weight"], np.eye(2))


def test_a_checkpoint_brings_everything_back(cluster: dg.LocalCluster, tmp_path: Path) -> None:
    a = cluster.shard("a")
    before = a.state_dict()
    cluster.save(str(tmp_path), {"epoch": 3})
    a.load_state_dict({"weight": np.zeros((4, 5), np.float32)})
    assert cluster.restore(str(tmp_path)) == {"epoch": 3}
    np.testing.assert_array_equal(a.state_dict()["weight"], before["weight"])


# ---- what it is made of ----------------------------------------------------------------------------------------------


def test_workers_are_processes_of_their_own(cluster: dg.LocalCluster) -> None:
    workers = cluster.workers
    assert [worker.name for worker in workers] == ["w0", "w1"]
    assert {worker.state for worker in workers} == {"alive"}
    assert len({os.getpid(), *(worker.pid for worker in workers)}) == 3
    assert all(worker.counts["links"] >= 1 for worker in workers)


def test_sockets_are_in_a_directory_of_this_user_alone(cluster: dg.LocalCluster) -> None:
    assert stat.S_IMODE(cluster.directory.stat().st_mode) == 0o700
    assert cluster.workers[0].address == f"unix:{cluster.directory}/w0.sock"


def test_what_programs_print_is_in_the_log_of_their_worker(cluster: dg.LocalCluster) -> None:
    cluster.call("w0", "shards.py:threads").wait()
    assert "a program prints\n" in (cluster.directory / "w0.log").read_text()


def test_a_cluster_says_what_it_is(cluster: dg.LocalCluster) -> None:
    assert repr(cluster) == f"<LocalCluster of w0, w1 in {cluster.directory}>"


def test_a_fork_is_refused_the_cluster_of_its_parent_who_goes_on(cluster: dg.LocalCluster) -> None:
    a, b = cluster.shard("a"), cluster.shard("b")
    with cluster.context() as ctx:
        value = a.forward(X)
        ctx.backward(b.loss(value), retain_graph=True)
        once = ctx.gradients(a)["weight"]
        for use in (
            lambda: a.forward(X),
            value.get,
            lambda: ctx.backward(value, np.ones((3, 5))),
            lambda: ctx.gradients(b),
            lambda: cluster.counts("w0"),
        ):
            said = Fork(use).result()
            assert said.startswith(f"ConfigError: driver belongs to process {os.getpid()}, of which this one,")
            assert said.endswith("is a fork: connect to the cluster here")
        for end in (ctx.close, cluster.close):
            assert Fork(end).result() == "None"
        ctx.backward(b.loss(value))
        np.testing.assert_array_equal(ctx.gradients(a)["weight"], 2 * once)


def test_workers_have_the_names_and_threads_they_are_given() -> None:
    with dg.LocalCluster(workers=["left"], programs=PROGRAMS, blas_threads=2) as cluster:
        assert [worker.name for worker in cluster.workers] == ["left"]
        assert cluster.call("left", "shards.py:threads").get() == "2"


def test_everything_is_gone_after_the_block_and_closing_again_is_harmless() -> None:
    with dg.LocalCluster(workers=1, programs=PROGRAMS) as cluster:
        pid = cluster.workers[0].pid
    assert is_gone(pid)
    assert not cluster.directory.exists()
    cluster.close()


@pytest.mark.slow
def test_a_cluster_that_is_never_closed_ends_with_its_process() -> None:
    program = (
        "import distgrad as dg\n"
        f"cluster = dg.LocalCluster(workers=1, programs={str(PROGRAMS)!r})\n"
        "print(cluster.workers[0].pid, cluster.directory)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=DEADLINE)
    assert done.stderr == ""
    pid, directory = done.stdout.split()
    assert is_gone(int(pid))
    assert not Path(directory).exists()


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workers": 0}, "workers=0, expected a number of at least 1"),
        ({"workers": []}, r"workers=\[\], expected a number of at least 1"),
        ({"workers": ["a", "a"]}, "expected a number of at least 1 or different names"),
        ({"workers": "2"}, "workers='2', expected a number of at least 1 or different names"),
        ({"workers": 2.0}, r"workers=2\.0, expected a number of at least 1"),
        ({"workers": [1, 2]}, "expected a number of at least 1 or different names"),
        ({"workers": ["driver"]}, "another process of the cluster has the name driver"),
        ({"workers": True}, "workers=True, expected a number of at least 1"),
        ({"blas_threads": 0}, "blas_threads=0, expected a whole number of at least 1"),
        ({"max_depth": "deep"}, "max_depth='deep', expected a whole number of at least 1"),
        ({"timeout": math.nan}, "timeout=nan, expected a number of at least 0"),
        ({"lossy": "bf16"}, r"lossy = 'bf16', expected dg.Lossy\(...\)"),
        ({"programs": "/no/such/folder"}, "the programs folder /no/such/folder does not exist"),
        ({"programs": __file__}, "the programs folder .*test_local.py is a file, not a folder"),
        ({"workers": ["a b"]}, "'a b' cannot name a worker"),
        ({"workers": ["../a"]}, "'../a' cannot name a worker"),
    ],
)
def test_wrong_arguments_are_refused_and_leave_nothing_behind(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dg.LocalCluster(**{"workers": 1, "programs": PROGRAMS, **arguments})


def test_a_worker_that_cannot_start_shows_the_end_of_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "nonsense")
    with pytest.raises(WorkerLost, match=r"(?s)w0 did not start: process \d+ exited with code 1.*PYTHONHASHSEED"):
        dg.LocalCluster(workers=1, programs=PROGRAMS)


def test_the_workers_of_a_cluster_that_could_not_start_are_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    def start(children: Children, name: str, module: str) -> Child:
        started.append(name)
        return start_child(children, name, module)

    def fail(cluster: dg.LocalCluster, names: Sequence[str], timeout: float) -> None:
        wait(cluster, names, timeout)
        raise Timeout("another is not ready")

    start_child, wait = Children.start, dg.LocalCluster._wait_until_ready
    monkeypatch.setattr(Children, "start", start)
    monkeypatch.setattr(dg.LocalCluster, "_wait_until_ready", fail)
    with pytest.raises(Timeout, match="another"):
        dg.LocalCluster(workers=1, programs=PROGRAMS)
    assert started == ["w0"]


def test_a_lost_worker_whose_successors_do_not_start_is_told_with_the_reason(tmp_path: Path) -> None:
    programs = shutil.copytree(PROGRAMS, tmp_path / "programs")
    with dg.LocalCluster(workers=1, programs=programs) as cluster:
        cluster.place("a", "shards.py:Layer", config={"inputs": 4, "outputs": 5})
        pid = cluster.workers[0].pid
        shutil.rmtree(programs)
        os.kill(pid, signal.SIGKILL)
        expected = (
            rf"(?s)process {pid} was killed by signal 9 \(SIGKILL\); 3 to take its place did not start: process \d+ "
            rf"exited with code 1. Its log ends:.*the programs folder {programs} does not exist"
        )
        assert eventually(lambda: re.search(expected, cluster.workers[0].reason))
        with pytest.raises(Timeout, match=f"{expected}.*w0 did not come back"):
            cluster.recover(patience=0.01)


def test_a_successor_that_dies_before_it_is_ready_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(child: Child, orders: WorkerOrders) -> None:
        started.append(child.pid)
        if len(started) == 2:
            child.signal(signal.SIGKILL)
        else:
            begin_child(child, orders)

    started: list[int] = []
    begin_child = Child.begin
    monkeypatch.setattr(Child, "begin", begin)
    with dg.LocalCluster(workers=1, programs=PROGRAMS) as cluster:
        os.kill(started[0], signal.SIGKILL)
        assert eventually(lambda: len(started) == 3 and cluster.workers[0].pid == started[-1])


def test_a_wrong_program_lists_those_there(cluster: dg.LocalCluster) -> None:
    with pytest.raises(ProgramError, match=r"no program 'shard.py' .*did you mean 'shards.py'.* it has shards.py"):
        cluster.place("x", "shard.py:Layer", worker="w0")


def test_a_wrong_shape_names_method_worker_and_shapes(cluster: dg.LocalCluster) -> None:
    with (
        pytest.raises(RemoteError, match=r"b.forward on w1 raised ValueError: .*5.*") as caught,
        cluster.context(),
    ):
        cluster.shard("b").forward(X).get()
    assert (caught.value.worker, caught.value.method) == ("w1", "b.forward")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_the_loss_of_a_killed_worker_names_it_its_number_and_the_signal(number: signal.Signals) -> None:
    with dg.LocalCluster(workers=1, programs=PROGRAMS) as cluster:
        layer = cluster.place("a", "shards.py:Layer", config={"inputs": 4, "outputs": 5})
        pid = cluster.workers[0].pid
        call = layer.never(X)
        os.kill(pid, number)
        expected = f"process {pid} was killed by signal {number.value} \\({number.name}\\)"
        with pytest.raises(WorkerLost, match=f"w0.* is lost: {expected}"):
            call.wait()
        # At once, or from the Ref if the coordinator's word is still on its way.
        with pytest.raises(WorkerLost, match=f"{expected}|was lost when w0 was started anew"):
            layer.forward(X).wait()


def test_a_worker_that_ends_tells_the_others_why() -> None:
    told: queue.SimpleQueue[Member] = queue.SimpleQueue()
    with dg.LocalCluster(workers=1, programs=PROGRAMS) as cluster:
        cluster._coordinator.on_event.append(told.put)
        cluster._coordinator.process.ask("w0", pb.Shutdown(reason="an update could not be applied"))
        member = told.get(timeout=DEADLINE)
        assert (member.state, member.reason) == ("left", "an update could not be applied")


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)])
def test_a_lost_worker_comes_back_and_its_shards_with_it(number: signal.Signals) -> None:
    with dg.LocalCluster(workers=2, programs=PROGRAMS) as cluster:
        layers = [
            cluster.place(name, "shards.py:Layer", worker=worker, config={"inputs": 4, "outputs": 4})
            for name, worker in (("a", "w0"), ("b", "w1"))
        ]
        sgd = cluster.optimizer(dg.optim.SGD(0.1), layers, replicate=True)

        def step() -> None:
            with cluster.context() as context:
                context.backward(layers[1].forward(layers[0].forward(X)), np.ones((len(X), 4)))
                sgd.step(context)

        step()
        before = layers[0].state_dict()
        pid = cluster.workers[0].pid
        os.kill(pid, number)
        with pytest.raises(WorkerLost):
            step()
        cluster.recover()
        assert is_gone(pid)
        assert sgd.version == 1
        assert {name: array.tobytes() for name, array in layers[0].state_dict().items()} == {
            name: array.tobytes() for name, array in before.items()
        }
        step()
        assert sgd.version == 2


def test_a_worker_lost_between_others_is_explained_as_well() -> None:
    with dg.LocalCluster(workers=2, programs=PROGRAMS) as cluster:
        a = cluster.place("a", "shards.py:Layer", worker="w0", config={"inputs": 4, "outputs": 5})
        b = cluster.place("b", "shards.py:Layer", worker="w1", config={"inputs": 5, "outputs": 2})
        b.forward(a.forward(X)).wait()  # w1 has a link to w0 from now on
        pid = cluster.workers[0].pid
        with pytest.raises(WorkerLost, match=f"w0.* is lost: process {pid} exited with code 3"):
            b.forward(a.exit(X)).wait()
