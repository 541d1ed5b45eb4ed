"""A whole server, spoken to by messages alone."""

from __future__ import annotations

import asyncio
import itertools
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import ConfigError, LinkError, ProgramError
from distgrad.service.server import Server
from distgrad.service.settings import ServiceSettings
from distgrad.service.transfers import CHUNK_BYTES, cut
from distgrad.wire import pb
from distgrad.wire.exchanges import encode_exchange
from tests.processes import eventually
from tests.service.raw import DEADLINE, Failed, Local, Running, Streaming, Unary, answer, question, serving

TARGETS = [
    "sine",
    "rosenbrock",
    "affine",
    "anything",
    "square",
    "raises",
    "objects",
    "promises",
    "leaves",
    "spins",
    "sleeps_deeply",
    "dies",
    "process",
    "grows",
    "Counter",
    "Whole",
]
QUICK = ServiceSettings(workers=2, grace=0.3, lease=30.0, drain=10.0)


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with serving(TARGETS, QUICK) as running:
        yield running


@pytest.fixture(params=["unary", "stream", "local"])
def client(request: pytest.FixtureRequest, running: Running) -> Iterator[Any]:
    """Each way to the server; all have `ask`."""
    made: Any
    if request.param == "unary":
        made = Unary(running.address)
    elif request.param == "local":
        made = Local(running.address)
    else:
        made = Asking(running.address)
    yield made
    made.close()


class Asking(Streaming):
    """A stream with one request at a time."""

    def ask(self, body: str, **fields: Any) -> dict[str, Any]:
        number = self.send(body, **fields)
        exchange = self.next()
        assert exchange.stream.id == number
        if exchange.body == "failure":
            raise Failed(exchange.message)
        return answer(exchange.message, exchange.payload)


@pytest.fixture
def unary(running: Running) -> Iterator[Unary]:
    client = Unary(running.address)
    yield client
    client.close()


# ---- what is served --------------------------------------------------------------------------------------------------


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


# ---- answers, by every way -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 5_000, 100_000])
def test_a_vjp_of_any_size_comes_by_every_way(client: Any, n: int, rng: np.random.Generator) -> None:
    x, v = rng.normal(size=n), rng.normal(size=n)
    v[0] = np.nan
    found = client.ask("vjp", function="sine", arguments={"x": x}, cotangents=[v, 2 * v], with_value=True)
    np.testing.assert_array_equal(found["gradients"][0]["x"], np.cos(x) * v)
    np.testing.assert_array_equal(found["gradients"][1]["x"], np.cos(x) * (2 * v))
    np.testing.assert_array_equal(found["value"], np.sin(x))


def test_every_product_comes_by_every_way(client: Any, rng: np.random.Generator) -> None:
    x, v = rng.normal(size=4), rng.normal(size=4)
    at = {"function": "rosenbrock", "arguments": {"x": x}}

    def f(x: Any) -> Any:
        return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    same = np.testing.assert_allclose
    same(client.ask("evaluate", **at)["value"], f(x))
    same(client.ask("value_and_gradient", **at)["gradient"]["x"], dg.grad(f)(x))
    same(client.ask("jvp", tangents=[{"x": v}], **at)["tangents"][0], dg.jvp(f, (x,), (v,))[1])
    same(client.ask("jacobian", **at)["jacobian"]["x"], dg.grad(f)(x))
    same(client.ask("hessian", **at)["hessian"]["x"]["x"], dg.hessian(f)(x))
    same(client.ask("hvp", vectors=[{"x": v}], **at)["products"][0]["x"], dg.hvp(f)(x, v))


def test_trees_defaults_and_conversions(client: Any, rng: np.random.Generator) -> None:
    w, b, x = rng.normal(size=(2, 3)), rng.normal(size=2), rng.normal(size=3).astype(np.float32)
    model = {"weights": [w, b], "scale": 2}
    found = client.ask("evaluate", function="affine", arguments={"model": model, "x": x})
    np.testing.assert_allclose(found["value"]["y"], 2 * (w @ x + b))
    cotangent = {"y": np.ones(2), "norm": 0.0}
    found = client.ask(
        "vjp", function="affine", arguments=(model, x), cotangents=[cotangent], with_respect_to=["model"]
    )
    (gradient,) = found["gradients"]
    assert list(gradient) == ["model"]
    np.testing.assert_allclose(gradient["model"]["weights"][1], [2.0, 2.0])
    np.testing.assert_allclose(gradient["model"]["scale"], np.sum(w @ x + b))


