"""What a link writes, before any lane has it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from distgrad.transport import Identity, TransportSettings
from distgrad.transport.link import ProcessLink
from distgrad.wire import pb

from .recorder import Recorder


class Owner:
    """An endpoint of one link."""

    readers = threading.local()

    def lose(self, link: ProcessLink, reason: str) -> None: ...


class Plug:
    """The end of a lane, of which a test takes frames."""

    lane_address = ""

    def wake(self) -> None: ...
    def finish(self) -> None: ...
    def close(self) -> None: ...


@pytest.fixture
def link() -> ProcessLink:
    me, peer = Identity.new("me", "worker"), Identity.new("peer", "worker")
    return ProcessLink(me, peer, "session", "", TransportSettings.for_tests(), Recorder(), Owner())


def written(link: ProcessLink) -> Iterator[pb.Frame]:
    """The frames that a link has, as protobuf alone reads them."""
    plug = Plug()
    link.attach(plug, 0)
    while frames := link.take(plug):
        for pieces in frames:
            yield pb.Frame.FromString(b"".join(pieces))


# Without arrays, with a few that are copied into the frame, with one that is pointed to.
ARRAYS: dict[str, list[Any]] = {
    "none": [],
    "small": [np.arange(3, dtype=np.int16), np.array(2.5), np.zeros((0, 2), np.float32)],
    "large": [np.arange(500, dtype=np.float64)],
}


@pytest.mark.parametrize("arrays", ARRAYS.values(), ids=ARRAYS.keys())
def test_messages_requests_and_replies_are_the_protobuf_messages_they_stand_for(
    link: ProcessLink, arrays: list[Any]
) -> None:
    call = pb.Call(shard="head", method="forward", path=[0, -1, 2**31 - 1])
    fetch = pb.Fetch(ref=pb.RefId(owner="peer", path=[300]))
    fetched = pb.Fetched(first_item=200)
    link.send(call, arrays)
    link.request(fetch, arrays)
    link._requests.serve(pb.Request(id=77, fetch=fetch), lambda body, reply: reply(fetched, arrays))
    expected = [
        pb.Frame(sequence=1, call=call),
        pb.Frame(sequence=2, request=pb.Request(id=1, fetch=fetch)),
        pb.Frame(sequence=3, reply=pb.Reply(id=77, fetched=fetched)),
    ]
    for frame, meant in zip(written(link), expected, strict=True):
        for header, array in zip(frame.arrays, arrays, strict=True):
            assert (header.dtype, tuple(header.shape), header.transfer) == (array.dtype.name, array.shape, 0)
            assert frame.payload[header.offset : header.offset + header.size] == array.tobytes()
        for field in ("arrays", "padding", "payload"):
            frame.ClearField(field)
        assert frame == meant


def test_a_frame_says_how_far_this_side_has_read(link: ProcessLink) -> None:
    plug = Plug()
    link.attach(plug, 0)
    for number in range(1, 201):
        link.received(plug, pb.Frame(sequence=number, drop=pb.Drop()).SerializeToString())
    link.send(pb.Drop())
    (pieces,) = link.take(plug)
    assert pb.Frame.FromString(b"".join(pieces)) == pb.Frame(sequence=1, acknowledged=200, drop=pb.Drop())
