"""The executor: order, waiting, timeouts, cancellation and closing. Every wait has a deadline."""

from __future__ import annotations

import concurrent.futures
import contextvars
import logging
import random
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from distgrad import errors
from distgrad.graph.executor import Executor, Priority, Promise, TaskState
from distgrad.graph.waiting import OrderKey, Rank
from tests.transport.served import ServedLane

from .executing import DEADLINE, SOON, busy, eventually, make_brief, outcome, until_nothing_queued

# ---- Order ----------------------------------------------------------------------------------------------------------


def test_jobs_run_by_priority_then_order_then_submission(executor: Executor) -> None:
    generator = random.Random(7)
    orders: list[OrderKey] = [(), (0,), (0, 1), (1,)]
    jobs: list[Rank] = [(generator.choice(list(Priority)), generator.choice(orders), number) for number in range(200)]
    ran: list[Rank] = []
    with busy(executor):
        for job in jobs:
            executor.submit(partial(ran.append, job), job[0], job[1])
    until_nothing_queued(executor)
    assert ran == sorted(jobs)


def test_resumed_work_precedes_new_work_and_keeps_its_order(executor: Executor) -> None:
    ran: list[str] = []
    gates: list[Promise[None]] = [Promise(), Promise()]

    def waiter(number: int) -> None:
        executor.wait(gates[number], DEADLINE)
        ran.append(f"resumed {number}")

    for number in range(2):
        executor.submit(partial(waiter, number), Priority.FILLER, (number,))
    until_nothing_queued(executor)
    with busy(executor):
        for _ in range(3):
            executor.submit(lambda: ran.append("gradient"), Priority.GRADIENT)
        gates[1].set_result(None)
        gates[0].set_result(None)
    until_nothing_queued(executor)
    assert ran == ["resumed 0", "resumed 1", "gradient", "gradient", "gradient"]


def test_one_thread_is_enough_for_jobs_that_do_not_wait(executor: Executor) -> None:
    names = {outcome(executor, lambda: threading.current_thread().name).result(DEADLINE) for _ in range(100)}
    assert len(names) == 1


# ---- Waiting --------------------------------------------------------------------------------------------------------


def happening(kind: str) -> tuple[Any, Callable[[], object]]:
    """Something to wait for, and what makes it happen."""
    if kind == "promise":
        promise: Promise[int] = Promise()
        return promise, lambda: promise.set_result(1)
    if kind == "future":
        future: concurrent.futures.Future[int] = concurrent.futures.Future()
        return future, lambda: future.set_result(1)
    event = threading.Event()
    return event, event.set


@pytest.mark.parametrize("kind", ["promise", "future", "event"])
def test_a_job_that_waits_lets_the_one_that_it_waits_for_run(executor: Executor, kind: str) -> None:
    thing, happen = happening(kind)

    def waiter() -> bool:
        executor.submit(happen, Priority.FILLER)
        executor.wait(thing, DEADLINE)
        executor.wait(thing, 0)  # it stays so
        return executor.holds_baton

    assert outcome(executor, waiter).result(DEADLINE)


@pytest.mark.parametrize("kind", ["promise", "future", "event"])
@pytest.mark.parametrize("timeout", [0, -1, SOON])
def test_a_wait_that_outlasts_its_timeout_says_what_did_not_come(executor: Executor, kind: str, timeout: float) -> None:
    thing, _ = happening(kind)

    def waiter() -> bool:
        with pytest.raises(errors.Timeout, match=f"the moon did not come within {timeout:g} s"):
            executor.wait(thing, timeout, "the moon")
        return executor.holds_baton

    assert outcome(executor, waiter).result(DEADLINE)
    if isinstance(thing, Promise):
        assert thing._callbacks == []


@pytest.mark.parametrize("kind", ["promise", "future", "event"])
def test_a_foreign_thread_simply_blocks(executor: Executor, kind: str) -> None:
    thing, happen = happening(kind)
    with pytest.raises(errors.Timeout):
        executor.wait(thing, SOON)
    executor.submit(happen, Priority.CALL)
    executor.wait(thing, DEADLINE)
    assert not executor.holds_baton


