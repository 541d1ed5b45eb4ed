"""What a process does beside its contexts and calls."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext, suppress
from contextvars import copy_context
from typing import Any

import numpy as np
import pytest

from distgrad.errors import ResourceExhausted, WorkerLost
from distgrad.graph.deadlines import deadline
from distgrad.graph.process import Process
from distgrad.transport.link import ProcessLink
from distgrad.transport.settings import TransportSettings
from distgrad.wire import RefName, pb
from tests.graph.memory_cluster import MemoryCluster, memory_cluster
from tests.graph.worlds import assert_empty


class Raced(deque[Any]):
    """A queue that another thread empties between a look into it and the next step."""

    def popleft(self) -> Any:
        self.clear()
        return super().popleft()


def test_threads_that_tell_of_forgotten_values_at_once_do_not_trip_over_one_another() -> None:
    with memory_cluster(1) as cluster:
        cluster.driver.references._forgotten["w0"] = Raced([RefName("w0", "driver/inference", (0,))])
        assert cluster.driver.references.forgotten("w0") == []


class Asking:
    """A shard whose method asks another when it is told to, after `held`."""

    def __init__(self) -> None:
        self.held, self.asks, self.asked = threading.Event(), threading.Event(), threading.Event()

    def ask(self, x: Any, other: Any) -> Any:
        self.held.set()
        assert self.asks.wait(10)
        try:
            return other.same(x)
        finally:
            self.asked.set()


def test_what_fails_because_a_process_ends_reaches_others_as_its_loss_alone() -> None:
    with memory_cluster(2) as cluster, ThreadPoolExecutor(1) as pool:
        asking = Asking()
        near, far = cluster.place("near", asking, "w0"), cluster.place("far", Echo(), "w1")
        value = pool.submit(near.ask(np.ones(2), far).get, timeout=10)
        assert asking.held.wait(10)
        worker = cluster.workers["w0"]
        end_links = worker.endpoint.close

        def end_links_late(reason: str) -> None:
            asking.asks.set()
            assert asking.asked.wait(10)
            end_links(reason)

        worker.endpoint.close = end_links_late  # type: ignore[method-assign]
        worker.close("the machine is taken down")
        with pytest.raises(WorkerLost, match="the machine is taken down"):
            value.result()


class Forwarding:
    """A shard whose method returns what another will return."""

    def ask(self, x: Any, other: Any) -> Any:
        return other.same(x)


@pytest.mark.parametrize("recorded", [False, True])
def test_the_value_of_a_call_that_was_lost_with_its_caller_is_waited_for_by_nobody(recorded: bool) -> None:
    with memory_cluster(2) as cluster, ThreadPoolExecutor(1) as pool:
        near, far = cluster.place("near", Forwarding(), "w0"), cluster.place("far", Echo(), "w1")
        fetched, w0 = threading.Event(), cluster.workers["w0"]
        send, answer = w0.peers.send, cluster.workers["w1"].requests[pb.Fetch]

        def send_no_calls(name: str, body: Any, arrays: Any = ()) -> None:
            if not isinstance(body, pb.Call):
                send(name, body, arrays)

        def note(*asked: Any) -> None:
            answer(*asked)
            fetched.set()

        w0.peers.send = send_no_calls  # type: ignore[method-assign]
        cluster.workers["w1"].requests[pb.Fetch] = note
        context = cluster.context()
        with suppress(WorkerLost), context if recorded else nullcontext():
            value = pool.submit(copy_context().run, near.ask(np.ones(2), far).get, 10)
            assert fetched.wait(10)
            w0.close("the machine is taken down")
            with pytest.raises(WorkerLost, match="the machine is taken down"):
                value.result()


def test_a_value_is_waited_for_by_nobody_when_its_owner_is_lost_as_soon_as_it_has_answered() -> None:
    with memory_cluster(2) as cluster:
        near, far = cluster.place("near", Forwarding(), "w0"), cluster.place("far", Echo(), "w1")
        driver, w0, lost = cluster.driver, cluster.workers["w0"], threading.Event()
        driver.on_lost.append(lambda *_: lost.set())
        request, send = driver.request, w0.peers.send

        def send_no_calls(name: str, body: Any, arrays: Any = ()) -> None:
            if not isinstance(body, pb.Call):
                send(name, body, arrays)

        def request_and_lose(peer: str, body: Any, arrays: Any = ()) -> Any:
            reply = request(peer, body, arrays)
            if peer == "w0":
                assert reply.wait(10)
                w0.close("the machine is taken down")
                assert lost.wait(10)
            return reply

        w0.peers.send = send_no_calls  # type: ignore[method-assign]
        driver.request = request_and_lose  # type: ignore[method-assign]
        with pytest.raises(WorkerLost, match="the machine is taken down"):
            near.ask(np.ones(2), far).get(timeout=10)


class Echo:
    """A shard."""

    def same(self, x: Any) -> Any:
        return x


def cut(one: Process, other: Process) -> None:
    """Ends the link between two processes that live on, and can reach one another again."""
    for process, peer in ((one, other), (other, one)):
        link = process.endpoint.link(peer.name)
        if isinstance(link, ProcessLink):
            process.endpoint.lose(link, "the cable was cut")


@pytest.mark.parametrize("ends", [("driver", "w0"), ("w0", "w1")], ids=" - ".join)
@pytest.mark.parametrize("use", ["fetched", "given to a call"])
def test_a_value_outside_any_context_that_was_dropped_when_a_link_was_lost_is_waited_for_by_nobody(
    ends: tuple[str, str], use: str
) -> None:
    with memory_cluster(3) as cluster:
        near, far = cluster.place("near", Forwarding(), "w0"), cluster.place("far", Echo(), "w1")
        last = cluster.place("last", Echo(), "w2")
        value = near.ask(np.ones(1000), far)
        value.wait()
        processes = {process.name: process for process in cluster.processes}
        cut(*(processes[name] for name in ends))
        with pytest.raises(WorkerLost, match="the cable was cut"):
            (value if use == "fetched" else last.same(value)).get(timeout=10)
        assert near.ask(np.ones(2), far).get(timeout=10).shape == (2,)


class Relaying:
    """A shard whose method waits for what one shard makes of the value of another."""

    def relay(self, x: Any, other: Any, third: Any) -> Any:
        return third.same(other.same(x)).get()


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("when", ["before anybody looks for it", "while its end is awaited", "before it is asked for"])
def test_a_call_that_was_lost_between_processes_that_live_on_is_waited_for_by_nobody(
    recorded: bool, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distgrad.graph.missing.OVERTAKEN", -1.0)
    with memory_cluster(3) as cluster:
        near, far = cluster.place("near", Relaying(), "w0"), cluster.place("far", Echo(), "w1")
        last = cluster.place("last", Echo(), "w2")
        near.relay(np.ones(1), far, last).wait()  # all have their links
        w0, w1 = cluster.workers["w0"], cluster.workers["w1"]
        asked, send, answer = threading.Event(), w0.peers.send, w1.requests[pb.Fetch]

        def lose_calls_to_far(name: str, body: Any, arrays: Any = ()) -> None:
            if name != "w1" or not isinstance(body, pb.Call):
                send(name, body, arrays)

        def fetch_and_note(*request: Any) -> None:
            if when == "before it is asked for":
                cut(w0, w1)
            answer(*request)
            asked.set()

        w0.peers.send = lose_calls_to_far  # type: ignore[method-assign]
        w1.requests[pb.Fetch] = fetch_and_note
        with suppress(WorkerLost), cluster.context() if recorded else nullcontext():
            value = near.relay(np.ones(2), far, last)
            assert asked.wait(10)
            if when == "while its end is awaited":
                w1.progress()
            cut(w0, w1)
            w1.progress()
            with pytest.raises(WorkerLost, match=r"the cable was cut|was lost with a link"):
                value.get(timeout=10)
            del value
        assert_empty(cluster)


def test_a_call_that_is_merely_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distgrad.graph.missing.OVERTAKEN", -1.0)
    with memory_cluster(3) as cluster:
        near, far = cluster.place("near", Relaying(), "w0"), cluster.place("far", Echo(), "w1")
        w0, w1 = cluster.workers["w0"], cluster.workers["w1"]
        asked, send, answer = threading.Event(), w0.peers.send, w1.requests[pb.Fetch]
        held: list[Any] = []

        def hold_calls_to_far(name: str, body: Any, arrays: Any = ()) -> None:
            if name == "w1" and isinstance(body, pb.Call):
                held.append((name, body, arrays))
            else:
                send(name, body, arrays)

        def fetch_and_note(*request: Any) -> None:
            answer(*request)
            asked.set()

        w0.peers.send = hold_calls_to_far  # type: ignore[method-assign]
        w1.requests[pb.Fetch] = fetch_and_note
        value = near.relay(np.ones(2), far, cluster.place("last", Echo(), "w2"))
        assert asked.wait(10)
        w1.progress()
        send(*held.pop())
        np.testing.assert_array_equal(value.numpy(timeout=10), np.ones(2))
        w1.progress()
        assert len(w1.fetcher.missing) == 0


def releases_of(cluster: MemoryCluster) -> list[str]:
    """Grows by who asks whom to release how many contexts: "driver -> w0: 1"."""
    asked: list[str] = []
    for name, worker in cluster.workers.items():
        answer = worker.requests[pb.Release]

        def note(link: Any, body: Any, arrays: Any, reply: Any, name: str = name, answer: Any = answer) -> None:
            asked.append(f"{link.peer.name} -> {name}: {len(body.contexts)}")
            answer(link, body, arrays, reply)

        worker.requests[pb.Release] = note
    return asked


def test_who_is_told_of_a_release_by_the_owner_is_told_by_nobody_else() -> None:
    with memory_cluster(3) as cluster:
        asked = releases_of(cluster)
        shards = [cluster.place(f"on-{name}", Echo(), name) for name in cluster.workers]
        with cluster.context():
            value: Any = np.ones(2)
            for shard in shards:  # each value goes from worker to worker
                value = shard.same(value)
            value.get()
        assert sorted(asked) == ["driver -> w0: 1", "driver -> w1: 1", "driver -> w2: 1"]
        assert all(not worker.counts()["contexts"] for worker in cluster.workers.values())


def test_contexts_that_reached_the_same_processes_are_released_by_one_message_to_each() -> None:
    with memory_cluster(3) as cluster, ExitStack() as stack:
        asked = releases_of(cluster)
        near, far = (cluster.place(f"on-{name}", Echo(), name) for name in ("w0", "w2"))
        contexts = [stack.enter_context(cluster.context()) for _ in range(5)]
        for number, context in enumerate(contexts):
            with context:
                value = near.same(np.ones(2))
                (far.same(value) if number % 2 else value).get()
        released = cluster.driver.releases.release([context.id for context in contexts])
        assert released.wait(10)
        assert sorted(asked) == ["driver -> w0: 2", "driver -> w0: 3", "driver -> w2: 2"]
        assert all(not worker.counts()["contexts"] for worker in cluster.workers.values())


class Catching:
    """A shard whose method makes a call with a text, and goes on without it."""

    def ask(self, other: Any, text: int) -> str:
        with suppress(ResourceExhausted):
            other.same("x" * text)
        return "went on"


class Writer:
    """A shard that returns a text of some length."""

    def write(self, x: Any, length: int) -> str:
        return "x" * length


# Characters of a text that no frame can carry.
LARGE = TransportSettings().max_frame_bytes


@pytest.mark.parametrize("first", ["first message", "later one"])
def test_a_call_that_is_too_large_fails_and_those_after_it_go(first: str) -> None:
    with memory_cluster(1) as cluster:
        shard = cluster.place("near", Echo(), "w0")
        if first == "later one":
            cluster.driver.ask("w0", pb.Statistics())
        with deadline(10), cluster.context():
            with pytest.raises(ResourceExhausted, match="larger than"):
                shard.same("x" * LARGE).wait()
            assert shard.same(1).get() == 1


def test_a_method_that_does_without_a_call_that_was_too_large_returns() -> None:
    with memory_cluster(2) as cluster:
        near, far = cluster.place("near", Catching(), "w0"), cluster.place("far", Echo(), "w1")
        for text in (1, LARGE):
            assert near.ask(far, text).get(timeout=10) == "went on"


def test_a_text_that_is_too_large_to_come_with_its_call_is_no_loss_of_the_call() -> None:
    with memory_cluster(1) as cluster, deadline(10), cluster.context():
        shard = cluster.place("near", Writer(), "w0")
        for _ in range(2):  # so that the third is asked for its value
            assert shard.write(np.ones(2), 10).get() == "x" * 10
        text = shard.write(np.ones(2), LARGE)
        text.wait()
        with pytest.raises(ResourceExhausted, match="larger than"):
            text.get()


def test_a_call_that_waits_for_a_link_which_is_lost_at_once_fails() -> None:
    with memory_cluster(1) as cluster, ThreadPoolExecutor(1) as pool:
        driver, shard = cluster.driver, cluster.place("near", Echo(), "w0")
        connect, waits, lost = driver.endpoint.connect, threading.Event(), threading.Event()
        driver.on_lost.append(lambda *_: lost.set())

        def connect_in_vain(*arguments: Any, **options: Any) -> Any:
            link = connect(*arguments, **options)
            cut(driver, cluster.workers["w0"])
            assert lost.wait(10)
            waits.set()
            assert issued.wait(10)
            return link

        driver.endpoint.connect = connect_in_vain  # type: ignore[method-assign]
        issued = threading.Event()
        first = pool.submit(shard.same(np.ones(2)).get, timeout=10)
        assert waits.wait(10)
        second = shard.same(np.ones(2))
        issued.set()
        with pytest.raises(WorkerLost, match="the cable was cut"):
            first.result()
        with pytest.raises(WorkerLost, match="the cable was cut"):
            second.wait(timeout=10)


def test_without_a_thread_to_open_a_link_a_call_fails_and_later_ones_go(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with memory_cluster(1) as cluster, deadline(10):
        shard = cluster.place("near", Echo(), "w0")
        with monkeypatch.context() as patches:
            patches.setattr(threading.Thread, "start", refuse)
            with pytest.raises(ResourceExhausted, match="no thread is left to open a link to w0"):
                shard.same(1)
        assert shard.same(1).get() == 1


def test_without_a_thread_to_fetch_its_argument_in_a_call_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "open-w0":
            raise RuntimeError("can't start new thread")
        start(thread)

    with memory_cluster(2) as cluster, deadline(10):
        near, far = cluster.place("near", Echo(), "w0"), cluster.place("far", Echo(), "w1")
        one = near.same(1)
        one.wait()
        with monkeypatch.context() as patches:
            patches.setattr(threading.Thread, "start", refuse)
            with pytest.raises(ResourceExhausted, match="no thread is left to open a link to w0"):
                far.same(one).get()
        assert far.same(one).get() == 1


def test_without_a_thread_a_call_to_nobody_fails_and_is_waited_for_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with memory_cluster(1) as cluster:
        shard = cluster.place("far", Echo(), "w9")
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ResourceExhausted, match="no thread is left to open a link to w9"):
            shard.same(1)
        monkeypatch.undo()
        assert cluster.driver.counts()["calls"] == 0
