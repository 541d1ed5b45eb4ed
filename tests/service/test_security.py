"""What a stranger can do to a server: nothing but be refused, and be written down."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import queue
import re
import resource
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from distgrad.service import access, desk, local
from distgrad.service.settings import ServiceSettings
from distgrad.transport.blocks import Block
from distgrad.transport.local_messages import INLINE, LENT, packed
from distgrad.wire import pb
from distgrad.wire.exchanges import encode_exchange
from tests.processes import eventually
from tests.service.raw import (
    DEADLINE,
    SERVICE,
    Asking,
    Failed,
    Local,
    Running,
    Streaming,
    Unary,
    put_tokens,
    question,
    serving,
)

BOB = """
[bob]
role = "client"
token = "b-token"
"""
TOKENS = """
[alice]
role = "client"
token = "a-token"
[root]
role = "admin"
token = "r-token"
[machine]
role = "worker"
token = "w-token"
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that wants tokens, and looks after idle lines not before the tests are over."""
    path = tmp_path_factory.mktemp("tokens") / "tokens.toml"
    path.write_text(TOKENS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(desk, "SWEEP", 3600.0)
        with serving(["sine", "spins"], ServiceSettings(workers=1, tokens=path)) as running:
            yield running


@pytest.fixture
def tokens(guarded: Running, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its file, where changes take effect at once."""
    monkeypatch.setattr(access, "RELOAD", 0.0)
    path = guarded.server.desk.settings.tokens
    assert path is not None
    return path


