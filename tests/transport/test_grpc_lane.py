from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from distgrad.errors import ConfigError, LinkError
from distgrad.transport import TLS, Endpoint, Identity, TransportSettings
from distgrad.transport.grpc_lane import METHOD, GrpcLanes
from distgrad.wire import pb

from .recorder import DEADLINE, Recorder


def endpoint(name: str, **changes: object) -> Endpoint:
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


STRANGE = {
    "a call": pb.Frame(sequence=1, call=pb.Call()).SerializeToString(),
    "a welcome": pb.Frame(welcome=pb.Welcome()).SerializeToString(),
    "an empty frame": b"",
    "garbage": b"\xff\xfe\xfd" * 100,
    "a hello without a name": pb.Frame(
        hello=pb.Hello(protocol=1, cluster="test", token="test-token", identity=pb.Identity(incarnation=1, role=2))
    ).SerializeToString(),
    "a hello without an incarnation": pb.Frame(
        hello=pb.Hello(protocol=1, cluster="test", token="test-token", identity=pb.Identity(name="x", role=2))
    ).SerializeToString(),
}


@pytest.mark.parametrize("first", STRANGE.values(), ids=STRANGE.keys())
def test_a_stranger_gets_a_goodbye_and_the_listener_keeps_serving(listener: Endpoint, first: bytes) -> None:
    (answer,) = talk(listener.identity.address, first)
    assert answer.goodbye.reason == pb.REASON_BAD_FRAME
    with endpoint("friend") as friend:
        link = friend.connect("listener", listener.identity.address)
        assert link.request(pb.Fetch()).result(DEADLINE)
    assert all(peer.name == "friend" for peer, _ in listener.receiver.losses)


def hello(listener: Endpoint, name: str = "friend") -> bytes:
    identity = pb.Identity(name=name, incarnation=1, role=pb.ROLE_WORKER)
    return pb.Frame(
        hello=pb.Hello(protocol=1, cluster="test", token="test-token", identity=identity)
    ).SerializeToString()


AFTER = {
    "garbage": b"\xff\xfe\xfd",
    "a gap": pb.Frame(sequence=5, call=pb.Call()).SerializeToString(),
    "a call without a number": pb.Frame(call=pb.Call()).SerializeToString(),
    "a second hello": pb.Frame(hello=pb.Hello()).SerializeToString(),
    "a reply to nothing": pb.Frame(sequence=1, reply=pb.Reply(id=3)).SerializeToString(),
    "an acknowledgement of nothing": pb.Frame(acknowledged=9).SerializeToString(),
    "a huge transfer": pb.Frame(sequence=1, chunk=pb.Chunk(transfer=1, total=2**50), payload=b"x").SerializeToString(),
    "an array outside": pb.Frame(
        sequence=1, call=pb.Call(), arrays=[pb.Array(dtype="int8", shape=[9], size=9)]
    ).SerializeToString(),
}


@pytest.mark.parametrize("second", AFTER.values(), ids=AFTER.keys())
def test_a_peer_that_sends_what_it_may_not_is_lost_with_the_reason(listener: Endpoint, second: bytes) -> None:
    answers = talk(listener.identity.address, hello(listener), second)
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
        yield hello(listener)
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
    with endpoint("quick", silence=0.3) as quick:
        quick.listen("127.0.0.1:0")
        ended = threading.Event()
        with grpc.insecure_channel(quick.identity.address) as channel:
            stream = channel.stream_stream(METHOD)(iter(lambda: ended.wait(DEADLINE), True), timeout=DEADLINE)
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
    lanes = GrpcLanes(TransportSettings.for_tests())
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert not lanes.vacant(address)
    assert lanes.vacant(address)
    assert lanes.vacant("unix:/no/such/file")
    assert not lanes.vacant("no-such-host.invalid:5")
    lanes.close()


# ---- TLS


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """authority.pem, and for "server", "client" and "stranger" (of another authority) a .pem and a .key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("pki")

    def run(command: str) -> None:
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)

    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    for authority in ("authority", "other"):
        run(f"req -x509 {key} -keyout {authority}.key -out {authority}.pem -days 2 -subj /CN={authority}")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for name, authority in (("server", "authority"), ("client", "authority"), ("stranger", "other")):
        run(f"req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}")
        issue = f"x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -CAcreateserial"
        run(f"{issue} -out {name}.pem -days 2 -extfile names")
    return folder


def tls(folder: Path, name: str, authority: str = "authority") -> TLS:
    return TLS(certificate=folder / f"{name}.pem", key=folder / f"{name}.key", authority=folder / f"{authority}.pem")


def test_links_over_mutual_tls_work(pki: Path) -> None:
    with endpoint("b", tls=tls(pki, "server")) as b, endpoint("a", tls=tls(pki, "client")) as a:
        b.listen("127.0.0.1:0")
        assert a.connect("b", b.identity.address).request(pb.Fetch()).result(DEADLINE)


REFUSED = {
    "a certificate of another authority": ("stranger", "authority"),
    "a listener of another authority": ("client", "other"),
    "no certificate": ("", "authority"),
    "no TLS": ("", ""),
}


@pytest.mark.parametrize(("name", "authority"), REFUSED.values(), ids=REFUSED.keys())
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