def test_a_message_that_is_read_in_several_pieces_is_answered(client: Any) -> None:
    x = np.arange(3.0)
    found = client.ask("evaluate", function="promises", arguments={"x": x, "fault": "-" * 300_000})
    np.testing.assert_array_equal(found["value"]["y"], x * x)


def test_complex_numbers(client: Any, rng: np.random.Generator) -> None:
    z = rng.normal(size=3) + 1j * rng.normal(size=3)
    found = client.ask("vjp", function="square", arguments={"z": z}, cotangents=[np.ones(3, complex)])
    np.testing.assert_allclose(found["gradients"][0]["z"], np.conj(2 * z))


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float16", "float32", "complex64", "complex128"])
def test_every_dtype_passes_through(unary: Unary, dtype: str) -> None:
    x = np.arange(6).reshape(2, 3).astype(dtype)
    back = unary.ask("evaluate", function="anything", arguments={"x": x, "y": x})["value"]
    np.testing.assert_array_equal(back, x * x)
    assert back.dtype == (x * x).dtype


def test_methods_of_an_object_keep_its_state_and_get_copies(client: Any) -> None:
    x = np.arange(10_000.0)
    for _ in range(3):
        client.ask("evaluate", function="Counter.cube", arguments={"x": x})
    np.testing.assert_array_equal(client.ask("evaluate", function="Whole", arguments=[x])["value"], 2 * x)
    seen = [client.ask("evaluate", function="Counter.seen", arguments=[0.0])["value"] for _ in range(4)]
    assert max(s["calls"] for s in seen) >= 1
    for s in seen:
        if s["last"] is not None:
            np.testing.assert_array_equal(s["last"], x)


# ---- large messages --------------------------------------------------------------------------------------------------


def test_large_arrays_cross_a_stream_in_chunks(running: Running, rng: np.random.Generator) -> None:
    stream = Streaming(running.address)
    x, v = rng.normal(size=700_000), rng.normal(size=700_000)
    message, pieces, _ = question("vjp", {"function": "sine", "arguments": {"x": x}, "cotangents": [v]})
    numbers = itertools.count(1)
    for encoded in cut(pb.StreamRequest(id=9), "vjp", message, memoryview(b"".join(pieces)), numbers):
        stream.put(b"".join(encoded))
    gathered = bytearray()
    while (exchange := stream.next()).body == "chunk":
        assert len(exchange.payload) <= CHUNK_BYTES
        assert exchange.message.chunk.offset == len(gathered)
        gathered += exchange.payload
    (array,) = exchange.message.arrays
    assert (exchange.stream.id, array.transfer, array.size) == (9, exchange.message.arrays[0].transfer, len(gathered))
    np.testing.assert_array_equal(np.frombuffer(gathered), np.cos(x) * v)
    stream.close()


def test_an_answer_too_large_for_one_message_names_the_stream(unary: Unary) -> None:
    with pytest.raises(Failed, match="use Stream") as raised:
        unary.ask("evaluate", function="grows", arguments=[0.0, 10.0**6])
    assert raised.value.code == "RESOURCE_EXHAUSTED"


def test_answers_too_large_for_the_room_in_a_block_come_in_memory_of_their_own(running: Running) -> None:
    local = Local(running.address)
    x = np.ones(10_000)
    found = local.ask("evaluate", function="grows", arguments=[1.0, 10.0**6])
    assert found["value"].sum() == 10**6
    found = local.ask("vjp", room=0, function="sine", arguments=[x], cotangents=[x])
    np.testing.assert_array_equal(found["gradients"][0]["x"], np.cos(x))
    local.close()


# ---- failures --------------------------------------------------------------------------------------------------------

