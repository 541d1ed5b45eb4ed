"""Jobs that run on the thread that has read them from a lane, or that is about to wait for them."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from distgrad import errors
from distgrad.graph.executor import Executor, Priority, Promise, TaskState
from tests.transport.served import ServedLane

from .executing import DEADLINE, busy, eventually, make_brief, outcome, settled, where


def test_a_job_of_a_brief_kind_runs_on_the_thread_that_read_it(executor: Executor, lane: ServedLane) -> None:
    assert where(executor, lane) is not lane.reader, "nothing is known of that kind yet"
    make_brief(executor, lane)
    assert where(executor, lane, "other") is not lane.reader
    assert where(executor, lane, "") is not lane.reader
    with busy(executor):
        submitted = threading.Event()
        lane.serve(lambda: executor.submit(submitted.set, Priority.CALL, kind="brief"))
        assert not submitted.is_set(), "it lines up"
    assert submitted.wait(DEADLINE)


def test_on_other_threads_brief_jobs_go_to_the_pool(executor: Executor, lane: ServedLane) -> None:
    make_brief(executor, lane)
    ran: Promise[threading.Thread] = Promise()
    executor.submit(lambda: ran.set_result(threading.current_thread()), Priority.CALL, kind="brief")
    assert ran.result(DEADLINE) not in (threading.current_thread(), lane.reader)


def test_of_two_jobs_of_one_frame_the_second_gets_the_baton_after_the_first(
    executor: Executor, lane: ServedLane
) -> None:
    make_brief(executor, lane)
    ran: list[threading.Thread] = []
    both = threading.Barrier(2, timeout=DEADLINE)

    def frame() -> None:
        executor.submit(lambda: ran.append(threading.current_thread()), Priority.CALL, kind="brief")
        executor.submit(lambda: (ran.append(threading.current_thread()), both.wait()), Priority.CALL, kind="brief")
        assert ran == []

    lane.serve(frame)
    both.wait()
    assert ran[0] is lane.reader
    assert ran[1] is not lane.reader


def runs_here(executor: Executor) -> bool:
    """Whether a job that this thread is about to wait for runs on it."""
    ran: Promise[threading.Thread] = Promise()
    executor.submit(lambda: ran.set_result(threading.current_thread()), Priority.CALL, here=True)
    return ran.result(DEADLINE) is threading.current_thread()


def test_who_is_about_to_wait_for_a_job_runs_it_unless_another_runs(executor: Executor) -> None:
    assert runs_here(executor)
    with busy(executor):
        waited = threading.Event()
        executor.submit(waited.set, Priority.CALL, here=True)
        assert not waited.is_set(), "it lines up"
    assert waited.wait(DEADLINE)
    settled(executor)
    assert runs_here(executor)


def test_a_job_and_the_reader_of_a_lane_leave_to_the_pool_what_they_wait_for(
    executor: Executor, lane: ServedLane
) -> None:
    def submit() -> Promise[threading.Thread]:
        ran: Promise[threading.Thread] = Promise()
        executor.submit(lambda: ran.set_result(threading.current_thread()), Priority.CALL, here=True)
        return ran

    assert not outcome(executor, lambda: submit().done).result(DEADLINE)
    settled(executor)
    served: Promise[Promise[threading.Thread]] = Promise()
    lane.serve(lambda: served.set_result(submit()))
    assert served.result(DEADLINE).result(DEADLINE) is not lane.reader


def test_a_job_that_runs_on_the_thread_that_waits_for_it_may_wait_itself(executor: Executor) -> None:
    other: Promise[int] = Promise()

    def job() -> None:
        executor.submit(lambda: other.set_result(3), Priority.CALL)
        executor.wait(other, DEADLINE)

    executor.submit(job, Priority.CALL, here=True)
    assert other.result(0) == 3
    settled(executor)


def test_a_job_that_waits_lets_another_thread_read_on_and_its_kind_is_not_brief(
    executor: Executor, lane: ServedLane
) -> None:
    make_brief(executor, lane)
    gate: Promise[int] = Promise()
    answer: Promise[int] = Promise()
    first = lane.reader

    def job() -> None:
        executor.wait(gate, DEADLINE, "what only reading brings")
        assert executor.holds_baton
        answer.set_result(gate.result())

    task = lane.serve(lambda: executor.submit(job, Priority.CALL, kind="brief"))
    eventually(lambda: task.state is TaskState.PARKED)
    assert outcome(executor, lambda: "computes").result(DEADLINE) == "computes"
    lane.serve(lambda: gate.set_result(7))
    assert answer.result(DEADLINE) == 7
    assert lane.reader is not first
    settled(executor)
    assert where(executor, lane) is not lane.reader


def test_a_job_that_parks_in_its_own_way_lets_another_thread_read_on(executor: Executor, lane: ServedLane) -> None:
    make_brief(executor, lane)
    gate, done = threading.Event(), threading.Event()

    def job() -> None:
        with executor.parked():
            assert gate.wait(DEADLINE)
        done.set()

    lane.serve(lambda: executor.submit(job, Priority.CALL, kind="brief"))
    lane.serve(gate.set)
    assert done.wait(DEADLINE)


def test_a_job_that_cannot_let_the_lane_go_fails_rather_than_stopping_it(
    executor: Executor, lane: ServedLane, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_brief(executor, lane)

    def refuse() -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(lane.reading, "_go_on", refuse)
    result: list[Promise[Any]] = []
    lane.serve(
        lambda: result.append(outcome(executor, lambda: executor.wait(Promise(), DEADLINE, "the moon"), kind="brief"))
    )
    with pytest.raises(errors.ResourceExhausted, match="a job waits for the moon, and no thread can read on"):
        result[0].result(DEADLINE)
