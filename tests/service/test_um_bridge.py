"""UM-Bridge's own client, and raw HTTP, against served functions."""

from __future__ import annotations

import base64
import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.service import access, http_door
from distgrad.service.block import serve
from distgrad.service.settings import ServiceSettings
from distgrad.service.specs import ArraySpec
from distgrad.service.um_bridge import Wrong, shaped
from tests.processes import eventually
from tests.service.raw import Running, put_tokens, serving

umbridge = pytest.importorskip("umbridge")

PROGRAM = Path(__file__).parent / "programs" / "derivatives.py"
NAMES = ("rosenbrock", "coupled", "fails", "wave", "undeclared")
X, Y = [1.2, 0.7, 0.3], [0.5, -1.0]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve([f"{PROGRAM}:{name}" for name in NAMES], um_bridge=0) as running:
        yield running.server.um_bridge_url


def rosenbrock(x: Any) -> Any:
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def coupled(x: Any, y: Any) -> Any:
    return x * np.sum(y * y), np.sin(y) * np.sum(x)


# ---- with the client of UM-Bridge ------------------------------------------------------------------------------------


def test_functions_of_real_arrays_are_models(url: str) -> None:
    assert umbridge.supported_models(url) == ["coupled", "fails", "rosenbrock"]


def test_a_model_says_what_it_supports_and_its_sizes(url: str) -> None:
    model = umbridge.HTTPModel(url, "coupled")
    assert model.supports_evaluate()
    assert model.supports_gradient()
    assert model.supports_apply_jacobian()
    assert model.supports_apply_hessian()
    assert model.get_input_sizes({"n": 5}) == [5, 2]
    assert model.get_output_sizes({"n": 5}) == [5, 2]
    # Not declared: the model is evaluated.
    assert umbridge.HTTPModel(url, "fails").get_output_sizes() == [2]


def test_a_scalar_model(url: str) -> None:
    model = umbridge.HTTPModel(url, "rosenbrock")
    x, v = np.array(X), np.array([1.0, -1.0, 0.5])
    assert np.allclose(model([X]), [[rosenbrock(x)]])
    assert np.allclose(model.gradient(0, 0, [X], [2.0]), 2 * dg.grad(rosenbrock)(x))
    assert np.allclose(model.apply_jacobian(0, 0, [X], v.tolist()), dg.jvp(rosenbrock, (x,), (v,))[1])
    assert np.allclose(model.apply_hessian(0, 0, 0, [X], [2.0], v.tolist()), 2 * dg.hvp(rosenbrock)(x, v))


@pytest.mark.parametrize("out", [0, 1])
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("second", [0, 1])
def test_derivatives_are_by_one_input_of_one_output(url: str, out: int, first: int, second: int) -> None:
    model = umbridge.HTTPModel(url, "coupled")
    points = np.array(X), np.array(Y)
    rng = np.random.default_rng(out + 2 * first)
    sens, vec = rng.normal(size=(3, 2)[out]), rng.normal(size=(3, 2)[second])

    def of(*args: Any) -> Any:
        return dg.ops.sum(coupled(*args)[out] * sens)

    def along(t: Any) -> Any:
        moved = list(points)
        moved[second] = points[second] + t * vec
        return dg.grad(of, first)(*moved)

    gradient = model.gradient(out, second, [X, Y], sens.tolist())
    assert np.allclose(gradient, dg.grad(of, second)(*points))
    tangent = dg.jvp(
        lambda x: coupled(*[x if k == second else p for k, p in enumerate(points)]), (points[second],), (vec,)
    )
    assert np.allclose(model.apply_jacobian(out, second, [X, Y], vec.tolist()), tangent[1][out])
    hessian = model.apply_hessian(out, first, second, [X, Y], sens.tolist(), vec.tolist())
    assert np.allclose(hessian, dg.jvp(along, (0.0,), (1.0,))[1])


def test_the_config_gives_arguments_that_may_be_left_out(url: str) -> None:
    model = umbridge.HTTPModel(url, "coupled")
    assert np.allclose(model([X, Y], {"scale": 3.0})[0], 3 * np.array(model([X, Y])[0]))


