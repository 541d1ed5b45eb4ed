"""Requests that are given up, as a process of the pool sees them."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from distgrad.service.evaluator import Result
from distgrad.service.failures import Code
from distgrad.service.process import Interruption
from distgrad.wire import pb


@pytest.fixture
def interruption() -> Iterator[Interruption]:
    before = signal.getsignal(signal.SIGUSR1)
    yield Interruption()
    signal.signal(signal.SIGUSR1, before)


def found() -> Result:
    return Result("close_session", pb.CloseSessionResponse())


def test_a_request_is_given_up_while_it_runs(interruption: Interruption) -> None:
    def given_up() -> Result:
        interruption.give_up(7)
        return found()

    assert interruption.run(7, given_up).message.code == Code.CANCELLED


def test_a_request_that_was_given_up_before_it_began_is_not_run(interruption: Interruption) -> None:
    interruption.give_up(7)
    assert interruption.run(7, lambda: pytest.fail("it ran")).message.code == Code.CANCELLED
    assert interruption.run(8, found).body == "close_session"
