"""What holds over every kind of lane."""

from __future__ import annotations

import itertools
import os
import random
import re
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from distgrad.errors import (
    ConfigError,
    LinkError,
    PermissionDenied,
    RemoteError,
    ResourceExhausted,
    WireError,
    WorkerLost,
)
from distgrad.transport.recovery import recover
from distgrad.wire import pb
from tests import leaks

from .conftest import World
from .recorder import DEADLINE, lose_by_silence, wait_until


def a_call(number: int) -> pb.Call:
    return pb.Call(path=[number], method="forward")


def numbers(messages: list[Any]) -> list[int]:
    return [message.path[0] for message in messages]


# ---- messages and requests


def test_messages_arrive_once_and_in_order_in_both_directions(world: World) -> None:
    a, b = world.pair()
    for number in range(200):
        a.link("b").send(a_call(number))
        b.link("a").send(pb.Done(path=[number]))
    assert numbers(b.receiver.received(200)) == list(range(200))
    assert numbers(a.receiver.received(200)) == list(range(200))


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 100_000])
def test_arrays_arrive_beside_their_message_whatever_their_size(world: World, size: int) -> None:
    a, b = world.pair()
    arrays = [np.arange(size, dtype=np.uint8), np.float32(3).reshape(()), np.arange(size, dtype=np.float64)[::-1]]
    a.link("b").send(a_call(1), arrays)
    b.receiver.received(1)
    for sent, got in zip(arrays, b.receiver.arrays[0], strict=True):
        np.testing.assert_array_equal(got, sent, strict=True)
        assert not got.flags.writeable


def test_messages_with_and_without_large_arrays_keep_their_order(world: World) -> None:
    a, b = world.pair()
    generator = random.Random(5)
    sizes = [generator.choice([0, 10, 5000, 60_000]) for _ in range(60)]
    for number, size in enumerate(sizes):
        a.link("b").send(a_call(number), [np.full(size, number, np.uint8)] if size else [])
    assert numbers(b.receiver.received(60)) == list(range(60))
    for number, (size, arrays) in enumerate(zip(sizes, b.receiver.arrays, strict=True)):
        assert [array.tolist() for array in arrays] == ([[number] * size] if size else [])


def test_many_arrays_that_fit_no_frame_together_arrive(world: World) -> None:
    a, b = world.pair()
    arrays = [np.full(1 + 37 * index % 900, index, np.float32) for index in range(50)]
    a.link("b").send(pb.Gradients(), arrays)
    b.receiver.received(1)
    for sent, got in zip(arrays, b.receiver.arrays[0], strict=True):
        np.testing.assert_array_equal(got, sent, strict=True)


def test_a_request_gets_its_own_reply(world: World) -> None:
    a, b = world.pair()
    futures = [a.link("b").request(pb.Fetch(), [np.full(size, size)]) for size in (1, 20_000, 3)]
    futures += [b.link("a").request(pb.Fetch(), [np.full(size, size)]) for size in (4, 2, 30_000)]
    for future, size in zip(futures, (1, 20_000, 3, 4, 2, 30_000), strict=True):
        body, (array,) = future.result(DEADLINE)
        assert isinstance(body, pb.Fetched)
        assert array.shape == (size,)
        assert (array == size).all()


def test_a_small_reply_overtakes_a_large_one(world: World) -> None:
    a, b = world.pair(window_bytes=2**30)
    order, both, assembler = [], threading.Event(), a.link("b")._assembler
    assembler.add = lambda *chunk, add=assembler.add: (both.wait(DEADLINE), add(*chunk))
    large = a.link("b").request(pb.Statistics())
    small = a.link("b").request(pb.Statistics())
    large.add_done_callback(lambda _: order.append("large"))
    small.add_done_callback(lambda _: order.append("small"))
    b.receiver.wait_for(lambda: len(b.receiver.unanswered) == 2)
    b.receiver.unanswered[0](pb.Fetched(), [np.zeros(40_000_000, np.uint8)])
    b.receiver.unanswered[1](pb.Counts())
    both.set()
    large.result(DEADLINE)
    small.result(DEADLINE)
    assert order == ["small", "large"]