REFUSED = [
    ("evaluate", {"function": "sin", "arguments": {"x": 1.0}}, "NOT_FOUND", "did you mean 'sine'"),
    ("evaluate", {"function": "sine", "arguments": {"y": np.ones(2)}}, "INVALID_ARGUMENT", 'arguments["y"]'),
    ("evaluate", {"function": "sine", "arguments": {}}, "INVALID_ARGUMENT", 'arguments["x"]: expected a value'),
    ("evaluate", {"function": "sine", "arguments": {"x": "abc"}}, "INVALID_ARGUMENT", "float64[n], got str"),
    ("evaluate", {"function": "sine", "arguments": {"x": np.ones(2, complex)}}, "INVALID_ARGUMENT", "complex128[2]"),
    ("evaluate", {"function": "sine", "arguments": [1.0, 2.0]}, "INVALID_ARGUMENT", "at most 1"),
    ("evaluate", {"function": "sine", "arguments": 3.0}, "INVALID_ARGUMENT", "a dict by name"),
    ("evaluate", {"function": "sine"}, "INVALID_ARGUMENT", "arguments: expected a value, got nothing"),
    (
        "vjp",
        {"function": "sine", "arguments": [np.ones(2)], "cotangents": [np.ones(3)]},
        "INVALID_ARGUMENT",
        "float64[n] with n = 2, got float64[3]",
    ),
    ("vjp", {"function": "sine", "arguments": [np.ones(2)]}, "INVALID_ARGUMENT", "cotangents: expected one or more"),
    (
        "vjp",
        {"function": "anything", "arguments": [np.ones(2)], "cotangents": [np.ones(3)]},
        "INVALID_ARGUMENT",
        "cotangents[0]: expected float64[2], got float64[3]",
    ),
    (
        "jvp",
        {"function": "sine", "arguments": [np.ones(2)], "tangents": [{"x": np.ones(3)}]},
        "INVALID_ARGUMENT",
        'tangents[0]["x"]: expected float64[2], got float64[3]',
    ),
    (
        "hvp",
        {"function": "rosenbrock", "arguments": [np.ones(2)], "vectors": [{}]},
        "INVALID_ARGUMENT",
        'vectors[0]["x"]: expected a value',
    ),
    (
        "vjp",
        {"function": "sine", "arguments": [np.ones(2)], "cotangents": [np.ones(2)], "with_respect_to": ["y"]},
        "INVALID_ARGUMENT",
        "with_respect_to[0]: expected one of x",
    ),
    (
        "value_and_gradient",
        {"function": "anything", "arguments": [np.ones(2, int), 3]},
        "INVALID_ARGUMENT",
        "floating-point or complex",
    ),
    ("value_and_gradient", {"function": "anything", "arguments": [np.ones(2)]}, "FAILED_PRECONDITION", "scalar"),
    ("hessian", {"function": "sine", "arguments": [np.ones(2)]}, "FAILED_PRECONDITION", "does not offer hessian"),
    ("evaluate", {"function": "raises", "arguments": [1.0]}, "INTERNAL", "ValueError: no such x"),
    ("evaluate", {"function": "leaves", "arguments": [1.0]}, "INTERNAL", "SystemExit: 3"),
    ("evaluate", {"function": "objects", "arguments": [1.0]}, "INTERNAL", "builtins.object cannot travel"),
    ("evaluate", {"function": "promises", "arguments": [np.ones(2), "nothing"]}, "INTERNAL", "returned None"),
    ("vjp", {"session": "none", "cotangents": [1.0]}, "NOT_FOUND", "no such session"),
]


@pytest.mark.parametrize(("body", "fields", "code", "said"), REFUSED)
def test_what_does_not_fit_is_refused_and_the_server_goes_on(
    running: Running, body: str, fields: dict[str, Any], code: str, said: str
) -> None:
    for made in (Unary(running.address), Local(running.address)):
        with pytest.raises(Failed) as raised:
            made.ask(body, **fields)
        assert said in str(raised.value)
        assert raised.value.code == code
        made.close()


