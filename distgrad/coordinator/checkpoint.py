"""Checkpoints: everything a job needs to continue, all of it on the disk or none of it.

    step-00000100/
        manifest.json        what the checkpoint is, and size and SHA-256 of every other file; written last
        stem.safetensors     arrays of one shard: "parameters/weight", "buffers/mean", "optimizer/weight/m", ...
        head.safetensors

A checkpoint is written under a hidden name in the same directory, synced to the disk, and renamed; so whatever bears
its final name was complete at that moment. The manifest holds a checksum of itself, so damage since then is noticed
wherever it is. The arrays can be read by anything that reads safetensors; plain values (step counts, flags) stand in
the manifest.

One shard at a time is in memory, in both directions: see `OnDemand`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from distgrad.errors import CheckpointError, DistgradError

from .durable import create_directory, sync_directory, sync_file, write_file

#: State of one shard: {"parameters": {...}, "buffers": {...}, "optimizer": {...}}. Leaves are arrays or plain data.
ShardState = Mapping[str, Any]

_FORMAT = 1
_MANIFEST = "manifest.json"
# A checkpoint that is replaced bears the suffix for a moment, and for longer when the process is killed in that moment.
_NAME = re.compile(r"step-(\d{8,})(\.replaced)?")
# What safetensors cannot hold → what the bytes are stored as. The manifest keeps the true type.
_STORED_AS = {"complex128": "float64"}


class OnDemand(Mapping[str, ShardState]):
    """Shards by name, each fetched when it is asked for and not kept.

    Example:
        >>> shards = OnDemand(["stem"], lambda name: {"parameters": {"weight": np.zeros(3)}})
        >>> list(shards["stem"]["parameters"])
        ['weight']
    """

    def __init__(self, names: list[str], fetch: Callable[[str], ShardState]) -> None:
        self._names = dict.fromkeys(names)
        self._fetch = fetch

    def __getitem__(self, name: str) -> ShardState:
        if name not in self._names:
            raise KeyError(name)
        return self._fetch(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True)
class Checkpoint:
    """A job at one version.

    Attributes:
        job: name of the job.
        version: number of steps taken.
        seed: of the job.
        shards: shard name → state. Fetched one by one when written; `read_checkpoint` gives an `OnDemand`.
        extra: what else the job needs to continue (data cursor, schedule), as JSON can say it.
    """

    job: str
    version: int
    seed: int
    shards: Mapping[str, ShardState]
    extra: Mapping[str, Any] = field(default_factory=dict)


def write_checkpoint(directory: str | os.PathLike[str], checkpoint: Checkpoint) -> Path:
    """Writes `checkpoint` under `directory` and returns its path. A checkpoint of the same version is replaced.

    Raises:
        CheckpointError: the disk refuses (full, read-only), or a value cannot be stored.
        Exception: whatever fetching a shard raises.
        In either case earlier checkpoints are as they were.
    """
    directory = Path(directory)
    final = directory / f"step-{checkpoint.version:08d}"
    aside = directory / f".{final.name}.partial"
    try:
        create_directory(directory)
        _remove(aside)  # left by a process that was killed
        aside.mkdir()
        try:
            shards = {name: _write_shard(aside, name, checkpoint.shards[name]) for name in checkpoint.shards}
            write_file(aside / _MANIFEST, _manifest(checkpoint, shards))
            sync_directory(aside)
            _move_into_place(aside, final)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)  # the first failure is the one to report
            raise
    except DistgradError:  # some of ours are OSErrors as well: a worker that is lost is no fault of the disk
        raise
    except (OSError, SafetensorError) as error:
        reason = f"checkpoint {final} could not be written: {error}; {_still_stands(directory)}"
        raise CheckpointError(reason) from error
    return final


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Opens the checkpoint at `path` after comparing every file with the manifest; shards are loaded on demand.

    Raises:
        CheckpointError: a file is missing, torn or damaged. The message names an earlier checkpoint that still stands.
    """
    path = Path(path)
    manifest = _read_manifest(path)
    for name, entry in manifest["shards"].items():
        _verify(path, name, entry)

    def load(name: str) -> ShardState:
        return _load_shard(path, name, manifest["shards"][name])

    shards = OnDemand(list(manifest["shards"]), load)
    return Checkpoint(manifest["job"], manifest["version"], manifest["seed"], shards, manifest["extra"])


