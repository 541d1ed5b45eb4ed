"""Checkpoints of a cluster: what they hold, and that restoring one is all or nothing."""

from __future__ import annotations

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.coordinator import checkpoint, states
from distgrad.coordinator.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from distgrad.coordinator.client import Client
from distgrad.errors import (
    CheckpointError,
    ConfigError,
    ContextError,
    RemoteError,
    WorkerLost,
)
from distgrad.wire import pb
from tests.coordinator.cluster import (
    PATIENCE,
    PROGRAMS,
    SIZES,
    Cluster,
    X,
    cluster,
    place,
    trained,
)
from tests.processes import eventually


def everything(made: Cluster) -> dict[str, Any]:
    """All that checkpoints hold of a cluster, as bytes."""
    found: dict[str, Any] = {"versions": made.coordinator.updates.versions()}
    for worker in made.workers.values():
        for name in worker.host.shards:
            state, version = worker.host.state(name)
            found[f"{name} version"] = version
            for part, arrays in state.items():
                found |= {f"{name}/{part}/{key}": (array.dtype, array.tobytes()) for key, array in arrays.items()}
    return found


def test_a_checkpoint_holds_parameters_buffers_optimizers_and_what_it_was_given(
    pair: tuple[Cluster, Client], tmp_path: Path
) -> None:
    _, client = pair
    shards = [place(client, "a", "w0"), client.place("s", "parts.py:Statistics", "w1")]
    optimizer = client.optimizer(dg.optim.Adam(0.1), shards, "adam")
    with client.context() as ctx:
        ctx.backward([shards[0].loss(X, 0.0), shards[1].normalise(X)], [1.0, 1.0])
        optimizer.step(ctx)
    path = client.save(str(tmp_path), {"job": "mine", "step": 1, "nested": {"x": [1, 2.5, None]}})
    checkpoint = read_checkpoint(path)
    assert (checkpoint.job, checkpoint.version, Path(path).name) == ("mine", 1, "step-00000001")
    assert set(checkpoint.shards) == {"a", "s"}
    state = checkpoint.shards["s"]
    assert state["buffers"]["norm.running_mean"].tolist() == (0.1 * X.mean(axis=0)).tolist()
    assert "norm.weight/mean" in state["optimizer"]
    assert state["parameters"]["unused"].tolist() == [7, 7]
    assert client.restore(path) == {"job": "mine", "step": 1, "nested": {"x": [1, 2.5, None]}}


