from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from distgrad.transport.reading import BRIEF, leave_reading, reading_here

from .recorder import DEADLINE
from .served import ServedLane


@pytest.fixture
def lane() -> Iterator[ServedLane]:
    with ServedLane() as lane:
        yield lane


def test_only_the_thread_that_reads_a_lane_knows_of_it(lane: ServedLane) -> None:
    assert reading_here() is None
    assert lane.serve(reading_here) is lane.reading


def test_work_is_done_by_the_reader_after_the_frame_and_before_the_next(lane: ServedLane) -> None:
    order: list[object] = []

    def frame() -> None:
        lane.reading.later(lambda: order.append(threading.current_thread()))
        order.append("frame")

    lane.begin(frame)
    lane.serve(lambda: order.append("next frame"))
    assert order == ["frame", lane.reader, "next frame"]


def test_a_reader_is_free_until_it_has_work(lane: ServedLane) -> None:
    def frame() -> tuple[bool, bool]:
        before = lane.reading.free
        lane.reading.later(lambda: None)
        return before, lane.reading.free

    assert lane.serve(frame) == (True, False)
    assert lane.serve(lambda: lane.reading.free)


def test_when_work_is_about_to_wait_another_thread_reads_on(lane: ServedLane) -> None:
    gate, done, first = threading.Event(), threading.Event(), lane.reader
    seen: list[object] = []

    def work() -> None:
        seen.append(reading_here())
        leave_reading()
        seen.append(reading_here())
        assert gate.wait(DEADLINE)
        leave_reading()
        done.set()

    lane.serve(lambda: lane.reading.later(work))
    assert lane.serve(threading.current_thread) is lane.reader
    assert lane.reader is not first
    gate.set()
    assert done.wait(DEADLINE)
    first.join(DEADLINE)
    assert not first.is_alive(), "a thread that has left ends with its work"
    assert seen == [lane.reading, None]
    assert len(lane.readers) == 2


def test_leaving_while_a_frame_is_served_changes_nothing(lane: ServedLane) -> None:
    lane.serve(leave_reading)
    lane.serve(leave_reading)
    leave_reading()
    assert len(lane.readers) == 1


def test_a_reader_whose_work_goes_on_for_too_long_is_relieved(lane: ServedLane) -> None:
    gate, entered = threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        assert gate.wait(DEADLINE)

    lane.serve(lambda: lane.reading.later(work))
    assert entered.wait(DEADLINE)
    lane.reading.relieve(time.monotonic())
    assert len(lane.readers) == 1, "not yet"
    lane.reading.relieve(time.monotonic() + BRIEF)
    lane.reading.relieve(time.monotonic() + BRIEF)
    assert len(lane.readers) == 2
    assert lane.serve(threading.current_thread) is lane.reader
    gate.set()
    lane.readers[0].join(DEADLINE)
    assert lane.serve(lambda: lane.reading.free)


def test_a_reader_at_rest_is_not_relieved(lane: ServedLane) -> None:
    lane.serve(lambda: lane.reading.later(lambda: None))
    lane.serve(lambda: None)
    lane.reading.relieve(time.monotonic() + 100)
    assert len(lane.readers) == 1


def test_when_the_system_has_no_thread_the_reader_stays(lane: ServedLane, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(lane.reading, "_go_on", refuse)
    errors: list[str] = []

    def work() -> None:
        try:
            leave_reading()
        except RuntimeError as error:
            errors.append(str(error))

    lane.serve(lambda: lane.reading.later(work))
    assert lane.serve(threading.current_thread) is lane.readers[0]
    assert errors == ["can't start new thread"]


def test_the_lane_may_end_while_work_is_done(lane: ServedLane) -> None:
    gate, done = threading.Event(), threading.Event()

    def work() -> None:
        leave_reading()
        assert gate.wait(DEADLINE)
        done.set()

    lane.serve(lambda: lane.reading.later(work))
    lane.__exit__()
    gate.set()
    assert done.wait(DEADLINE)
    lane.readers[0].join(DEADLINE)
