"""The journal of decisions: whether a step was taken is what stands here, and nothing else.

An update is prepared on every owner, then decided by one record in this file. The record is on the disk before any
owner is told to commit; no record means abort. So the end of any process, at any moment, leaves a step taken
everywhere or nowhere.

A record is one line, readable with `less`:

    CRC32 of the JSON text, eight hexadecimal digits | space | JSON text | newline

The newline is written last and JSON text holds none, so a line without it is a *torn tail*: a record whose writer died
before it was decided. It is cut off at the next open. A line that has its newline but not its checksum was decided and
has been damaged since; that is an error, because dropping it would undo a step that owners have taken.

When all owners go back to the state of a checkpoint, that is a record too. The steps after that state do not stand any
more: they are taken again, and decided again.

Every open takes the lock beside the journal, leaves its mark in it, and writes the next higher term. Owners refuse
lower terms, so a coordinator that was merely slow cannot act after its successor has started. Nor can it write: on a
disk that several machines share, a lock may pass to another while its holder stands still, and whoever finds another's
mark there leaves the journal alone.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import socket
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NoReturn

from distgrad.errors import JournalError

from .durable import create_directory, sync_directory

_FORMAT = 1


@dataclass(frozen=True)
class Decision:
    """What was decided about one step.

    Attributes:
        optimizer: name of the optimizer that takes the step.
        version: the version that the step leads to.
        outcome: "commit", or "abort" when a gradient was not finite.
        clip_factor: every gradient is multiplied by this first; 1 when nothing is clipped.
        learning_rate: of this step.
        norm: Euclidean norm of all gradients together, before clipping.
        owners: worker → incarnation that prepared.
        term: of the coordinator that decided; set by `Journal.append`.
    """

    optimizer: str
    version: int
    outcome: Literal["commit", "abort"]
    clip_factor: float
    learning_rate: float
    norm: float
    owners: Mapping[str, int]
    term: int = 0


@dataclass(frozen=True)
class Return:
    """All owners went back to these versions, by optimizer."""

    versions: Mapping[str, int]
    term: int = 0


class Journal:
    """An open journal. Made by `Journal.open`; one thread at a time may use it.

    Attributes:
        path: the file.
        term: higher than that of every earlier open.
    """

    def __init__(
        self, path: Path, lock: int, mark: bytes, file: int, end: int, term: int, records: list[Decision | Return]
    ) -> None:
        self.path = path
        self.term = term
        self._lock = lock
        self._mark = mark  # in the lock's file
        self._file = file
        self._end = end  # bytes of the file that hold whole records
        self._records = records

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Journal:
        """Locks, reads and continues the journal at `path`, or begins it.

        Raises:
            JournalError: another process has it open, a record is damaged, or the disk refuses.
        """
        path = Path(path)
        try:
            create_directory(path.parent)
            with ExitStack() as undo:
                lock, mark = _take_lock(path)
                undo.callback(os.close, lock)
                term, records, end = _read(path)
                file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
                undo.callback(os.close, file)
                opening = _encode(_opening(term + 1))
                os.ftruncate(file, end)
                _write_all(file, opening)
                os.fsync(file)
                sync_directory(path.parent)
                undo.pop_all()
        except OSError as error:
            raise JournalError(f"journal {path} cannot be opened: {error}") from error
        return cls(path, lock, mark, file, end + len(opening), term + 1, records)

    def append(self, decision: Decision) -> Decision:
        """Decides: at return the record, with this journal's term, is on the disk. Returns it.

        Raises:
            JournalError: the disk refused. Nothing was decided and the journal may be used again, unless `closed` is
                true: then not even the attempt could be taken back, and only the next open tells what the disk holds.
        """
        stamped = replace(decision, term=self.term)
        self._append(stamped)
        return stamped

    def note_return(self, versions: Mapping[str, int]) -> None:
        """Notes that all owners have gone back to these versions. Raises as `append` does."""
        self._append(Return(dict(versions), self.term))

    def _append(self, record: Decision | Return) -> None:
        self._check_open()
        line = _encode(_plain(record))
        try:
            _write_all(self._file, line)
            os.fsync(self._file)
        except OSError as error:
            self._take_back(error)
        self._end += len(line)
        self._records.append(record)

    def find(self, optimizer: str, version: int) -> Decision | None:
        """The decision that stands about the step that leads to `version`, or None. Replayed steps are decided
        again."""
        return next((decision for decision in self._standing(optimizer) if decision.version == version), None)

    def latest(self, optimizer: str) -> int:
        """The highest version of a step that stands as taken; 0 when there is none."""
        return max((it.version for it in self._standing(optimizer) if it.outcome == "commit"), default=0)

    def _standing(self, optimizer: str) -> Iterator[Decision]:
        """The decisions that no return has made void, the latest first."""
        limit: float = math.inf
        for record in reversed(self._records):
            if isinstance(record, Return):
                limit = min(limit, record.versions.get(optimizer, limit))
            elif record.optimizer == optimizer and record.version <= limit:
                yield record

    def compact(self, keep: Callable[[Decision], bool]) -> None:
        """Forgets every decision that `keep` refuses; called when a checkpoint has made them history.

        The shorter journal is written aside and renamed, so that a crash leaves the old one or the new one.

        Raises:
            JournalError: the disk refused. The journal is as it was, unless `closed` is true.
        """
        self._check_open()
        kept = self._kept(keep)
        content = b"".join(_encode(record) for record in [_opening(self.term), *map(_plain, kept)])
        aside = self.path.with_name(self.path.name + ".partial")
        file = -1
        try:
            file = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
            _write_all(file, content)
            os.fsync(file)
            os.replace(aside, self.path)
        except OSError as error:
            if file >= 0:
                os.close(file)
                aside.unlink(missing_ok=True)
            raise JournalError(f"journal {self.path} was left as it is, uncompacted: {error}") from error
        os.close(self._file)
        self._file, self._end, self._records = file, len(content), kept
        try:
            sync_directory(self.path.parent)
        except OSError as error:
            # The old file might come back after a power cut, without what is appended to the new one from here on.
            self.close()
            raise JournalError(f"journal {self.path} was compacted, but perhaps not on the disk: {error}") from error

    def _kept(self, keep: Callable[[Decision], bool]) -> list[Decision | Return]:
        """The decisions to keep, and the returns that came after any of them."""
        kept: list[Decision | Return] = []
        for record in self._records:
            if bool(kept) if isinstance(record, Return) else keep(record):
                kept.append(record)
        return kept

    @property
    def closed(self) -> bool:
        return self._file < 0

    def close(self) -> None:
        """Lets go of file and lock. May be called again."""
        if not self.closed:
            os.close(self._file)
            os.close(self._lock)
            self._file = -1

    def __iter__(self) -> Iterator[Decision]:
        """All decisions, in order, those that do not stand any more included."""
        return (record for record in self._records if isinstance(record, Decision))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<Journal {self.path} {state}, term {self.term}, {len(self)} decisions>"

    def _take_back(self, reason: OSError) -> NoReturn:
        """Cuts off what a failed write may have left, lest the next open find an undecided record. Always raises."""
        try:
            os.ftruncate(self._file, self._end)
            os.fsync(self._file)
        except OSError as error:
            self.close()
            raise JournalError(
                f"journal {self.path}: a record at byte {self._end} could neither be written ({reason}) nor taken back "
                f"({error}); restart the coordinator, which decides by what the disk then holds"
            ) from error
        raise JournalError(
            f"journal {self.path}: the record at byte {self._end} could not be written ({reason}); nothing was decided"
        ) from reason

    def _check_open(self) -> None:
        if self.closed:
            raise JournalError(f"journal {self.path} is closed; open it again")
        try:
            holder = _lock_of(self.path).read_bytes()
        except FileNotFoundError:
            holder = b"somebody"
        if holder != self._mark:
            raise JournalError(
                f"journal {self.path} was taken over by another coordinator (process {holder.decode().strip()}) while "
                "this one stood still; what it was about to do is for that one to decide"
            )


def _opening(term: int) -> Mapping[str, Any]:
    return {"opened": term, "format": _FORMAT}


def _lock_of(path: Path) -> Path:
    """The lock is a file of its own, as compaction replaces the journal."""
    return path.with_name(path.name + ".lock")


def _take_lock(path: Path) -> tuple[int, bytes]:
    """The lock, which the kernel frees when its holder ends, and the mark that was left in it."""
    lock = os.open(_lock_of(path), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(lock, 256, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise JournalError(
            f"journal {path} is in use by another coordinator (process {holder}); "
            f"stop that one, or give this job a directory of its own"
        ) from error
    mark = f"{os.getpid()} on {socket.gethostname()}, since {datetime.now().isoformat()}\n".encode()
    os.ftruncate(lock, 0)
    os.pwrite(lock, mark, 0)
    return lock, mark


def _write_all(file: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(file, rest) :]


def _encode(record: Mapping[str, Any]) -> bytes:
    text = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _plain(record: Decision | Return) -> Mapping[str, Any]:
    return asdict(record) if isinstance(record, Decision) else {"returned": record.versions, "term": record.term}


def _read(path: Path) -> tuple[int, list[Decision | Return], int]:
    """The highest term, all records, and the number of bytes before a torn tail."""
    term, end = 0, 0
    records: list[Decision | Return] = []
    for offset, line in _whole_lines(path):
        record = _decode(path, offset, line)
        if "opened" in record:
            if record.get("format") != _FORMAT:
                raise JournalError(
                    f"journal {path} has format {record.get('format')!r}; this version of distgrad reads {_FORMAT}"
                )
            term = max(term, record["opened"])
        elif "returned" in record:
            records.append(Return(record["returned"], record["term"]))
        else:
            records.append(_decision(path, offset, record))
        end = offset + len(line) + 1
    return term, records, end


def _whole_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    if not path.exists():
        return
    offset = 0
    for line in path.read_bytes().split(b"\n")[:-1]:  # what follows the last newline is empty or torn
        yield offset, line
        offset += len(line) + 1


def _decode(path: Path, offset: int, line: bytes) -> dict[str, Any]:
    found, _, text = line.partition(b" ")
    expected = b"%08x" % zlib.crc32(text)
    if found != expected:
        raise JournalError(
            f"journal {path} is damaged at byte {offset}: found checksum {found[:8]!r}, expected {expected!r}. "
            f"What was decided there is unknown: move the journal away and resume from a checkpoint"
        )
    record: dict[str, Any] = json.loads(text)
    return record


def _decision(path: Path, offset: int, record: dict[str, Any]) -> Decision:
    try:
        return Decision(**record)
    except TypeError as error:
        raise JournalError(f"journal {path}: this version cannot read the record at byte {offset}: {error}") from error
