"""Checkpoints: whole or not there, and never believed when damaged."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from distgrad.coordinator.checkpoint import (
    Checkpoint,
    OnDemand,
    latest_checkpoint,
    prune,
    read_checkpoint,
    remove_checkpoints,
    remove_leftovers,
    write_checkpoint,
)
from distgrad.errors import CheckpointError


def shard(value: float) -> dict[str, Any]:
    weight = np.full((2, 3), value, np.float32)
    return {
        "parameters": {"weight": weight, "bias": np.float64(value).reshape(())},
        "buffers": {},
        "optimizer": {"weight": {"m": weight / 2, "steps": 7}},
    }


def checkpoint(version: int, value: float = 1.0) -> Checkpoint:
    shards = {"stem": shard(value), "head": shard(-value)}
    return Checkpoint("digits", version, seed=3, shards=shards, extra={"data": {"position": version}})


def assert_same(found: Any, expected: Any) -> None:
    """The same tree to the bit: keys, types, dtypes, shapes."""
    if isinstance(expected, Mapping):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, np.ndarray | np.generic):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert found.tobytes() == expected.tobytes()
    else:
        assert (type(found), found) == (type(expected), expected)


def listing(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def sorted_tree(tree: Any) -> Any:
    return {key: sorted_tree(tree[key]) for key in sorted(tree)} if isinstance(tree, Mapping) else tree


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    written = checkpoint(100)
    path = write_checkpoint(tmp_path / "runs" / "digits", written)
    assert path == tmp_path / "runs" / "digits" / "step-00000100"
    read = read_checkpoint(path)
    assert (read.job, read.version, read.seed, read.extra) == ("digits", 100, 3, {"data": {"position": 100}})
    assert list(read.shards) == ["stem", "head"]
    for name in written.shards:
        assert_same(sorted_tree(read.shards[name]), sorted_tree(written.shards[name]))


DTYPES = ["float16", "float32", "float64", "complex64", "complex128", "int8", "int64", "uint8", "uint64", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (3, 4)], ids=str)
def test_every_dtype_and_memory_order_survives(
    tmp_path: Path, rng: np.random.Generator, dtype: str, shape: tuple[int, ...]
) -> None:
    array = (rng.standard_normal(shape) * 9 + 1j).astype(dtype) if "complex" in dtype else rng.integers(0, 2, shape)
    array = np.asarray(array, dtype)
    tree = {"parameters": {"plain": array, "transposed": array.T, "strided": array[..., ::2] if shape else array}}
    path = write_checkpoint(tmp_path, Checkpoint("job", 1, 0, {"a": tree}))
    assert_same(sorted_tree(read_checkpoint(path).shards["a"]), sorted_tree(tree))


KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | KEYS | st.lists(st.integers(), max_size=2)
)
TREES = st.recursive(
    PLAIN | st.integers(0, 3).map(lambda size: np.arange(size)),
    lambda leaves: st.dictionaries(KEYS, leaves, max_size=3),
)


@settings(max_examples=60)
@given(st.dictionaries(KEYS, st.dictionaries(KEYS, TREES, max_size=3), min_size=1, max_size=2))
def test_any_tree_of_arrays_and_plain_data_survives(
    tmp_path_factory: pytest.TempPathFactory, shards: dict[str, Any]
) -> None:
    path = write_checkpoint(tmp_path_factory.mktemp("tree"), Checkpoint("job", 1, 0, shards))
    read = read_checkpoint(path)
    assert list(read.shards) == list(shards)
    for name, tree in shards.items():
        assert_same(sorted_tree(read.shards[name]), sorted_tree(tree))


def test_arrays_can_be_read_with_safetensors_alone(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, checkpoint(1))
    arrays = load_file(path / "stem.safetensors")
    assert sorted(arrays) == ["optimizer/weight/m", "parameters/bias", "parameters/weight"]
    np.testing.assert_array_equal(arrays["optimizer/weight/m"], np.full((2, 3), 0.5, np.float32))


def test_a_shard_name_cannot_leave_the_directory(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "inner", Checkpoint("job", 1, 0, {"../../stem": shard(1.0)}))
    assert all(name.startswith("inner/step-00000001/") for name in listing(tmp_path))
    assert_same(sorted_tree(read_checkpoint(path).shards["../../stem"]), sorted_tree(shard(1.0)))


@pytest.mark.parametrize(
    ("part", "words"),
    [({"shards": {"a": {"parameters": {"w": {1, 2}}}}}, "shard 'a'"), ({"extra": {"x": object()}}, "extra data")],
)
def test_what_is_neither_an_array_nor_plain_data_is_refused(tmp_path: Path, part: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        write_checkpoint(tmp_path, Checkpoint(**{"job": "j", "version": 1, "seed": 0, "shards": {}, **part}))
    assert listing(tmp_path) == {}


# ---- damage ----------------------------------------------------------------------------------------------------------


def damages(path: Path) -> Iterator[tuple[str, bytes | None]]:
    """What a disk may do to a file: lose it, tear it, or give other bytes."""
    whole = path.read_bytes()
    yield "missing", None
    yield "empty", b""
    yield "torn", whole[: len(whole) // 2]
    yield "one byte short", whole[:-1]
    yield "garbage", b"\xff" * len(whole)
    yield "not JSON's type", b"[1, 2]"


@pytest.mark.parametrize("file", ["manifest.json", "head.safetensors"])
def test_a_damaged_file_is_named_with_the_checkpoint_that_still_stands(tmp_path: Path, file: str) -> None:
    write_checkpoint(tmp_path, checkpoint(100))
    path = write_checkpoint(tmp_path, checkpoint(200))
    whole = (path / file).read_bytes()
    for name, content in damages(path / file):
        if content is None:
            (path / file).unlink()
        else:
            (path / file).write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            read_checkpoint(path)
        assert file in str(caught.value), name
        assert str(caught.value).endswith("step-00000100 still stands"), name
    (path / file).write_bytes(whole)
    read_checkpoint(path)


def test_sizes_and_hashes_found_and_expected_are_in_the_message(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, checkpoint(1))
    file = path / "stem.safetensors"
    size = file.stat().st_size
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(CheckpointError, match=rf"stem.safetensors has {size + 1} bytes, expected {size}; no other"):
        read_checkpoint(path)
    file.write_bytes(file.read_bytes()[:-2] + b"x")
    with pytest.raises(CheckpointError, match=r"has SHA-256 [0-9a-f]{16}…, expected [0-9a-f]{16}…"):
        read_checkpoint(path)


def test_no_flipped_bit_goes_unnoticed(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, Checkpoint("digits", 1, 3, {"stem": {"parameters": {"w": np.ones(2)}}}))
    for file in path.iterdir():
        whole = file.read_bytes()
        for position in range(len(whole)):
            file.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
            with pytest.raises(CheckpointError):
                read_checkpoint(path)
        file.write_bytes(whole)


def test_a_format_of_a_later_version_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distgrad.coordinator.checkpoint._FORMAT", 2)
    path = write_checkpoint(tmp_path, checkpoint(1))
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="has format 2; this version of distgrad reads 1"):
        read_checkpoint(path)


# ---- the newest ------------------------------------------------------------------------------------------------------


def test_the_latest_is_the_newest_complete_one(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "absent") is None
    assert latest_checkpoint(tmp_path) is None
    for version in (99_999_999, 100_000_000, 200):
        write_checkpoint(tmp_path, checkpoint(version))
    assert latest_checkpoint(tmp_path) == tmp_path / "step-100000000"
    (tmp_path / "step-100000000" / "head.safetensors").unlink()
    (tmp_path / ".step-200000000.partial").mkdir()
    (tmp_path / "step-300000000").mkdir()
    assert latest_checkpoint(tmp_path) == tmp_path / "step-99999999"


def test_pruning_keeps_the_newest_complete_ones_and_clears_what_writers_left(tmp_path: Path) -> None:
    for version in (100, 200, 300, 400):
        write_checkpoint(tmp_path, checkpoint(version))
    (tmp_path / "step-00000400" / "manifest.json").write_bytes(b"torn")
    (tmp_path / ".step-00000500.partial").mkdir()
    (tmp_path / ".step-00000050.removed").mkdir()
    (tmp_path / "notes.txt").touch()
    prune(tmp_path, keep=2)
    # The damaged one is left for its owner to look at.
    expected = ["notes.txt", "step-00000200", "step-00000300", "step-00000400"]
    assert sorted(path.name for path in tmp_path.iterdir()) == expected


def test_pruning_counts_a_replaced_checkpoint_that_still_lies_about_once(tmp_path: Path) -> None:
    for version in (100, 200):
        write_checkpoint(tmp_path, checkpoint(version))
    shutil.copytree(tmp_path / "step-00000200", tmp_path / "step-00000200.replaced")
    prune(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000100", "step-00000200"]


def test_pruning_everything_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep=0"):
        prune(tmp_path, keep=0)


def test_a_checkpoint_of_the_same_version_is_replaced(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, checkpoint(1, value=1.0))
    path = write_checkpoint(tmp_path, checkpoint(1, value=5.0))
    assert read_checkpoint(path).shards["stem"]["parameters"]["weight"][0, 0] == 5.0
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-00000001"]


# ---- faults of the disk and the end of the writer --------------------------------------------------------------------

CALLS = ["open", "fsync", "mkdir", "rename"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS], ids=["full", "read-only"])
@pytest.mark.parametrize("version", [200, 100], ids=["new", "replacing"])
def test_a_disk_that_refuses_at_any_call_leaves_earlier_checkpoints_and_no_debris(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int, code: int
) -> None:
    write_checkpoint(tmp_path, checkpoint(50))
    write_checkpoint(tmp_path, checkpoint(100))
    before = listing(tmp_path)
    failures = 0
    for name in CALLS:
        for allowed in range(100):
            if not refuses(tmp_path, monkeypatch, name, allowed, code, checkpoint(version, value=2.0)):
                break
            failures += 1
            assert listing(tmp_path) == before, (name, allowed)
        # That one was written. What the disk refused to remove of the one replaced is for `prune`.
        shutil.rmtree(tmp_path / f"step-{version:08d}")
        write_checkpoint(tmp_path, checkpoint(100))
        prune(tmp_path, keep=2)
        assert listing(tmp_path) == before, name
    assert failures >= 8


def refuses(
    directory: Path, monkeypatch: pytest.MonkeyPatch, name: str, allowed: int, code: int, new: Checkpoint
) -> bool:
    """Whether writing `new` fails when the call `name` is refused once, after `allowed` uses."""
    real = getattr(os, name)
    uses = 0

    def refusing(*arguments: Any, **keywords: Any) -> Any:
        nonlocal uses
        uses += 1
        if uses == allowed + 1:
            raise OSError(code, os.strerror(code))
        return real(*arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(os, name, refusing)
        try:
            write_checkpoint(directory, new)
        except CheckpointError as error:
            message = str(error)
        else:
            return False
    assert os.strerror(code) in message
    assert message.endswith("step-00000100 still stands")
    return True


def test_everything_is_on_the_disk_before_it_bears_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noting_fsync(file: int) -> None:
        fsync(file)
        order.append(Path(os.readlink(f"/proc/self/fd/{file}")).name)

    def noting_rename(old: Path, new: Path) -> None:
        rename(old, new)
        order.append(f"{old.name} -> {new.name}")

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "rename", noting_rename)
    write_checkpoint(tmp_path, checkpoint(7))
    aside = ".step-00000007.partial"
    files = ["stem.safetensors", "head.safetensors", "manifest.json"]
    assert order == [*files, aside, f"{aside} -> step-00000007", tmp_path.name]


def test_a_shard_too_large_for_the_disk_leaves_earlier_checkpoints_and_no_debris(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, checkpoint(100))
    before = listing(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(
            CheckpointError, match=r"(?i)step-00000200 could not .*file too large.*step-00000100 still stands"
        ):
            big = {"stem": {"parameters": {"w": np.zeros(1 << 16)}}}
            write_checkpoint(tmp_path, Checkpoint("digits", 200, 0, big))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert listing(tmp_path) == before


def test_a_shard_that_cannot_be_fetched_leaves_no_debris(tmp_path: Path) -> None:
    def fetch(name: str) -> dict[str, Any]:
        if name == "head":
            raise RuntimeError("w2 is lost")
        return shard(1.0)

    with pytest.raises(RuntimeError, match="w2 is lost"):
        write_checkpoint(tmp_path, Checkpoint("digits", 1, 0, OnDemand(["stem", "head"], fetch)))
    assert list(tmp_path.iterdir()) == []


WRITER = """
import os, signal, sys
import numpy as np
from distgrad.coordinator.checkpoint import Checkpoint, write_checkpoint