def test_violations_and_exceptions_come_as_details(unary: Unary) -> None:
    with pytest.raises(Failed) as raised:
        unary.ask("evaluate", function="sine", arguments={"x": np.ones((2, 2))})
    (violation,) = raised.value.failure.violations
    assert (violation.field, violation.expected, violation.got) == (
        'arguments["x"]',
        "float64[n]",
        "float64[2, 2]",
    )
    with pytest.raises(Failed) as raised:
        unary.ask("evaluate", function="raises", arguments=[1.0, "lone \udcff".encode(errors="replace").decode()])
    told = raised.value.failure.exception
    assert (told.type, told.file, told.source) == ("ValueError", "served.py", "raise ValueError(message)")


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.arrays[0].shape.append(2**40),
        lambda m: setattr(m.arrays[0], "offset", 2**60),
        lambda m: setattr(m.arrays[0], "dtype", "object"),
        lambda m: setattr(m.arrays[0], "transfer", 5),
        lambda m: setattr(m.arguments.dict.entries[0].value.leaf, "array", 7),
        lambda m: setattr(m.arguments.dict.entries[0].value.leaf, "recorded", True),
        lambda m: setattr(m.arguments.dict.entries[0].value, "shard", "a"),
        lambda m: m.arguments.dict.entries.add(key="x"),
    ],
)
def test_arrays_and_values_that_cannot_be_are_refused(unary: Unary, change: Any) -> None:
    message, pieces, _ = question("evaluate", {"function": "sine", "arguments": {"x": np.ones(3)}})
    change(message)
    message.payload = b"".join(pieces)
    with pytest.raises(Failed) as raised:
        unary.call("Evaluate", message.SerializeToString())
    assert raised.value.code == "INVALID_ARGUMENT"


# ---- sessions --------------------------------------------------------------------------------------------------------


def test_a_session_keeps_the_linearisation(client: Any, rng: np.random.Generator) -> None:
    x, v = rng.normal(size=5), rng.normal(size=5)
    opened = client.ask("linearize", function="sine", arguments=[x])
    assert opened["lease_seconds"] == QUICK.lease
    np.testing.assert_array_equal(opened["value"], np.sin(x))
    at = {"session": opened["session"]}
    np.testing.assert_allclose(client.ask("vjp", cotangents=[v], **at)["gradients"][0]["x"], np.cos(x) * v)
    np.testing.assert_allclose(client.ask("jvp", tangents=[{"x": v}], **at)["tangents"][0], np.cos(x) * v)
    with pytest.raises(Failed, match=r"float64\[n\] with n = 5"):
        client.ask("vjp", cotangents=[np.ones(4)], **at)
    client.ask("close_session", **at)
    with pytest.raises(Failed, match="no such session"):
        client.ask("evaluate", **at)


def test_a_session_differentiates_by_what_it_was_opened_for_or_less(unary: Unary) -> None:
    opened = unary.ask("linearize", function="anything", arguments=[2.0, 3.0], with_respect_to=["y"])
    found = unary.ask("vjp", session=opened["session"], cotangents=[1.0])
    assert found["gradients"] == [{"y": 2.0}]
    with pytest.raises(Failed, match=r"with_respect_to\[0\]: expected one of y"):
        unary.ask("vjp", session=opened["session"], cotangents=[1.0], with_respect_to=["x"])
    unary.ask("close_session", session=opened["session"])


def test_a_session_that_is_not_used_ends_with_its_lease() -> None:
    with serving(["sine"], ServiceSettings(workers=1, lease=0.2, max_sessions_per_client=1)) as running:
        client = Unary(running.address)
        opened = client.ask("linearize", function="sine", arguments=[np.ones(2)])
        with pytest.raises(Failed, match="1 sessions are open") as raised:
            client.ask("linearize", function="sine", arguments=[np.ones(2)])
        assert raised.value.code == "RESOURCE_EXHAUSTED"
        assert eventually(lambda: running.counts()["sessions"] == 0)
        with pytest.raises(Failed, match="lease"):
            client.ask("evaluate", session=opened["session"])
        client.close()


# ---- many requests ---------------------------------------------------------------------------------------------------