def test_an_event_that_happens_before_the_turn_comes_wins_over_a_timeout(executor: Executor) -> None:
    promise: Promise[int] = Promise()

    def waiter() -> int:
        executor.wait(promise, SOON)
        return promise.result(0)

    def holder() -> None:  # runs once the waiter has parked, and keeps the baton until the waiter's time has run out
        eventually(lambda: executor.statistics().queued[Priority.RESUMED] == 1)
        promise.set_result(5)

    with busy(executor):
        result = outcome(executor, waiter, Priority.GRADIENT)
        held = outcome(executor, holder)
    held.result(DEADLINE)
    assert result.result(DEADLINE) == 5


def test_an_event_that_happens_just_before_its_job_parks_is_not_lost(executor: Executor) -> None:
    class Prompt(Promise[int]):
        """Done by the time anyone has asked to be told."""

        def add_callback(self, callback: Callable[[Promise[int]], object]) -> None:
            self.set_result(1)
            super().add_callback(callback)

    promise = Prompt()
    assert outcome(executor, lambda: executor.wait(promise)).result(DEADLINE) is None


def test_a_late_wake_up_of_an_earlier_wait_does_not_end_the_next(executor: Executor) -> None:
    announcing, go_on = threading.Event(), threading.Event()

    def hold_up(_: object) -> None:
        announcing.set()
        assert go_on.wait(DEADLINE)

    class Slow(Promise[int]):
        """Done as soon as a job has asked to be told, which the job is only when `go_on` is set."""

        def add_callback(self, callback: Callable[[Promise[int]], object]) -> None:
            super().add_callback(callback)
            setter.start()
            assert announcing.wait(DEADLINE)

    slow, later = Slow(), Promise[int]()
    Promise.add_callback(slow, hold_up)
    setter = threading.Thread(target=slow.set_result, args=(1,))

    def job() -> None:
        executor.wait(slow, SOON)
        executor.wait(later, DEADLINE)

    task = executor.submit(job, Priority.CALL)
    eventually(lambda: task.state is TaskState.PARKED and later._callbacks != [])
    go_on.set()
    setter.join(DEADLINE)
    assert task.state is TaskState.PARKED
    later.set_result(2)
    eventually(lambda: task.state is TaskState.ENDED)


def test_a_polling_job_lets_others_run(executor: Executor) -> None:
    promise: Promise[int] = Promise()

    def poll() -> int:
        outcome(executor, lambda: promise.set_result(1), Priority.FILLER)
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            try:
                executor.wait(promise, 0)
                return promise.result(0)
            except errors.Timeout:
                continue
        return 0

    assert outcome(executor, poll).result(2 * DEADLINE) == 1


def test_parked_gives_the_baton_up_for_a_block_and_takes_it_back_even_after_an_error(executor: Executor) -> None:
    def job() -> tuple[bool, bool, int]:
        with pytest.raises(KeyError), executor.parked():
            inside = executor.holds_baton
            with executor.parked():  # nothing more to give up
                answer = outcome(executor, lambda: 3).result(DEADLINE)
            executor.wait(outcome(executor, lambda: None), DEADLINE)
            raise KeyError
        return inside, executor.holds_baton, answer

    assert outcome(executor, job).result(DEADLINE) == (False, True, 3)
    with executor.parked():  # on a thread without a baton: nothing to do
        pass


def test_too_many_parked_jobs_get_a_clear_error_and_the_others_go_on() -> None:
    gate: Promise[int] = Promise()
    with Executor(max_threads=4) as executor:

        def wait() -> int:
            executor.wait(gate, DEADLINE)
            return gate.result(0)

        results = [outcome(executor, wait) for _ in range(5)]
        until_nothing_queued(executor)
        assert executor.statistics().parked == 3
        assert executor.statistics().threads <= 4
        gate.set_result(1)
        for result in results[:3]:
            assert result.result(DEADLINE) == 1
        for result in results[3:]:
            with pytest.raises(errors.ResourceExhausted, match=r"3 jobs wait.*max_threads=4"):
                result.result(DEADLINE)
        assert outcome(executor, wait).result(DEADLINE) == 1
    assert gate._callbacks == []


# ---- Cancelling -----------------------------------------------------------------------------------------------------


def test_a_cancelled_job_that_was_queued_never_runs_and_says_so_once(executor: Executor) -> None:
    ran: list[int] = []
    reasons: list[errors.DistgradError] = []
    with busy(executor):
        task = executor.submit(lambda: ran.append(1), Priority.CALL, cancelled=reasons.append)
        assert task.cancel()
        assert not task.cancel()
    until_nothing_queued(executor)
    assert ran == []
    assert task.state is TaskState.DROPPED
    assert [type(reason) for reason in reasons] == [errors.Cancelled]