def test_an_error_reply_becomes_the_exception(world: World) -> None:
    a, _b = world.pair()
    with pytest.raises(RemoteError, match="list_members on b raised ValueError: there are no members"):
        a.link("b").request(pb.ListMembers()).result(DEADLINE)
    with pytest.raises(RemoteError, match="place on b raised LookupError: the handler itself failed"):
        a.link("b").request(pb.Place()).result(DEADLINE)
    assert a.link("b").request(pb.Fetch()).result(DEADLINE), "the link lives on"


def test_a_reply_that_cannot_travel_is_an_error_at_the_requester(world: World) -> None:
    a, b = world.pair()
    future = a.link("b").request(pb.Statistics())
    b.receiver.wait_for(lambda: b.receiver.unanswered)
    b.receiver.unanswered[0](pb.Fetched(), [np.array(["text"])])
    with pytest.raises(WireError, match="do not travel"):
        future.result(DEADLINE)


def test_a_second_reply_is_dropped(world: World) -> None:
    a, b = world.pair()
    future = a.link("b").request(pb.Statistics())
    b.receiver.wait_for(lambda: b.receiver.unanswered)
    b.receiver.unanswered[0](pb.Counts(counts={"refs": 3}))
    b.receiver.unanswered[0](pb.Counts(counts={"refs": 4}))
    assert future.result(DEADLINE)[0].counts["refs"] == 3
    assert a.link("b").request(pb.Fetch()).result(DEADLINE)


def test_what_is_no_message_of_a_frame_is_refused_by_name(world: World) -> None:
    a, _ = world.pair()
    with pytest.raises(WireError, match="a Hello is not sent"):
        a.link("b").send(pb.Hello())
    with pytest.raises(WireError, match="a Call is not a request"):
        a.link("b").request(pb.Call())
    with pytest.raises(WireError, match="do not travel"):
        a.link("b").send(pb.Call(), [np.array([None])])
    with pytest.raises(ResourceExhausted, match="max_frame_bytes"):
        a.link("b").send(pb.Call(method="x" * 2**20))
    assert a.link("b").request(pb.Fetch()).result(DEADLINE), "nothing was sent and the link lives on"


# ---- one link per pair


def test_connecting_again_gives_the_same_link_from_either_side(world: World) -> None:
    a, b = world.pair()
    assert a.connect("b", b.identity.address) is a.link("b")
    assert b.connect("a", a.identity.address) is b.link("a")
    assert len(a.links()) == len(b.links()) == 1
    assert a.links() == a.receiver.links


def test_both_sides_opening_at_once_get_one_link(world: World) -> None:
    for attempt in range(5):
        a, b = world.endpoint(f"a{attempt}"), world.endpoint(f"b{attempt}")
        both = threading.Barrier(2)

        def open_link(here: Any, there: Any, both: threading.Barrier = both) -> Any:
            both.wait()
            return here.connect(there.identity.name, there.identity.address)

        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(open_link, (a, b), (b, a))
        assert a.links() == [first]
        assert b.links() == [second]
        assert first.session_name == second.session_name
        second.send(a_call(1))
        first.send(a_call(2))
        assert numbers(a.receiver.received(1)) == [1]
        assert numbers(b.receiver.received(1)) == [2]
        assert (len(a.receiver.links), len(b.receiver.links)) == (1, 1)
        assert a.receiver.losses == b.receiver.losses == []


def test_many_threads_connecting_get_one_link(world: World) -> None:
    a, b = world.endpoint("a"), world.endpoint("b")
    with ThreadPoolExecutor(8) as pool:
        links = set(pool.map(lambda _: a.connect("b", b.identity.address), range(8)))
    assert links == {a.link("b")}