def test_many_clients_at_once_get_their_own_answers(running: Running) -> None:
    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        client: Any = [Unary, Asking, Local][seed % 3](running.address)
        for _ in range(30):
            x, v = rng.normal(size=(2, int(rng.integers(1, 40))))
            found = client.ask("vjp", function="sine", arguments=[x], cotangents=[v])
            np.testing.assert_allclose(found["gradients"][0]["x"], np.cos(x) * v, rtol=1e-13)
        client.close()

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, range(6)))


def test_requests_that_wait_together_are_computed_as_one(running: Running, rng: np.random.Generator) -> None:
    stream = Streaming(running.address)
    for _ in range(2):
        stream.send("evaluate", function="spins", arguments=[0.0, 0.3])
    xs = rng.normal(size=(20, 7))
    numbers = [stream.send("vjp", function="sine", arguments=[x], cotangents=[x], with_value=True) for x in xs]
    found = {}
    while len(found) < 22:
        exchange = stream.next()
        found[exchange.stream.id] = answer(exchange.message, exchange.payload)
    for number, x in zip(numbers, xs, strict=True):
        np.testing.assert_allclose(found[number]["gradients"][0]["x"], np.cos(x) * x, rtol=1e-13)
        np.testing.assert_allclose(found[number]["value"], np.sin(x), rtol=1e-13)
    stream.close()


def test_a_full_queue_says_when_to_try_again() -> None:
    with serving(["spins"], ServiceSettings(workers=1, max_queued=2, grace=0.3)) as running:
        stream = Streaming(running.address)
        for _ in range(4):
            stream.send("evaluate", function="spins", arguments=[0.0, 60.0])
        refused = stream.next()
        assert (refused.stream.id, refused.body) == (4, "failure")
        assert refused.message.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        assert refused.message.retry_after > 0
        stream.close()


def test_health_is_answered_while_all_processes_compute(running: Running, unary: Unary) -> None:
    stream = Streaming(running.address)
    for _ in range(4):
        stream.send("evaluate", function="spins", arguments=[0.0, 60.0])
    assert eventually(lambda: running.counts()["running"] == 2)
    check = unary.channel.unary_unary("/grpc.health.v1.Health/Check")
    for service in ("", "distgrad.v1.GradientService"):
        reply = check(pb.HealthCheckRequest(service=service).SerializeToString(), timeout=DEADLINE)
        assert pb.HealthCheckResponse.FromString(reply).status == 1
    with pytest.raises(grpc.RpcError, match="no such service"):
        check(pb.HealthCheckRequest(service="another").SerializeToString(), timeout=DEADLINE)
    assert running.counts()["running"] == 2
    stream.close()
    assert eventually(lambda: running.counts()["running"] == 0)


# ---- giving up -------------------------------------------------------------------------------------------------------


def test_a_deadline_reaches_the_computation(running: Running) -> None:
    before = running.processes()
    for client in (Streaming(running.address), Local(running.address)):
        number = client.send("evaluate", function="spins", arguments=[0.0, 3600.0], timeout=0.2)
        if isinstance(client, Local):
            found, failed = client.receive()
            assert isinstance(failed, Failed)
            code = failed.code
        else:
            exchange = client.next()
            found, code = exchange.stream.id, Failed(exchange.message).code
        assert (found, code) == (number, "DEADLINE_EXCEEDED")
        client.close()
    unary = Unary(running.address)
    with pytest.raises(Failed) as raised:
        unary.ask("evaluate", timeout=0.2, function="spins", arguments=[0.0, 3600.0])
    assert raised.value.code == "DEADLINE_EXCEEDED"
    unary.close()
    assert eventually(lambda: running.counts()["running"] == 0)
    # The processes were interrupted, not killed.
    assert running.processes() == before


def test_a_request_is_cancelled_whether_it_waits_or_runs(running: Running) -> None:
    stream = Streaming(running.address)
    sent = [stream.send("evaluate", function="spins", arguments=[0.0, 3600.0]) for _ in range(3)]
    assert eventually(lambda: running.counts()["queued"] == 1)
    for number in reversed(sent):
        stream.put(b"".join(encode_exchange(pb.StreamRequest(id=number), "cancel", pb.CancelRequest())))
    ended = [stream.next() for _ in sent]
    assert {exchange.stream.id for exchange in ended} == set(sent)
    assert {Failed(exchange.message).code for exchange in ended} == {"CANCELLED"}
    stream.close()


