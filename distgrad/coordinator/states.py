"""The state of shards: read and written one by one, or all of them as a checkpoint. No update happens meanwhile."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from distgrad.errors import ConfigError, ContextError, JournalError, WorkerLost
from distgrad.graph.process import Process
from distgrad.graph.waiting import Promise, all_done
from distgrad.wire import decode_value, encode_value, pb
from distgrad.worker.host import state_kinds

from .checkpoint import (
    Checkpoint,
    OnDemand,
    ShardState,
    latest_checkpoint,
    prune,
    read_checkpoint,
    remove_checkpoints,
    write_checkpoint,
)
from .lines import Line
from .shards import Shards
from .update import Updates

_log = logging.getLogger(__name__)


class States:
    """Reads and writes what shards hold."""

    def __init__(self, process: Process, shards: Shards, updates: Updates) -> None:
        self._process = process
        self._shards = shards
        self._updates = updates
        # Versions at the latest checkpoint written or restored.
        self._saved: dict[str, int] = {}
        self._saving = Line(process.executor)
        self._snapshot_at: list[str] = []  # the workers that keep what the checkpoint being written holds

    # ---- one shard ---------------------------------------------------------------------------------------------------

    def read(self, shard: str) -> tuple[pb.StateRead, list[Any]]:
        """The state of a shard, as its worker says it."""
        reply: tuple[pb.StateRead, list[Any]] = self._process.ask(self._shards.worker(shard), pb.ReadState(shard=shard))
        return reply

    def write(self, shard: str, state: pb.Value, arrays: list[Any]) -> None:
        """Gives a shard's parameters and buffers new values; its optimizer's state and version stay.

        Raises:
            ConfigError: they do not fit; nothing has changed.
        """
        with self._updates.paused():
            self._process.ask(self._shards.worker(shard), pb.WriteState(shard=shard, state=state), arrays)
            self._updates.rewritten(shard)

    # ---- all of them -------------------------------------------------------------------------------------------------

    def save(self, directory: Path, extra: Mapping[str, Any], keep: int = 0) -> pb.Saved:
        """Writes a checkpoint of every shard, at one version, under `directory`.

        Steps wait only until every worker has noted which arrays it holds. They are fetched and written while training
        goes on; another `save` waits for this one, and steps that are asked for after it wait as well.

        Arguments:
            keep: of the checkpoints under `directory`, this many stay; 0: all.

        Returns:
            Where it is, and its size.

        Raises:
            CheckpointError: the disk refuses.
            WorkerLost: a shard is gone. Earlier checkpoints are as they were in either case.
        """
        with ExitStack() as stack:
            # In this order: no step that is asked for later is in the checkpoint, however long that waits for another.
            with self._updates.paused():
                stack.enter_context(self._saving.turn("the checkpoint before"))
                stack.callback(self._end_snapshot)
                checkpoint = self._take_snapshot(extra)
            path = self._write(directory, checkpoint)
            self._make_history(checkpoint.extra["optimizers"])
            if keep:
                prune(directory, keep, written=path)
            return pb.Saved(path=str(path), bytes=sum(file.stat().st_size for file in path.iterdir()))

    def remove(self, directory: Path) -> None:
        """Removes all checkpoints under `directory`, once none is being written.

        Raises:
            CheckpointError: the disk refuses.
        """
        with self._saving.turn("the checkpoint being written"):
            remove_checkpoints(directory)

    def _write(self, directory: Path, checkpoint: Checkpoint) -> Path:
        written: Promise[Path] = Promise()
        writer = threading.Thread(target=_write, args=(directory, checkpoint, written), name="distgrad-checkpoint")
        writer.start()
        self._process.executor.wait(written, what="the checkpoint")
        with self._process.executor.parked("the end of its writer"):
            writer.join()
        return written.result()

    def _take_snapshot(self, extra: Mapping[str, Any]) -> Checkpoint:
        """A checkpoint of what all shards hold now, to be fetched from their workers. Called while paused."""
        self._snapshot_at = []
        placements = list(self._shards)
        shards: dict[str, list[str]] = {}
        for placement in placements:
            shards.setdefault(self._shards.worker(placement.shard), []).append(placement.shard)
        self._snapshot_at = sorted(shards)
        for worker, names in shards.items():
            self._process.ask(worker, pb.TakeSnapshot(shards=names))
        workers = {name: worker for worker, names in shards.items() for name in names}
        return Checkpoint(
            job=str(extra.get("job", "")),
            version=self._updates.latest_version(),
            seed=placements[0].seed if placements else 0,
            shards=OnDemand(
                [placement.shard for placement in placements], lambda name: self._fetch(workers[name], name)
            ),
            extra={"user": dict(extra), "optimizers": self._updates.versions()},
        )

    def _fetch(self, worker: str, shard: str) -> ShardState:
        try:
            reply, arrays = self._process.ask(worker, pb.ReadState(shard=shard, snapshot=True))
        except ContextError as error:
            raise WorkerLost(f"{worker} was started anew while a checkpoint was being written: {error}") from error
        state: ShardState = decode_value(reply.state, arrays)
        return state

    def _end_snapshot(self) -> None:
        """Workers need not keep what the checkpoint held. One that cannot be told is gone."""
        for worker in self._snapshot_at:
            self._process.request(worker, pb.TakeSnapshot())

    def _make_history(self, versions: dict[str, int]) -> None:
        """Lets the journal forget steps that two checkpoints hold: the one just written, and that before it, which is
        resumed from should the newer one be damaged."""
        before, self._saved = self._saved, versions
        # Of an optimizer that is new under its name, or began anew, no checkpoint before this one holds anything.
        held = {name: version for name, version in before.items() if version <= versions.get(name, 0)}
        try:
            self._updates.forget(held)
        except JournalError as error:
            _log.warning("the journal keeps more than it needs: %s", error)

    def restore(self, directory: Path, job: str = "") -> tuple[Path, dict[str, Any]]:
        """Gives every placed shard the state it has in a checkpoint: all of them, after every shard has been found to
        fit, or none. Shards that were lost with their worker are built anew, if a worker of that name is back.

        Arguments:
            directory: a checkpoint, or a directory whose newest complete one is meant.
            job: when not empty, a checkpoint of another job is refused.

        Returns:
            The checkpoint's path, and the `extra` it was saved with.

        Raises:
            ConfigError: there is none, or it does not fit this cluster's shards, optimizers or job.
            CheckpointError: it is damaged.
            WorkerLost: a shard is gone and its worker not back.
        """
        with self._updates.paused():
            return self.go_back(directory, job)

    def go_back(self, directory: Path, job: str = "") -> tuple[Path, dict[str, Any]]:
        """As `restore`, called while paused."""
        path = _find(directory)
        checkpoint = read_checkpoint(path)
        if job and checkpoint.job != job:
            raise ConfigError(f"checkpoint {path} is of job {checkpoint.job!r}, not of {job!r}")
        versions: dict[str, int] = checkpoint.extra.get("optimizers", {})
        shards = [placement.shard for placement in self._shards]
        self._check_names(path, checkpoint, shards, versions)
        self._shards.build_anew()
        self._updates.adopt_anew(self._shards.workers())
        self._check_fit(path, checkpoint, shards)
        for shard in shards:
            self.give(shard, self._part(checkpoint, shard), versions)
        self._updates.restored(versions)
        self._saved = versions
        user: dict[str, Any] = checkpoint.extra.get("user", {})
        return path, user

    def _check_names(self, path: Path, checkpoint: Checkpoint, shards: list[str], versions: dict[str, int]) -> None:
        """Raises ConfigError when the checkpoint lacks one of the cluster's shards or optimizers."""
        for shard in shards:
            if shard not in checkpoint.shards:
                has = ", ".join(checkpoint.shards) or "none"
                raise ConfigError(f"checkpoint {path} has no state of shard {shard!r}; it has {has}")
        for optimizer in self._updates.versions():
            if optimizer not in versions:
                has = ", ".join(versions) or "none"
                raise ConfigError(
                    f"checkpoint {path} has no state of optimizer {optimizer!r}; it has {has}. To begin anew with the "
                    "checkpoint's parameters, restore first and make the optimizer then"
                )

    def _part(self, checkpoint: Checkpoint, shard: str) -> ShardState:
        """What a shard takes from a checkpoint: under no optimizer, no optimizer's state."""
        state = checkpoint.shards[shard]
        parts = ("parameters", "buffers", "optimizer") if self._updates.of(shard) else ("parameters", "buffers")
        return {part: state.get(part, {}) for part in parts}

    def _check_fit(self, path: Path, checkpoint: Checkpoint, shards: list[str]) -> None:
        """Asks every owner whether it would take its part."""
        answers: list[Promise[Any]] = []
        for shard in shards:
            check = pb.CheckState(shard=shard)
            for name, (dtype, shape) in state_kinds(self._part(checkpoint, shard)).items():
                check.arrays.add(name=name, dtype=dtype, shape=shape)
            answers.append(self._process.request(self._shards.worker(shard), check))
        ready: Promise[None] = Promise()
        all_done(answers, ready)
        self._process.executor.wait(ready, what="the workers' answers to CheckState")
        try:
            ready.result()
        except ConfigError as error:
            raise ConfigError(f"checkpoint {path} cannot be restored, and nothing was changed: {error}") from error

    def give(self, shard: str, state: ShardState, versions: Mapping[str, int]) -> None:
        """Gives a shard, and its optimizer's part of it, the state of a version. Called while paused."""
        out: list[Any] = []
        write = pb.WriteState(shard=shard, state=encode_value(dict(state), out, f"state of {shard}"))
        optimizer = self._updates.of(shard)
        if optimizer:
            write.version = versions[optimizer]
        self._process.ask(self._shards.worker(shard), write, out)


def _write(directory: Path, checkpoint: Checkpoint, written: Promise[Path]) -> None:
    try:
        written.set_result(write_checkpoint(directory, checkpoint))
    except BaseException as error:  # belongs to whoever waits
        written.set_error(error)


def _find(directory: Path) -> Path:
    if (directory / "manifest.json").exists():
        return directory
    newest = latest_checkpoint(directory)
    if newest is None:
        raise ConfigError(f"there is no complete checkpoint in {directory}")
    return newest