def test_the_errors_are_those_of_the_protocol(url: str) -> None:
    model, fails = umbridge.HTTPModel(url, "rosenbrock"), umbridge.HTTPModel(url, "fails")
    cases = {
        r"InvalidInput: .*expected 1 \(x\)": lambda: model([X, X]),
        "InvalidInput: Input parameter 0 .* must be a list of numbers": lambda: model([["a"]]),
        "InvalidInput: .* invalid length! Expected 2 but got 3": lambda: fails([X]),
        "InvalidInput: Invalid outWrt index! Expected between 0 and 0, but got 1": lambda: model.gradient(
            1, 0, [X], [1.0]
        ),
        "InvalidInput: Invalid inWrt index!": lambda: model.gradient(0, 1, [X], [1.0]),
        "InvalidInput: Sensitivity vector sens has invalid length!": lambda: model.gradient(0, 0, [X], [1.0, 1.0]),
        "InvalidInput: Vector vec has invalid length!": lambda: model.apply_jacobian(0, 0, [X], [1.0]),
        "InvalidOutput: fails raised ArithmeticError: below zero": lambda: fails([[-1.0, 0.0]]),
        "InvalidOutput: Output vector 0 holds NaN or infinity": lambda: fails([[0.0, 1.0]]),
    }
    for message, call in cases.items():
        with pytest.raises(Exception, match=message):
            call()
    with pytest.raises(Exception, match="not supported by server"):
        umbridge.HTTPModel(url, "wave")


@pytest.mark.parametrize(
    ("dtype", "numbers", "held"),
    [
        ("float64", [1, 2.5, True], True),
        ("float64", [10**30], True),
        ("float64", [1.0, None], False),
        ("float64", [1.0, "2.0"], False),
        ("float64", [[1.0]], False),
        ("float64", [10**400], False),
        ("float32", [0.1], True),
        ("float32", [1e300], False),
        ("int64", [1.0, 2**53 + 1], True),
        ("int64", [1.5], False),
        ("int64", [float("nan")], False),
        ("uint8", [255.0], True),
        ("uint8", [-1.0], False),
        ("bool", [0, 1.0], True),
        ("bool", [0.5], False),
    ],
)
def test_numbers_are_taken_as_they_are_or_refused(dtype: str, numbers: list[Any], held: bool) -> None:
    spec = ArraySpec(dtype, (len(numbers),))
    if held:
        found = shaped(numbers, spec, {}, "Input")
        assert (found.dtype, found.tolist()) == (np.dtype(dtype), np.array(numbers, dtype).tolist())
    else:
        with pytest.raises(Wrong, match=f"Input must be a list of numbers that {dtype} can hold"):
            shaped(numbers, spec, {}, "Input")


# ---- HTTP ------------------------------------------------------------------------------------------------------------


def post(url: str, path: str, content: Any, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
    try:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("path", "content", "status", "kind"),
    [
        ("/Evaluate", {"name": "nobody", "input": [X]}, 400, "ModelNotFound"),
        ("/Evaluate", {"input": [X]}, 400, "InvalidInput"),
        ("/Evaluate", {"name": "rosenbrock"}, 400, "InvalidInput"),
        ("/Evaluate", {"name": "rosenbrock", "input": [X], "config": 3}, 400, "InvalidInput"),
        ("/Evaluate", b"{", 400, "InvalidInput"),
        ("/Evaluate", [1], 400, "InvalidInput"),
        ("/InputSizes", {"name": "rosenbrock"}, 400, "InvalidInput"),
        ("/InputSizes", {"name": "rosenbrock", "config": {"n": -1}}, 400, "InvalidInput"),
        ("/InputSizes", {"name": "rosenbrock", "config": {"n": True}}, 400, "InvalidInput"),
        ("/InputSizes", {"name": "rosenbrock", "config": {"n": 2**40}}, 400, "InvalidInput"),
        ("/OutputSizes", {"name": "coupled", "config": {"n": 2**40}}, 400, "InvalidInput"),
        ("/Integrate", {"name": "rosenbrock"}, 404, "UnsupportedFeature"),
        ("/Evaluate", {"name": "fails", "input": [[-1.0, 0.0]]}, 500, "InvalidOutput"),
    ],
)
def test_errors_have_a_status_and_a_type(url: str, path: str, content: Any, status: int, kind: str) -> None:
    found, answer = post(url, path, content)
    assert (found, answer["error"]["type"]) == (status, kind)
    assert answer["error"]["message"]


