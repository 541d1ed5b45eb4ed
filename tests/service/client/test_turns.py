from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from distgrad.service.client.turns import Turns


class Connection:
    """Answers come when the test sends them; whoever reads is noted."""

    def __init__(self) -> None:
        self.turns = Turns(self._read)
        self.readers: set[int] = set()
        self._sent: queue.SimpleQueue[Future[int]] = queue.SimpleQueue()
        self._reading = threading.Lock()

    def send(self, future: Future[int]) -> None:
        self._sent.put(future)

    def _read(self, timeout: float | None) -> None:
        assert self._reading.acquire(blocking=False), "two threads read at once"
        try:
            self._sent.get(timeout=timeout).set_result(threading.get_ident())
        except queue.Empty:
            return
        finally:
            self.readers.add(threading.get_ident())
            self._reading.release()


@pytest.fixture
def connection() -> Connection:
    return Connection()


def test_who_waits_alone_reads(connection: Connection) -> None:
    future: Future[int] = Future()
    connection.send(future)
    connection.turns.wait(future, None)
    assert future.result(0) == threading.get_ident()


def test_many_wait_and_one_reads_at_a_time_whatever_the_order(connection: Connection) -> None:
    futures: list[Future[int]] = [Future() for _ in range(60)]
    with ThreadPoolExecutor(12) as pool:
        waits = [pool.submit(connection.turns.wait, future, None) for future in futures]
        for future in [*futures[::3], *futures[1::3], *futures[2::3]]:
            connection.send(future)
        for wait in waits:
            wait.result(20)
    assert all(future.done() for future in futures)


def test_a_reader_whose_time_is_over_lets_another_read(connection: Connection) -> None:
    late, wanted = Future(), Future()  # type: ignore[var-annotated]
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(connection.turns.wait, late, 0.3)
        while not (connection.turns._reading or leader.done()):
            time.sleep(0)
        follower = pool.submit(connection.turns.wait, wanted, 20)
        leader.result(20)
        connection.send(wanted)
        follower.result(20)
    assert wanted.done()
    assert not late.done()


def test_one_who_waits_for_a_turn_has_a_deadline(connection: Connection) -> None:
    leading, impatient = Future(), Future()  # type: ignore[var-annotated]
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(connection.turns.wait, leading, 20)
        pool.submit(connection.turns.wait, impatient, 0.05).result(20)
        assert not impatient.done()
        connection.send(leading)
        leader.result(20)


def test_what_nobody_waits_for_is_read_by_a_thread_of_its_own(connection: Connection) -> None:
    futures: list[Future[int]] = [Future() for _ in range(5)]
    for future in futures:
        connection.turns.attend(future)
    for future in reversed(futures):
        connection.send(future)
    assert {future.result(20) for future in futures} == connection.readers
    assert threading.get_ident() not in connection.readers
    connection.turns.close()