def test_a_checkpoint_that_nothing_is_in_the_way_of_lets_no_step_go_first(
    pair: tuple[Cluster, Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, client = pair
    trained(client, place(client, "a", "w0"))
    executor = made.coordinator.process.executor
    parked, given_up_for = executor.parked, []

    def noted(what: str = "something") -> Any:
        given_up_for.append(what)
        return parked(what)

    monkeypatch.setattr(executor, "parked", noted)
    client.save(str(tmp_path))
    assert given_up_for == ["the end of its writer"]


def test_a_checkpoint_that_waits_for_another_lets_no_step_go_first(
    pair: tuple[Cluster, Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, client = pair
    optimizer = trained(client, shard := place(client, "a", "w0"), steps=1)
    writing, may_end = threading.Event(), threading.Event()

    def write(directory: Path, checkpoint: Checkpoint) -> Path:
        writing.set()
        assert may_end.wait(PATIENCE)
        return write_checkpoint(directory, checkpoint)

    monkeypatch.setattr(states, "write_checkpoint", write)
    first = made.client("other").begin_save(str(tmp_path / "first"))
    assert writing.wait(PATIENCE)
    second = client.begin_save(str(tmp_path / "second"))
    with client.context() as ctx, ThreadPoolExecutor() as threads:
        ctx.backward(shard.loss(X, 0.0))
        step = threads.submit(optimizer.step, ctx)
        assert eventually(lambda: step.done() or repr(made.coordinator.updates._line) == "<Line: everything, adam>")
        may_end.set()
        assert step.result(PATIENCE).applied
    assert [read_checkpoint(it.result(PATIENCE)).version for it in (first, second)] == [1, 1]
    assert optimizer.version == 2


def test_a_restored_cluster_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """Also with another number of workers, and in a coordinator's next life."""

    def run(workers: list[str], first: int, last: int) -> dict[str, Any]:
        with cluster(PROGRAMS, *workers, seed=first + len(workers)) as (made, client):
            shards = [place(client, "a"), place(client, "b"), client.place("s", "parts.py:Statistics")]
            optimizer = client.optimizer(dg.optim.Adam(0.1), shards, "adam")
            if first:
                assert client.restore(str(tmp_path)) == {"at": first}
                assert optimizer.version == first
            for step in range(first, last):
                with client.context(step) as ctx:
                    x = np.random.default_rng(step).standard_normal((4, 3))
                    roots = [shards[0].loss(x, 0.0), shards[1].loss(x, 1.0), shards[2].normalise(shards[2].noise(x))]
                    ctx.backward(roots, [1.0, 1.0, 1.0])
                    optimizer.step(ctx, clip_norm=0.5)
                if not first and step == 2:
                    client.save(str(tmp_path), {"at": 3})
            return everything(made)

    undisturbed = run(["w0", "w1"], 0, 6)
    for workers in (["w0", "w1"], ["w0"], ["x", "y", "z"]):
        assert run(workers, 3, 6) == undisturbed


def test_a_restore_brings_back_what_was_lost_with_a_worker(pair: tuple[Cluster, Client], tmp_path: Path) -> None:
    made, client = pair
    shards = [place(client, "a", "w0"), place(client, "b", "w1")]
    optimizer = trained(client, *shards)
    client.save(str(tmp_path))
    saved = everything(made)
    trained(client, *shards, steps=1)
    made.end("w0")
    with pytest.raises(WorkerLost, match="was on w0, which is no longer there"):
        client.restore(str(tmp_path))
    made.start("w0")
    client.wait_for_workers(["w0"], PATIENCE)
    client.restore(str(tmp_path))
    assert everything(made) == saved
    assert optimizer.version == 2
    trained(client, *shards, steps=1)


def test_a_recovery_whose_checkpoint_is_removed_for_a_newer_one_returns_to_that(
    pair: tuple[Cluster, Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, client = pair
    shards = [place(client, "a", "w0"), place(client, "b", "w1")]
    trained(client, *shards)
    client.save(str(tmp_path))
    real = states.read_checkpoint

    def read(path: Path) -> Checkpoint:
        """Meanwhile a save that was under way comes to its end."""
        if path.name == "step-00000002":
            path.rename(tmp_path / "step-00000003")
        return real(path)

    monkeypatch.setattr(states, "read_checkpoint", read)
    made.end("w1")
    made.start("w1")
    assert client.recover(str(tmp_path)).path.endswith("step-00000003")


def test_parameters_can_be_restored_without_an_optimizer(pair: tuple[Cluster, Client], tmp_path: Path) -> None:
    _, client = pair
    shard = place(client, "a")
    trained(client, shard)
    weights = shard.state_dict()
    client.save(str(tmp_path))
    with cluster(PROGRAMS, "w0") as (_, other):
        other.place("a", "parts.py:Layer", config=SIZES, seed=5)
        other.restore(str(tmp_path))
        restored = other.shard("a").state_dict()
        assert all(np.array_equal(weights[name], restored[name]) for name in weights)
        assert trained(other, other.shard("a"), steps=1).version == 1  # an optimizer of its own begins anew


def spoil_file(path: Path) -> None:
    file = path / "b.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")


def spoil_manifest(path: Path) -> None:
    (path / "manifest.json").write_text("garbage")


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda path: shutil.rmtree(path), ConfigError, "there is no complete checkpoint in "),
        (spoil_manifest, CheckpointError, "manifest.json is no manifest"),
        (spoil_file, CheckpointError, "b.safetensors has SHA-256"),
        (lambda path: (path / "b.safetensors").unlink(), CheckpointError, "b.safetensors cannot be read"),
    ],
)
def test_a_checkpoint_that_is_missing_or_damaged_changes_nothing(
    pair: tuple[Cluster, Client], tmp_path: Path, spoil: Any, error: type[Exception], message: str
) -> None:
    made, client = pair
    shards = [place(client, "a", "w0"), place(client, "b", "w1")]
    trained(client, *shards)
    path = Path(client.save(str(tmp_path)))
    trained(client, *shards, steps=1)
    before = everything(made)
    spoil(path)
    with pytest.raises(error, match=message):
        client.restore(str(path))
    assert everything(made) == before
    trained(client, *shards, steps=1)


SAVED = {"a": ("Layer", SIZES), "b": ("Layer", SIZES), "s": ("Statistics", {})}


@pytest.mark.parametrize(
    ("job", "shards", "optimizer", "message"),
    [
        ("other", SAVED, dg.optim.Adam(0.1), "is of job 'mine', not of 'other'"),
        ("", {**SAVED, "c": ("Layer", SIZES)}, dg.optim.Adam(0.1), "has no state of shard 'c'; it has a, b, s"),
        ("", {**SAVED, "b": ("Layer", {"inputs": 3, "outputs": 5})}, dg.optim.Adam(0.1), "shard 'b' .* float64.5, 3"),
        (
            "",
            {**SAVED, "s": ("Statistics", {"width": 4})},
            dg.optim.Adam(0.1),
            "'buffers/norm.running_mean' is float64",
        ),
        (
            "",
            {**SAVED, "s": ("Layer", SIZES)},
            dg.optim.Adam(0.1),
            "shard 's' .* 'parameters/linear.weight' is missing",
        ),
        ("", SAVED, dg.optim.SGD(0.1), "'optimizer/linear.weight/mean' is not part of it"),
        ("", SAVED, dg.optim.SGD(0.1, momentum=0.9), "'optimizer/linear.weight/momentum' is missing"),
    ],
    ids=["job", "shard", "shape", "buffer", "class", "no slots", "other slots"],
)
def test_a_checkpoint_that_does_not_fit_changes_nothing_anywhere(
    tmp_path: Path, job: str, shards: dict[str, Any], optimizer: dg.optim.Optimizer, message: str
) -> None:
    def make(client: Client, shards: dict[str, Any], optimizer: dg.optim.Optimizer, seed: int) -> None:
        placed = [client.place(name, f"parts.py:{kind}", "", config, seed) for name, (kind, config) in shards.items()]
        client.optimizer(optimizer, placed, "only")

    with cluster(PROGRAMS, "w0") as (_, client):
        make(client, SAVED, dg.optim.Adam(0.1), seed=1)
        client.save(str(tmp_path), {"job": "mine"})
    with cluster(PROGRAMS, "w0", "w1") as (made, client):
        make(client, shards, optimizer, seed=2)
        before = everything(made)
        with pytest.raises(ConfigError, match=message):
            client.restore(str(tmp_path), job=job)
        assert everything(made) == before


def test_a_checkpoint_without_ones_optimizer_says_how_to_begin_anew(
    pair: tuple[Cluster, Client], tmp_path: Path
) -> None:
    made, client = pair
    shard = place(client, "a")
    client.save(str(tmp_path))
    client.optimizer(dg.optim.SGD(0.1), [shard], "sgd")
    before = everything(made)
    with pytest.raises(ConfigError, match=r"no state of optimizer 'sgd'; it has none. To begin anew .*, restore first"):
        client.restore(str(tmp_path))
    assert everything(made) == before


def test_a_checkpoint_that_cannot_be_written_says_so_and_leaves_the_earlier_ones(
    pair: tuple[Cluster, Client], tmp_path: Path
) -> None:
    made, client = pair
    shards = [place(client, "a", "w0"), place(client, "b", "w1")]
    trained(client, *shards)
    earlier = client.save(str(tmp_path))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="could not be written"):
        client.save(str(tmp_path / "file"))
    trained(client, *shards, steps=1)
    made.end("w1")
    with pytest.raises(WorkerLost, match="shard 'b' was on w1"):
        client.save(str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "step-00000002"]
    assert json.loads((Path(earlier) / "manifest.json").read_text())["version"] == 2


def test_workers_keep_nothing_for_a_checkpoint_that_could_not_be_begun(
    pair: tuple[Cluster, Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, client = pair
    for name, worker in (("a", "w0"), ("b", "w1")):
        place(client, name, worker)
    noted = made.workers["w1"].host.take_snapshot

    def refuse(names: list[str]) -> None:
        if names:
            raise MemoryError("no room")
        noted(names)

    monkeypatch.setattr(made.workers["w1"].host, "take_snapshot", refuse)
    with pytest.raises(RemoteError, match="no room"):
        client.save(str(tmp_path))
    client.read_state("a")  # workers do one thing after the other
    with pytest.raises(ContextError, match="replaced"):
        made.workers["w0"].host.snapshot("a")


def test_a_checkpoint_of_training_that_went_back_stands_beside_newer_ones(
    pair: tuple[Cluster, Client], tmp_path: Path
) -> None:
    _, client = pair
    shard = place(client, "a")
    trained(client, shard, steps=1)
    first = client.save(str(tmp_path))
    trained(client, shard, steps=2)
    client.save(str(tmp_path))
    client.restore(first)
    trained(client, shard, steps=1)
    written = client.save(str(tmp_path), keep=1)
    assert Path(written).name == "step-00000002"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


def test_a_step_and_a_checkpoint_at_once_take_turns(pair: tuple[Cluster, Client], tmp_path: Path) -> None:
    """Every checkpoint holds all shards at one version, though steps are taken all the while."""
    made, client = pair
    shards = [client.place(name, "parts.py:Sum", worker) for name, worker in (("a", "w0"), ("b", "w1"))]
    optimizer = client.optimizer(dg.optim.SGD(1.0), shards, "sgd")
    saver, stop = made.client("saver"), threading.Event()
    saved: list[str] = []

    def save() -> None:
        while not stop.is_set():
            saved.append(saver.save(str(tmp_path / str(len(saved)))))

    thread = threading.Thread(target=save)
    thread.start()
    while len(saved) < 5:
        with client.context() as ctx:
            ctx.backward([shard.dot(np.ones(2)) for shard in shards])
            optimizer.step(ctx)
    stop.set()
    thread.join(PATIENCE)
    for path in saved:
        checkpoint = read_checkpoint(path)
        for name in ("a", "b"):
            assert checkpoint.shards[name]["parameters"]["weight"].tolist() == [-checkpoint.version] * 2


def test_checkpoints_are_removed_once_none_is_being_written(
    pair: tuple[Cluster, Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, client = pair
    trained(client, place(client, "a", "w0"), steps=1)
    write_shard = checkpoint._write_shard
    writing, may_end = threading.Event(), threading.Event()

    def write(*arguments: Any) -> Any:
        entry = write_shard(*arguments)
        writing.set()
        assert may_end.wait(PATIENCE)
        return entry

    monkeypatch.setattr(checkpoint, "_write_shard", write)
    saved = made.client("other").begin_save(tmp_path)
    assert writing.wait(PATIENCE)
    removed = client.process.request("coordinator", pb.RemoveCheckpoints(directory=str(tmp_path)))
    assert eventually(lambda: removed.done or "everything, everything" in repr(made.coordinator.states._saving))
    may_end.set()
    saved.result(PATIENCE)
    removed.result(PATIENCE)
    assert list(tmp_path.iterdir()) == []
