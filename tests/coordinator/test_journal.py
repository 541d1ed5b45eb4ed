"""The journal: what it holds after any end of its writer."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distgrad.coordinator.journal import Decision, Journal
from distgrad.errors import JournalError


def decision(version: int, **changes: object) -> Decision:
    base = Decision("adam", version, "commit", 0.5, 1e-3, 2.0, {"w0": 2**63 + 1, "w1": 7})
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "digits" / "journal"


def write(path: Path, versions: range) -> list[Decision]:
    with Journal.open(path) as journal:
        return [journal.append(decision(version)) for version in versions]


def test_decisions_are_read_back_bit_for_bit(path: Path) -> None:
    odd = decision(1, clip_factor=0.1 + 0.2, norm=float("inf"), outcome="abort", learning_rate=5e-324)
    with Journal.open(path) as journal:
        journal.append(odd)
    with Journal.open(path) as journal:
        assert list(journal) == [replace(odd, term=1)]


def test_each_open_has_a_higher_term_even_when_nothing_was_decided(path: Path) -> None:
    terms = []
    for _ in range(3):
        with Journal.open(path) as journal:
            terms.append(journal.term)
    assert terms == [1, 2, 3]


def test_decisions_bear_the_term_of_the_open_that_made_them(path: Path) -> None:
    write(path, range(1, 3))
    write(path, range(3, 4))
    with Journal.open(path) as journal:
        assert [(it.version, it.term) for it in journal] == [(1, 1), (2, 1), (3, 2)]


def test_the_latest_decision_about_a_replayed_step_is_found(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.append(decision(1, norm=1.0))
        journal.append(decision(1, norm=2.0))
        journal.append(decision(1, norm=3.0, optimizer="sgd"))
        found = journal.find("adam", 1)
        assert found is not None
        assert found.norm == 2.0
        assert journal.find("adam", 2) is None


def test_after_a_return_later_decisions_do_not_stand_until_they_are_made_again(path: Path) -> None:
    write(path, range(1, 5))
    with Journal.open(path) as journal:
        journal.note_return({"adam": 2})
        assert journal.latest("adam") == 2
        assert journal.find("adam", 3) is None
        again = journal.append(decision(3))
        journal.note_return({"sgd": 0})
    with Journal.open(path) as journal:  # and so it is for the next coordinator
        assert journal.find("adam", 3) == again
        assert journal.find("adam", 4) is None
        assert (journal.latest("adam"), journal.latest("sgd")) == (3, 0)
        assert [it.version for it in journal] == [1, 2, 3, 4, 3]


def test_compaction_keeps_a_return_as_long_as_there_is_something_that_it_makes_void(path: Path) -> None:
    write(path, range(1, 5))
    with Journal.open(path) as journal:
        journal.note_return({"adam": 1})
        journal.compact(lambda it: it.version > 3)
        assert journal.find("adam", 4) is None
        journal.compact(lambda it: False)
    assert b"returned" not in path.read_bytes()


@settings(max_examples=8, deadline=None)
@given(norms=st.lists(st.floats(allow_nan=False), max_size=3), name=st.text(max_size=5))
def test_a_file_cut_at_any_byte_holds_exactly_the_records_fully_written(
    tmp_path_factory: pytest.TempPathFactory, norms: list[float], name: str
) -> None:
    path = tmp_path_factory.mktemp("cut") / "journal"
    ends = []
    with Journal.open(path) as journal:
        for version, norm in enumerate(norms, 1):
            journal.append(decision(version, norm=norm, optimizer=name))
            ends.append(path.stat().st_size)
    whole = path.read_bytes()
    cuts = {0, 1, *(end + shift for end in ends for shift in (-1, 0, 1)), *range(0, len(whole), 17)}
    for cut in sorted(cut for cut in cuts if cut <= len(whole)):
        path.write_bytes(whole[:cut])
        with Journal.open(path) as journal:
            assert [it.norm for it in journal] == norms[: sum(end <= cut for end in ends)]


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_file_cut_anywhere_can_be_opened_and_appended_to(path: Path, every: int) -> None:
    first, second = write(path, range(1, 3))
    whole = path.read_bytes()
    ends = [index + 1 for index, byte in enumerate(whole) if byte == ord("\n")]  # the opening, then the two
    for cut in sorted({*range(0, len(whole) + 1, every), *ends}):
        path.write_bytes(whole[:cut])
        kept = [first, second][: max(0, sum(end <= cut for end in ends) - 1)]
        with Journal.open(path) as journal:
            assert journal.term == (2 if cut >= ends[0] else 1)
            added = journal.append(decision(9))
        with Journal.open(path) as journal:
            assert list(journal) == [*kept, added]


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_damaged_byte_anywhere_before_the_last_newline_is_noticed(path: Path, every: int) -> None:
    write(path, range(1, 3))
    whole = path.read_bytes()
    for position in range(0, len(whole) - 1, every):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x15]) + whole[position + 1 :])
        with pytest.raises(JournalError, match="damaged at byte"):
            Journal.open(path)


def test_damage_is_reported_with_its_offset_and_the_file_is_left_alone(path: Path) -> None:
    write(path, range(1, 4))
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = b"".join([lines[0], lines[1], lines[2].replace(b"adam", b"adan"), lines[3]])
    path.write_bytes(damaged)
    with pytest.raises(JournalError, match=rf"damaged at byte {len(lines[0] + lines[1])}:.*resume from a checkpoint"):
        Journal.open(path)
    assert path.read_bytes() == damaged


def test_a_second_coordinator_is_refused_and_told_who_holds_the_journal(path: Path) -> None:
    with (
        Journal.open(path),
        pytest.raises(JournalError, match=rf"in use by another coordinator \(process {os.getpid()} on \S+, since "),
    ):
        Journal.open(path)
    Journal.open(path).close()


def test_the_lock_of_a_killed_process_is_free_and_its_decisions_are_kept(path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from distgrad.coordinator.journal import Decision, Journal\n"
        "journal = Journal.open(sys.argv[1])\n"
        "journal.append(Decision('adam', 1, 'commit', 1.0, 1e-3, 2.0, {'w0': 1}))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(path)], check=False, timeout=60)
    assert ended.returncode == -9
    with Journal.open(path) as journal:
        assert (journal.term, [it.version for it in journal]) == (2, [1])


@pytest.mark.parametrize("released", [True, False], ids=["the lock ran out", "the lock is another file"])
def test_a_coordinator_whose_lock_has_passed_to_another_writes_nothing_more(path: Path, released: bool) -> None:
    """As on a disk of the network, where locks of a machine that stands still run out."""
    lock = path.with_name("journal.lock")
    with Journal.open(path) as old:
        old.append(decision(1))
        if released:
            fcntl.flock(old._lock, fcntl.LOCK_UN)
        else:
            lock.unlink()
        with Journal.open(path) as new:
            new.append(decision(2))
            content = path.read_bytes()
            for write in (
                lambda: old.append(decision(2)),
                lambda: old.note_return({"adam": 0}),
                lambda: old.compact(lambda it: False),
            ):
                with pytest.raises(JournalError, match=r"was taken over by another coordinator \(process \d+ on "):
                    write()
            assert path.read_bytes() == content
            new.append(decision(3))


def test_compaction_keeps_what_is_asked_for_the_term_and_the_lock(path: Path) -> None:
    with Journal.open(path) as journal:
        for version in range(1, 201):
            journal.append(decision(version))
        size = path.stat().st_size
        journal.compact(lambda it: it.version > 198)
        journal.append(decision(201))
        assert path.stat().st_size < size / 10
        with pytest.raises(JournalError, match="in use"):
            Journal.open(path)
    with Journal.open(path) as journal:
        assert (journal.term, [it.version for it in journal]) == (2, [199, 200, 201])
    assert sorted(it.name for it in path.parent.iterdir()) == ["journal", "journal.lock"]


def failing(call: Callable[..., object], times: int, code: int) -> Callable[..., object]:
    """The call, refusing its first `times` uses."""
    left = iter(range(times))

    def refuse(*arguments: object) -> object:
        if next(left, None) is not None:
            raise OSError(code, os.strerror(code))
        return call(*arguments)

    return refuse


@pytest.mark.parametrize("name", ["write", "fsync"])
def test_a_decision_that_the_disk_refuses_is_not_taken_and_leaves_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with Journal.open(path) as journal:
        journal.append(decision(1))
        before = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, name, failing(getattr(os, name), 1, errno.ENOSPC))
            with pytest.raises(JournalError, match=r"No space left.*nothing was decided"):
                journal.append(decision(2))
        assert (path.read_bytes(), journal.find("adam", 2), journal.closed) == (before, None, False)
        journal.append(decision(2))
    with Journal.open(path) as journal:
        assert [it.version for it in journal] == [1, 2]


def test_half_a_record_written_before_the_disk_was_full_is_taken_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    lengths = iter([10])

    def short(file: int, content: memoryview) -> int:
        length = next(lengths, None)
        if length is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(file, content[:length])

    with Journal.open(path) as journal:
        before = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", short)
            with pytest.raises(JournalError, match="nothing was decided"):
                journal.append(decision(1))
        assert path.read_bytes() == before


def test_a_journal_that_cannot_take_a_failed_write_back_closes_itself(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.open(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(os.fsync, 2, errno.EIO))
        with pytest.raises(JournalError, match=r"neither be written .* nor taken back"):
            journal.append(decision(1))
    assert journal.closed
    with pytest.raises(JournalError, match="closed; open it again"):
        journal.append(decision(1))
    Journal.open(path).close()


def test_compaction_that_the_disk_refuses_leaves_the_journal_in_use_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal.open(path) as journal:
        journal.append(decision(1))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", failing(os.fsync, 1, errno.ENOSPC))
            with pytest.raises(JournalError, match="left as it is"):
                journal.compact(lambda it: False)
        journal.append(decision(2))
    with Journal.open(path) as journal:
        assert [it.version for it in journal] == [1, 2]
    assert sorted(it.name for it in path.parent.iterdir()) == ["journal", "journal.lock"]


def test_a_journal_whose_compaction_may_not_last_closes_itself(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal.open(path)
    journal.append(decision(1))
    syncs = iter([None, OSError(errno.EIO, os.strerror(errno.EIO))])  # of the new file, then of its name

    def fsync(file: int) -> None:
        if error := next(syncs):
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(JournalError, match="perhaps not on the disk"):
            journal.compact(lambda it: True)
    assert journal.closed
    with Journal.open(path) as journal:
        assert [it.version for it in journal] == [1]


def test_a_failed_open_says_why_and_frees_the_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(os.fsync, 10, errno.EROFS))
        with pytest.raises(JournalError, match=r"cannot be opened.*Read-only"):
            Journal.open(path)
    Journal.open(path).close()


def test_every_record_is_synced_before_append_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    real = os.fsync

    def record(file: int) -> None:
        real(file)
        synced.append(path.read_bytes())

    with Journal.open(path) as journal:
        monkeypatch.setattr(os, "fsync", record)
        journal.append(decision(1))
        assert synced[-1] == path.read_bytes()
        assert synced[-1].count(b"\n") == 2


def test_a_record_of_a_later_version_is_refused_by_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distgrad.coordinator.journal._FORMAT", 2)
    Journal.open(path).close()
    monkeypatch.undo()
    with pytest.raises(JournalError, match="has format 2; this version of distgrad reads 1"):
        Journal.open(path)


def test_repr_names_file_term_and_count(path: Path) -> None:
    with Journal.open(path) as journal:
        assert repr(journal) == f"<Journal {path} open, term 1, 0 decisions>"
    assert "closed" in repr(journal)
