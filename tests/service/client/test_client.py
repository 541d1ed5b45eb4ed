"""Connections, retries, deadlines, failures."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from distgrad.errors import (
    Cancelled,
    ConfigError,
    DistgradError,
    GradientError,
    LinkError,
    NotServed,
    PermissionDenied,
    RemoteError,
    RequestError,
    ResourceExhausted,
    SessionLost,
    Timeout,
    WireError,
)
from distgrad.service.client import Client, client
from distgrad.service.client.connect import Client as Connected
from distgrad.service.client.retries import Attempts, Retries
from distgrad.transport.settings import TransportSettings
from distgrad.wire import pb
from tests.processes import blocks, eventually

from .conftest import FUNCTIONS
from .server import Server

X = np.array([1.2, 0.7, 0.3])


def test_a_client_is_a_mapping_of_functions_by_name(service: Client) -> None:
    assert set(service) == set(FUNCTIONS)
    assert len(service) == len(FUNCTIONS)
    assert "sin" in service
    assert "cos" not in service
    assert service.summaries()["sin"] == "sin."


def test_on_one_machine_the_line_is_local_and_elsewhere_a_stream(server: Server) -> None:
    for local in (True, False):
        with client(server.address, local=local, timeout=20) as service:
            service["sin"](X)
    assert server.lines == ["local", "grpc"]


def test_a_server_without_a_local_socket_is_reached_by_grpc() -> None:
    with Server(FUNCTIONS, local=False) as server, client(server.address, timeout=20) as service:
        assert np.array_equal(service["sin"](X), np.sin(X))
        assert server.lines == ["grpc"]


def test_threads_share_one_line(service: Client, server: Server) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda k: service["sin"](X * k), range(64)))
    assert all(np.array_equal(y, np.sin(X * k)) for k, y in enumerate(found))
    assert len(server.lines) == 1


def test_a_token_is_sent_along_and_a_wrong_one_refused() -> None:
    with Server(FUNCTIONS, token="secret") as server:
        for local in (True, False):
            with client(server.address, token="secret", local=local, timeout=20) as service:
                assert np.array_equal(service["sin"](X), np.sin(X))
            with client(server.address, token="guess", local=local, timeout=20) as service:
                with pytest.raises(PermissionDenied, match="that token is not known"):
                    service["sin"](X)
                with pytest.raises(PermissionDenied):
                    list(service)


def test_another_machine_is_not_reached_in_the_clear_by_accident() -> None:
    with pytest.raises(ConfigError, match="set tls, or insecure=True"):
        client("example.org:7500")


# ---- failures --------------------------------------------------------------------------------------------------------

FAILURES = {
    "INVALID_ARGUMENT": (pb.Failure(code=3, message="no", violations=[pb.Violation(field="x")]), RequestError),
    "DEADLINE_EXCEEDED": (pb.Failure(code=4, message="no"), Timeout),
    "CANCELLED": (pb.Failure(code=1, message="no"), Cancelled),
    "NOT_FOUND": (pb.Failure(code=5, message="no"), NotServed),
    "PERMISSION_DENIED": (pb.Failure(code=7, message="no"), PermissionDenied),
    "RESOURCE_EXHAUSTED": (pb.Failure(code=8, message="no"), ResourceExhausted),
    "FAILED_PRECONDITION": (pb.Failure(code=9, message="no"), GradientError),
    "ABORTED": (pb.Failure(code=10, message="no"), SessionLost),
    "OUT_OF_RANGE": (pb.Failure(code=11, message="no"), WireError),
}


@pytest.mark.parametrize("status", FAILURES)
def test_each_status_is_an_exception_of_its_own(service: Client, server: Server, status: str) -> None:
    failure, kind = FAILURES[status]
    server.failures.append(failure)
    with pytest.raises(kind, match="no") as caught:
        service["sin"](X)
    assert type(caught.value) is kind
    assert len(server.received) == 1


def test_what_did_not_fit_is_told_in_detail(service: Client, server: Server) -> None:
    violation = pb.Violation(field='arguments["x"]', expected="float64[n]", got="int64[3]")
    server.failures.append(pb.Failure(code=3, message="it does not fit", violations=[violation]))
    with pytest.raises(RequestError) as caught:
        service["sin"](X)
    assert caught.value.violations == (('arguments["x"]', "float64[n]", "int64[3]"),)


def test_an_exception_of_the_function_arrives_with_its_type_text_and_line(service: Client) -> None:
    with pytest.raises(RemoteError, match=r"broken on 127.* raised ValueError: cannot use \(3,\)") as caught:
        service["broken"](X)
    assert caught.value.original == "ValueError"
    assert 'File "f.py", line 3' in caught.value.traceback


def test_an_unknown_function_is_said_to_be_unknown(service: Client) -> None:
    with pytest.raises(NotServed, match="no function cos"):
        service["cos"](X)
    with pytest.raises(NotServed, match="no function cos"):
        service["cos"].grad(X)


# ---- retries ---------------------------------------------------------------------------------------------------------


def quick(server: Server, local: bool, attempts: int = 4) -> Connected:
    retries = Retries(attempts=attempts, patience=0, first=1e-3, longest=1e-2)
    return Connected(server.address, TransportSettings(), local=local, retries=retries, timeout=20)


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize(
    "failure", [pb.Failure(code=14, message="it ends"), pb.Failure(code=8, message="full", retry_after=0.002)]
)
def test_what_failed_in_passing_is_sent_again(server: Server, local: bool, failure: pb.Failure) -> None:
    with quick(server, local) as service:
        server.failures.extend([failure] * 3)
        assert np.array_equal(service["sin"](X), np.sin(X))
        assert len(server.received) == 4
        server.failures.extend([failure] * 4)
        with pytest.raises(DistgradError, match=failure.message):
            service["sin"](X)
        assert len(server.received) == 8


def test_a_retry_that_would_come_too_late_is_not_waited_for(service: Client, server: Server) -> None:
    server.failures.append(pb.Failure(code=8, message="full", retry_after=100))
    with pytest.raises(ResourceExhausted, match="full") as caught:
        service["sin"](X, timeout=10)
    assert caught.value.retry_after == 100


def test_coroutines_retry_too(server: Server) -> None:
    with quick(server, True) as service:
        server.failures.extend([pb.Failure(code=14, message="it ends")] * 2)
        assert np.array_equal(asyncio.run(service["sin"].call_async(X)), np.sin(X))
        assert len(server.received) == 3


def test_pauses_double_and_end_with_the_attempts() -> None:
    attempts = Attempts(Retries(attempts=8, patience=0, first=0.1, longest=1.0), None)
    for most in [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]:
        pause = attempts.pause(LinkError("gone"))
        assert pause is not None
        assert most / 2 <= pause <= most
    assert attempts.pause(LinkError("gone")) is None


def test_what_cannot_be_reached_is_tried_again_as_long_as_there_is_patience() -> None:
    attempts = Attempts(Retries(attempts=1, patience=3600), None)
    assert all(attempts.pause(LinkError("gone")) for _ in range(2000))


@pytest.mark.parametrize(("error", "seconds"), [(LinkError("gone"), 0.01), (GradientError("no"), None)])
def test_there_is_no_second_attempt_past_the_deadline_or_where_it_would_not_help(
    error: DistgradError, seconds: float | None
) -> None:
    assert Attempts(Retries(), seconds).pause(error) is None


# ---- connections that end --------------------------------------------------------------------------------------------


def test_a_broken_line_is_opened_anew(server: Server) -> None:
    with quick(server, True) as service:
        assert np.array_equal(service["sin"](X), np.sin(X))
        server.break_lines()
        assert np.array_equal(service["sin"](X), np.sin(X))
        assert server.lines == ["local", "local"]


def test_a_request_whose_line_breaks_is_sent_over_another(server: Server) -> None:
    with quick(server, True) as service, ThreadPoolExecutor(1) as pool:
        service["sin"](X)
        server.held.clear()
        answer = pool.submit(service["sin"], X)
        assert eventually(lambda: len(server.received) == 2)
        server.break_lines()
        server.held.set()
        assert np.array_equal(answer.result(20), np.sin(X))
    assert [kind for _, kind, _ in server.received] == ["evaluate"] * 3


@pytest.mark.parametrize("local", [True, False])
def test_a_server_that_is_gone_is_an_error_after_some_attempts(local: bool) -> None:
    with Server(FUNCTIONS) as server:
        service = quick(server, local, attempts=2)
    with service, pytest.raises(LinkError, match=server.address):
        service["sin"](X)


def test_closing_ends_the_requests_under_way(service: Client, server: Server) -> None:
    server.held.clear()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(service["sin"], X)
        assert eventually(lambda: server.received)
        service.close()
        with pytest.raises(LinkError, match="was closed"):
            answer.result(20)
    server.held.set()
    with pytest.raises(LinkError, match="was closed"):
        service["sin"](X)


def test_an_answer_that_cannot_be_read_fails_its_request(
    service: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    nonsense = pb.EvaluateResponse(arrays=[pb.Array(dtype="float65", shape=[3], size=24)])
    monkeypatch.setattr(server, "answer", lambda *_: ("evaluate", nonsense, []))
    with pytest.raises(WireError, match="float65"):
        service["sin"](X, timeout=20)
    monkeypatch.undo()
    assert np.array_equal(service["sin"](X), np.sin(X))


@pytest.mark.parametrize("in_coroutine", [False, True])
def test_a_function_that_takes_other_arguments_since_its_server_was_replaced_is_not_differentiated_by_a_wrong_one(
    server: Server, in_coroutine: bool
) -> None:
    def slope(service: Client) -> float:
        f = service["product"]
        found: float = asyncio.run(f.grad_async(2.0, 5.0)) if in_coroutine else f.grad(2.0, 5.0)
        return found

    server.functions = {"product": lambda x, y: x * x * y}
    with client(server.address, timeout=20) as service:
        assert slope(service) == 20.0
        server.break_lines()
        assert slope(service) == 20.0
        server.functions = {"product": lambda y, x: x * x * y}
        server.break_lines()
        with pytest.raises(RequestError, match=r"took \(x, y\) when this was asked, and takes \(y, x\) since"):
            slope(service)
        assert slope(service) == 25.0


# ---- deadlines and cancellation --------------------------------------------------------------------------------------


def test_a_deadline_ends_the_wait_and_the_request(service: Client, server: Server) -> None:
    service["sin"](X)
    server.held.clear()
    with pytest.raises(Timeout, match=r"sin gave no answer to evaluate within 0\.1 s"):
        service["sin"](X, timeout=0.1)
    server.held.set()
    assert eventually(lambda: server.received[-1][1] == "cancel")
    assert server.received[-1][0] == server.received[-2][0]
    assert np.array_equal(service["sin"](X), np.sin(X))


def test_a_deadline_holds_while_another_opens_the_connection(service: Client, server: Server) -> None:
    with service._opening:
        with pytest.raises(Timeout, match=r"was not reached within 0\.0"):
            service["sin"](X, timeout=0.01)
        with pytest.raises(Timeout):
            asyncio.run(service["sin"].call_async(X, timeout=0.01))
    assert np.array_equal(service["sin"](X), np.sin(X))
    assert len(server.lines) == 1


@pytest.mark.parametrize("timeout", [np.float32(20), 1e7, 1e15, float("inf")])
def test_a_timeout_may_be_any_number_of_seconds(service: Client, timeout: float) -> None:
    assert np.array_equal(service["sin"](X, timeout=timeout), np.sin(X))
    assert np.array_equal(asyncio.run(service["sin"].call_async(X, timeout=timeout)), np.sin(X))
    assert "sin" in service.summaries(timeout)


@pytest.mark.parametrize("timeout", ["1", [1], float("nan")])
def test_a_timeout_that_is_no_number_is_refused_and_the_line_goes_on(
    service: Client, server: Server, timeout: float
) -> None:
    f = service["sin"]
    f(X)
    said = r"timeout=.*, expected a number of seconds, or None for no limit"
    for ask in (
        lambda: f(X, timeout=timeout),
        lambda: asyncio.run(f.call_async(X, timeout=timeout)),
        lambda: f.vjp(X, X, timeout=timeout),
        lambda: service.summaries(timeout),
        lambda: client(server.address, timeout=timeout),
        lambda: client(server.address, connect_timeout=timeout),
    ):
        with pytest.raises(ConfigError, match=said):
            ask()
    f(X)
    assert len(server.lines) == 1


def test_what_chooses_no_argument_or_function_and_what_is_no_token_is_said(service: Client, server: Server) -> None:
    for wrt in (1.5, None, {"x": 1}, (0, None)):
        with pytest.raises(ConfigError, match=r"wrt=.*, expected the name or position of an argument"):
            service["rosenbrock"].grad(X, wrt=wrt)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="by their names, not by 3"):
        service[3]  # type: ignore[index]
    for token in ("secret\n", "ü", 3):
        with pytest.raises(ConfigError, match="printable ASCII"):
            client(server.address, token=token)  # type: ignore[arg-type]


def test_cancelling_a_coroutine_cancels_its_request(service: Client, server: Server) -> None:
    async def give_up() -> None:
        await service["sin"].call_async(X)
        server.held.clear()
        asked = asyncio.create_task(service["sin"].call_async(X))
        assert await asyncio.to_thread(eventually, lambda: len(server.received) == 2)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    asyncio.run(give_up())
    server.held.set()
    assert eventually(lambda: server.received[-1][1] == "cancel")


def test_the_names_of_arguments_are_asked_for_within_the_deadline_and_beside_the_event_loop(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go_on = threading.Event(), threading.Event()
    seconds: list[float] = []
    waited: list[bool] = []
    answer = server.unary

    def slow(method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        if method == "DescribeFunction":
            seconds.append(context.time_remaining())
            asked.set()
            waited.append(go_on.wait(20))
        return answer(method, request, context)

    async def ask(service: Client) -> None:
        asking = asyncio.create_task(service["sin"].vjp_async(X, X, timeout=30))
        await asyncio.to_thread(asked.wait, 20)
        go_on.set()
        await asking

    monkeypatch.setattr(server, "unary", slow)
    with client(server.address) as service:
        asyncio.run(ask(service))
    assert waited == [True]
    assert 10 < seconds[0] < 31  # gRPC rounds it up; without a timeout it would be that of connecting


def test_a_coroutine_has_deadlines_too(service: Client, server: Server) -> None:
    service["sin"](X)
    server.held.clear()
    with pytest.raises(Timeout, match="within"):
        asyncio.run(service["sin"].call_async(X, timeout=0.1))
    server.held.set()


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_shared_memory_is_used_again_when_its_results_are_gone(server: Server) -> None:
    x = np.ones(300_000)
    with client(server.address, timeout=20) as service:
        before = blocks()
        for _ in range(20):
            y = service["sin"](x)
        # The last result's and the next one's, each with the descriptor of its mapping; and the server's.
        assert blocks() - before <= 6
    assert np.array_equal(y, np.sin(x))  # its memory outlives the client
    del y
    gc.collect()
    assert eventually(lambda: blocks() <= before)  # the server lets go of its part when it has answered


def test_what_ends_a_line_is_told_to_all_who_wait(server: Server) -> None:
    server.token = "secret"
    with quick(server, local=False) as service, ThreadPoolExecutor(8) as pool:
        for answer in [pool.submit(service["sin"], X) for _ in range(16)]:
            with pytest.raises(PermissionDenied, match="that token is not known"):
                answer.result(20)