def test_several_requests_go_over_one_connection(url: str) -> None:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
    for _ in range(3):
        connection.request("GET", "/Info")
        assert json.loads(connection.getresponse().read())["protocolVersion"] == 1.0
    connection.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST /Evaluate HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n", b"413"),
        (b"POST /Evaluate HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST /Evaluate HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", b"400"),
        (b"POST /Evaluate HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"501"),
        (b"GET /Info HTTP/1.1\r\nX: " + b"x" * 40_000, b"431"),
    ],
)
def test_what_is_no_request_is_refused_and_the_connection_ended(url: str, sent: bytes, status: bytes) -> None:
    host, _, port = url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), 20) as connected:
        connected.sendall(sent)
        found = b""
        while data := connected.recv(4096):
            found += data
    assert found.startswith(b"HTTP/1.1 " + status)


def connected(running: Running) -> socket.socket:
    host, port = running.server.um_bridge_url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def test_a_request_ends_when_its_client_is_gone() -> None:
    with serving(["spins"], ServiceSettings(workers=1), um_bridge=0) as running:
        body = json.dumps({"name": "spins", "input": [[0.0], [3600.0]]}).encode()
        with connected(running) as client:
            client.sendall(b"POST /Evaluate HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            assert eventually(lambda: running.counts()["running"] == 1)
        assert eventually(lambda: running.counts()["running"] == 0)


def test_who_goes_or_falls_silent_amid_a_request_is_no_bug_of_the_server(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(http_door, "ARRIVAL", 0.1)
    begun = b"POST /Evaluate HTTP/1.1\r\nContent-Length: 100\r\n\r\n{"
    with serving(["sine"], ServiceSettings(workers=1), um_bridge=0) as running:
        with connected(running) as client:
            client.sendall(begun)
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1000) == b""
        with connected(running) as client:
            client.sendall(begun)
            assert client.recv(1000).startswith(b"HTTP/1.1 408 ")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_token_is_asked_for_in_either_header(tmp_path: Path) -> None:
    (tmp_path / "tokens.toml").write_text('[alice]\nrole = "client"\ntoken = "secret"\n')
    settings = ServiceSettings(workers=1, tokens=tmp_path / "tokens.toml")
    with serve([f"{PROGRAM}:rosenbrock"], settings, um_bridge=0) as running:
        url, question = running.server.um_bridge_url, {"name": "rosenbrock", "input": [X]}
        assert post(url, "/Evaluate", question)[0] == 401
        assert post(url, "/Evaluate", question, Authorization="Bearer guess")[0] == 401
        assert post(url, "/Evaluate", question, Authorization="Bearer secret")[0] == 200
        basic = base64.b64encode(b"me:secret").decode()
        assert post(url, "/Evaluate", question, Authorization=f"Basic {basic}")[0] == 200
        model = umbridge.HTTPModel(url.replace("http://", "http://me:secret@"), "rosenbrock")
        assert np.allclose(model([X]), [[rosenbrock(np.array(X))]])


def test_a_token_is_asked_for_again_with_each_request_and_refusals_name_the_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(access, "RELOAD", 0.0)
    alice = '[alice]\nrole = "client"\ntoken = "secret"\n'
    (tmp_path / "tokens.toml").write_text(alice)
    settings = ServiceSettings(workers=1, tokens=tmp_path / "tokens.toml")
    with serve([f"{PROGRAM}:rosenbrock"], settings, um_bridge=0) as running:
        url, question = running.server.um_bridge_url, {"name": "rosenbrock", "input": [X]}
        for later, status in ((alice, 200), (alice.replace("client", "worker"), 403), ("", 401)):
            put_tokens(tmp_path / "tokens.toml", later)
            assert post(url, "/Evaluate", question, Authorization="Bearer secret")[0] == status
    audit = [json.loads(record.getMessage()) for record in caplog.records if record.name == "distgrad.audit"]
    assert [(line["client"], line["code"]) for line in audit] == [
        ("alice", "PERMISSION_DENIED"),
        ("", "UNAUTHENTICATED"),
    ]


def test_a_stranger_gets_the_answer_while_it_still_sends(tmp_path: Path) -> None:
    (tmp_path / "tokens.toml").write_text('[alice]\nrole = "client"\ntoken = "secret"\n')
    settings = ServiceSettings(workers=1, tokens=tmp_path / "tokens.toml")
    with serve([f"{PROGRAM}:rosenbrock"], settings, um_bridge=0) as running:
        question = json.dumps({"name": "rosenbrock", "input": [[1.0] * 200_000]}).encode()
        assert post(running.server.um_bridge_url, "/Evaluate", question)[0] == 401