@pytest.mark.parametrize("parked", [True, False], ids=["in its wait", "at its next wait"])
def test_a_cancelled_job_that_has_begun_is_told_at_every_wait(executor: Executor, parked: bool) -> None:
    waits: list[Promise[int]] = [Promise(), Promise()]
    begun, proceed = threading.Event(), threading.Event()
    told: list[str] = []
    dropped: list[object] = []

    def job() -> None:
        begun.set()
        assert parked or proceed.wait(DEADLINE)
        for promise in waits:
            with pytest.raises(errors.Cancelled, match="cancelled before the moon came") as caught:
                executor.wait(promise, DEADLINE, "the moon")
            told.append(str(caught.value))
        with pytest.raises(errors.Cancelled), executor.parked():
            pass
        assert executor.holds_baton

    task = executor.submit(job, Priority.CALL, cancelled=dropped.append)
    assert begun.wait(DEADLINE)
    if parked:
        eventually(lambda: task.state is TaskState.PARKED)
    assert not task.cancel()
    proceed.set()
    eventually(lambda: task.state is TaskState.ENDED)
    assert len(told) == 2
    assert dropped == []
    assert [promise._callbacks for promise in waits] == [[], []]
    assert not task.cancel()


def test_an_event_that_has_happened_wins_over_cancellation(executor: Executor) -> None:
    promise: Promise[int] = Promise()
    results: list[int] = []

    def job() -> None:
        executor.wait(promise, DEADLINE)
        results.append(promise.result(0))

    task = executor.submit(job, Priority.CALL)
    eventually(lambda: task.state is TaskState.PARKED)
    with busy(executor):
        task.cancel()
        promise.set_result(4)
    eventually(lambda: task.state is TaskState.ENDED)
    assert results == [4]


# ---- Contexts, failures, lifetimes ----------------------------------------------------------------------------------

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")


def test_each_job_runs_in_its_own_copy_of_the_context_it_was_given(executor: Executor) -> None:
    context = contextvars.copy_context()
    context.run(variable.set, "given")

    def job() -> tuple[str, str]:
        before = variable.get()
        executor.wait(outcome(executor, lambda: variable.set("in between")), DEADLINE)
        during = variable.get()
        variable.set("mine")
        return before, during

    assert outcome(executor, job, context=context).result(DEADLINE) == ("given", "given")
    assert outcome(executor, job, context=context).result(DEADLINE) == ("given", "given")
    assert outcome(executor, job).result(DEADLINE) == ("none", "none")
    assert (context[variable], variable.get()) == ("given", "none")


