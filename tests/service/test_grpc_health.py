"""The server's health, asked for as load balancers and `grpc_health_probe` do: by gRPC's own package."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from distgrad.cli import main
from distgrad.service.grpc_stream import SERVICE
from distgrad.service.server import Server
from distgrad.service.settings import ServiceSettings
from tests.service.raw import DEADLINE, Running, Streaming, serving


def name(response: HealthCheckResponse) -> str:
    return str(HealthCheckResponse.ServingStatus.Name(response.status))


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with serving(["sine"], ServiceSettings(workers=1)) as running:
        yield running


@pytest.mark.parametrize("service", ["", SERVICE])
def test_a_server_that_is_ready_serves(running: Running, service: str) -> None:
    with grpc.insecure_channel(running.address) as channel:
        assert name(HealthStub(channel).Check(HealthCheckRequest(service=service), timeout=DEADLINE)) == "SERVING"


def test_there_is_no_other_service(running: Running) -> None:
    with grpc.insecure_channel(running.address) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            HealthStub(channel).Check(HealthCheckRequest(service="else"), timeout=DEADLINE)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        assert name(next(HealthStub(channel).Watch(HealthCheckRequest(service="else")))) == "SERVICE_UNKNOWN"


def test_a_probe_that_is_nonsense_is_refused(running: Running) -> None:
    with grpc.insecure_channel(running.address) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary("/grpc.health.v1.Health/Check")(b"\xff\xff", timeout=DEADLINE)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_command_probes_it(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["health", running.address, "--service", SERVICE])
    assert ended.value.code == 0
    assert capsys.readouterr().out == "serving\n"


def test_a_watcher_sees_it_start_and_drain(tmp_path: Path) -> None:
    fifo, program = tmp_path / "go", tmp_path / "late.py"
    os.mkfifo(fifo)
    program.write_text(f"open({str(fifo)!r}).read()\ndef f(x): return x\n")

    async def watch() -> list[str]:
        server = Server([f"{program}:f"], ServiceSettings(workers=1), "localhost:0")
        start = asyncio.ensure_future(server.start())
        while not server.address:
            await asyncio.sleep(0)
        async with asyncio.timeout(DEADLINE), grpc.aio.insecure_channel(server.address) as channel:
            stub = HealthStub(channel)
            seen = [name(await stub.Check(HealthCheckRequest(), wait_for_ready=True))]
            watching = stub.Watch(HealthCheckRequest())
            seen.append(name(await watching.read()))
            await asyncio.to_thread(fifo.write_text, "go")
            await start
            seen.append(name(await watching.read()))
            await server.drain()
            seen.append(name(await watching.read()))
            await server.close()
            assert await watching.read() is grpc.aio.EOF
        return seen

    assert asyncio.run(watch()) == ["NOT_SERVING", "NOT_SERVING", "SERVING", "NOT_SERVING"]


def test_a_server_whose_only_process_dies_says_so_until_there_is_another() -> None:
    with (
        serving(["sine", "dies"], ServiceSettings(workers=1, attempts=1)) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        watching = HealthStub(channel).Watch(HealthCheckRequest(), timeout=DEADLINE)
        assert name(next(watching)) == "SERVING"
        stream = Streaming(running.address)
        stream.send("evaluate", function="dies", arguments=[1.0])
        assert [name(next(watching)), name(next(watching))] == ["NOT_SERVING", "SERVING"]
        stream.close()
