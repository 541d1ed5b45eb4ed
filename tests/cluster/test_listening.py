"""What a process that supervises others hears, and that it ends those that have gone silent."""

from __future__ import annotations

import queue
import signal
from typing import Any

import pytest

from distgrad.cluster import listening
from distgrad.cluster.listening import Listening
from distgrad.cluster.signals import Interrupted
from distgrad.errors import ConfigError

SILENCE = 3.0


class Child:
    """One that is only heard of."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def end(self, reason: str) -> None:
        self.reasons.append(reason)


class Script:
    """What is heard, at what second of a clock of its own. It stands in for the queue of messages, and for `time`.

    Attributes:
        patience: what each wait was begun with.
    """

    def __init__(self, *lines: tuple[float, Any]) -> None:
        self._lines = list(lines)
        self._now = 0.0
        self.patience: list[float | None] = []

    def get(self, timeout: float | None) -> Any:
        self.patience.append(timeout)
        self._now, message = self._lines.pop(0)
        if message is None:
            raise queue.Empty
        return message

    def monotonic(self) -> float:
        return self._now


def listen(monkeypatch: pytest.MonkeyPatch, script: Script) -> Listening:
    heard = Listening(SILENCE)
    monkeypatch.setattr(heard, "_said", script)
    monkeypatch.setattr(listening, "time", script)
    return heard


def says(child: Child, event: str) -> tuple[Child, dict[str, str]]:
    return child, {"event": event}


def test_a_child_that_lived_and_says_nothing_any_more_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    child = Child()
    script = Script((1, says(child, "alive")), (2, says(child, "step")), (5, None), (5.1, says(child, "exited")))
    heard = listen(monkeypatch, script)
    assert [heard.next()[1]["event"] for _ in range(3)] == ["alive", "step", "exited"]
    assert child.reasons == ["silent for 3 s"]
    assert script.patience == [None, 3.0, 3.0, None]  # whatever it says is a sign of life; it is ended once


def test_children_that_never_say_that_they_live_may_be_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    child = Child()
    script = Script((1, says(child, "ready")), (100, says(child, "exited")))
    heard = listen(monkeypatch, script)
    assert [heard.next()[1]["event"] for _ in range(2)] == ["ready", "exited"]
    assert script.patience == [None, None]
    assert child.reasons == []


def test_the_one_that_was_silent_longest_is_ended_first(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Child(), Child()
    script = Script((1, says(first, "alive")), (2, says(second, "alive")), (4, None), (4.5, says(first, "exited")))
    heard = listen(monkeypatch, script)
    for _ in range(3):
        heard.next()
    assert (first.reasons, second.reasons) == (["silent for 3 s"], [])
    assert script.patience == [None, 3.0, 2.0, 1.0]


def test_nobody_is_ended_for_a_silence_in_which_this_process_itself_was_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    child = Child()
    script = Script((1, says(child, "alive")), (60, None), (60.1, says(child, "alive")))
    heard = listen(monkeypatch, script)
    assert [heard.next()[1]["event"] for _ in range(2)] == ["alive", "alive"]
    assert child.reasons == []
    assert script.patience == [None, 3.0, 3.0]


@pytest.mark.parametrize(
    ("message", "error"), [(signal.SIGINT, Interrupted), (ConfigError("found elsewhere"), ConfigError)]
)
def test_signals_and_errors_from_elsewhere_are_raised(message: Any, error: type[BaseException]) -> None:
    heard = Listening(SILENCE)
    heard.put(message)
    with pytest.raises(error):
        heard.next()