@pytest.mark.parametrize("error", [ValueError("oops"), SystemExit(3), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("on_a_reader", [True, False])
def test_a_job_that_raises_is_logged_and_costs_neither_thread_nor_baton(
    error: BaseException, on_a_reader: bool, lane: ServedLane, caplog: pytest.LogCaptureFixture
) -> None:
    def job() -> None:
        raise error

    with Executor(name="careless") as executor:
        if on_a_reader:
            make_brief(executor, lane)
            lane.serve(lambda: executor.submit(job, Priority.CALL, kind="brief"))
        else:
            executor.submit(job, Priority.CALL)
        assert outcome(executor, lambda: 1).result(DEADLINE) == 1
        assert executor.failures == 1
    record = next(record for record in caplog.records if record.levelno == logging.CRITICAL)
    assert "'careless': a job raised" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_a_finished_job_keeps_nothing_alive(executor: Executor) -> None:
    class Array:
        pass

    array = Array()
    seen = weakref.ref(array)
    task = executor.submit(partial(id, array), Priority.CALL, cancelled=partial(isinstance, array))
    del array
    eventually(lambda: task.state is TaskState.ENDED)
    eventually(lambda: seen() is None)


def test_a_thread_the_system_refuses_drops_the_job_and_not_the_baton(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    def park_while_others_are_queued() -> int:
        queued = [outcome(executor, lambda: None) for _ in range(3)]
        executor.wait(queued[-1], DEADLINE)
        return sum(isinstance(promise.error, errors.ResourceExhausted) for promise in queued)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(errors.ResourceExhausted, match=r"has 0 threads: can't start new thread"):
            outcome(executor, lambda: None).result(DEADLINE)
    until_nothing_queued(executor)  # now there is one thread
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert outcome(executor, park_while_others_are_queued).result(DEADLINE) == 3
    assert outcome(executor, park_while_others_are_queued).result(DEADLINE) == 0


def test_idle_threads_retire_and_new_ones_come() -> None:
    with Executor(name="brief", idle_seconds=SOON) as executor:
        for _ in range(3):
            assert outcome(executor, lambda: 1).result(DEADLINE) == 1
            eventually(lambda: executor.statistics().threads == 0)


# ---- Closing --------------------------------------------------------------------------------------------------------


def test_closing_drops_what_is_queued_and_cancels_what_waits() -> None:
    executor = Executor(name="closing")
    waiter = outcome(executor, lambda: executor.wait(Promise(), DEADLINE))
    until_nothing_queued(executor)
    with busy(executor):
        queued = [outcome(executor, lambda: None) for _ in range(3)]
        assert not executor.close(grace=SOON)  # one computes, and cannot be interrupted
        for promise in queued:
            with pytest.raises(errors.Cancelled, match="'closing' closed before"):
                promise.result(0)
        with pytest.raises(errors.Cancelled, match="'closing' is closed"):
            executor.submit(lambda: None, Priority.CALL)
    with pytest.raises(errors.Cancelled):
        waiter.result(DEADLINE)
    assert executor.close(timeout=DEADLINE)
    assert repr(executor) == "<Executor 'closing': 0 running, 0 parked, 0 queued, 0 threads, closed>"


def test_closing_gives_running_jobs_the_time_it_was_told_to() -> None:
    executor = Executor()
    gate: Promise[int] = Promise()
    result = outcome(executor, lambda: executor.wait(gate, DEADLINE))
    until_nothing_queued(executor)
    closed: Promise[bool] = Promise()
    closer = threading.Thread(target=lambda: closed.set_result(executor.close(timeout=DEADLINE)))
    closer.start()
    eventually(lambda: "closed" in repr(executor))
    gate.set_result(1)
    assert closed.result(DEADLINE)
    closer.join(DEADLINE)
    assert result.result(0) is None


def test_closing_an_executor_from_its_own_job_is_refused(executor: Executor) -> None:
    with pytest.raises(errors.DistgradError, match="would wait for itself"):
        outcome(executor, executor.close).result(DEADLINE)


def test_closing_an_unused_executor_returns_at_once() -> None:
    executor = Executor()
    assert executor.close()
    assert executor.close()


# ---- Looking in -----------------------------------------------------------------------------------------------------


def test_statistics_and_repr_count_what_is_there(executor: Executor) -> None:
    gate: Promise[None] = Promise()
    for _ in range(2):
        executor.submit(lambda: executor.wait(gate, DEADLINE), Priority.CALL)
    until_nothing_queued(executor)
    with busy(executor):
        task = executor.submit(lambda: None, Priority.FILLER, (4,))
        now = executor.statistics()
        assert (now.running, now.parked, now.tasks_run) == (1, 2, 1)
        assert now.queued == {priority: int(priority is Priority.FILLER) for priority in Priority}
        assert repr(executor) == f"<Executor 'test': 1 running, 2 parked, 1 queued, {now.threads} threads>"
        assert repr(task) == f"<Task {task.number} FILLER (4,) queued>"
        gate.set_result(None)
    until_nothing_queued(executor)
    assert executor.statistics().tasks_run >= 5


def test_progress_grows_with_every_start_resumption_and_end(executor: Executor) -> None:
    gate: Promise[None] = Promise()
    task = executor.submit(lambda: executor.wait(gate, DEADLINE), Priority.CALL)
    eventually(lambda: task.state is TaskState.PARKED)
    assert executor.progress == 1
    gate.set_result(None)
    eventually(lambda: task.state is TaskState.ENDED)
    eventually(lambda: executor.progress == 3)
    outcome(executor, lambda: None).result(DEADLINE)
    eventually(lambda: executor.progress == 5)


@pytest.mark.parametrize(("slots", "threads"), [(0, 10), (4, 4)])
def test_slots_that_leave_no_thread_to_park_are_refused(slots: int, threads: int) -> None:
    with pytest.raises(errors.ConfigError, match=f"slots={slots}.*max_threads={threads}"):
        Executor(slots=slots, max_threads=threads)
