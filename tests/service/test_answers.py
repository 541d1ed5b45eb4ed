"""Every way to a server brings the same answers."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.service.transfers import CHUNK_BYTES, cut
from distgrad.wire import pb
from tests.service.raw import Failed, Local, Running, Streaming, Unary, question


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
