"""Requests that anyone may have sent end in an answer or a refusal, whatever is in them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distgrad.transport.local_messages import packed
from distgrad.wire import pb
from tests.any_message import messages
from tests.faults.strangers import mutated
from tests.service.fuzz import SERVED, seeds, try_one
from tests.service.raw import Failed, Local, Running, Unary, serving

SEEDS = seeds()
TEXTS = st.sampled_from([*SERVED, "", "x", "y", "model", "weights", "float64", "float32", "bool"]) | st.text(max_size=4)

broken = st.builds(mutated, st.sampled_from(sorted(SEEDS.values())), st.integers(0, 2**32))
whole = messages(pb.StreamRequest.DESCRIPTOR, TEXTS).map(lambda message: message.SerializeToString())


@pytest.mark.parametrize("name", SEEDS)
def test_a_good_request_of_every_kind_is_answered(name: str) -> None:
    assert try_one(SEEDS[name]) == name.partition("-")[0]


@settings(max_examples=300)
@given(broken)
def test_requests_with_broken_bytes(data: bytes) -> None:
    try_one(data)


@settings(max_examples=200)
@given(whole | st.binary(max_size=200))
def test_requests_of_any_content(data: bytes) -> None:
    try_one(data)


@pytest.mark.slow
@settings(max_examples=2000)
@given(broken | whole)
def test_very_many_requests(data: bytes) -> None:
    try_one(data)


@pytest.fixture(scope="module")
def running() -> Any:
    with serving(SERVED) as running:
        yield running


METHODS = {
    "evaluate": "Evaluate",
    "vjp": "Vjp",
    "jvp": "Jvp",
    "hvp": "Hvp",
    "hessian": "Hessian",
    "linearize": "Linearize",
}


@settings(max_examples=60)
@given(st.sampled_from(sorted(METHODS)), st.integers(0, 2**32))
def test_a_server_survives_them(running: Running, name: str, seed: int) -> None:
    plain = pb.StreamRequest.FromString(SEEDS[name])
    data = mutated(getattr(plain, name).SerializeToString(), seed)
    client = Unary(running.address)
    code = "OK"
    try:
        client.call(METHODS[name], data)
    except Failed as failed:
        code = failed.code
    client.close()
    assert code in ("OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "INTERNAL")


@settings(max_examples=40)
@given(st.sampled_from(sorted(SEEDS)), st.integers(0, 2**32))
def test_a_server_survives_them_on_its_local_socket(running: Running, name: str, seed: int) -> None:
    client = Local(running.address)
    client.socket.sendall(packed([mutated(SEEDS[name], seed)]) + packed([SEEDS["evaluate"]]))
    client.socket.shutdown(1)
    while client.socket.recv(2**16):
        continue
    client.close()
    assert running.counts()["workers_lost"] == 0
