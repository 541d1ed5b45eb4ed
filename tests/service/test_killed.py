"""Whatever process is killed at whatever moment, every request ends: answered right, or refused with a reason."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from distgrad.service.settings import ServiceSettings
from distgrad.worker.children import Child, Children
from tests.processes import DEADLINE, eventually
from tests.service.raw import Failed, Local, Running, Streaming, Unary, answer, serving


def kill_now_and_then(running: Running, every: float, done: threading.Event) -> int:
    """Kills a process of the pool after every so many seconds; returns how many."""
    rng = random.Random(0)
    killed = 0
    while not done.wait(every):
        ready = [process for process in running.server.desk.pool if process.ready]
        if ready:
            rng.choice(ready).kill()
            killed += 1
    return killed


def ask_often(running: Running, count: int, way: int) -> dict[str, int]:
    """How requests of one client ended. Raises AssertionError for a wrong answer."""
    rng = np.random.default_rng(way)
    ended: dict[str, int] = {}
    if way == 2:
        return ask_together(running, count, rng)
    client = Unary(running.address) if way == 0 else Local(running.address)
    for _ in range(count):
        x, v = rng.normal(size=(2, int(rng.choice([3, 30, 10_000]))))
        try:
            found = client.ask("vjp", function="sine", arguments=[x], cotangents=[v])
            np.testing.assert_allclose(found["gradients"][0]["x"], np.cos(x) * v, rtol=1e-12)
            code = "OK"
        except Failed as failed:
            code = failed.code
        ended[code] = ended.get(code, 0) + 1
    client.close()
    return ended


def ask_together(running: Running, count: int, rng: np.random.Generator) -> dict[str, int]:
    """The same over a stream, some requests at a time, which may be computed as one."""
    stream = Streaming(running.address)
    ended: dict[str, int] = {}
    for _ in range(count // 10):
        asked = {}
        for _ in range(10):
            x, v = rng.normal(size=(2, 20))
            asked[stream.send("vjp", function="sine", arguments=[x], cotangents=[v])] = np.cos(x) * v
        for _ in range(10):
            exchange = stream.next()
            expected = asked.pop(exchange.stream.id)
            code = Failed(exchange.message).code if exchange.body == "failure" else "OK"
            if code == "OK":
                found = answer(exchange.message, exchange.payload)["gradients"][0]["x"]
                np.testing.assert_allclose(found, expected, rtol=1e-12)
            ended[code] = ended.get(code, 0) + 1
    stream.close()
    return ended


def storm(count: int, every: float) -> tuple[dict[str, int], int]:
    """So many requests by three ways at once, while processes are killed. How they ended; how many were killed."""
    with serving(["sine"], ServiceSettings(workers=2)) as running:
        done = threading.Event()
        with ThreadPoolExecutor(4) as threads:
            killing = threads.submit(kill_now_and_then, running, every, done)
            asking = [threads.submit(ask_often, running, count // 3, way) for way in range(3)]
            try:
                results = [each.result() for each in asking]
            finally:
                done.set()
            killed = killing.result()
        assert eventually(lambda: running.counts()["workers"] == 2)
        assert running.counts()["queued"] == running.counts()["running"] == 0
    ended: dict[str, int] = {}
    for result in results:
        for code, number in result.items():
            ended[code] = ended.get(code, 0) + number
    return ended, killed


def test_no_request_is_lost_while_processes_are_killed() -> None:
    ended, killed = storm(600, 0.3)
    assert sum(ended.values()) == 600
    assert ended.keys() <= {"OK", "INTERNAL"}
    assert ended["OK"] > 550
    assert killed


@pytest.mark.slow
@pytest.mark.long
def test_none_of_ten_thousand_requests_is_lost_while_a_process_is_killed_every_second() -> None:
    began = time.monotonic()
    ended, killed = storm(10_020, 1.0)
    assert sum(ended.values()) == 10_020
    assert ended.keys() <= {"OK", "INTERNAL"}
    assert ended["OK"] > 10_000
    assert killed >= (time.monotonic() - began) / 2


def test_a_process_is_followed_by_another_also_where_its_log_was_cleaned_away() -> None:
    with serving(["sine"], ServiceSettings(workers=1)) as running:
        (process,) = running.server.desk.pool
        assert process.child.log is not None
        process.child.log.unlink()  # as what cleans /tmp of old files does
        process.kill()
        assert_answers(running)


def test_a_process_that_the_system_cannot_start_now_is_started_later(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(["sine"], ServiceSettings(workers=1)) as running:
        start, refusals = Children.start, iter([OSError("no more processes")] * 2)

        def start_or_not(self: Children, name: str, module: str) -> Child:
            if (refusal := next(refusals, None)) is not None:
                raise refusal
            return start(self, name, module)

        monkeypatch.setattr(Children, "start", start_or_not)
        (process,) = running.server.desk.pool
        process.kill()
        assert_answers(running)


def assert_answers(running: Running) -> None:
    client = Unary(running.address)
    assert client.ask("evaluate", function="sine", arguments=[np.zeros(1)], timeout=DEADLINE)["value"] == 0.0
    client.close()
