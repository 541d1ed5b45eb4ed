from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distgrad.errors import LinkError, PermissionDenied, WorkerLost
from distgrad.transport import Endpoint, Identity, TransportSettings
from distgrad.transport.handshake import greeting
from distgrad.transport.offers import choose, this_machine
from distgrad.transport.recovery import move
from distgrad.wire import pb

from .recorder import DEADLINE, Recorder, wait_until
from .strangers import tls


def endpoint(name: str, **changes: Any) -> Endpoint:
    return Endpoint(Identity.new(name, "worker"), TransportSettings.for_tests(**changes), Recorder())


@pytest.fixture
def folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield folder


def lane_of(here: Endpoint, there: str) -> str:
    link = here.link(there)
    assert link is not None
    assert link.request(pb.Fetch()).result(DEADLINE), "it works"
    return link.statistics()["lane"]


# ---- what an opener takes

HERE, ELSEWHERE = this_machine(), "another machine"
UNIX, FAR_UNIX = pb.Offer(kind="unix", path="@x", host=HERE), pb.Offer(kind="unix", path="@x", host=ELSEWHERE)
TCP, NEWER = pb.Offer(kind="tcp", port=7401), pb.Offer(kind="quantum")


@pytest.mark.parametrize(
    ("offers", "reached_at", "kinds", "chosen"),
    [
        ([], "h:1", ("unix", "tcp"), []),
        ([TCP, UNIX], "h:1", ("unix", "tcp"), ["socket:@x", "socket:h:7401"]),
        ([TCP, UNIX], "h:1", ("tcp",), ["socket:h:7401"]),
        ([TCP, UNIX], "h:1", ("unix",), ["socket:@x"]),
        ([TCP, UNIX], "h:1", (), []),
        ([TCP, FAR_UNIX], "h:1", ("unix", "tcp"), ["socket:h:7401"]),
        ([NEWER, TCP], "[::1]:1", ("unix", "tcp", "quantum"), ["socket:[::1]:7401"]),
        ([TCP], "unix:/s", ("unix", "tcp"), []),
    ],
)
def test_an_opener_takes_the_best_lane_that_leads_from_its_machine(
    offers: list[pb.Offer], reached_at: str, kinds: tuple[str, ...], chosen: list[str]
) -> None:
    assert choose(offers, reached_at, kinds) == chosen


# ---- beside a Unix socket


def test_beside_a_unix_socket_links_never_use_grpc(folder: str) -> None:
    with endpoint("b") as b, endpoint("a") as a:
        address = b.listen(f"unix:{folder}/b")
        a.connect("b", address)
        assert lane_of(a, "b") == lane_of(b, "a") == f"socket:{folder}/b.lane"
        assert a.link("b").opened_at == address
    assert os.listdir(folder) == []


def test_an_opener_that_finds_a_lane_beside_imports_no_grpc(folder: str) -> None:
    code = f"""
import sys
from distgrad.transport import Endpoint, Identity, TransportSettings
from tests.transport.recorder import Recorder
with Endpoint(Identity.new("a", "worker"), TransportSettings.for_tests(), Recorder()) as a:
    a.connect("b", "unix:{folder}/b")
sys.exit("grpc" in sys.modules)
"""
    with endpoint("b") as b:
        b.listen(f"unix:{folder}/b")
        assert subprocess.run([sys.executable, "-c", code], timeout=DEADLINE).returncode == 0


@pytest.mark.parametrize("who", ["opener", "listener"])
def test_either_side_may_keep_to_grpc(folder: str, who: str) -> None:
    only_grpc: dict[str, Any] = {"fast_lanes": ()}
    with (
        endpoint("b", **only_grpc if who == "listener" else {}) as b,
        endpoint("a", **only_grpc if who == "opener" else {}) as a,
    ):
        for address in (b.listen(f"unix:{folder}/b"), b.listen("127.0.0.1:0")):
            link = a.connect("b", address)
            assert lane_of(a, "b") == address
            link.close("again")
            b.receiver.wait_for(lambda: b.link("a") is None)


def test_a_path_with_no_room_for_a_lane_beside_is_grpcs_alone(folder: str, caplog: pytest.LogCaptureFixture) -> None:
    path = f"{folder}/{'x' * (101 - len(folder))}"
    with endpoint("b") as b, endpoint("a") as a:
        address = b.listen(f"unix:{path}")
        assert "no faster lanes than gRPC" in caplog.text
        a.connect("b", address)
        assert lane_of(a, "b") == address


def test_a_refusal_beside_is_final(folder: str) -> None:
    with endpoint("b") as b, endpoint("a", token="wrong") as a:
        address = b.listen(f"unix:{folder}/b")
        with pytest.raises(PermissionDenied, match=f"b at {address} refused the link: the token is not accepted"):
            a.connect("b", address)


# ---- moving from TCP