def saved_with(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """The extra data of the checkpoint at `path`, of which only the manifest is looked at.

    Raises:
        CheckpointError: the manifest is missing or damaged.
    """
    extra: Mapping[str, Any] = _read_manifest(Path(path))["extra"]
    return extra


def latest_checkpoint(directory: str | os.PathLike[str]) -> Path | None:
    """The newest complete checkpoint under `directory`, or None.

    Complete: the manifest is sound and every file is there with its size; `read_checkpoint` compares the contents.
    """
    return next(iter(complete_checkpoints(directory)), None)


def complete_checkpoints(directory: str | os.PathLike[str]) -> list[Path]:
    """The complete checkpoints under `directory`, the newest first."""
    return [path for path in _newest_first(Path(directory)) if _is_complete(path)]


def incomplete_checkpoints(directory: str | os.PathLike[str]) -> list[Path]:
    """What bears a checkpoint's name under `directory` and is damaged, or was never finished; the newest first."""
    return [path for path in _newest_first(Path(directory)) if not _is_complete(path)]


def require_writable(directory: str | os.PathLike[str]) -> None:
    """Looks whether checkpoints could be written under `directory`, which need not be there yet.

    Raises:
        CheckpointError: this process may not.
    """
    directory = Path(directory).absolute()
    there = next(path for path in (directory, *directory.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise CheckpointError(
            f"checkpoints cannot be written to {directory} on {socket.gethostname()}: {there} is not a directory that "
            f"process {os.getpid()} may write to"
        )


def prune(directory: str | os.PathLike[str], keep: int, written: Path | None = None) -> None:
    """Removes all but the newest `keep` complete checkpoints, and what interrupted writes left.

    Arguments:
        written: stays in any case: those of higher versions may be of training that was gone back on.

    Raises:
        ValueError: `keep` is less than one.
        CheckpointError: the disk refuses.
    """
    if keep < 1:
        raise ValueError(f"prune keeps at least one checkpoint; got keep={keep}")
    directory = Path(directory)
    complete = complete_checkpoints(directory)
    versions: dict[str, Path] = {}
    for path in complete:
        versions.setdefault(path.stem, path)  # of a checkpoint and the one it replaced, the first stands
    kept = [*list(versions.values())[:keep], written]
    _remove_all(directory, [path for path in complete if path not in kept])


def remove_leftovers(directory: str | os.PathLike[str]) -> None:
    """Removes what interrupted writes left under `directory`, where nobody may be writing now.

    Raises:
        CheckpointError: the disk refuses.
    """
    _remove_all(Path(directory), [])


def remove_checkpoints(directory: str | os.PathLike[str]) -> None:
    """Removes all checkpoints under `directory`, damaged ones and leftovers included. Oldest first, so that an
    interruption leaves the newest.

    Raises:
        CheckpointError: the disk refuses.
    """
    _remove_all(Path(directory), list(reversed(_newest_first(Path(directory)))))


def _remove_all(directory: Path, unwanted: Sequence[Path]) -> None:
    """Removes the unwanted checkpoints and all leftovers."""
    leftovers = [path for path in directory.glob(".step-*") if path.suffix in (".partial", ".removed")]
    try:
        for path in [*unwanted, *leftovers]:
            _remove(path)
    except OSError as error:
        raise CheckpointError(f"old checkpoints in {directory} could not be removed: {error}") from error


# ---- names and places ------------------------------------------------------------------------------------------------


def _newest_first(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    found = [(match, path) for path in directory.iterdir() if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found, key=lambda item: (-int(item[0][1]), item[0][2] is not None))]


def _is_complete(path: Path) -> bool:
    try:
        manifest = _parse_manifest(path)
        return all((path / _file_name(name)).stat().st_size == it["bytes"] for name, it in manifest["shards"].items())
    except (CheckpointError, OSError):
        return False


def _still_stands(directory: Path, other_than: Path | None = None) -> str:
    for path in _newest_first(directory):
        if path != other_than and _is_complete(path):
            return f"{path.name} still stands"
    return "no other checkpoint stands in that directory"


def _file_name(shard: str) -> str:
    return quote(shard, safe="") + ".safetensors"  # a name such as "../stem" stays in its directory


def _move_into_place(aside: Path, final: Path) -> None:
    """Renames; at every moment the old checkpoint of this version or the new one is found by `latest_checkpoint`."""
    replaced = final.with_name(final.name + ".replaced")
    if final.exists():
        _remove(replaced)
        final.rename(replaced)
    try:
        aside.rename(final)
        sync_directory(final.parent)
    except OSError:
        if final.exists():
            final.rename(aside)  # where the caller removes it
        if replaced.exists():
            replaced.rename(final)
        raise
    with suppress(OSError):  # the new one stands; what is left of the old one is for `prune`
        _remove(replaced)


def _remove(path: Path) -> None:
    """Removes a directory, if there. It is hidden first, so that no half of it is ever taken for a checkpoint."""
    if not path.exists():
        return
    hidden = path.with_name(f".{path.name.lstrip('.')}.removed")
    if hidden.exists():
        shutil.rmtree(hidden)
    path.rename(hidden)
    shutil.rmtree(hidden)


# ---- one shard -------------------------------------------------------------------------------------------------------


def _write_shard(directory: Path, name: str, state: ShardState) -> dict[str, Any]:
    """Writes and syncs one file; returns the manifest's entry for it."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    values: dict[str, Any] = {}
    for key, leaf in _leaves(state):
        if isinstance(leaf, np.ndarray | np.generic):
            arrays[key] = np.asarray(leaf, order="C")  # safetensors writes memory as it lies
        else:
            values[key] = leaf
    try:
        json.dumps(values)
    except TypeError as error:
        raise CheckpointError(f"shard '{name}' holds what is neither an array nor plain data: {error}") from error
    path = directory / _file_name(name)
    save_file({key: _stored(array) for key, array in arrays.items()}, path)
    sync_file(path)
    described = {key: {"dtype": array.dtype.name, "shape": list(array.shape)} for key, array in arrays.items()}
    return {"bytes": path.stat().st_size, "sha256": _sha256(path), "arrays": described, "values": values}


def _verify(path: Path, name: str, entry: Mapping[str, Any]) -> None:
    file = path / _file_name(name)
    try:
        size, digest = file.stat().st_size, _sha256(file)
    except OSError as error:
        raise _damaged(path, f"{file.name} cannot be read ({error})") from error
    if size != entry["bytes"]:
        raise _damaged(path, f"{file.name} has {size} bytes, expected {entry['bytes']}")
    if digest != entry["sha256"]:
        raise _damaged(path, f"{file.name} has SHA-256 {digest[:16]}…, expected {entry['sha256'][:16]}…")


def _load_shard(path: Path, name: str, entry: Mapping[str, Any]) -> ShardState:
    file = path / _file_name(name)
    try:
        stored = load_file(file)
    except (OSError, SafetensorError) as error:
        raise _damaged(path, f"{file.name} cannot be read ({error})") from error
    state: dict[str, Any] = {}
    for key, about in entry["arrays"].items():
        _insert(state, key, stored.pop(key).view(about["dtype"]).reshape(about["shape"]))
    for key, value in entry["values"].items():
        _insert(state, key, value)
    return state


def _stored(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    stored_as = _STORED_AS.get(array.dtype.name)
    return array if stored_as is None else array.reshape(-1).view(stored_as)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves with their path. An empty dict is a leaf, so that it is there again after reading."""
    for key, value in tree.items():
        path = prefix + quote(key, safe=" .:[]()<>,=+@")  # a slash in a key is not a step of the path
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, path + "/")
        else:
            yield path, dict(value) if isinstance(value, Mapping) else value


def _insert(tree: dict[str, Any], path: str, leaf: Any) -> None:
    *parents, last = map(unquote, path.split("/"))
    for key in parents:
        tree = tree.setdefault(key, {})
    tree[last] = leaf


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---- the manifest ----------------------------------------------------------------------------------------------------


def _manifest(checkpoint: Checkpoint, shards: Mapping[str, Any]) -> bytes:
    content: dict[str, Any] = {
        "format": _FORMAT,
        "job": checkpoint.job,
        "version": checkpoint.version,
        "seed": checkpoint.seed,
        "extra": checkpoint.extra,
        "shards": shards,
    }
    try:
        content = json.loads(json.dumps(content))  # as a reader will see it: tuples are lists, keys are text
    except TypeError as error:
        raise CheckpointError(f"the extra data of a checkpoint must be plain data: {error}") from error
    content["sha256"] = _self_checksum(content)
    return json.dumps(content, indent=1).encode()


def _self_checksum(content: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        return _parse_manifest(path)
    except OSError as error:
        raise _damaged(path, f"{_MANIFEST} cannot be read ({error})") from error


def _parse_manifest(path: Path) -> dict[str, Any]:
    text = (path / _MANIFEST).read_bytes()
    try:
        content = json.loads(text)
        found, expected = _self_checksum(content), content["sha256"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"{_MANIFEST} is no manifest ({error})") from error
    if found != expected:
        raise _damaged(path, f"{_MANIFEST} has SHA-256 {found[:16]}…, expected {str(expected)[:16]}…")
    if content["format"] != _FORMAT:
        raise _damaged(path, f"{_MANIFEST} has format {content['format']}; this version of distgrad reads {_FORMAT}")
    manifest: dict[str, Any] = content
    return manifest


def _damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(f"checkpoint {path}: {what}; {_still_stands(path.parent, other_than=path)}")
