"""A whole server: what it tells about what it serves, its beginning and its end."""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import ConfigError, LinkError, ProgramError
from distgrad.service import server
from distgrad.service.served import Declaration, declaration_of
from distgrad.service.server import Server
from distgrad.service.settings import ServiceSettings
from distgrad.wire import pb
from tests.processes import blocks, eventually, with_environment
from tests.service.raw import DEADLINE, TARGETS, Failed, Running, Streaming, Unary, answer, serving


def test_functions_are_listed_by_name_with_their_first_lines(unary: Unary) -> None:
    listed = pb.ListFunctionsResponse.FromString(unary.call("ListFunctions", b""))
    names = [function.name for function in listed.functions]
    assert names == sorted([*TARGETS[:-2], "Counter.cube", "Counter.seen", "Whole"])
    assert listed.functions[names.index("sine")].summary == "The sine of each element."


def test_a_function_is_described(unary: Unary) -> None:
    request = pb.DescribeFunctionRequest(name="affine").SerializeToString()
    described = pb.DescribeFunctionResponse.FromString(unary.call("DescribeFunction", request))
    arguments = {argument.name: argument for argument in described.arguments}
    assert list(arguments) == ["model", "x", "kind"]
    assert [a.differentiable for a in arguments.values()] == [True, True, True]
    assert [a.optional for a in arguments.values()] == [False, False, True]
    assert pb.PRODUCT_VJP in described.products
    assert pb.PRODUCT_HESSIAN not in described.products
    assert described.max_message_bytes == 4 * 2**20


# ---- the beginning and the end ---------------------------------------------------------------------------------------


def test_requests_under_way_end_before_the_server_does(let_go: Callable[[int], None]) -> None:
    with serving(["waits"], ServiceSettings(workers=1)) as running:
        stream = Streaming(running.address)
        stream.send("evaluate", function="waits", arguments=[5.0])
        assert eventually(lambda: running.counts()["running"] == 1)
        stream.send("evaluate", function="waits", arguments=[5.0])
        assert eventually(lambda: running.counts()["queued"] == 1)
        late = Unary(running.address)
        late.call("ListFunctions", b"")
        draining = asyncio.run_coroutine_threadsafe(running.server.drain(), running.loop)
        assert eventually(lambda: not running.server.desk.serving)
        with pytest.raises(Failed, match="the server ends") as raised:
            late.ask("evaluate", function="waits", arguments=[5.0])
        assert raised.value.code == "UNAVAILABLE"
        let_go(1)
        let_go(2)
        assert [answer(e.message, e.payload)["value"] for e in (stream.next(), stream.next())] == [5.0, 5.0]
        assert draining.result(DEADLINE)
        late.close()
        stream.close()


def test_the_end_amid_a_request_is_quiet_and_leaves_no_memory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "GRACE", 0.0)
    before = blocks()
    with serving(["sleeps_deeply"], ServiceSettings(workers=1)) as running:
        stream = Streaming(running.address)
        stream.send("evaluate", function="sleeps_deeply", arguments=[np.ones(20_000), 3600.0])
        assert eventually(lambda: running.counts()["running"] == 1)
    stream.close()
    assert blocks() == before
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_reflection_names_the_service(unary: Unary) -> None:
    reflection = pytest.importorskip("grpc_reflection.v1alpha.reflection_pb2")
    stub = unary.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection.ServerReflectionResponse.FromString,
    )
    asked = reflection.ServerReflectionRequest(file_containing_symbol="distgrad.v1.GradientService")
    (reply,) = stub(iter([asked]), timeout=DEADLINE)
    assert reply.file_descriptor_response.file_descriptor_proto


