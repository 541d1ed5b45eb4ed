from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from distgrad.errors import ConfigError, LinkError
from distgrad.transport import TLS, Endpoint, Identity, TransportSettings
from distgrad.transport.grpc_lane import METHOD, GrpcLanes
from distgrad.transport.health import Health
from distgrad.wire import pb

from .recorder import DEADLINE, Recorder, end_stale_handshakes, wait_until
from .strangers import AFTER_A_HELLO, STRANGE, WITHOUT_CERTIFICATES, hello, tls


def endpoint(name: str, **changes: object) -> Endpoint:
    changes.setdefault("fast_lanes", ())
    return Endpoint(Identity.new(name, "worker"), TransportSettings.for_tests(**changes), Recorder())


@pytest.fixture
def listener() -> Iterator[Endpoint]:
    with endpoint("listener") as listener:
        listener.listen("127.0.0.1:0")
        yield listener


# ---- strangers


def talk(address: str, *messages: bytes) -> list[pb.Frame]:
    """Sends messages on a stream of its own; returns what comes back until the listener ends it."""
    ended = threading.Event()

    def say() -> Iterator[bytes]:
        yield from messages
        ended.wait(DEADLINE)

    with grpc.insecure_channel(address) as channel:
        try:
            return [pb.Frame.FromString(frame) for frame in channel.stream_stream(METHOD)(say(), timeout=DEADLINE)]
        finally:
            ended.set()


@pytest.mark.parametrize("first", STRANGE.values(), ids=STRANGE.keys())
def test_a_stranger_gets_a_goodbye_and_the_listener_keeps_serving(listener: Endpoint, first: bytes) -> None:
    (answer,) = talk(listener.identity.address, first)
    assert answer.goodbye.reason == pb.REASON_BAD_FRAME
    with endpoint("friend") as friend:
        link = friend.connect("listener", listener.identity.address)
        assert link.request(pb.Fetch()).result(DEADLINE)
    assert all(peer.name == "friend" for peer, _ in listener.receiver.losses)


@pytest.mark.parametrize("second", AFTER_A_HELLO.values(), ids=AFTER_A_HELLO.keys())
def test_a_peer_that_sends_what_it_may_not_is_lost_with_the_reason(listener: Endpoint, second: bytes) -> None:
    answers = talk(listener.identity.address, hello(), second)
    assert answers[0].HasField("welcome")
    assert answers[-1].goodbye.reason in (pb.REASON_BAD_FRAME, pb.REASON_RESOURCE_EXHAUSTED)
    peer, reason = listener.receiver.loss()
    assert peer.name == "friend"
    assert "cannot be served" in reason


def test_a_request_of_no_known_kind_is_answered_with_an_error(listener: Endpoint) -> None:
    goodbye = pb.Frame(goodbye=pb.Goodbye(message="enough")).SerializeToString()
    request = pb.Frame(sequence=1, request=pb.Request(id=4)).SerializeToString()
    identity = listener.identity.address
    replies = []
    done = threading.Event()

    def say() -> Iterator[bytes]:
        yield hello()
        yield request
        done.wait(DEADLINE)
        yield goodbye

    with grpc.insecure_channel(identity) as channel:
        for answer in channel.stream_stream(METHOD)(say(), timeout=DEADLINE):
            frame = pb.Frame.FromString(answer)
            if frame.HasField("reply"):
                replies.append(frame.reply)
                done.set()
    assert replies[0].id == 4
    assert replies[0].error.kind == "WireError"


def test_a_stream_that_says_nothing_is_ended(listener: Endpoint) -> None:
    with endpoint("x") as here:
        here.listen("127.0.0.1:0")
        ended = threading.Event()
        with grpc.insecure_channel(here.identity.address) as channel:
            stream = channel.stream_stream(METHOD)(iter(lambda: ended.wait(DEADLINE), True), timeout=DEADLINE)
            wait_until(lambda: here._plugs)
            end_stale_handshakes(here)
            code = stream.code()  # waits for the end
            ended.set()
        assert code is not grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_listener_that_does_not_answer_is_a_link_error_after_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute, endpoint("x") as here:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(LinkError, match=f"y at {address} did not answer within 0.2 s"):
            here.connect("y", address, timeout=0.2)


