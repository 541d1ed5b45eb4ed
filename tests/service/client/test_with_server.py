"""The client and the real server, over both lines."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import os
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import (
    GradientError,
    NotServed,
    PermissionDenied,
    RemoteError,
    RequestError,
    SessionLost,
    Timeout,
)
from distgrad.service.block import RunningServer, serve
from distgrad.service.certificates import make_certificates
from distgrad.service.client import Client, client
from distgrad.service.server import Server
from distgrad.service.settings import ServiceSettings
from distgrad.transport.settings import TLS
from tests.processes import eventually

from .conftest import rosenbrock
from .test_function import SCALAR, X, same

PROGRAMS = Path(__file__).parent.parent / "programs"
SERVED = [f"{PROGRAMS}/derivatives.py:{name}" for name in ("rosenbrock", "field", "wave", "fails", "undeclared")]


@pytest.fixture(scope="module")
def running() -> Iterator[RunningServer]:
    settings = ServiceSettings(workers=1, grace=0.2)
    with serve([*SERVED, f"{PROGRAMS}/served.py:sleeps_deeply"], settings) as running:
        yield running


@pytest.fixture(params=["local", "grpc"])
def service(running: RunningServer, request: pytest.FixtureRequest) -> Iterator[Client]:
    with client(running.address, local=request.param == "local", timeout=60) as service:
        yield service


@pytest.mark.parametrize("name", SCALAR)
def test_products_are_those_of_the_local_engine(service: Client, name: str) -> None:
    ask, expected = SCALAR[name]
    assert same(ask(service["rosenbrock"]), expected())


def test_large_arrays_go_and_come(service: Client, rng: np.random.Generator) -> None:
    x, w = rng.normal(size=(2, 300_000))
    for _ in range(3):
        assert np.array_equal(service["undeclared"].vjp(x, w), 2 * x * w)


def test_threads_and_coroutines_get_their_own_answers(service: Client) -> None:
    f = service["rosenbrock"]
    expected = [
        dg.grad(lambda x: dg.ops.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))(X * k) for k in range(40)
    ]
    with ThreadPoolExecutor(8) as pool:
        assert same(list(pool.map(lambda k: f.grad(X * k), range(40))), expected)

    async def ask() -> list[np.ndarray]:
        return await asyncio.gather(*(f.grad_async(X * k) for k in range(40)))

    assert same(asyncio.run(ask()), expected)
    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(lambda k: float(f(X * k)), range(40)))
    assert np.allclose(values, [float(f(X * k)) for k in range(40)])


def test_sessions_open_and_close_in_quick_succession(service: Client) -> None:
    f = service["rosenbrock"]
    expected = dg.hvp(rosenbrock)(X, X)
    for _ in range(40):
        with f.linearize(X) as at_x:
            assert np.allclose(at_x.hvp(X), expected)


def test_a_session_that_the_server_has_ended_is_lost_and_its_block_ends_as_any(
    service: Client, running: RunningServer
) -> None:
    async def end_sessions() -> None:
        sessions = running.server.desk.sessions
        for session in list(sessions._sessions.values()):
            sessions.close(session)

    f = service["rosenbrock"]
    with f.linearize(X) as at_x:
        running.do(end_sessions())
        with pytest.raises(SessionLost, match="its lease has ended"):
            at_x.vjp(1.0)
    with pytest.raises(SessionLost), f.linearize(X) as at_x:
        running.do(end_sessions())
        at_x.vjp(1.0)

    async def ask() -> None:
        async with await f.linearize_async(X) as at_x:
            running.do(end_sessions())
            await at_x.vjp_async(1.0)

    with pytest.raises(SessionLost):
        asyncio.run(ask())


def test_failures_are_exceptions_with_their_details(service: Client) -> None:
    with pytest.raises(RequestError, match="expected float64") as unfit:
        service["rosenbrock"](np.ones((2, 2)))
    assert unfit.value.violations == (('arguments["x"]', "float64[n]", "float64[2, 2]"),)
    with pytest.raises(RequestError, match="cotangents"):
        service["rosenbrock"].vjp(X, np.ones(2))
    with pytest.raises(RemoteError, match="ArithmeticError: below zero") as raised:
        service["fails"](np.array([-1.0, 1.0]))
    assert 'File "derivatives.py"' in raised.value.traceback
    with pytest.raises(NotServed, match="did you mean 'rosenbrock'"):
        service["rosenbrok"](X)
    with pytest.raises(GradientError):
        service["undeclared"].grad(X)


def test_a_deadline_reaches_the_computation(service: Client) -> None:
    with pytest.raises(Timeout):
        service["sleeps_deeply"](X, 30.0, timeout=0.3)
    assert service["rosenbrock"](X) > 0


@pytest.mark.parametrize("local", [True, False])
def test_a_client_waits_for_a_server_that_is_starting(
    local: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fifo, program = tmp_path / "go", tmp_path / "late.py"
    os.mkfifo(fifo)
    program.write_text(f"open({str(fifo)!r}).read()\ndef double(x): return 2 * x\n")

    async def ask_early() -> float:
        server = Server([f"{program}:double"], ServiceSettings(workers=1), "localhost:0")
        start = asyncio.ensure_future(server.start())
        while not server.address:
            await asyncio.sleep(0)
        async with client(server.address, local=local, timeout=20) as service:
            asked = asyncio.ensure_future(service["double"].call_async(4.0))
            assert await asyncio.to_thread(eventually, lambda: "the server is starting" in caplog.text)
            await asyncio.to_thread(fifo.write_text, "go")
            doubled: float = await asked
        await start
        await server.close()
        return doubled

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(ask_early()) == 8.0


def test_tls_and_tokens_guard_the_way(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    make_certificates(tmp_path, clients=["alice"])
    (tmp_path / "tokens.toml").write_text('[alice]\nrole = "client"\ntoken = "secret"\n')
    ours = TLS(certificate=tmp_path / "server.pem", key=tmp_path / "server-key.pem", authority=tmp_path / "ca.pem")
    settings = ServiceSettings(workers=1, tls=ours, tokens=tmp_path / "tokens.toml")
    alice = TLS(certificate=tmp_path / "alice.pem", key=tmp_path / "alice-key.pem", authority=tmp_path / "ca.pem")
    with serve(SERVED[:1], settings, um_bridge=0) as running:
        for local in (True, False):
            with client(running.address, token="secret", tls=alice, local=local, timeout=20) as service:
                assert service["rosenbrock"](X) == rosenbrock(X).data
            stranger = client(running.address, token="guess", tls=alice, local=local, timeout=20)
            with stranger, pytest.raises(PermissionDenied, match="token is not known"):
                stranger["rosenbrock"](X)
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        context.load_cert_chain(tmp_path / "alice.pem", tmp_path / "alice-key.pem")
        port = running.server.um_bridge_port
        connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=20)
        connection.request("GET", "/Info", headers={"Authorization": "Bearer secret"})
        assert json.loads(connection.getresponse().read())["models"] == ["rosenbrock"]
        connection.close()
