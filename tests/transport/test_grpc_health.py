"""Health as probes see it: they speak the protocol by gRPC's own package, or byte by byte."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from distgrad.errors import ConfigError, LinkError, ResourceExhausted
from distgrad.transport import Endpoint, Identity, TransportSettings
from distgrad.transport.grpc_health import health_listener, is_serving
from distgrad.transport.health import MAX_WATCHERS, RUNS, SERVES, Health, Status

from .recorder import Recorder
from .strangers import tls

SECONDS = 5.0


@pytest.fixture
def listener() -> Iterator[Endpoint]:
    with Endpoint(Identity.new("w0", "worker"), TransportSettings.for_tests(), Recorder()) as listener:
        listener.listen("127.0.0.1:0")
        yield listener


def ask(address: str, request: bytes) -> bytes:
    """What grpc.health.v1.Health/Check answers, in bytes as they are."""
    with grpc.insecure_channel(address) as channel:
        answer: bytes = channel.unary_unary("/grpc.health.v1.Health/Check")(request, timeout=SECONDS)
    return answer


def test_a_probe_without_a_token_is_told_that_the_process_runs(listener: Endpoint) -> None:
    assert ask(listener.identity.address, b"") == b"\x08\x01"  # status: SERVING


def test_a_process_serves_its_cluster_when_it_says_so(listener: Endpoint) -> None:
    request = b"\n\x17distgrad.v1.LinkService"  # field 1, 23 bytes
    assert ask(listener.identity.address, request) == b"\x08\x02"  # NOT_SERVING
    listener.health.serves(True)
    assert ask(listener.identity.address, request) == b"\x08\x01"


def test_an_unknown_service_is_not_found(listener: Endpoint) -> None:
    with pytest.raises(LinkError, match="NOT_FOUND: there is no service 'else'"):
        is_serving(listener.identity.address, TransportSettings.for_tests(), "else", SECONDS)


def test_health_is_asked_for_over_tls_as_links_are(pki: Path) -> None:
    settings = TransportSettings.for_tests(tls=tls(pki, "server"))
    with Endpoint(Identity.new("w0", "worker"), settings, Recorder()) as listener:
        address = listener.listen("127.0.0.1:0")
        assert is_serving(address, settings, RUNS, SECONDS)
        assert not is_serving(address, settings, SERVES, SECONDS)
        with pytest.raises(LinkError, match="says nothing of its health"):
            is_serving(address, TransportSettings.for_tests(), RUNS, 1.0)


def test_another_machine_is_not_asked_in_the_clear_unless_told_to() -> None:
    with pytest.raises(ConfigError, match="would leave this machine unencrypted"):
        is_serving("192.0.2.1:7400", TransportSettings.for_tests(), RUNS, SECONDS)


def test_an_address_for_health_alone_tells_nothing_else() -> None:
    health = Health()
    with health_listener(health, "127.0.0.1:0") as address:
        assert ask(address, b"") == b"\x08\x01"
        with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as refused:
            list(channel.stream_stream("/distgrad.v1.LinkService/Open")(iter([b""]), timeout=SECONDS))
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
        with pytest.raises(LinkError, match=f"cannot tell of health at {address}"), health_listener(health, address):
            pass
    with pytest.raises(ConfigError, match="'foo' is no address"), health_listener(health, "foo"):
        pass


def next_status(watching: Iterator[HealthCheckResponse]) -> str:
    return str(HealthCheckResponse.ServingStatus.Name(next(watching).status))


def test_watchers_are_told_of_every_change(listener: Endpoint) -> None:
    with grpc.insecure_channel(listener.identity.address) as channel:
        stub = HealthStub(channel)
        runs = stub.Watch(HealthCheckRequest(service=RUNS), timeout=SECONDS)
        serves = stub.Watch(HealthCheckRequest(service=SERVES), timeout=SECONDS)
        assert [next_status(runs), next_status(serves)] == ["SERVING", "NOT_SERVING"]
        listener.health.serves(True)
        assert next_status(serves) == "SERVING"
        listener.health.serves(True)  # which is no change
        listener.health.serves(False)
        assert next_status(serves) == "NOT_SERVING"


def test_watchers_of_a_process_that_ends_are_told_and_keep_it_from_nothing(listener: Endpoint) -> None:
    listener.health.serves(True)
    with grpc.insecure_channel(listener.identity.address) as channel:
        serves = HealthStub(channel).Watch(HealthCheckRequest(service=SERVES), timeout=SECONDS)
        assert next_status(serves) == "SERVING"
        listener.close()
        assert [HealthCheckResponse.ServingStatus.Name(last.status) for last in serves] == ["NOT_SERVING"]
        assert serves.code() is grpc.StatusCode.OK


def test_a_watched_service_need_not_exist() -> None:
    with health_listener(Health(), "127.0.0.1:0") as address, grpc.insecure_channel(address) as channel:
        other = HealthStub(channel).Watch(HealthCheckRequest(service="else"), timeout=SECONDS)
        assert next_status(other) == "SERVICE_UNKNOWN"


@pytest.mark.parametrize("leave", [lambda call: call.cancel(), lambda call: None], ids=["cancelled", "left open"])
def test_watchers_do_not_keep_a_listener_open(leave: Callable[[grpc.Call], None]) -> None:
    health = Health()
    with health_listener(health, "127.0.0.1:0") as address, grpc.insecure_channel(address) as channel:
        watching = HealthStub(channel).Watch(HealthCheckRequest(), timeout=SECONDS)
        assert next_status(watching) == "SERVING"
        leave(watching)


def test_so_many_may_watch_and_no_more_until_one_leaves() -> None:
    health = Health()
    told: list[list[Status | None]] = [[] for _ in range(MAX_WATCHERS + 1)]
    forget = [health.watch(SERVES, of_one.append) for of_one in told[:-1]]
    with pytest.raises(ResourceExhausted, match=f"{MAX_WATCHERS} watch the health"):
        health.watch(SERVES, told[-1].append)
    with health_listener(health, "127.0.0.1:0") as address, grpc.insecure_channel(address) as channel:
        refused = HealthStub(channel).Watch(HealthCheckRequest(), timeout=SECONDS)
        with pytest.raises(grpc.RpcError, match="no more are let in"):
            next(refused)
    forget[0]()
    health.watch(SERVES, told[-1].append)
    health.serves(True)
    health.close()
    assert told[0] == [Status.NOT_SERVING]
    assert told[1:] == [[Status.NOT_SERVING, Status.SERVING, Status.NOT_SERVING, None]] * MAX_WATCHERS


def test_probes_side_by_side_are_all_answered() -> None:
    answers: list[bytes] = []
    with health_listener(Health(), "127.0.0.1:0") as address:
        threads = [threading.Thread(target=lambda: answers.append(ask(address, b""))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [b"\x08\x01"] * 8
