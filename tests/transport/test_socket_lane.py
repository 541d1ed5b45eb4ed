from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distgrad.errors import ConfigError, LinkError
from distgrad.transport import TLS, Endpoint, Identity, TransportSettings
from distgrad.transport.socket_lane import SocketLanes
from distgrad.wire import pb

from .recorder import DEADLINE, Recorder, end_stale_handshakes, wait_until
from .strangers import AFTER_A_HELLO, STRANGE, WITHOUT_CERTIFICATES, hello, tls

NO_SLOTS = struct.pack("<II", 0, 0)
# A name outside the file system, of this run of the tests alone.
ABSTRACT = f"distgrad-test-{os.getpid()}"


def endpoint(name: str, **changes: Any) -> Endpoint:
    settings = TransportSettings.for_tests(**changes)
    return Endpoint(Identity.new(name, "worker"), settings, Recorder(), SocketLanes(settings))


@pytest.fixture(params=["tcp", "unix"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield "socket:127.0.0.1:0" if request.param == "tcp" else f"socket:{folder}/s"


@pytest.fixture
def listener(address: str) -> Iterator[Endpoint]:
    with endpoint("listener") as listener:
        listener.listen(address)
        yield listener


class Stranger:
    """A socket that speaks for itself."""

    def __init__(self, address: str) -> None:
        to = address.removeprefix("socket:")
        if to.startswith("/"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(to)
            self.socket.sendall(NO_SLOTS)
            _, descriptors, _, _ = socket.recv_fds(self.socket, 8, 1)
            for descriptor in descriptors:
                os.close(descriptor)
        else:
            host, _, port = to.rpartition(":")
            self.socket = socket.create_connection((host, int(port)))
        self.socket.settimeout(DEADLINE)

    def say(self, *frames: bytes) -> Stranger:
        for frame in frames:
            self.socket.sendall(struct.pack("<II", len(frame), 0) + frame)
        return self

    def rest(self) -> bytes:
        """All that comes until the listener ends the connection."""
        came = b""
        try:
            while more := self.socket.recv(65536):
                came += more
        except ConnectionResetError:
            pass
        return came

    def answers(self) -> list[pb.Frame]:
        came, frames = self.rest(), []
        while came:
            length, slot = struct.unpack_from("<II", came)
            assert slot == 0
            frames.append(pb.Frame.FromString(came[8 : 8 + length]))
            came = came[8 + length :]
        return frames

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def assert_serves(listener: Endpoint) -> None:
    with endpoint("friend") as friend:
        assert friend.connect("listener", listener.identity.address).request(pb.Fetch()).result(DEADLINE)


# ---- strangers


@pytest.mark.parametrize("first", STRANGE.values(), ids=STRANGE.keys())
def test_a_stranger_gets_a_goodbye_and_the_listener_keeps_serving(listener: Endpoint, first: bytes) -> None:
    with Stranger(listener.identity.address) as stranger:
        (answer,) = stranger.say(first).answers()
    assert answer.goodbye.reason == pb.REASON_BAD_FRAME
    assert_serves(listener)


@pytest.mark.parametrize("second", AFTER_A_HELLO.values(), ids=AFTER_A_HELLO.keys())
def test_a_peer_that_sends_what_it_may_not_is_lost_with_the_reason(listener: Endpoint, second: bytes) -> None:
    with Stranger(listener.identity.address) as stranger:
        stranger.say(hello("mad"), second)
        stranger.socket.shutdown(socket.SHUT_WR)
        answers = stranger.answers()
    assert answers[0].HasField("welcome")
    assert answers[-1].goodbye.reason in (pb.REASON_BAD_FRAME, pb.REASON_RESOURCE_EXHAUSTED)
    peer, reason = listener.receiver.loss()
    assert peer.name == "mad"
    assert "cannot be served" in reason


@pytest.mark.parametrize("length", [2**20 + 1, 2**31, 2**32 - 1])
def test_a_huge_length_is_refused_before_memory_is_set_aside(listener: Endpoint, length: int) -> None:
    with Stranger(listener.identity.address) as stranger:
        stranger.socket.sendall(struct.pack("<II", length, 0) + b"begun")
        stranger.socket.shutdown(socket.SHUT_WR)
        (answer,) = stranger.answers()
    assert answer.goodbye.reason == pb.REASON_BAD_FRAME
    assert "1048576 are allowed" in answer.goodbye.message
    assert_serves(listener)


def test_a_slot_where_there_is_no_shared_memory_is_refused(listener: Endpoint) -> None:
    first = hello()
    with Stranger(listener.identity.address) as stranger:
        stranger.socket.sendall(struct.pack("<II", len(first), 1) + first)
        stranger.socket.shutdown(socket.SHUT_WR)
        (answer,) = stranger.answers()
    assert "slot 1 of shared memory" in answer.goodbye.message


def test_another_protocol_altogether_is_ended(listener: Endpoint) -> None:
    with Stranger(listener.identity.address) as stranger:
        stranger.socket.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        stranger.socket.shutdown(socket.SHUT_WR)
        assert stranger.answers()[0].goodbye.reason == pb.REASON_BAD_FRAME
    assert_serves(listener)


@pytest.mark.parametrize("drip", [b"", b"\x08", struct.pack("<II", 100, 0) + b"begun"], ids=["mute", "header", "frame"])
def test_who_takes_too_long_to_say_hello_is_ended(address: str, drip: bytes) -> None:
    with endpoint("x") as here:
        with Stranger(here.listen(address)) as stranger:
            stranger.socket.sendall(drip)
            wait_until(lambda: here._plugs)
            end_stale_handshakes(here)
            assert stranger.rest() == b""
        assert_serves_as(here, "x")


def assert_serves_as(listener: Endpoint, name: str) -> None:
    with endpoint("friend") as friend:
        assert friend.connect(name, listener.identity.address).request(pb.Fetch()).result(DEADLINE)


def test_a_connection_that_ends_in_the_middle_of_a_frame_is_forgotten(listener: Endpoint) -> None:
    for begun in (b"\1\0", struct.pack("<II", 500_000, 0) + bytes(100_000)):
        with Stranger(listener.identity.address) as stranger:
            stranger.socket.sendall(begun)
            stranger.socket.shutdown(socket.SHUT_WR)
            assert stranger.rest() == b""
    assert_serves(listener)


def test_more_connections_than_reasonable_are_ended_at_once(address: str) -> None:
    with endpoint("narrow", max_links=1, silence=DEADLINE) as narrow:
        narrow.listen(address)
        strangers = [Stranger(narrow.identity.address) for _ in range(3)]
        fourth = socket.socket(strangers[0].socket.family)
        fourth.settimeout(DEADLINE)
        fourth.connect(strangers[0].socket.getpeername())
        assert fourth.recv(1) == b""
        for stranger in [*strangers, fourth]:
            getattr(stranger, "socket", stranger).close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_process_of_another_user_is_refused_at_a_unix_socket() -> None:
    with endpoint("x") as here:
        here.listen(f"socket:@{ABSTRACT}")
        code = (
            "import os, socket; os.setuid(65534); s = socket.socket(socket.AF_UNIX); "
            rf"s.connect('\0{ABSTRACT}'); print(s.recv(100))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE)
        assert done.stdout == "b''\n", done.stderr


# ---- addresses


def test_a_socket_file_that_a_killed_process_left_is_taken_over_and_removed_at_the_end() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/s"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
        with endpoint("x") as here:
            here.listen(f"socket:{path}")
            assert_serves_as(here, "x")
        assert os.listdir(folder) == []


def test_an_abstract_name_is_no_file() -> None:
    with endpoint("x") as here:
        here.listen(f"socket:@{ABSTRACT}")
        assert_serves_as(here, "x")
        with endpoint("y") as late, pytest.raises(LinkError, match=f"cannot listen at socket:@{ABSTRACT}"):
            late.listen(f"socket:@{ABSTRACT}")
    with endpoint("y") as again:
        again.listen(f"socket:@{ABSTRACT}")


def test_a_path_too_long_for_a_socket_is_refused() -> None:
    with endpoint("x") as here, pytest.raises(ConfigError, match="103 bytes"):
        here.listen("socket:/" + "x" * 110)


def test_a_host_that_is_not_known_is_a_link_error() -> None:
    with endpoint("x", insecure=True) as here, pytest.raises(LinkError, match="is not known"):
        here.connect("y", "socket:no-such-host.invalid:5", timeout=DEADLINE)


def test_listening_beyond_this_machine_needs_tls_or_an_explicit_word() -> None:
    with endpoint("x") as guarded, pytest.raises(ConfigError, match="insecure"):
        guarded.listen("socket:0.0.0.0:0")
    with endpoint("y") as guarded, pytest.raises(ConfigError, match="insecure"):
        guarded.connect("z", "socket:192.0.2.1:7400")


def test_closing_does_not_wait_for_a_connection_that_does_not_come_about() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, contextlib.ExitStack() as stack:
        address = deaf.getsockname()
        for _ in range(2):  # fill the line of those who wait to be accepted
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        here = stack.enter_context(endpoint("x", connect_timeout=10 * DEADLINE))
        pool = stack.enter_context(ThreadPoolExecutor(1))
        attempt = pool.submit(here.connect, "y", f"socket:127.0.0.1:{address[1]}")
        while not (here._plugs or attempt.done()):
            threading.Event().wait(0.01)
        here.close()
        assert isinstance(attempt.exception(DEADLINE), LinkError)


# ---- TLS


def test_links_over_mutual_tls_work(pki: Path) -> None:
    with endpoint("b", tls=tls(pki, "server")) as b, endpoint("a", tls=tls(pki, "client")) as a:
        b.listen("socket:127.0.0.1:0")
        link = a.connect("b", b.identity.address)
        large = np.arange(30_000)
        futures = [link.request(pb.Fetch(), [large]) for _ in range(20)]
        for future in futures:
            np.testing.assert_array_equal(future.result(DEADLINE)[1][0], large)


@pytest.mark.parametrize(("name", "authority"), WITHOUT_CERTIFICATES.values(), ids=WITHOUT_CERTIFICATES.keys())
def test_without_the_right_certificates_there_is_no_link(pki: Path, name: str, authority: str) -> None:
    mine = tls(pki, name, authority) if name else TLS(authority=pki / f"{authority}.pem") if authority else None
    with endpoint("b", tls=tls(pki, "server"), silence=0.5) as b, endpoint("a", tls=mine) as a:
        b.listen("socket:127.0.0.1:0")
        with pytest.raises(LinkError, match="no link to b"):
            a.connect("b", b.identity.address, timeout=DEADLINE)
        assert b.receiver.links == []


def test_a_stranger_that_does_not_shake_hands_is_ended(pki: Path) -> None:
    with endpoint("b", tls=tls(pki, "server")) as b:
        b.listen("socket:127.0.0.1:0")
        with Stranger(b.identity.address) as mute:
            wait_until(lambda: b._plugs)
            end_stale_handshakes(b)
            assert mute.rest() == b""
        with endpoint("a", tls=tls(pki, "client")) as a:
            assert a.connect("b", b.identity.address).request(pb.Fetch()).result(DEADLINE)


def test_listening_with_tls_needs_a_certificate(pki: Path) -> None:
    mine = TLS(authority=pki / "authority.pem")
    with endpoint("b", tls=mine) as b, pytest.raises(ConfigError, match=r"needs tls\.certificate"):
        b.listen("socket:127.0.0.1:0")