def test_metrics_are_served_to_prometheus() -> None:
    pytest.importorskip("prometheus_client")
    with serving(["sine"], metrics=0) as running:
        client = Unary(running.address)
        client.ask("evaluate", function="sine", arguments=[np.ones(2)])
        client.close()
        with urllib.request.urlopen(f"http://127.0.0.1:{running.server.metrics_port}/metrics") as reply:
            text = reply.read().decode()
    assert 'distgrad_requests_total{code="OK",function="sine",product="evaluate"} 1.0' in text
    assert "distgrad_service_workers 1.0" in text


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nothing_there", "has no 'nothing_there'"),
        ("np", "only functions and classes"),
        ("a:b:c", "not FILE.py:FUNCTION"),
        ("/nowhere/served.py:f", "/nowhere does not exist"),
    ],
)
def test_what_cannot_be_served_is_said_at_the_start(target: str, said: str) -> None:
    with pytest.raises(ProgramError, match=said), serving([target]):
        pass


def test_a_server_is_not_open_to_others_by_accident() -> None:
    with pytest.raises(ConfigError, match="--insecure"):
        Server(["f.py:f"], ServiceSettings(), "0.0.0.0:0")


@pytest.mark.parametrize("targets", [[], "models.py:f", 3, [3], [len]])
def test_a_server_of_nothing_or_of_the_letters_of_a_name_is_refused(targets: Any) -> None:
    with pytest.raises(ConfigError, match="expected a list of at least one"):
        Server(targets, ServiceSettings(), "localhost:0")


@pytest.mark.parametrize(
    "wrong",
    [
        {"lease": 0.0},
        {"lease": float("nan")},
        {"drain": -1.0},
        {"max_request_bytes": 0},
        {"workers": 0},
        {"workers": 1.5},
    ],
    ids=str,
)
def test_a_setting_that_cannot_work_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ServiceSettings(**wrong)


@pytest.mark.parametrize(
    "port", [{"metrics": 99999}, {"metrics": "9"}, {"um_bridge": 99999}, {"um_bridge": -1}], ids=str
)
def test_a_port_that_cannot_be_is_refused_by_name(port: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(port))}=.* is no port"):
        Server(["models.py:f"], ServiceSettings(), "localhost:0", **port)


@pytest.mark.parametrize("takes", ["float64[n]", ["float64[n]"]])
def test_arguments_are_declared_by_name(takes: Any) -> None:
    with pytest.raises(ConfigError, match="expected a dict by argument"):
        dg.served(takes=takes)


def test_a_bare_declaration_says_only_that_a_function_is_served() -> None:
    @dg.served
    def double(x: Any) -> Any:
        return 2 * x

    assert double(3) == 6
    assert declaration_of(double) == Declaration()


def test_a_taken_address_is_said(running: Running) -> None:
    with pytest.raises(LinkError, match="taken"), serving(["sine"], listen=running.address):
        pass
    pytest.importorskip("prometheus_client")
    port = int(running.address.rpartition(":")[2])
    with (
        pytest.raises(LinkError, match=f"cannot listen at 127.0.0.1:{port} for metrics"),
        serving(["sine"], metrics=port),
    ):
        pass


def test_a_server_at_a_unix_socket_is_reached_there_and_leaves_no_file(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/service"
    with serving(["sine"], listen=address, um_bridge=0) as running:
        assert running.address == address
        with dg.client(address, local=False, timeout=DEADLINE) as client:
            assert np.array_equal(client["sine"](np.ones(2)), np.sin(np.ones(2)))
        with pytest.raises(LinkError, match="another process listens there"), serving(["sine"], listen=address):
            pass
        with urllib.request.urlopen(f"{running.server.um_bridge_url}/Info") as reply:
            assert json.load(reply)["models"] == ["sine"]
    assert not list(tmp_path.iterdir())


def test_an_interrupt_while_a_server_starts_leaves_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow.py").write_text("import time\n\ntime.sleep(60)\n")
    mark = f"DISTGRAD_TEST_MARK={tmp_path}"
    monkeypatch.setenv(*mark.split("="))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def interrupt(thread: int) -> None:
        assert eventually(lambda: with_environment(mark))
        signal.pthread_kill(thread, signal.SIGINT)

    interrupting = threading.Thread(target=interrupt, args=[threading.get_ident()])
    interrupting.start()
    with pytest.raises(KeyboardInterrupt), dg.serve([f"{tmp_path}/slow.py:f"]):
        pass
    interrupting.join()
    assert with_environment(mark) == {}
    assert [path.name for path in tmp_path.iterdir()] == ["slow.py"]