@pytest.mark.parametrize(("kind", "lane"), [("unix", "socket:@distgrad-"), ("tcp", "socket:127.0.0.1:")])
def test_a_link_opened_by_grpc_moves_to_what_the_listener_offers(kind: str, lane: str) -> None:
    with endpoint("b", fast_lanes=(kind,)) as b, endpoint("a") as a:
        link = a.connect("b", b.listen("127.0.0.1:0"))
        assert lane_of(a, "b").startswith(lane)
        assert link.opened_at == b.identity.address
        assert link.statistics()["reconnects"] == 1
        wait_until(lambda: len(a._plugs) == len(b._plugs) == 1)
        assert a.receiver.losses == b.receiver.losses == []


def test_by_default_a_link_within_a_machine_moves_to_the_unix_socket() -> None:
    with endpoint("b") as b, endpoint("a") as a:
        a.connect("b", b.listen("127.0.0.1:0"))
        assert lane_of(a, "b").startswith("socket:@distgrad-")


def test_an_offer_that_leads_nowhere_is_logged_and_grpc_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    with endpoint("b") as b, endpoint("a") as a:
        address = b.listen("127.0.0.1:0")
        b._offers[:] = [pb.Offer(kind="unix", path="@nobody", host=this_machine())]
        a.connect("b", address)
        assert lane_of(a, "b") == address
    assert "does not move to socket:@nobody" in caplog.text


def test_a_link_goes_on_with_grpc_when_its_lane_does_not_come_back(caplog: pytest.LogCaptureFixture) -> None:
    with endpoint("b") as b, endpoint("a") as a:
        address = b.listen("127.0.0.1:0")
        link = a.connect("b", address)
        waiting = link.request(pb.Statistics())
        b.receiver.wait_for(lambda: b.receiver.unanswered)
        b.lanes._sockets.close()
        assert lane_of(a, "b") == address
        b.receiver.unanswered[0](pb.Counts())
        assert waiting.result(DEADLINE)
        assert a.receiver.losses == b.receiver.losses == []
    assert "goes on with gRPC" in caplog.text


def test_a_link_that_broke_takes_the_same_lane_again() -> None:
    with endpoint("b") as b, endpoint("a") as a:
        link = a.connect("b", b.listen("127.0.0.1:0"))
        before = lane_of(a, "b")
        for plug in list(a._plugs):
            plug.close()
        assert lane_of(a, "b") == before
        assert link.statistics()["reconnects"] == 2


def test_moving_back_and_forth_under_load_loses_and_doubles_nothing() -> None:
    with endpoint("b") as b, endpoint("a") as a:
        address = b.listen("127.0.0.1:0")
        link = a.connect("b", address)
        fast = lane_of(a, "b")
        for number in range(200):
            link.send(pb.Call(path=[number]))
            b.link("a").send(pb.Done(path=[number]))
            if number % 20 == 10:
                move(a, link, [fast if number % 40 == 10 else address])
        assert [call.path[0] for call in b.receiver.received(200)] == list(range(200))
        assert [done.path[0] for done in a.receiver.received(200)] == list(range(200))
        assert a.receiver.losses == b.receiver.losses == []


# ---- who may come


def test_no_link_is_opened_over_a_lane_that_was_offered(caplog: pytest.LogCaptureFixture) -> None:
    """TLS may guard the address of gRPC, and nothing but its machine's users the Unix socket."""
    caplog.set_level(logging.ERROR)
    with endpoint("b") as b, endpoint("a") as a, endpoint("thief") as thief:
        link = a.connect("b", b.listen("127.0.0.1:0"))
        lane = lane_of(a, "b")
        with pytest.raises(PermissionDenied, match="links are not opened over this lane"):
            thief.connect("b", lane)
        for session, expected in ((link.session_name, WorkerLost), ("0" * 32, WorkerLost)):
            hello = greeting(thief.identity, thief.settings)
            hello.session = session
            plug = thief._new_plug(hello, "b", lane, lane)
            with pytest.raises(expected):
                thief._plug_in(plug, DEADLINE)
        assert lane_of(a, "b") == lane
        assert [peer.peer.name for peer in b.receiver.links] == ["a"]


def test_with_tls_links_move_to_tcp_with_tls(pki: Path) -> None:
    with (
        endpoint("b", tls=tls(pki, "server"), fast_lanes=("tcp",)) as b,
        endpoint("a", tls=tls(pki, "client")) as a,
    ):
        a.connect("b", b.listen("127.0.0.1:0"))
        assert lane_of(a, "b").startswith("socket:127.0.0.1:")


def test_a_lane_at_an_unsafe_address_is_not_taken(caplog: pytest.LogCaptureFixture) -> None:
    with endpoint("b") as b, endpoint("a") as a:
        link = a.connect("b", b.listen("127.0.0.1:0"))
        before = lane_of(a, "b")
        move(a, link, ["socket:192.0.2.1:7400"])
        assert lane_of(a, "b") == before
    assert "would leave this machine unencrypted" in caplog.text


def test_a_listener_that_is_gone_is_an_error_at_its_own_address(folder: str) -> None:
    with endpoint("a") as a, pytest.raises(LinkError, match=f"nobody listens at unix:{folder}/b"):
        a.connect("b", f"unix:{folder}/b")
