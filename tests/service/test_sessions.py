"""A session keeps the linearisation for its owner, as long as its lease."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from distgrad.service.settings import ServiceSettings
from tests.processes import eventually
from tests.service.raw import QUICK, Failed, Running, Unary, serving


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
    with serving(["sine"], ServiceSettings(workers=1, lease=3600.0, max_sessions_per_client=1)) as running:
        client = Unary(running.address)
        opened = client.ask("linearize", function="sine", arguments=[np.ones(2)])
        with pytest.raises(Failed, match="1 sessions are open") as raised:
            client.ask("linearize", function="sine", arguments=[np.ones(2)])
        assert raised.value.code == "RESOURCE_EXHAUSTED"
        running.server.desk.sessions._now = lambda: time.monotonic() + 3601
        assert eventually(lambda: running.counts()["sessions"] == 0)
        with pytest.raises(Failed, match="lease"):
            client.ask("evaluate", session=opened["session"])
        client.close()


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
