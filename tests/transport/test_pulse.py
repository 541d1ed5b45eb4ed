from __future__ import annotations

import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from distgrad.transport import TransportSettings, pulse

from .conftest import World
from .recorder import DEADLINE


def test_the_time_this_process_was_itself_stopped_is_not_held_against_its_peers(world: World) -> None:
    a, _ = world.pair(heartbeat=10.0, silence=30.0)
    link, later = a.link("b"), time.monotonic() + 100
    a._pulse._tick(later, own_pause=90.0, beats=False)
    assert link.silent_for(later) < 30
    assert a.receiver.losses == []
    a._pulse._tick(later + 100, own_pause=0.0, beats=False)
    ((lost, reason),) = a.receiver.losses
    assert lost == link.peer
    assert reason.startswith(f"silent for 30 s; its process {link.peer.pid} is stopped")


def test_silence_is_noticed_before_it_has_lasted_too_long(world: World) -> None:
    a, _ = world.pair(heartbeat=10.0, silence=30.0)
    link = a.link("b")

    def silent_for(seconds: float) -> float:
        """When nothing will have been heard for so long."""
        now = time.monotonic()
        return now - link.silent_for(now) + seconds

    a._pulse._tick(silent_for(28.5), own_pause=0.0, beats=False)
    assert a.receiver.losses == []
    a._pulse._tick(silent_for(29.5), own_pause=0.0, beats=False)
    assert [lost for lost, _ in a.receiver.losses] == [link.peer]


def test_a_frame_that_comes_slowly_is_no_silence(world: World) -> None:
    a, _ = world.pair(heartbeat=10.0, silence=30.0)
    link = a.link("b")
    link.excuse(-1000.0)
    link._plug.heard()
    assert link.silent_for(time.monotonic()) < 1000


def test_a_process_whose_ticks_all_come_late_beats_no_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    now, beats = 0.0, []

    class Closing:
        def wait(self, tick: float) -> bool:
            nonlocal now
            now += 10 * tick
            return now > 20

    endpoint = SimpleNamespace(settings=TransportSettings(heartbeat=1.0), closing=Closing())
    monkeypatch.setattr(pulse, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(pulse.Pulse, "_tick", lambda self, now, own_pause, beating: beats.append(beating))
    pulse.Pulse(endpoint).join()
    assert beats == [True] * 20


def test_a_receiver_that_fails_does_not_silence_the_process(world: World) -> None:
    a, b = world.pair()
    failures, fourth = [], threading.Event()

    def progress() -> tuple[int, int]:
        failures.append(1)
        if len(failures) == 4:
            fourth.set()
        raise ZeroDivisionError

    a.receiver.progress = progress
    assert fourth.wait(DEADLINE), "the first failure ended the heartbeats"
    assert a.receiver.losses == b.receiver.losses == []


def test_a_receiver_that_fails_to_take_a_loss_does_not_keep_the_link(world: World) -> None:
    a, b = world.pair()

    def lost(peer: object, reason: str) -> None:
        raise ZeroDivisionError

    b.receiver.lost = lost
    b.link("a").close("enough")
    assert b.links() == []
    assert a.receiver.loss()[1] == "it closed the link: enough"


def test_grpc_is_not_imported_before_an_endpoint_needs_it() -> None:
    code = "import sys, distgrad.transport; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