def refusals(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The audit."""
    return [json.loads(record.getMessage()) for record in caplog.records if record.name == "distgrad.audit"]


# ---- tokens and roles ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "method", "code"),
    [
        ("", "ListFunctions", "UNAUTHENTICATED"),
        ("wrong", "ListFunctions", "UNAUTHENTICATED"),
        ("", "GetLocalSocket", "UNAUTHENTICATED"),
        ("w-token", "ListFunctions", "PERMISSION_DENIED"),
        ("a-token", "GetStatistics", "PERMISSION_DENIED"),
    ],
)
def test_a_call_that_is_not_allowed_is_refused_and_written_down(
    guarded: Running, caplog: pytest.LogCaptureFixture, token: str, method: str, code: str
) -> None:
    client = Unary(guarded.address, token)
    with caplog.at_level(logging.WARNING), pytest.raises(Failed) as raised:
        client.call(method, b"")
    assert raised.value.code == code
    (line,) = refusals(caplog)
    assert (line["event"], line["code"], line["method"]) == ("refused", code, f"{SERVICE}/{method}")
    assert line["peer"].startswith("ip")
    if token:
        assert token not in json.dumps(line)
    client.close()


def test_streams_want_a_token_too(guarded: Running) -> None:
    stream = Streaming(guarded.address)
    stream.send("evaluate", function="sine", arguments=[np.ones(2)])
    with pytest.raises(grpc.RpcError, match="a token is needed"):
        stream.next()
    stream.close()


def test_the_right_tokens_work_and_health_needs_none(guarded: Running) -> None:
    for token, method in (("a-token", "ListFunctions"), ("r-token", "GetStatistics")):
        client = Unary(guarded.address, token)
        assert client.call(method, b"")
        client.close()
    anyone = Unary(guarded.address)
    check = anyone.channel.unary_unary("/grpc.health.v1.Health/Check")
    assert pb.HealthCheckResponse.FromString(check(b"", timeout=DEADLINE)).status == 1
    anyone.close()


@pytest.mark.parametrize("line", [Asking, Local])
@pytest.mark.parametrize(
    ("later", "code"),
    [("", "UNAUTHENTICATED"), (BOB.replace("client", "worker"), "PERMISSION_DENIED")],
    ids=["taken away", "of a worker"],
)
def test_a_line_that_is_open_ends_with_its_token(
    guarded: Running,
    tokens: Path,
    caplog: pytest.LogCaptureFixture,
    line: type[Asking | Local],
    later: str,
    code: str,
) -> None:
    put_tokens(tokens, TOKENS + BOB)
    bob = line(guarded.address, "b-token")
    session = bob.ask("linearize", function="sine", arguments=[np.ones(2)])["session"]
    put_tokens(tokens, TOKENS + later)
    asked: list[tuple[str, dict[str, Any]]] = [
        ("evaluate", {"function": "sine", "arguments": [np.ones(2)]}),
        ("evaluate", {"function": "sine", "arguments": [np.ones(2**12)]}),  # beside the message, on the local socket
        ("evaluate", {"session": session}),
        ("close_session", {"session": session}),
    ]
    with caplog.at_level(logging.WARNING):
        for body, fields in asked:
            with pytest.raises(Failed) as raised:
                bob.ask(body, **fields)
            assert raised.value.code == code
    assert [(refused["client"], refused["code"]) for refused in refusals(caplog)] == [("bob", code)] * len(asked)
    put_tokens(tokens, TOKENS + BOB)
    bob.ask("close_session", session=session)
    bob.close()


@pytest.mark.parametrize("line", [Asking, Local])
def test_what_a_token_that_is_taken_away_has_open_is_ended_and_makes_room_for_its_successor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, line: type[Asking | Local]
) -> None:
    monkeypatch.setattr(access, "RELOAD", 0.0)
    monkeypatch.setattr(desk, "SWEEP", 0.05)
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(TOKENS + BOB)
    settings = ServiceSettings(workers=1, tokens=tokens, max_streams_per_client=1, max_sessions_per_client=1)
    with serving(["sine"], settings) as running, caplog.at_level(logging.WARNING):
        bob = line(running.address, "b-token")
        bob.ask("linearize", function="sine", arguments=[np.ones(2)])
        put_tokens(tokens, TOKENS + BOB.replace("b-token", "new-token"))
        assert eventually(lambda: not running.server.desk.lines)
        assert eventually(lambda: running.counts()["sessions"] == 0)
        successor = line(running.address, "new-token")
        assert successor.ask("linearize", function="sine", arguments=[np.ones(2)])["session"]
        assert [(told["client"], told["code"]) for told in refusals(caplog)] == [("bob", "UNAUTHENTICATED")]
        successor.close()
        bob.close()


def test_a_request_under_way_is_answered_when_the_token_is_taken_away(guarded: Running, tokens: Path) -> None:
    put_tokens(tokens, TOKENS + BOB)
    bob = Local(guarded.address, "b-token")
    before = guarded.counts()["requests"]
    under_way = bob.send("evaluate", function="spins", arguments=[2.0, 0.2])
    assert eventually(lambda: guarded.counts()["requests"] == before + 1)
    put_tokens(tokens, TOKENS)
    refused = bob.send("evaluate", function="sine", arguments=[np.ones(2)])
    answers = dict([bob.receive(), bob.receive()])
    assert isinstance(answers[refused], Failed)
    assert answers[under_way] == {"value": 2.0}
    bob.close()


def test_a_stream_refused_for_its_role_is_written_down_with_its_client(
    guarded: Running, caplog: pytest.LogCaptureFixture
) -> None:
    stream = Streaming(guarded.address, "w-token")
    with caplog.at_level(logging.WARNING), pytest.raises(grpc.RpcError, match="has the role worker"):
        stream.next()
    assert [line["client"] for line in refusals(caplog)] == ["machine"]
    stream.close()


def test_a_session_is_its_owners(guarded: Running) -> None:
    alice, root = Unary(guarded.address, "a-token"), Unary(guarded.address, "r-token")
    opened = alice.ask("linearize", function="sine", arguments=[np.ones(2)])
    with pytest.raises(Failed, match="no such session"):
        root.ask("evaluate", session=opened["session"])
    alice.ask("close_session", session=opened["session"])
    alice.close()
    root.close()


# ---- sizes and time --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    settings = ServiceSettings(
        workers=1, max_request_bytes=2**20, max_message_bytes=2**17, max_bytes_per_client=2**17, grace=0.3
    )
    with serving(["sine", "spins"], settings) as running:
        yield running


def still_serves(running: Running) -> bool:
    client = Unary(running.address)
    try:
        return bool(client.ask("evaluate", function="sine", arguments=[np.zeros(2)])["value"].sum() == 0)
    finally:
        client.close()


def test_a_message_larger_than_allowed_is_refused(running: Running) -> None:
    client = Unary(running.address)
    with pytest.raises(Failed) as raised:
        client.ask("evaluate", function="sine", arguments=[np.zeros(2**15)])
    assert raised.value.code == "RESOURCE_EXHAUSTED"
    client.close()
    assert still_serves(running)


def test_a_small_message_that_unpacks_to_a_large_one_is_refused(running: Running) -> None:
    options = [("grpc.default_compression_algorithm", grpc.Compression.Gzip.value)]
    client = Unary(running.address)
    client.channel = grpc.insecure_channel(running.address, options)
    with pytest.raises(Failed) as raised:
        client.ask("evaluate", function="sine", arguments=[np.zeros(2**22)])
    assert raised.value.code == "RESOURCE_EXHAUSTED"
    client.close()
    assert still_serves(running)


def test_chunks_that_claim_a_huge_array_are_refused_before_any_memory_is_set_aside(running: Running) -> None:
    for total in (2**21, 2**50, 2**63):
        stream = Streaming(running.address)
        chunk = pb.ArrayChunk(chunk=pb.Chunk(transfer=1, total=total))
        stream.put(b"".join(encode_exchange(pb.StreamRequest(), "chunk", chunk, [b"x" * 8], 8)))
        with pytest.raises(grpc.RpcError) as raised:
            stream.next()
        assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        stream.close()
    assert still_serves(running)


def test_arrays_of_one_client_are_bounded_together(running: Running) -> None:
    client = Local(running.address)
    client.send("evaluate", function="spins", arguments=[0.0, 3600.0])
    large = [client.send("evaluate", function="sine", arguments=[np.zeros(2**13)]) for _ in range(3)]
    number, failed = client.receive()
    assert isinstance(failed, Failed)
    assert (number, failed.code) == (large[1], "RESOURCE_EXHAUSTED")
    assert failed.failure.retry_after > 0
    client.close()
    assert eventually(lambda: running.counts()["running"] == 0)


def test_streams_of_one_client_are_counted(guarded: Running) -> None:
    channel = grpc.insecure_channel(guarded.address)
    open_stream = channel.stream_stream(f"/{SERVICE}/Stream")
    never = threading.Event()

    def silent() -> Iterator[bytes]:
        never.wait(DEADLINE)
        yield from ()

    metadata = [("authorization", "Bearer a-token")]
    streams = [open_stream(silent(), metadata=metadata, timeout=DEADLINE) for _ in range(17)]
    ended: queue.SimpleQueue[grpc.StatusCode] = queue.SimpleQueue()
    for stream in streams:
        stream.add_done_callback(lambda call: ended.put(call.code()))
    assert ended.get(timeout=DEADLINE) == grpc.StatusCode.RESOURCE_EXHAUSTED
    never.set()
    for stream in streams:
        stream.cancel()
    channel.close()


@pytest.mark.parametrize(
    "content", [b"", b"PRI * HTTP/2.0", b"\x00" * 100, b"\xff" * 100_000, struct.pack("<II", 3, 9) * 50]
)
def test_nonsense_at_the_port_closes_the_connection_alone(running: Running, content: bytes) -> None:
    host, _, port = running.address.rpartition(":")
    with socket.create_connection((host, int(port)), DEADLINE) as plain:
        plain.sendall(content)
        assert still_serves(running)


def local_connection(running: Running) -> Local:
    return Local(running.address)


def test_the_local_socket_wants_a_ticket_and_takes_it_once(
    running: Running, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = running.server.desk.pool._listener.name
    for shown in (b"", b"x" * local.TICKET_BYTES, b"short"):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.settimeout(DEADLINE)
            stranger.connect(b"\0" + name.encode())
            stranger.sendall(shown)
            stranger.shutdown(socket.SHUT_WR)
            assert stranger.recv(1) == b""
    client = local_connection(running)
    assert client.ask("evaluate", function="sine", arguments=[np.zeros(2)])["value"].sum() == 0
    client.close()
    assert still_serves(running)


def test_who_says_nothing_at_the_local_socket_is_not_kept(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "PATIENCE", 0.1)
    name = running.server.desk.pool._listener.name
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.settimeout(DEADLINE)
        stranger.connect(b"\0" + name.encode())
        assert stranger.recv(1) == b""


def lent(running: Running, descriptor: int, size: int) -> bytes:
    """What the server says to a request whose payload is in such memory."""
    client = local_connection(running)
    message, _, _ = question("evaluate", {"function": "sine", "arguments": [np.zeros(size // 8)]})
    encoded = encode_exchange(pb.StreamRequest(id=1), "evaluate", message, [], size, beside=True)
    socket.send_fds(client.socket, [packed(encoded, LENT)], [descriptor])
    said: bytes = client.socket.recv(1)
    client.close()
    return said


def sealed(size: int, seals: int) -> int:
    """Memory of a stranger's."""
    descriptor = os.memfd_create("stranger", os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


def test_memory_that_has_grown_since_it_was_lent_is_used_whole(running: Running) -> None:
    growing = sealed(2**12, fcntl.F_SEAL_SHRINK)
    before = running.processes()
    for size in (2**12, 2**16):
        os.ftruncate(growing, size)
        for _ in before:
            assert lent(running, growing, size) != b""
    os.close(growing)
    assert running.processes() == before


def test_memory_that_could_be_cut_short_or_is_too_small_is_refused(running: Running, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(2**17))
    with open(tmp_path / "file", "r+b") as file:
        assert lent(running, file.fileno(), 2**16) == b""
    unsealed = os.memfd_create("stranger")
    os.ftruncate(unsealed, 2**17)
    assert lent(running, unsealed, 2**16) == b""
    os.close(unsealed)
    for seals in (fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE, fcntl.F_SEAL_SHRINK):
        unwritable = sealed(2**17, seals)
        reading = os.open(f"/proc/self/fd/{unwritable}", os.O_RDONLY)
        assert lent(running, unwritable if seals & fcntl.F_SEAL_WRITE else reading, 2**16) == b""
        os.close(reading)
        os.close(unwritable)
    block = Block(2**12)
    assert lent(running, block.descriptor, 2**16) == b""
    block.close()
    reading, writing = os.pipe()
    assert lent(running, reading, 2**16) == b""
    os.close(reading)
    os.close(writing)
    assert still_serves(running)


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<II", 2**31, 0),
        struct.pack("<II", 10, LENT) + b"x" * 10,
        packed([b"\xff" * 30], INLINE),
        packed(encode_exchange(pb.StreamRequest(id=0), "close_session", pb.CloseSessionRequest())),
        packed(encode_exchange(pb.StreamRequest(id=1), "chunk", pb.ArrayChunk())),
    ],
)
def test_nonsense_on_the_local_socket_ends_that_connection_alone(running: Running, content: bytes) -> None:
    client = local_connection(running)
    client.socket.sendall(content)
    assert client.socket.recv(1) == b""
    client.close()
    assert still_serves(running)


