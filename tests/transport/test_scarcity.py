"""What links do when the system has no descriptor or thread to give; over every kind of lane."""

from __future__ import annotations

import errno
import os
import threading
from typing import Any

import pytest

from distgrad.errors import LinkError, WorkerLost
from distgrad.transport import Endpoint
from distgrad.transport.interfaces import Port
from distgrad.wire import pb

from .conftest import World
from .recorder import DEADLINE


def without_descriptors(endpoint: Endpoint, times: int) -> None:
    """So many times from now on, the system has no descriptor for a lane that `endpoint` opens."""
    opens, left = endpoint.lanes.open, iter(range(times))

    def open_lane(address: str, port: Port) -> None:
        if next(left, None) is not None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        opens(address, port)

    endpoint.lanes.open = open_lane  # type: ignore[method-assign]


def test_without_descriptors_a_link_is_not_opened_and_can_be_later(world: World) -> None:
    a, b = world.endpoint("a"), world.endpoint("b")
    without_descriptors(a, 2 if world.kind == "beside-grpc" else 1)
    with pytest.raises(LinkError, match="Too many open files"):
        a.connect("b", b.identity.address)
    assert a.connect("b", b.identity.address).request(pb.Fetch()).result(DEADLINE)


def test_a_break_is_mended_when_there_are_descriptors_again(world: World) -> None:
    a, b = world.pair()
    without_descriptors(a, 3)
    world.break_lanes(a)
    assert a.link("b").request(pb.Fetch()).result(DEADLINE)
    assert a.receiver.losses == b.receiver.losses == []


def without_threads(endpoint: Endpoint, kind: str) -> None:
    """From now on, the system has no thread of that kind for `endpoint`."""
    starts = endpoint._threads.start

    def start(name: str, *task: Any) -> threading.Thread:
        if name.startswith(kind):
            raise RuntimeError("can't start new thread")
        return starts(name, *task)

    endpoint._threads.start = start  # type: ignore[method-assign]


def test_a_link_that_there_is_no_thread_to_move_in_stays_where_it_is(world: World) -> None:
    a, b = world.endpoint("a"), world.endpoint("b")
    without_threads(a, "distgrad-move")
    assert a.connect("b", b.identity.address).request(pb.Fetch()).result(DEADLINE)


def test_a_break_that_there_is_no_thread_to_mend_in_is_a_loss(world: World) -> None:
    a, _ = world.pair()
    without_threads(a, "distgrad-recover")
    waiting = a.link("b").request(pb.Statistics())
    world.break_lanes(a)
    with pytest.raises(WorkerLost, match="no thread to make it again in"):
        waiting.result(DEADLINE)