def test_a_frame_larger_than_allowed_is_refused_by_the_listener(listener: Endpoint) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        talk(listener.identity.address, bytes(2**21))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


# ---- addresses


def test_listening_beyond_this_machine_needs_tls_or_an_explicit_word() -> None:
    with endpoint("x") as guarded, pytest.raises(ConfigError, match="insecure"):
        guarded.listen("0.0.0.0:0")
    with endpoint("y") as guarded, pytest.raises(ConfigError, match="insecure"):
        guarded.connect("z", "192.0.2.1:7400")
    with endpoint("z", insecure=True) as open_to_all:
        assert open_to_all.listen("0.0.0.0:0").startswith("0.0.0.0:")


def test_a_busy_port_is_a_link_error_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, endpoint("x") as late:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(LinkError, match=f"cannot listen at {address}"):
            late.listen(address)


def test_a_socket_file_that_a_killed_process_left_is_taken_over_and_removed_at_the_end() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/s"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
        with endpoint("x") as here:
            here.listen(f"unix:{path}")
            with endpoint("y") as there:
                assert there.connect("x", f"unix:{path}").request(pb.Fetch()).result(DEADLINE)
        assert os.listdir(folder) == []


def test_a_path_too_long_for_a_socket_is_refused() -> None:
    with endpoint("x") as here, pytest.raises(ConfigError, match="103 bytes"):
        here.listen("unix:/" + "x" * 110)


def test_only_a_refusal_is_certainty_that_nobody_is_there() -> None:
    lanes = GrpcLanes(TransportSettings.for_tests(), Health())
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert not lanes.vacant(address)
    assert lanes.vacant(address)
    assert lanes.vacant("unix:/no/such/file")
    assert not lanes.vacant("no-such-host.invalid:5")
    lanes.close()


# ---- TLS


def test_links_over_mutual_tls_work(pki: Path) -> None:
    with endpoint("b", tls=tls(pki, "server")) as b, endpoint("a", tls=tls(pki, "client")) as a:
        b.listen("127.0.0.1:0")
        assert a.connect("b", b.identity.address).request(pb.Fetch()).result(DEADLINE)


@pytest.mark.parametrize(("name", "authority"), WITHOUT_CERTIFICATES.values(), ids=WITHOUT_CERTIFICATES.keys())
def test_without_the_right_certificates_there_is_no_link(pki: Path, name: str, authority: str) -> None:
    mine = tls(pki, name, authority) if name else TLS(authority=pki / f"{authority}.pem") if authority else None
    with endpoint("b", tls=tls(pki, "server")) as b, endpoint("a", tls=mine) as a:
        b.listen("127.0.0.1:0")
        with pytest.raises(LinkError, match="no link to b"):
            a.connect("b", b.identity.address, timeout=DEADLINE)
        assert b.receiver.links == []


def test_listening_with_tls_needs_a_certificate(pki: Path) -> None:
    mine = TLS(authority=pki / "authority.pem")
    with endpoint("b", tls=mine) as b, pytest.raises(ConfigError, match=r"needs tls\.certificate"):
        b.listen("127.0.0.1:0")


A_SERVER_THAT_ENDS_FIRST = """
import threading
from concurrent.futures import ThreadPoolExecutor

import distgrad.transport
import grpc

class Handlers(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.stream_stream_rpc_method_handler(lambda requests, context: requests)

def requests():
    yield b"one"
    threading.Event().wait()

server = grpc.server(ThreadPoolExecutor(2), [Handlers()])
port = server.add_insecure_port("127.0.0.1:0")
server.start()
answers = grpc.insecure_channel(f"127.0.0.1:{port}").stream_stream("/any/method")(requests())
assert next(answers) == b"one"
server.stop(None).wait()
try:
    next(answers)
except grpc.RpcError:
    print("ended", flush=True)
import os
os._exit(0)
"""


def test_grpc_says_nothing_when_a_server_ends_first() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    command = [sys.executable, "-c", A_SERVER_THAT_ENDS_FIRST]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("ended\n", "")