def test_a_process_that_does_not_listen_is_reached_over_the_link_it_opened(world: World) -> None:
    driver, worker = world.endpoint("driver", listen=False, role="client"), world.endpoint("worker")
    driver.connect("worker", worker.identity.address)
    worker.receiver.wait_for(lambda: worker.link("driver"))
    assert worker.link("driver").peer == driver.identity
    assert worker.link("driver").request(pb.Fetch()).result(DEADLINE)


# ---- refusals


def test_a_wrong_token_is_denied(world: World) -> None:
    a, b = world.endpoint("a", token="wrong"), world.endpoint("b")
    with pytest.raises(PermissionDenied, match=r"b at .* refused the link: the token is not accepted"):
        a.connect("b", b.identity.address)
    assert b.receiver.links == []


def test_a_client_token_lets_in_clients_only(world: World) -> None:
    b = world.endpoint("b", client_tokens=("for-clients",))
    client = world.endpoint("c", token="for-clients", role="client")
    client.connect("b", b.identity.address)
    with pytest.raises(PermissionDenied):
        world.endpoint("w", token="for-clients", role="worker").connect("b", b.identity.address)


def test_another_cluster_is_refused(world: World) -> None:
    a, b = world.endpoint("a", cluster="other"), world.endpoint("b")
    with pytest.raises(LinkError, match="belongs to cluster 'test', not to 'other'"):
        a.connect("b", b.identity.address)


def test_another_protocol_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = world.endpoint("a"), world.endpoint("b")
    from distgrad.transport import endpoint as module

    def old_greeting(*arguments: Any) -> pb.Hello:
        return pb.Hello(protocol=99)

    monkeypatch.setattr(module, "greeting", old_greeting)
    with pytest.raises(LinkError, match="speaks protocol 1, found 99"):
        a.connect("b", b.identity.address)


def test_a_stale_incarnation_is_refused_and_the_right_one_is_not(world: World) -> None:
    a, b = world.endpoint("a"), world.endpoint("b")
    with pytest.raises(WorkerLost, match=r"b#.... is there, not incarnation #3039"):
        a.connect("b", b.identity.address, expected_incarnation=12345)
    assert a.connect("b", b.identity.address, expected_incarnation=b.identity.incarnation)


def test_another_name_at_the_address_is_a_link_error(world: World) -> None:
    a, b = world.endpoint("a"), world.endpoint("b")
    with pytest.raises(LinkError, match=r"b#.... is at .*, expected c"):
        a.connect("c", b.identity.address)
    assert a.links() == []


def test_an_address_where_nobody_listens_is_a_link_error_at_once(world: World) -> None:
    a, b = world.endpoint("a"), world.endpoint("b")
    b.close()
    with pytest.raises(LinkError, match=f"nobody listens at {b.identity.address}, where b should be"):
        a.connect("b", b.identity.address, timeout=DEADLINE)


def test_no_link_leads_to_oneself(world: World) -> None:
    a = world.endpoint("a")
    with pytest.raises(ConfigError, match="itself"):
        a.connect("a", a.identity.address)


def test_a_taken_address_is_a_link_error_that_names_it(world: World) -> None:
    a, b = world.endpoint("a"), world.endpoint("b", listen=False)
    with pytest.raises(LinkError, match=f"cannot listen at {a.identity.address}"):
        b.listen(a.identity.address)
    assert world.endpoint("c").connect("a", a.identity.address)


def test_more_links_than_allowed_are_refused(world: World) -> None:
    b = world.endpoint("b", max_links=2)
    for name in ("a0", "a1"):
        world.endpoint(name).connect("b", b.identity.address)
    with pytest.raises(ResourceExhausted, match="as many links as it may"):
        world.endpoint("a2").connect("b", b.identity.address)


# ---- breaks