def test_a_message_that_comes_byte_by_byte_keeps_nobody_waiting(running: Running) -> None:
    slow = local_connection(running)
    message, pieces, size = question("evaluate", {"function": "sine", "arguments": [np.zeros(3)]})
    encoded = packed(encode_exchange(pb.StreamRequest(id=1), "evaluate", message, pieces, size))
    for byte in encoded[:-1]:
        slow.socket.sendall(bytes([byte]))
    assert still_serves(running)
    slow.socket.sendall(encoded[-1:])
    assert slow.receive()[0] == 1
    slow.close()


@pytest.mark.slow
def test_ten_thousand_idle_connections_do_not_keep_others_out(running: Running) -> None:
    count = 10_000
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < 2 * count + 1000:
        count = (before[1] - 1000) // 2
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    host, _, port = running.address.rpartition(":")
    idle: list[socket.socket] = []
    try:
        for _ in range(count):
            idle.append(socket.create_connection((host, int(port)), DEADLINE))
        assert still_serves(running)
    finally:
        for connected in idle:
            connected.close()
    assert eventually(lambda: still_serves(running))
    assert count > 1000


# ---- the sources -----------------------------------------------------------------------------------------------------


def test_nothing_in_the_sources_could_run_what_comes_over_a_network() -> None:
    root = Path(__file__).parents[2]
    # Calls of the built-in functions, not methods called so (`Module.eval`).
    forbidden = re.compile(
        r"\bimport (pickle|marshal|shelve|dill|cloudpickle)\b|(?<![\w.])(?<!def )(eval|exec)\(|yaml\.load"
    )
    found = [
        f"{path.relative_to(root)}:{number}: {line.strip()}"
        for path in sorted([*root.glob("distgrad/**/*.py"), *root.glob("workers/**/*.py")])
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if forbidden.search(line)
    ]
    assert found == []