def test_what_a_client_asked_for_ends_when_it_is_gone(running: Running) -> None:
    for client in (Streaming(running.address), Local(running.address)):
        client.send("evaluate", function="spins", arguments=[0.0, 3600.0])
        assert eventually(lambda: running.counts()["running"] == 1)
        client.close()
        assert eventually(lambda: running.counts()["running"] == 0)


def test_a_process_that_does_not_heed_is_killed_and_replaced(running: Running, unary: Unary) -> None:
    before = set(running.processes())
    with pytest.raises(Failed, match=r"not ready within|Deadline"):
        unary.ask("evaluate", timeout=0.2, function="sleeps_deeply", arguments=[1.0, 3600.0])
    assert eventually(lambda: len(set(running.processes()) - before) == 1)
    assert eventually(lambda: running.counts()["workers"] == 2)
    assert unary.ask("evaluate", function="anything", arguments=[3.0])["value"] == 6.0


# ---- lost processes --------------------------------------------------------------------------------------------------


def test_a_request_that_kills_every_process_fails_in_the_end(running: Running, unary: Unary) -> None:
    with pytest.raises(Failed, match="lost, 3 times") as raised:
        unary.ask("evaluate", function="dies", arguments=[1.0])
    assert raised.value.code == "UNAVAILABLE"
    assert unary.ask("evaluate", function="anything", arguments=[3.0])["value"] == 6.0
    assert eventually(lambda: running.counts()["workers"] == 2)


def test_a_request_goes_on_elsewhere_when_its_process_is_killed(running: Running, unary: Unary) -> None:
    assert eventually(lambda: running.counts()["workers"] == 2)
    killed: list[int] = []

    def kill_the_first() -> None:
        assert eventually(lambda: running.counts()["running"] == 1)
        busy = next(process for process in running.server.desk.pool if process.tasks)
        killed.append(busy.child.pid)
        busy.kill()

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    assert unary.ask("evaluate", function="spins", arguments=[5.0, 1.0])["value"] == 5.0
    killer.join()
    assert killed
    assert eventually(lambda: running.counts()["workers"] == 2)


def test_a_session_whose_process_is_lost_says_so(running: Running) -> None:
    unary = Unary(running.address)
    opened = unary.ask("linearize", function="spins", arguments=[5.0, 0.0])
    session = next(iter(running.server.desk.sessions._sessions.values()))
    session.process.kill()
    with pytest.raises(Failed) as raised:
        while True:
            unary.ask("evaluate", session=opened["session"])
    assert raised.value.code in ("ABORTED", "NOT_FOUND")
    unary.close()
    assert eventually(lambda: running.counts()["workers"] == 2)


# ---- the beginning and the end ---------------------------------------------------------------------------------------


def test_requests_under_way_end_before_the_server_does() -> None:
    with serving(["spins"], ServiceSettings(workers=1)) as running:
        stream = Streaming(running.address)
        for _ in range(2):
            stream.send("evaluate", function="spins", arguments=[5.0, 0.4])
        assert eventually(lambda: running.counts()["queued"] == 1)
        late = Unary(running.address)
        late.call("ListFunctions", b"")
        draining = asyncio.run_coroutine_threadsafe(running.server.drain(), running.loop)
        assert eventually(lambda: not running.server.desk.serving)
        with pytest.raises(Failed, match="the server ends") as raised:
            late.ask("evaluate", function="spins", arguments=[5.0, 0.0])
        assert raised.value.code == "UNAVAILABLE"
        assert [answer(e.message, e.payload)["value"] for e in (stream.next(), stream.next())] == [5.0, 5.0]
        assert draining.result(DEADLINE)
        late.close()
        stream.close()


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


def test_a_taken_address_is_said(running: Running) -> None:
    with pytest.raises(LinkError, match="taken"), serving(["sine"], listen=running.address):
        pass
