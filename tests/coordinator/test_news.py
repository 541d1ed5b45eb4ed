"""All members hear all changes in one order; what comes while others are being told is told together."""

from __future__ import annotations

import threading
from collections.abc import Callable

from distgrad.coordinator.news import News
from distgrad.wire import pb

PATIENCE = 20.0


class Members:
    """Three members, and the names that each has been told, a list a message."""

    def __init__(self, send: Callable[[str], object] = lambda name: None) -> None:
        self.heard: dict[str, list[list[str]]] = {"w0": [], "w1": [], "driver": []}
        self.lock = threading.RLock()
        self._send = send
        self.news = News(self.lock, lambda: self.heard, self.send)

    def send(self, name: str, message: pb.MemberEvents) -> None:
        self._send(name)
        self.heard[name].append([member.name for member in message.members])

    def tell(self, *names: str) -> None:
        with self.lock:
            for name in names:
                self.news.add(pb.Member(name=name))
        self.news.tell()


def test_everybody_hears_of_everything_in_one_order() -> None:
    members = Members()
    members.tell("a")
    members.tell("b", "c")
    members.tell()
    assert all(heard == [["a"], ["b", "c"]] for heard in members.heard.values())


def test_what_comes_while_others_are_told_is_told_together_by_the_thread_that_tells() -> None:
    tellers = []

    def send(name: str) -> None:
        tellers.append(threading.get_ident())
        if name == "w1" and not members.heard["w1"]:
            others = [threading.Thread(target=members.tell, args=[late]) for late in ("b", "c")]
            for other in others:
                other.start()
            for other in others:
                other.join(PATIENCE)

    members = Members(send)
    members.tell("a")
    assert [len(heard) for heard in members.heard.values()] == [2, 2, 2]
    assert all(heard[0] == ["a"] and sorted(heard[1]) == ["b", "c"] for heard in members.heard.values())
    assert set(tellers) == {threading.get_ident()}


def test_who_settles_waits_until_all_before_is_told() -> None:
    begun, may_go_on = threading.Event(), threading.Event()

    def send(name: str) -> None:
        begun.set()
        assert may_go_on.wait(PATIENCE)

    members = Members(send)
    teller = threading.Thread(target=members.tell, args=["a"])
    teller.start()
    assert begun.wait(PATIENCE)
    seen: list[int] = []
    settler = threading.Thread(
        target=lambda: (members.news.settle(), seen.extend(len(heard) for heard in members.heard.values()))
    )
    settler.start()
    assert seen == []
    may_go_on.set()
    for thread in (teller, settler):
        thread.join(PATIENCE)
    assert seen == [1, 1, 1]
