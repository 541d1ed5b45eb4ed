"""What time goes to."""

from __future__ import annotations

import threading
import time

import pytest

from distgrad.graph.executor import Executor, Promise
from distgrad.graph.timesheet import Timesheet
from distgrad.graph.waiting import Priority


def test_each_kind_has_the_time_of_its_runs_without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    sheet = Timesheet()
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    sheet.begin("a")  # at 1
    assert sheet.pause() == 2.0
    sheet.resume()  # at 4
    sheet.begin("b")  # at 8
    assert sheet.pause() == 16.0
    assert sheet.read() == {"a": (1, 1.0 + 4.0), "b": (1, 8.0)}
    assert sheet.pause() == 32.0
    assert sheet.read()["b"] == (1, 8.0)


def test_threads_add_to_one_sheet() -> None:
    sheet = Timesheet()

    def work() -> None:
        for _ in range(100):
            sheet.begin("a")
        sheet.pause()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sheet.read()["a"].runs == 400


def test_a_job_that_waits_spends_no_time() -> None:
    opened: Promise[None] = Promise()
    ended: Promise[None] = Promise()
    began = time.perf_counter()
    with Executor() as executor:

        def job() -> None:
            executor.wait(opened)
            ended.set_result(None)

        executor.submit(job, Priority.CALL, kind="waits")
        executor.submit(lambda: opened.set_result(None), Priority.CALL)
        ended.result(timeout=20)
    passed = time.perf_counter() - began
    work = executor.timesheet.read()
    assert work["waits"].runs == work["other"].runs == 1
    assert 0 < work["waits"].seconds + work["other"].seconds < passed
