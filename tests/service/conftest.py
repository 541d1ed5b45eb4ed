"""A server that tests of a module share, and each way to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.service.raw import QUICK, TARGETS, Asking, Local, Running, Unary, serving


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


@pytest.fixture
def unary(running: Running) -> Iterator[Unary]:
    client = Unary(running.address)
    yield client
    client.close()
