"""Signals that ask a process to end, as entries of a queue."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Iterator

import pytest

from distgrad.cluster.signals import ENDING, ending_signals
from tests.processes import DEADLINE


@pytest.fixture(autouse=True)
def _handlers_are_restored() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_is_told_and_interrupts_nothing(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_DFL)
    heard: queue.SimpleQueue[signal.Signals] = queue.SimpleQueue()
    with ending_signals(heard.put):
        os.kill(os.getpid(), number)
        assert heard.get(timeout=DEADLINE) is number


def test_handlers_are_as_before_after_the_block() -> None:
    before = [signal.getsignal(number) for number in ENDING]
    with ending_signals(lambda number: None):
        assert [signal.getsignal(number) for number in ENDING] != before
    assert [signal.getsignal(number) for number in ENDING] == before


def test_what_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    told: list[signal.Signals] = []
    with ending_signals(told.append):
        os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert told == []


def test_a_signal_is_told_while_the_main_thread_waits_and_is_not_woken_by_it() -> None:
    heard: queue.SimpleQueue[signal.Signals] = queue.SimpleQueue()
    waits = threading.Event()

    def kill() -> None:
        waits.wait(DEADLINE)
        os.kill(os.getpid(), signal.SIGTERM)

    with ending_signals(heard.put):
        other = threading.Thread(target=kill)
        other.start()
        # The system hands the signal to the other thread, as it may at any time.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            waits.set()
            assert heard.get(timeout=DEADLINE) is signal.SIGTERM
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            other.join()
