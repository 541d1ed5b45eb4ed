"""A server that tests of a module share, and each way to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.service.raw import QUICK, TARGETS, Asking, Local, Running, Unary, serving


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with serving(TARGETS, QUICK) as running:
        yield running


@pytest.fixture
def let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets a process's first call (1), second, ... of `waits` end, which a server of the test's own serves."""
    monkeypatch.setenv("DISTGRAD_TEST_GONE", str(tmp_path))
    return lambda number: (tmp_path / str(number)).touch()


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
