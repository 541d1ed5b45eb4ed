"""What a server that takes nothing costs its clients, and what forks of a client's process see."""

from __future__ import annotations

import asyncio
import gc
import os

import numpy as np
import pytest

from distgrad.errors import Timeout
from distgrad.service.client import client
from distgrad.service.client.connect import Client
from tests.forks import Fork
from tests.processes import blocks, eventually

from .server import Server

LARGE = np.linspace(1.0, 2.0, 300_000)


@pytest.mark.parametrize("x", [np.ones(1000), np.ones(10_000)], ids=["in messages", "in lent memory"])
def test_a_server_that_takes_nothing_keeps_nobody_beyond_a_deadline(server: Server, x: np.ndarray) -> None:
    before = blocks()
    with client(server.address) as service:
        f = service["sin"]
        f(x)
        server.held.clear()
        for _ in range(100):
            with pytest.raises(Timeout):
                f(x, timeout=1e-3)

        async def ask() -> list[np.ndarray]:
            asked = [asyncio.ensure_future(f.call_async(x)) for _ in range(400)]
            await asyncio.sleep(0)  # all are on their way
            for one in asked[::2]:
                one.cancel()
            await asyncio.wait(asked[::2])
            server.held.set()
            return await asyncio.gather(*asked[1::2])

        assert all(np.array_equal(y, np.sin(x)) for y in asyncio.run(ask()))
        assert np.array_equal(f(x), np.sin(x))
        assert eventually(lambda: sum(kind == "cancel" for _, kind, _ in server.received) == 300)
        assert server.lines == ["local"]
    assert eventually(lambda: gc.collect() >= 0 and blocks() <= before)


@pytest.mark.parametrize("lent", [True, False])
def test_a_fork_keeps_results_that_its_parent_has_let_go_of(remote: Client, lent: bool) -> None:
    f = remote["sin"] if lent else remote["ramp"]
    point: object = LARGE if lent else len(LARGE)
    if lent:
        f(LARGE)  # from now on there is room for the result in what is lent
    results = [f(point)]
    expected = results[0].copy()
    fork = Fork(lambda: np.array_equal(results[0], expected))
    results.clear()
    for k in range(4):
        f(LARGE + k if lent else point)
    assert fork.result() == "True"


@pytest.mark.parametrize("lent", [True, False])
def test_what_a_fork_writes_to_a_result_its_parent_does_not_see(remote: Client, lent: bool) -> None:
    result = remote["sin"](LARGE) if lent else remote["ramp"](len(LARGE))
    expected = result.copy()
    Fork(lambda: result.fill(-1.0)).result()
    assert np.array_equal(result, expected)
    result.fill(2.0)
    assert np.array_equal(remote["sin"](LARGE), np.sin(LARGE))
    assert np.all(result == 2.0)


@pytest.mark.parametrize("local", [True, False])
def test_a_fork_is_refused_the_client_of_its_parent_who_goes_on(server: Server, local: bool) -> None:
    with client(server.address, local=local, timeout=20) as service:
        x = np.ones(3)
        service["sin"](x)
        for use in (lambda: service["sin"](x), lambda: list(service)):
            said = Fork(use).result()
            assert said.startswith(f"ConfigError: this client of {server.address} belongs to process {os.getpid()},")
            assert said.endswith("is a fork: make a client here")
        assert Fork(service.close).result() == "None"
        assert np.array_equal(service["sin"](x), np.sin(x))
    assert len(server.lines) == 1