@pytest.mark.parametrize("side", ["opener", "listener", "both"])
def test_after_a_break_nothing_is_lost_or_doubled(world: World, side: str) -> None:
    a, b = world.pair(window_bytes=2**30)
    link_a, link_b = a.link("b"), b.link("a")
    for number in range(300):
        array = [np.full(3 * number, number % 251, np.uint8)] * (number % 3)
        link_a.send(a_call(number), [*array, np.full(50_000, 7, np.uint8)] if number % 50 == 0 else array)
        link_b.send(pb.Done(path=[number]))
        if number % 60 == 30:
            for endpoint in {"opener": [a], "listener": [b], "both": [a, b]}[side]:
                world.break_lanes(endpoint)
            answer = link_a.request(pb.Fetch(), [np.arange(number)])
            np.testing.assert_array_equal(answer.result(DEADLINE)[1][0], np.arange(number))
    assert numbers(b.receiver.received(300)) == list(range(300))
    assert numbers(a.receiver.received(300)) == list(range(300))
    assert (a.link("b"), b.link("a")) == (link_a, link_b)
    assert a.receiver.losses == b.receiver.losses == []
    assert link_a.statistics()["reconnects"] >= 5


def test_breaks_amid_large_arrays_lose_and_double_nothing(world: World) -> None:
    a, b = world.pair(window_bytes=2**30, chunk_bytes=2**15)
    link, assembler, chunks = a.link("b"), b.link("a")._assembler, itertools.count(1)

    def add(*chunk: Any, add: Any = assembler.add) -> None:
        if (number := next(chunks)) % 40 == 0:
            world.break_lanes([a, b][number // 40 % 2])
        add(*chunk)

    assembler.add = add
    arrays = [np.random.default_rng(seed).integers(0, 255, 2**20, np.uint8) for seed in range(6)]
    replies = [link.request(pb.Fetch(), [array]) for array in arrays[:3]]
    for number, array in enumerate(arrays[3:]):
        link.send(a_call(number), [array])
    assert numbers(b.receiver.received(3)) == [0, 1, 2]
    for array, got in zip(arrays[3:], b.receiver.arrays, strict=True):
        np.testing.assert_array_equal(got[0], array)
    for array, reply in zip(arrays, replies, strict=False):
        np.testing.assert_array_equal(reply.result(DEADLINE)[1][0], array)
    assert link.statistics()["reconnects"] >= 2
    assert a.receiver.losses == b.receiver.losses == []


def test_many_transfers_leave_memory_and_descriptors_as_they_were(world: World) -> None:
    a, b = world.pair(chunk_bytes=2**16, max_transfer_bytes=2**22)
    array = np.ones(2**20, np.uint8)

    def exchange(times: int) -> None:
        for _ in range(times):
            a.link("b").request(pb.Fetch(), [array, array[:1000]]).result(DEADLINE)

    exchange(5)
    tracemalloc.start()
    try:
        descriptors, (allocated, _) = leaks.descriptors(), tracemalloc.get_traced_memory()
        exchange(40)
        # Frames that wait for an acknowledgement, and what they bring.
        assert tracemalloc.get_traced_memory()[0] - allocated < 6 * array.nbytes
    finally:
        tracemalloc.stop()
    assert leaks.descriptors() == descriptors
    for link in (a.link("b"), b.link("a")):
        assert link._assembler.complete == link._assembler._partial == {}


def test_a_break_that_is_not_mended_in_time_is_a_loss(world: World) -> None:
    a, b = world.pair(reconnect_window=0.3)
    waiting = a.link("b").request(pb.Statistics())
    b.resume_is_refused = True
    b._admit = lambda plug, hello: plug.close()  # type: ignore[method-assign]
    world.break_lanes(b)
    assert "was not made again within 0.3 s" in a.receiver.loss()[1]
    assert "was not made again within 0.3 s" in b.receiver.loss()[1]
    with pytest.raises(WorkerLost, match=r"b#.... is lost: the connection broke"):
        waiting.result(DEADLINE)


def test_a_peer_that_listens_no_more_is_lost_without_waiting_for_the_window(world: World) -> None:
    a, b = world.pair(reconnect_window=10 * DEADLINE)
    b.lose = lambda link, reason: None  # type: ignore[method-assign]  # as a killed process says nothing
    b.lanes.close()
    assert "nobody listens at" in a.receiver.loss()[1]


def test_a_session_the_listener_gave_up_is_lost_at_once(world: World) -> None:
    a, b = world.pair(reconnect_window=10 * DEADLINE)
    b.link("a").end("forgotten by the test")
    world.break_lanes(a)
    assert "given up that session" in a.receiver.loss()[1]


def test_a_new_incarnation_replaces_the_old_one_which_stays_out(world: World) -> None:
    old, b = world.pair()
    new = world.endpoint("a")
    new.connect("b", b.identity.address)
    peer, reason = b.receiver.loss()
    assert peer == old.identity
    assert f"started anew as {new.identity!r}" in reason
    assert b.link("a").peer == new.identity
    old.receiver.loss()
    with pytest.raises(LinkError, match="has taken that name"):
        old.connect("b", b.identity.address)
    assert new.link("b").request(pb.Fetch()).result(DEADLINE)


def test_silence_is_a_loss(world: World) -> None:
    a, b = world.pair()
    b.link("a").beat = lambda progress, busy: None
    lose_by_silence(a, a.link("b"))
    silent = rf"silent for 3 s; its process {os.getpid()} is stopped"
    assert re.match(silent, a.receiver.loss()[1])
    with pytest.raises(WorkerLost, match=rf"b#.... is lost: {silent}"):
        a.receiver.links[0].send(a_call(1))


def test_heartbeats_bring_the_peers_progress_and_idle_sides_acknowledge(world: World) -> None:
    a, b = world.pair()
    for number in range(5):
        a.link("b").send(a_call(number), [np.zeros(100)])
    b.receiver.received(5)
    statistics = a.link("b").statistics

    def settled() -> bool:
        now = statistics()
        return now["frames_kept"] == now["bytes_in_flight"] == 0 and (now["peer_progress"], now["peer_busy"]) == (5, 1)

    wait_until(settled)


# ---- the window


def test_a_sender_waits_while_the_window_is_full_but_gradients_and_control_do_not(world: World) -> None:
    a, b = world.pair(window_bytes=10_000)
    gate = threading.Event()
    b.receiver.receive, receive = (lambda *message: (gate.wait(DEADLINE), receive(*message))), b.receiver.receive
    link = a.link("b")
    sent = []

    def send_calls() -> None:
        for number in range(20):
            link.send(a_call(number), [np.zeros(6000, np.uint8)])
            sent.append(number)

    sender = threading.Thread(target=send_calls)
    sender.start()
    wait_until(lambda: link.statistics()["bytes_in_flight"] >= 10_000)
    link.send(pb.Gradients(), [np.zeros(50_000, np.uint8)])
    link.send(pb.PassAck())
    assert len(sent) < 20
    gate.set()
    sender.join(DEADLINE)
    b.receiver.received(22)
    assert [m.path[0] for m in b.receiver.messages if isinstance(m, pb.Call)] == list(range(20))


def test_a_waiting_sender_learns_that_the_peer_is_lost(world: World) -> None:
    a, b = world.pair(window_bytes=1000, silence=DEADLINE)
    gate = threading.Event()
    b.receiver.receive = lambda *message: gate.wait(DEADLINE)
    link = a.link("b")

    def send_until_it_raises() -> None:
        while True:
            link.send(a_call(1), [np.zeros(600, np.uint8)])

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(send_until_it_raises)
        wait_until(lambda: link.statistics()["bytes_in_flight"] >= 1000)
        a.lose(link, "the test says so")
        with pytest.raises(WorkerLost, match="the test says so"):
            future.result(DEADLINE)
    gate.set()


def test_replies_given_in_the_reader_thread_never_wait_for_the_window(world: World) -> None:
    a, b = world.pair(window_bytes=1000)
    futures = [side.request(pb.Fetch(), [np.zeros(900)]) for side in (a.link("b"), b.link("a")) for _ in range(1)]
    with ThreadPoolExecutor(2) as pool:
        crowd = [pool.submit(ask_much, side) for side in (a.link("b"), b.link("a"))]
        for task in crowd:
            task.result(DEADLINE)
    for future in futures:
        future.result(DEADLINE)


def ask_much(link: Any) -> None:
    for future in [link.request(pb.Fetch(), [np.zeros(900)]) for _ in range(20)]:
        future.result(DEADLINE)


# ---- closing


def test_closing_a_link_delivers_what_was_sent_and_tells_both_sides_once(world: World) -> None:
    a, b = world.pair()
    link = a.link("b")
    waiting = link.request(pb.Statistics())
    for number in range(20):
        link.send(a_call(number), [np.zeros(9000, np.uint8)])
    link.close("the job is done")
    assert b.receiver.loss() == (a.identity, "it closed the link: the job is done")
    assert numbers(b.receiver.messages) == list(range(20))
    assert a.receiver.loss() == (b.identity, "link closed here: the job is done")
    with pytest.raises(WorkerLost, match="the job is done"):
        waiting.result(DEADLINE)
    with pytest.raises(WorkerLost, match="the job is done"):
        link.send(a_call(1))
    link.close("again")
    assert a.link("b") is None
    again = a.connect("b", b.identity.address)
    assert again is not link
    assert again.request(pb.Fetch()).result(DEADLINE)
    assert len(a.receiver.losses) == len(b.receiver.losses) == 1


def test_closing_an_endpoint_says_goodbye_and_refuses_new_links(world: World) -> None:
    a, b = world.pair()
    a.close()
    assert b.receiver.loss() == (a.identity, "it closed the link: a ends")
    with pytest.raises(LinkError, match="closing"):
        a.connect("b", b.identity.address)


def test_after_its_goodbye_a_link_carries_nothing_and_is_not_made_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = world.pair(reconnect_window=0.1)
    recovered = []
    monkeypatch.setattr("distgrad.transport.endpoint.recover", lambda endpoint, link, reason: recovered.append(link))
    link = a.link("b")
    link.send(a_call(0))
    a.say_goodbye("the job is done")
    with pytest.raises(WorkerLost, match="link closed here"):
        link.send(a_call(1))
    assert b.receiver.loss() == (a.identity, "it closed the link: the job is done")
    assert numbers(b.receiver.messages) == [0]
    wait_until(lambda: not link.connected)
    a.close()
    assert a.receiver.loss() == (b.identity, "link closed here: a ends")
    assert not recovered


def test_what_mends_a_link_leaves_one_alone_that_has_said_goodbye(world: World) -> None:
    a, _ = world.pair()
    link = a.link("b")
    a.say_goodbye("the job is done")
    wait_until(lambda: not link.connected)
    recover(a, link, "it was slow to look")
    assert not link.ending
    a.close()
    assert a.receiver.loss()[1] == "link closed here: a ends"


def test_linked_and_lost_come_in_pairs(world: World) -> None:
    a, b = world.endpoint("a"), world.endpoint("b")
    for _ in range(5):
        a.connect("b", b.identity.address).close("again")
        b.receiver.loss(len(a.receiver.links))
    assert len(a.receiver.links) == len(a.receiver.losses) == len(b.receiver.links) == len(b.receiver.losses) == 5


def test_links_and_endpoints_say_what_they_are(world: World) -> None:
    a, b = world.pair()
    link = a.link("b")
    assert repr(link) == f"<Link {a.identity!r} - {b.identity!r}, connected>"
    assert repr(a) == f"<Endpoint {a.identity!r} at {a.identity.address}, 1 links>"
    link.close("enough")
    assert repr(link) == f"<Link {a.identity!r} - {b.identity!r}, ended: link closed here: enough>"
    assert link.statistics()["state"] == "ended: link closed here: enough"