name, uses = sys.argv[2], int(sys.argv[3])
real = getattr(os, name)

def fatal(*arguments, **keywords):
    global uses
    uses -= 1
    if uses < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **keywords)

shards = {"stem": {"parameters": {"w": np.full(3, 2.0)}}}
setattr(os, name, fatal)
write_checkpoint(sys.argv[1], Checkpoint("digits", 100, 0, shards))
"""


@pytest.mark.parametrize(("call", "uses"), [("fsync", 0), ("fsync", 1), ("rename", 0), ("rename", 1), ("rename", 2)])
def test_a_writer_killed_at_any_step_leaves_the_old_checkpoint_or_the_new(tmp_path: Path, call: str, uses: int) -> None:
    old = {"stem": {"parameters": {"w": np.full(3, 1.0)}}}
    write_checkpoint(tmp_path, Checkpoint("digits", 100, 0, old))
    ended = subprocess.run([sys.executable, "-c", WRITER, tmp_path, call, str(uses)], check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    latest = latest_checkpoint(tmp_path)
    assert latest is not None
    assert read_checkpoint(latest).shards["stem"]["parameters"]["w"].tolist() in ([1.0] * 3, [2.0] * 3)
    write_checkpoint(tmp_path, Checkpoint("digits", 100, 0, old))
    prune(tmp_path, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000100"]


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_one_shard_at_a_time_is_in_memory(tmp_path: Path) -> None:
    size = 4 << 20
    names = [f"stage{index}" for index in range(6)]
    big = OnDemand(names, lambda name: {"parameters": {"w": np.full(size // 8, float(name[-1]))}})
    tracemalloc.start()
    try:
        path = write_checkpoint(tmp_path, Checkpoint("big", 1, 0, big))
        for index, state in enumerate(read_checkpoint(path).shards.values()):
            assert state["parameters"]["w"][-1] == index
            del state
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2.5 * size


def test_an_unknown_shard_is_a_key_error(tmp_path: Path) -> None:
    read = read_checkpoint(write_checkpoint(tmp_path, checkpoint(1)))
    assert len(read.shards) == 2
    with pytest.raises(KeyError, match="hidden"):
        read.shards["hidden"]


def test_the_manifest_says_what_every_array_is(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, checkpoint(100))
    manifest = json.loads((path / "manifest.json").read_bytes())
    stem = manifest["shards"]["stem"]
    assert stem["arrays"]["parameters/weight"] == {"dtype": "float32", "shape": [2, 3]}
    assert stem["values"] == {"buffers": {}, "optimizer/weight/steps": 7}
    assert stem["bytes"] == (path / "stem.safetensors").stat().st_size


def test_removing_everything_takes_damaged_checkpoints_and_leftovers_too(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, Checkpoint("job", 1, 0, {"stem": {"parameters": {"weight": np.zeros(2)}}}))
    (tmp_path / "step-00000002").mkdir()
    (tmp_path / ".step-00000003.partial").mkdir()
    (tmp_path / "notes.txt").write_text("not ours")
    remove_checkpoints(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_removing_leftovers_spares_checkpoints(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, Checkpoint("job", 1, 0, {"stem": {"parameters": {"weight": np.zeros(2)}}}))
    (tmp_path / ".step-00000002.partial").mkdir()
    (tmp_path / ".step-00000001.removed").mkdir()
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
