"""Links to other processes, which are then killed or stopped."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextvars import ContextVar

import numpy as np
import pytest

from distgrad.errors import WorkerLost
from distgrad.transport import Endpoint, Identity, TransportSettings
from distgrad.wire import pb
from tests import leaks

from .recorder import DEADLINE, Recorder, lose_by_silence, wait_until


@contextlib.contextmanager
def peer(name: str, how: str, address: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "tests.transport.peer", name, how, address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


LANES = {"grpc": (), "beside-grpc": ("unix",), "moved-unix": ("unix",), "moved-tcp": ("tcp",)}
fast_lanes: ContextVar[tuple[str, ...]] = ContextVar("fast_lanes", default=())


@contextlib.contextmanager
def endpoint(**changes: float) -> Iterator[Endpoint]:
    settings = TransportSettings.for_tests(**{"fast_lanes": fast_lanes.get()} | changes)
    with Endpoint(Identity.new("here", "worker"), settings, Recorder()) as endpoint:
        yield endpoint


@pytest.fixture(params=LANES)
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where to listen, so that links from or to `endpoint` use the lane in question."""
    token = fast_lanes.set(LANES[request.param])
    with tempfile.TemporaryDirectory() as folder:
        yield f"unix:{folder}/peer" if request.param == "beside-grpc" else "127.0.0.1:0"
    fast_lanes.reset(token)


def test_a_killed_peer_is_lost_long_before_the_reconnect_window_ends(address: str) -> None:
    window = 100 * DEADLINE
    with endpoint(reconnect_window=window) as here, peer("there", "listen", address) as (process, bound):
        link = here.connect("there", bound)
        assert link.peer.pid == process.pid
        assert link.request(pb.Fetch()).result(DEADLINE)
        waiting = link.request(pb.Statistics())
        process.kill()
        _, reason = here.receiver.loss()
        assert f"nobody listens at {bound}" in reason
        with pytest.raises(WorkerLost, match=r"there#.... is lost"):
            waiting.result(DEADLINE)


def test_a_peer_killed_amid_a_transfer_leaves_nothing_here(address: str) -> None:
    large = np.zeros(2**24, np.uint8)
    with endpoint(reconnect_window=100 * DEADLINE, chunk_bytes=2**16) as here:
        before = leaks.descriptors()
        with peer("there", "listen", address) as (process, bound):
            link = here.connect("there", bound)
            waiting = [link.request(pb.Fetch(), [large]) for _ in range(2)]
            wait_until(lambda: link.statistics()["bytes_received"] > len(large) // 2)
            process.kill()
            here.receiver.loss()
            for future in waiting:
                assert isinstance(future.exception(DEADLINE), WorkerLost)
        wait_until(lambda: not here._plugs)
        wait_until(lambda: leaks.descriptors().keys() - before.keys() == set())


def test_a_killed_opener_that_does_not_listen_is_lost_after_the_reconnect_window(address: str) -> None:
    with endpoint(reconnect_window=0.3) as here, peer("there", "open", here.listen(address)) as (process, _):
        here.receiver.wait_for(lambda: here.link("there"))
        process.kill()
        assert "within 0.3 s" in here.receiver.loss()[1]


def test_a_stopped_peer_is_lost_by_silence_and_finds_that_out_when_it_goes_on(address: str) -> None:
    with endpoint() as here, peer("there", "listen", address) as (process, bound):
        link = here.connect("there", bound)
        process.send_signal(signal.SIGSTOP)
        lose_by_silence(here, link)
        lost, reason = here.receiver.loss()
        assert lost == link.peer
        assert reason.startswith(f"silent for 3 s; its process {process.pid} is stopped")
        process.send_signal(signal.SIGCONT)
        again = here.connect("there", bound, timeout=DEADLINE)
        assert again.peer.incarnation == link.peer.incarnation
        assert again.request(pb.Fetch()).result(DEADLINE)


def test_a_peer_started_anew_at_the_same_address_is_another_incarnation(address: str) -> None:
    with endpoint() as here:
        with peer("there", "listen", address) as (process, bound):
            old = here.connect("there", bound)
            process.kill()
            here.receiver.loss()
        with peer("there", "listen", bound) as (_, rebound):
            assert rebound == bound
            with pytest.raises(WorkerLost, match=r"there#.... is there, not incarnation"):
                here.connect("there", bound, expected_incarnation=old.peer.incarnation)
            assert here.connect("there", bound).peer.incarnation != old.peer.incarnation


@pytest.mark.slow
def test_with_the_default_settings_a_stopped_peer_is_lost_within_about_three_seconds() -> None:
    settings = TransportSettings.for_tests(heartbeat=1.0, silence=3.0)
    with (
        Endpoint(Identity.new("here", "worker"), settings, Recorder()) as here,
        peer("there", "listen", "127.0.0.1:0") as (process, bound),
    ):
        here.connect("there", bound)
        process.send_signal(signal.SIGSTOP)
        start = time.monotonic()
        here.receiver.loss()
        # Not before the silence that the settings allow, counted from the last heartbeat.
        assert time.monotonic() - start > settings.silence - settings.heartbeat - 0.5
