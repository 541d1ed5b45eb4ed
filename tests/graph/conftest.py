from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from distgrad.graph.executor import Executor
from tests.graph.executing import DEADLINE
from tests.transport.served import ServedLane


@pytest.fixture
def executor() -> Iterator[Executor]:
    with Executor(name="test") as executor:
        yield executor
        assert executor.failures == 0
        assert executor.close(grace=DEADLINE), f"still running: {executor}"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("test-")]


@pytest.fixture
def lane() -> Iterator[ServedLane]:
    with ServedLane() as lane:
        yield lane
