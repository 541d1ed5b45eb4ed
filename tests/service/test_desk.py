"""Many requests at a time, ones that are given up, and processes that are lost under them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import RemoteError
from distgrad.service.settings import ServiceSettings
from distgrad.wire import pb
from distgrad.wire.exchanges import encode_exchange
from tests.processes import eventually
from tests.service.raw import DEADLINE, QUICK, Asking, Failed, Local, Running, Streaming, Unary, answer, serving


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


def test_requests_computed_as_one_may_be_larger_together_than_any_message() -> None:
    with serving(["sine", "spins"], ServiceSettings(workers=1, max_message_bytes=2**16)) as running:
        stream = Streaming(running.address)
        stream.send("evaluate", function="spins", arguments=[0.0, 0.3])
        for _ in range(40):
            stream.send("evaluate", function="sine", arguments=[np.ones(4000)])
        assert {stream.next().body for _ in range(41)} == {"evaluate"}
        assert running.counts()["workers_lost"] == 0
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


def test_a_deadline_that_is_no_number_is_refused(running: Running) -> None:
    local = Local(running.address)
    with pytest.raises(Failed, match="the timeout is not a number") as raised:
        local.ask("evaluate", timeout=float("nan"), function="anything", arguments=[1.0])
    assert raised.value.code == "INVALID_ARGUMENT"
    assert local.ask("evaluate", function="anything", arguments=[3.0])["value"] == 6.0
    local.close()


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


def test_who_gives_up_a_request_takes_no_answer_from_others_computed_with_it(let_go: Callable[[int], None]) -> None:
    with serving(["waits"], ServiceSettings(workers=1)) as running:
        stream = Streaming(running.address)
        stream.send("evaluate", function="waits", arguments=[0.0])
        assert eventually(lambda: running.counts()["running"] == 1)
        unwanted, wanted = (stream.send("evaluate", function="waits", arguments=[x]) for x in (1.0, 2.0))
        assert eventually(lambda: running.counts()["queued"] == 2)
        let_go(1)
        assert stream.next().body == "evaluate"
        assert eventually(lambda: running.counts()["running"] == 2)
        stream.put(b"".join(encode_exchange(pb.StreamRequest(id=unwanted), "cancel", pb.CancelRequest())))
        cancelled = stream.next()
        assert (cancelled.stream.id, Failed(cancelled.message).code) == (unwanted, "CANCELLED")
        let_go(2)
        answered = stream.next()
        assert answered.stream.id == wanted
        assert answer(answered.message, answered.payload)["value"] == 2.0
        assert running.counts()["workers_lost"] == 0
        stream.close()


def test_what_a_client_asked_for_ends_when_it_is_gone(running: Running) -> None:
    for client in (Streaming(running.address), Local(running.address)):
        client.send("evaluate", function="spins", arguments=[0.0, 3600.0])
        assert eventually(lambda: running.counts()["running"] == 1)
        client.close()
        assert eventually(lambda: running.counts()["running"] == 0)


def test_a_process_that_does_not_heed_is_killed_and_replaced(
    running: Running, unary: Unary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running.server.desk, "settings", replace(QUICK, grace=0.1))
    before, lost = set(running.processes()), running.counts()["workers_lost"]
    for seconds in (0.2, 2.0, 20.0):
        with pytest.raises(Failed, match=r"not ready within|Deadline"):
            unary.ask("evaluate", timeout=seconds, function="sleeps_deeply", arguments=[1.0, 3600.0])
        assert eventually(lambda: running.counts()["running"] == 0)
        if running.counts()["workers_lost"] > lost:  # a busy machine may not begin with it in the shorter times
            break
    assert eventually(lambda: set(running.processes()) - before)
    assert eventually(lambda: running.counts()["workers"] == 2)
    assert unary.ask("evaluate", function="anything", arguments=[3.0])["value"] == 6.0


# ---- lost processes --------------------------------------------------------------------------------------------------


def test_a_request_that_kills_every_process_fails_in_the_end(running: Running, unary: Unary) -> None:
    before = running.counts()["workers_lost"]
    said = r"WorkerLost: .* lost, 3 times; the last one was killed by signal 9"
    with dg.client(running.address, timeout=DEADLINE) as client, pytest.raises(RemoteError, match=said):
        client["dies"](1.0)
    assert running.counts()["workers_lost"] == before + 3
    assert unary.ask("evaluate", function="anything", arguments=[3.0])["value"] == 6.0
    assert eventually(lambda: running.counts()["workers"] == 2)


def test_a_request_that_kills_its_process_takes_others_with_it_once_at_most(running: Running) -> None:
    stream = Streaming(running.address)
    for _ in range(2):
        stream.send("evaluate", function="spins", arguments=[0.0, 0.3])
    killing, other = (stream.send("evaluate", function="dies_below_zero", arguments=[x]) for x in (-1.0, 1.0))
    ended = {exchange.stream.id: exchange for exchange in (stream.next() for _ in range(4))}
    assert Failed(ended[killing].message).code == "INTERNAL"
    assert answer(ended[other].message, ended[other].payload)["value"] == 1.0
    stream.close()
    assert eventually(lambda: running.counts()["workers"] == 2)


def test_a_request_goes_on_elsewhere_when_its_process_is_killed(let_go: Callable[[int], None]) -> None:
    with serving(["waits"], ServiceSettings(workers=2)) as running:
        stream = Streaming(running.address)
        stream.send("evaluate", function="waits", arguments=[5.0])
        assert eventually(lambda: running.counts()["running"] == 1)
        next(process for process in running.server.desk.pool if process.tasks).kill()
        assert eventually(lambda: running.counts()["workers_lost"] == 1)
        let_go(1)
        answered = stream.next()
        assert answer(answered.message, answered.payload)["value"] == 5.0
        assert eventually(lambda: running.counts()["workers"] == 2)
        stream.close()
